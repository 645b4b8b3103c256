//! `countersign nodes`, beside the data and from elsewhere.

use serde_json::Value;

use super::{admin, asking, json_of, operator, refused, text, there};
use crate::support::program::{Server, create_platform, run, run_json};

#[test]
fn which_servers_there_are_is_told_here_and_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (platform, _) = create_platform(data, "Acme");
    let token = operator(data, "alice", "viewer");
    let none = run_json(data, &["nodes"]);
    assert_eq!((none["nodes"].as_array().unwrap().len(), &none["server"]), (0, &Value::Null));
    assert!(text(&run(data, &["nodes"])).0.starts_with("No process answers from memory"));

    let server = Server::start(data);
    let url = admin(&server);
    let told = json_of(&there(&url, &token, &["nodes", "--output", "json"]));
    let [node] = told["nodes"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert!(node["here"] == true && told["server"].is_object() && told["last"].as_u64() > Some(3), "{told}");
    // A command is none of them.
    let here = run_json(data, &["nodes"]);
    assert_eq!((&here["nodes"][0]["id"], &here["nodes"][0]["here"], &here["server"]), (&node["id"], &Value::Bool(false), &Value::Null));
    let (shown, _, _) = text(&there(&url, &token, &["nodes"]));
    assert!(shown.contains(node["id"].as_str().unwrap()) && shown.contains("the server that was asked"), "{shown}");
    assert!(shown.contains("2 live tokens in memory") && shown.contains("its journal is written"), "{shown}");

    run_json(data, &["operator", "create", "staff", "--role", "manager", "--platform", &platform]);
    let staff = run_json(data, &["operator", "token", "create", "--operator", "staff", "--name", "a"]);
    let line = refused(&asking(&url, staff["token"].as_str().unwrap(), &["nodes"]).output().unwrap(), 1);
    assert_eq!(line, "countersign: this takes an operator of all platforms; ask an owner for it\n");
}
