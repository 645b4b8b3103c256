//! What holds for every answer of the console, whatever it answers.

use super::Answer;

/// Each with its one value.
const GUARDS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Whether a path is one of the console.
pub(crate) fn is_of_console(target: &str) -> bool {
    let path = target.split('?').next().unwrap();
    path.strip_prefix("/console").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(crate) fn check(answer: &Answer, has_body: bool) {
    for (name, value) in GUARDS {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}: {answer:?}");
    }
    let media_type = answer.header("content-type");
    assert!(answer.status.as_u16() < 400 || !has_body || media_type == Some("text/html; charset=utf-8"), "{answer:?}");
    if answer.status == 429 || answer.status == 503 {
        assert!((1..=60).contains(&answer.header("retry-after").unwrap().parse::<u32>().unwrap()), "{answer:?}");
    }
    if answer.status == 405 {
        assert!(answer.header("allow").is_some(), "{answer:?}");
    }
    if let Some(location) = answer.header("location") {
        assert!(location.starts_with("/console/") && !location.contains("//"), "{answer:?}");
    }
    if let Some(cookie) = answer.header("set-cookie") {
        let (pair, attributes) = cookie.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        assert_eq!(name, "__Host-countersign");
        let expected = if value.is_empty() { "; Max-Age=0" } else { "" };
        assert_eq!(attributes, format!(" Path=/; Secure; HttpOnly; SameSite=Strict{expected}"));
    }
    if media_type.is_some_and(|media_type| media_type.starts_with("text/html")) {
        check_markup(&String::from_utf8_lossy(&answer.body));
    }
}

/// Nothing in a page runs but our one file, whatever names there are: each tag is looked at.
fn check_markup(html: &str) {
    for tag in tags(html) {
        let name = tag.split([' ', '/']).next().unwrap();
        if name == "script" {
            assert_eq!(tag, "script defer src=\"/console/console.js\"");
        }
        assert!(!["iframe", "object", "embed", "base", "style"].contains(&name), "{tag}");
        for (attribute, value) in attributes(tag) {
            assert!(!attribute.starts_with("on") && attribute != "style" && attribute != "srcdoc", "{tag}");
            if ["href", "src", "action", "formaction"].contains(&attribute) {
                assert!(value.starts_with("/console/") || value == "#main", "{tag}");
            }
        }
    }
}

/// What stands in each pair of angle brackets; quotes are heeded, as browsers do.
pub(crate) fn tags(html: &str) -> Vec<&str> {
    let (mut tags, mut rest) = (Vec::new(), html);
    while let Some((_, behind)) = rest.split_once('<') {
        let mut quoted = false;
        let end = behind.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let end = end.unwrap_or_else(|| panic!("a tag without an end: {behind:.80}"));
        tags.push(&behind[..end]);
        rest = &behind[end..];
    }
    tags
}

/// The attributes of a tag that have values.
pub(crate) fn attributes(tag: &str) -> Vec<(&str, &str)> {
    let mut attributes = Vec::new();
    let mut rest = tag;
    while let Some((before, behind)) = rest.split_once("=\"") {
        let (value, next) = behind.split_once('"').unwrap();
        attributes.push((before.rsplit(' ').next().unwrap(), value));
        rest = next;
    }
    attributes
}

/// Each value that a page shows this once, by its name: what the parts of `page::secret` are.
pub(crate) fn shown_once(answer: &Answer) -> Vec<(String, String)> {
    let html = String::from_utf8_lossy(&answer.body);
    let parts = html.split("<div class=\"secret\"><span class=\"name\">").skip(1);
    let shown = parts.map(|part| {
        let (name, rest) = part.split_once("</span><code>").unwrap();
        (name.to_owned(), rest.split('<').next().unwrap().to_owned())
    });
    shown.collect()
}
