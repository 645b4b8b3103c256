//! The operator API, over HTTP. What is told of each operation is read from its document.

mod audit;
mod happy;
mod inputs;
pub(crate) mod matrix;
mod scope;
mod search;
mod secrets;
mod servers;

use countersign::domain::{Environment, OperatorTokenId, PlatformId, Role, Scope, Timestamp, TokenSearch};
use http::Method;
use serde_json::{Value, json};

use crate::{
    keys::write_keys,
    operators::name,
    support::{Answer, Request, TestApp, contract::DOCUMENTS, operator},
};

/// What the document says of one operation.
#[derive(Debug, Clone)]
pub(crate) struct Documented {
    pub(crate) id: &'static str,
    pub(crate) method: String,
    /// Below the mount.
    pub(crate) path: &'static str,
    pub(crate) role: Role,
    pub(crate) everywhere: bool,
    /// The role that it takes for what is another's, if it takes more.
    pub(crate) others: Option<Role>,
    /// Its status when it is done.
    pub(crate) ok: u16,
    /// The members of its body, where it has one, and whether they must be there.
    pub(crate) members: Vec<(&'static str, bool)>,
}

pub(crate) fn document() -> &'static Value {
    &DOCUMENTS.iter().find(|document| document.mount == "/v1").unwrap().json
}

/// All of them.
pub(crate) fn documented() -> Vec<Documented> {
    let mut all = Vec::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let statuses = operation["responses"].as_object().unwrap().keys();
            let done: Vec<u16> = statuses.map(|status| status.parse().unwrap()).filter(|status| *status < 400).collect();
            let schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let schema = schema.map(|reference| document().pointer(&reference[1..]).unwrap());
            let required =
                |name: &str| schema.unwrap()["required"].as_array().is_some_and(|all| all.iter().any(|required| required == name));
            let members = schema.and_then(|schema| schema["properties"].as_object()).into_iter().flat_map(|members| members.keys());
            all.push(Documented {
                id: operation["operationId"].as_str().unwrap(),
                method: method.to_uppercase(),
                path,
                role: Role::parse(operation["x-required-role"].as_str().unwrap()).unwrap(),
                everywhere: operation["x-everywhere"].as_bool().unwrap_or_default(),
                others: operation["x-required-role-for-others"].as_str().map(|role| Role::parse(role).unwrap()),
                ok: done[0],
                members: members.map(|name| (name.as_str(), required(name))).collect(),
            });
            assert_eq!(done.len(), 1, "{path} {method}");
        }
    }
    assert!(all.len() > 20);
    all
}

pub(crate) fn find(id: &str) -> Documented {
    documented().into_iter().find(|operation| operation.id == id).unwrap()
}

/// A body that each operation with one takes; `n` makes it another one.
pub(crate) fn good_body(id: &str, platform: PlatformId, n: usize) -> Option<Value> {
    let operation = json!({ "method": "GET", "path": "/a/{b}", "operationId": "get", "needs": ["VIEW"], "because": "said so" });
    Some(match id {
        "createPlatform" => json!({ "name": "Made" }),
        "createToken" => json!({ "platform": platform.to_string(), "environment": "sandbox", "name": "made", "permissions": ["VIEW"] }),
        "loadOperations" | "diffOperations" => json!({ "operations": [operation] }),
        "explainOperation" => json!({ "method": "GET", "path": "/a/1" }),
        "createOperator" => json!({ "name": format!("made-{n}"), "role": "viewer", "platform": platform.to_string() }),
        "setOperatorRole" => json!({ "role": "manager" }),
        "bulkRevokeTokens" => json!({ "filter": no_filter(platform), "dryRun": false, "expectedCount": 0 }),
        "retireKey" => json!({ "dryRun": false, "expectedCount": 0, "seq": 0 }),
        "checkToken" => json!({ "clientId": "ik_test_none", "clientSecret": "none" }),
        "proveAuditEntry" => json!({ "seq": 1, "heads": null }),
        "pruneAudit" => json!({ "before": "2020-01-01T00:00:00Z", "recent": false, "heads": [] }),
        "createOperatorToken" => json!({ "name": "made", "expiresAt": "2035-01-01T00:00:00Z" }),
        _ => return None,
    })
}

