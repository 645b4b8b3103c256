//! Looking for tokens by what is known of them.

use serde_json::Value;

use super::{answered, operator, somebody, text, there};
use crate::support::program::{create_platform, run, run_json};

fn create(data: &std::path::Path, platform: &str, name: &str, permissions: &str) {
    let token = ["token", "create", "--platform", platform, "--environment", "sandbox", "--name", name, "--permissions", permissions];
    run_json(data, &token);
}

fn names(found: &Value) -> Vec<&str> {
    found["tokens"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect()
}

#[test]
fn tokens_are_found_by_what_is_known_of_them() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (one, _) = create_platform(data, "One");
    let (other, _) = create_platform(data, "Other");
    create(data, &one, "Nightly payouts", "VIEW,TRANSACT");
    create(data, &other, "PAYOUTS", "VIEW");
    create(data, &one, "Reports", "VIEW");
    let find = |arguments: &[&str]| run_json(data, &[&["token", "list"][..], arguments].concat());
    assert_eq!(names(&find(&["--name-part", "payouts"])), ["PAYOUTS", "Nightly payouts"]);
    assert_eq!(names(&find(&["--name-part", "payouts", "--oldest"])), ["Nightly payouts", "PAYOUTS"]);
    assert_eq!(names(&find(&["--name-part", "payouts", "--platform", &other])), ["PAYOUTS"]);
    assert_eq!(names(&find(&["--name-part", "payouts", "--environment", "production"])), [""; 0]);
    assert_eq!(names(&find(&["--permission", "TRANSACT", "--name-part", "p"])), ["Nightly payouts"]);
    let roots = ["Root token"; 4];
    assert_eq!(names(&find(&["--permission", "MANAGE", "--unused-for", "0m"])), roots);
    assert_eq!(names(&find(&["--unused-for", "0m"])).len(), 7, "or never");
    // What did not exist then was not left unused since.
    assert_eq!(names(&find(&["--unused-for", "90d"])), [""; 0]);
    assert_eq!(names(&find(&["--never-used", "--created-since", "2020-01-01T00:00:00Z"])).len(), 7);
    assert_eq!(names(&find(&["--created-until", "2020-01-01T00:00:00Z"])), [""; 0]);
    assert_eq!(names(&find(&["--used-since", "2020-01-01T00:00:00Z"])), [""; 0]);
    let first = find(&["--oldest", "--limit", "3"]);
    assert_eq!((names(&first).len(), &first["more"], &first["tokens"][0]["lastUsedAt"]), (3, &Value::Bool(true), &Value::Null));
    let ended = find(&["--name-part", "reports"])["tokens"][0]["id"].as_str().unwrap().to_owned();
    run_json(data, &["token", "revoke", &ended]);
    assert_eq!(names(&find(&["--ended"])), ["Reports"]);
    assert_eq!(names(&find(&["--name-part", "reports"])), [""; 0]);
    assert_eq!(names(&find(&["--name-part", "reports", "--all"])), ["Reports"]);
    // People are told of the last use too, where they look for tokens.
    let shown = |arguments: &[&str]| text(&run(data, &[&["token", "list"][..], arguments].concat())).0;
    assert!(shown(&["--ended"]).lines().next().unwrap().ends_with("CREATED                   LAST USED"), "{}", shown(&["--ended"]));
    assert!(!shown(&[]).contains("LAST USED"));
    assert_eq!(shown(&["--name-part", "nobody has this"]), "No token is like that.\n");

    for odd in [
        &["--name", "a", "--name-part", "b"][..],
        &["--name", "a", "--oldest"],
        &["--never-used", "--unused-for", "1d"],
        &["--never-used", "--used-since", "2020-01-01T00:00:00Z"],
        &["--unused-for", "1d", "--used-since", "2020-01-01T00:00:00Z"],
        &["--ended", "--all"],
        &["--unused-for", "1w"],
        &["--permission", "VIEW,MANAGE"],
        &["--created-since", "yesterday"],
    ] {
        let (stdout, stderr, code) = text(&run(data, &[&["token", "list"][..], odd].concat()));
        assert!(stdout.is_empty() && stderr.starts_with("countersign: ") && code == 2, "{odd:?}: {stdout}{stderr}{code}");
    }
}

/// A page may have nothing, and be followed by more; whoever leads nowhere is not followed for ever.
#[test]
fn a_page_with_nothing_is_followed() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let (url, told) = somebody(&answered("200 OK", r#"{"tokens":[],"nextCursor":"x","totalCount":null}"#));
    let (stdout, _, code) = text(&there(&url, &token, &["token", "list", "--oldest"]));
    assert_eq!((stdout.as_str(), code), ("No token is like that.\n", 0));
    let asked: Vec<_> = told.try_iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    let path = "GET /v1/tokens?status=active&limit=100";
    assert_eq!(asked, [format!("{path}&order=oldest HTTP/1.1"), format!("{path}&cursor=x&order=oldest HTTP/1.1")]);
}
