//! The published documents as a check: every answer is one that `api/*.openapi.yaml` describes.

use std::{collections::HashMap, sync::LazyLock};

use http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Answer;

/// Codes by status: the closed enums that generated clients decode.
const CODES: [(u16, &[&str]); 13] = [
    (400, &["INVALID_INPUT"]),
    (401, &["UNAUTHORIZED"]),
    (403, &["FORBIDDEN"]),
    (404, &["TOKEN_NOT_FOUND", "REFERENCE_NOT_FOUND"]),
    (405, &["METHOD_NOT_ALLOWED"]),
    (409, &["CONFLICT"]),
    (413, &["INVALID_INPUT"]),
    (414, &["INVALID_INPUT"]),
    (415, &["INVALID_INPUT"]),
    (429, &["RATE_LIMITED"]),
    (431, &["INVALID_INPUT"]),
    (500, &["INTERNAL_ERROR"]),
    (503, &["SERVICE_UNAVAILABLE"]),
];

pub(crate) fn check_envelope(answer: &Answer, target: &str) {
    let body = answer.json();
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(members.iter().all(|member| ["status", "code", "message", "details"].contains(member)), "{answer:?}");
    assert_eq!(body["status"], answer.status.as_u16(), "{answer:?}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(body.get("details").is_none_or(Value::is_object), "{answer:?}");
    let (_, codes) = CODES.iter().find(|(status, _)| *status == answer.status.as_u16()).unwrap_or_else(|| panic!("{answer:?}"));
    assert!(codes.contains(&body["code"].as_str().unwrap()), "{answer:?}");
    let challenge = match target.starts_with("/v1/") {
        true => "Bearer realm=\"countersign operators\"",
        false => "Basic realm=\"countersign\", charset=\"UTF-8\"",
    };
    match answer.status.as_u16() {
        401 => assert_eq!(answer.header("www-authenticate"), Some(challenge)),
        405 => assert!(answer.header("allow").is_some(), "{answer:?}"),
        429 | 503 => assert!((1..60).contains(&answer.header("retry-after").unwrap().parse::<u32>().unwrap()), "{answer:?}"),
        _ => assert_eq!(answer.header("www-authenticate"), None),
    }
}

/// A published document.
pub(crate) struct Document {
    pub(crate) mount: &'static str,
    pub(crate) json: Value,
}

pub(crate) static DOCUMENTS: LazyLock<[Document; 3]> = LazyLock::new(|| {
    let read = |mount, text: &str| Document { mount, json: serde_json::from_str(text).unwrap() };
    [
        read("/grid/2025-10-13", include_str!(concat!(env!("OUT_DIR"), "/grid.openapi.json"))),
        read("/blips", include_str!(concat!(env!("OUT_DIR"), "/blips.openapi.json"))),
        read("/v1", include_str!(concat!(env!("OUT_DIR"), "/operator.openapi.json"))),
    ]
});

/// (mount, path template, method, status)
type Documented = (&'static str, String, String, String);

/// What an export is: lines, whose shape is frozen elsewhere.
const LINES: &str = "application/jsonl";
/// What a backup is.
const FILE: &str = "application/vnd.sqlite3";

/// What each documented answer must look like; none where it has no body, or lines, or is a file.
static VALIDATORS: LazyLock<HashMap<Documented, Option<Validator>>> = LazyLock::new(|| {
    let mut validators = HashMap::new();
    for document in DOCUMENTS.iter() {
        for (path, item) in document.json["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let Some(responses) = operation["responses"].as_object() else { continue };
                for (status, response) in responses {
                    let pointer = response["$ref"].as_str().map_or_else(
                        || format!("/paths/{}/{method}/responses/{status}", path.replace('/', "~1")),
                        |reference| reference.trim_start_matches('#').to_owned(),
                    );
                    let response = document.json.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"));
                    let validator = response["content"].get("application/json").map(|_| {
                        // The document itself is the schema, entered at the response, so that its references resolve.
                        let mut schema = document.json.clone();
                        schema["$ref"] =
                            json!(format!("#{pointer}/content/application~1json/schema").replace('{', "%7B").replace('}', "%7D"));
                        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
                    });
                    validators.insert((document.mount, path.clone(), method.to_uppercase(), status.clone()), validator);
                }
            }
        }
    }
    validators
});

pub(crate) fn check_documented(answer: &Answer, method: &Method, target: &str) {
    let path = target.split('?').next().unwrap();
    let Some((document, rest)) = DOCUMENTS.iter().find_map(|document| Some((document, path.strip_prefix(document.mount)?))) else { return };
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let matches = |template: &&String| {
        let (template, path) = (segments(template), segments(rest));
        template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
    };
    let Some(template) = document.json["paths"].as_object().unwrap().keys().find(matches) else { return };
    let as_documented = if method == Method::HEAD { "GET" } else { method.as_str() };
    if answer.status == 405 {
        let documented = document.json["paths"][template].get(as_documented.to_lowercase()).is_some();
        // Methods are case-sensitive: `get` is not GET.
        assert!(!documented || as_documented != as_documented.to_uppercase(), "{answer:?}");
        return;
    }
    let key = (document.mount, template.clone(), as_documented.to_owned(), answer.status.as_str().to_owned());
    let validator = VALIDATORS.get(&key).unwrap_or_else(|| panic!("{key:?} is not documented: {answer:?}"));
    if method == Method::HEAD {
        return;
    }
    match validator {
        None if [Some(LINES), Some(FILE)].contains(&answer.header("content-type")) => {
            let operation = &document.json["paths"][template][as_documented.to_lowercase()];
            let (status, kind) = (answer.status.as_str(), answer.header("content-type").unwrap());
            assert!(operation["responses"][status]["content"][kind].is_object(), "{}", answer.what);
            if kind == FILE {
                assert!(answer.body.starts_with(b"SQLite format 3\0"), "{}", answer.what);
                return;
            }
            let lines = std::str::from_utf8(&answer.body).unwrap();
            assert!(lines.is_empty() || lines.ends_with('\n'), "{answer:?}");
            assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object())), "{answer:?}");
        }
        None => assert!(answer.body.is_empty(), "{answer:?}"),
        Some(validator) => {
            let body = answer.json();
            let errors: Vec<_> = validator.iter_errors(&body).map(|e| format!("{} at {}", e, e.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:#?}: {answer:?}");
        }
    }
}