/// A search that finds nothing.
pub(crate) fn nothing() -> TokenSearch {
    TokenSearch { name: Some("none has this name".to_owned()), ..TokenSearch::default() }
}

/// All that a filter can say, so that it finds nothing.
fn no_filter(platform: PlatformId) -> Value {
    json!({
        "platform": platform.to_string(), "environment": "sandbox", "namePart": "none has this name", "permission": "VIEW",
        "neverUsed": true, "createdSince": "2025-01-01T00:00:00Z", "createdUntil": "2035-01-01T00:00:00Z",
    })
}

impl TestApp {
    /// A key that nothing lives by, which can be retired.
    pub(crate) async fn key(&self) -> u32 {
        write_keys(&self.directory.path().join("keys.json"), &[(2, "verify-only")], 1);
        self.authority.reload_keys().await.unwrap();
        2
    }

    /// A bulk revoke that would end nothing, and that nobody is at.
    pub(crate) async fn bulk_revoke(&self) -> String {
        self.bulk_revoke_of(self.platform.id).await
    }

    /// The same on another platform.
    pub(crate) async fn bulk_revoke_of(&self, platform: PlatformId) -> String {
        let search = TokenSearch { scope: Some(Scope { platform, environment: Environment::Sandbox }), ..nothing() };
        let authority = self.authority.clone();
        // On a runtime of its own, which ends before it is at it.
        let begin = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(authority.begin_bulk_revoke(&operator(), search, 0, None)).unwrap().id.to_string()
        };
        tokio::task::spawn_blocking(begin).await.unwrap()
    }

    /// Another account with a token of it, as the program that has it sends it.
    pub(crate) async fn program(&self, account: &str, role: Role, platform: Option<PlatformId>) -> String {
        self.authority.create_account(&operator(), name(account), role, platform, None).await.unwrap();
        self.operator_token(account, None).await.1
    }

    /// Another token of an account.
    pub(crate) async fn operator_token(&self, account: &str, expires: Option<Timestamp>) -> (OperatorTokenId, String) {
        let named = countersign::domain::TokenName::parse("name", "program").unwrap();
        let issued = self.authority.create_operator_token(&operator(), name(account), named, expires, None).await.unwrap();
        let secret = issued.secret.expose().to_owned();
        self.keep_secrets_of(&json!({ "token": secret }));
        (issued.token.id, format!("Bearer {secret}"))
    }

    /// A request as a program of an operator.
    pub(crate) fn v1(&self, method: &str, path: &str, bearer: &str) -> Request<'_> {
        self.request(Method::from_bytes(method.as_bytes()).unwrap(), &format!("/v1{path}")).authorization(bearer)
    }

    /// Answers a GET.
    pub(crate) async fn v1_get(&self, path: &str, bearer: &str) -> Answer {
        self.v1("GET", path, bearer).send_admin().await
    }

    /// Answers a POST with a body.
    pub(crate) async fn v1_post(&self, path: &str, bearer: &str, body: &Value) -> Answer {
        self.v1("POST", path, bearer).json(body).send_admin().await
    }

    /// The last place of the audit log: what changes nothing leaves it.
    pub(crate) async fn place(&self) -> u64 {
        self.authority.list_audit(&operator(), Default::default()).await.unwrap().0[0].seq
    }
}

#[tokio::test]
async fn the_document_knows_all_actions() {
    let told = document()["components"]["schemas"]["Action"]["enum"].as_array().unwrap();
    assert_eq!(*told, countersign::domain::Action::ALL.map(countersign::domain::Action::name));
}
