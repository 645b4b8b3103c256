//! What Countersign reads of an OpenAPI document: paths, methods, names, tags and `x-required-permissions`.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::domain::{Described, Invalid, Permission, Permissions};

/// The member in which an operation states what it needs.
const STATED: &str = "x-required-permissions";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reads a document, which is YAML or JSON. Paths are those below the server's own, unless `base_path` says another.
///
/// # Errors
/// Everything in it that can't be read.
pub fn read(text: &str, base_path: Option<&str>) -> Result<Vec<Described>, Invalid> {
    // JSON is YAML, but for what its own parser says better.
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str::<Once>(text).and_then(|Once| serde_json::from_str::<Value>(text)).map_err(|e| e.to_string())
    } else {
        serde_saphyr::from_str::<Value>(text).map_err(|e| e.to_string())
    };
    let document = parsed.map_err(|e| Invalid::one("the document", "syntax", format!("is neither YAML nor JSON: {}", first_line(&e))))?;
    let mut invalid = Invalid::default();
    let base = invalid.take(base_path.map_or_else(|| server_path(&document), |path| Ok(path.trim_end_matches('/').to_owned())));
    let base = base.unwrap_or_default();
    let mut operations = Vec::new();
    match document.get("paths").and_then(Value::as_object) {
        None => invalid.add("paths", "required", "must be an object"),
        Some(paths) => {
            for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
                path_item(&format!("{base}{path}"), item, &mut operations, &mut invalid);
            }
        }
    }
    if operations.is_empty() && invalid.problems().is_empty() {
        invalid.add("paths", "min_items", "has no operation");
    }
    invalid.into_result().map(|()| operations)
}

/// JSON in which no member is there twice, as in YAML none may be: of two, somebody else might read the other one.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if seen.contains(&name) {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
            seen.insert(name);
        }
        Ok(self)
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The path of the one server, which is a part of every path that a gateway sees.
fn server_path(document: &Value) -> Result<String, Invalid> {
    let problem = |message: &str| Invalid::one("servers", "ambiguous", message);
    let urls = document.get("servers").and_then(Value::as_array).into_iter().flatten();
    let path = |server: &Value| {
        let url = server.get("url").and_then(Value::as_str).unwrap_or_default();
        let behind_host = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        behind_host.trim_end_matches('/').to_owned()
    };
    let mut paths: Vec<_> = urls.map(path).collect();
    paths.sort();
    paths.dedup();
    match paths.as_slice() {
        [] => Ok(String::new()),
        [path] if path.contains('{') => Err(problem("has a path with variables; say the real one as the base path (--base-path)")),
        [path] if path.is_empty() || path.starts_with('/') => Ok(path.clone()),
        [_] => Err(problem("has a URL without a host; say its path as the base path (--base-path)")),
        _ => Err(problem("has servers with different paths; say the one that gateways see as the base path (--base-path)")),
    }
}

fn path_item(path: &str, item: &Value, operations: &mut Vec<Described>, invalid: &mut Invalid) {
    let Some(members) = item.as_object() else { return invalid.add(path, "type", "must be an object") };
    for refused in ["$ref", "servers", "additionalOperations"] {
        if members.contains_key(refused) {
            invalid.add(path, "unsupported", format!("has {refused}, which would change what is meant here and is not read"));
        }
    }
    for (method, operation) in members.iter().filter(|(name, _)| METHODS.contains(&name.as_str())) {
        let method = method.to_ascii_uppercase();
        let field = format!("{method} {path}");
        if operation.get("servers").is_some() {
            invalid.add(&field, "unsupported", "has servers of its own, which are not read");
        }
        let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tags = operation.get("tags").and_then(Value::as_array).into_iter().flatten();
        let described = Described {
            id: text("operationId"),
            tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
            stated: operation.get(STATED).and_then(|stated| invalid.take(permissions(&field, stated))),
            path: path.to_owned(),
            method,
        };
        operations.push(described);
    }
}

/// A list of permissions, all of which are needed; an empty one means any live token.
fn permissions(field: &str, stated: &Value) -> Result<Permissions, Invalid> {
    let problem = || Invalid::one(field, "enum", format!("{STATED} must be a list of VIEW, TRANSACT and MANAGE, each at most once"));
    let mut set = Permissions::NONE;
    for name in stated.as_array().ok_or_else(problem)? {
        let permission = name.as_str().and_then(Permission::parse).filter(|permission| !set.contains(*permission)).ok_or_else(problem)?;
        set = set.with(permission);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "
openapi: 3.1.0
servers: [{url: 'https://api.example/v1/'}, {url: 'https://sandbox.example/v1'}]
paths:
  /customers/{id}:
    x-note: ignored
    parameters: []
    get: {operationId: getCustomer, tags: [Customers, 1], x-required-permissions: [VIEW]}
    patch: {x-required-permissions: [MANAGE, VIEW]}
    delete: {}
  /me:
    get: {x-required-permissions: []}
";

    #[test]
    fn a_document_is_read_below_its_server() {
        let operations = read(DOCUMENT, None).unwrap();
        let seen: Vec<_> = operations
            .iter()
            .map(|o| format!("{} {} {} {:?} {}", o.method, o.path, o.id, o.tags, o.stated.map_or("-".to_owned(), |set| format!("{set:?}"))))
            .collect();
        insta::assert_snapshot!(seen.join("\n"), @r#"
        DELETE /v1/customers/{id}  [] -
        GET /v1/customers/{id} getCustomer ["Customers"] {VIEW}
        PATCH /v1/customers/{id}  [] {VIEW,MANAGE}
        GET /v1/me  [] {}
        "#);
        assert_eq!(read(DOCUMENT, Some("/")).unwrap()[3].path, "/me");
        assert_eq!(read(r#"{"paths":{"/a":{"get":{}}}}"#, None).unwrap()[0].path, "/a");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let bad = "
servers: [{url: 'https://a.example/v1'}, {url: 'https://b.example/v2'}]
paths:
  /a: {get: {x-required-permissions: VIEW}, put: {x-required-permissions: [view]}, post: {x-required-permissions: [VIEW, VIEW]}}
  /b: {$ref: other.yaml}
  /c: []
";
        let fields: Vec<_> = read(bad, None).unwrap_err().problems().iter().map(|problem| problem.field.clone()).collect();
        assert_eq!(fields, ["servers", "GET /a", "POST /a", "PUT /a", "/b", "/c"]);
        for text in [
            "",
            "a: [",
            "{",
            "paths: {}",
            "paths: []",
            "[]",
            "paths: {/a: {}}",
            "paths: {/a: {get: {}, get: {}}}",
            r#"{"paths":{"/a":{"get":{"x-required-permissions":["MANAGE"]},"get":{}}}}"#,
            r#"{"paths":{"/a":{"get":{}},"\u002fa":{"get":{}}}}"#,
            "servers: [{url: 'https://{x}.example/{y}'}]\npaths: {/a: {get: {}}}",
        ] {
            assert!(read(text, None).is_err(), "{text:?}");
        }
    }
}
