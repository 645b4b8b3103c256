//! The operations of the platform's API, and what a token needs for each.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{By, Owns, error, wire};
use crate::{
    authority::Error,
    domain::{Invalid, Need, NoOperation, Operation, Operations, Permission, Target},
    http::{
        App,
        body::{self, Members},
        envelope,
        envelope::{ClientCode, Refusal},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    operations: Vec<Members<Described>>,
}

/// As [`wire::operation`] shows one: what a program reads it can also load.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Described {
    method: String,
    path: String,
    #[serde(default)]
    operation_id: String,
    /// Null where nobody may; to be said, since leaving it out by mistake would close an operation.
    #[serde(deserialize_with = "Option::deserialize")]
    needs: Option<Vec<String>>,
    #[serde(default)]
    because: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    path: String,
}

fn none_loaded(error: Error) -> Refusal {
    match error {
        Error::NotFound => Refusal::client(ClientCode::ReferenceNotFound, "No operations are loaded yet."),
        other => error::refusal(other),
    }
}

async fn described(app: &App, headers: &HeaderMap, body: Body) -> Result<Operations, Refusal> {
    let arrange = |Load { operations }: Load| {
        let mut invalid = Invalid::default();
        let all: Vec<_> = (0..).zip(operations).filter_map(|(at, Members(described))| invalid.take(operation(at, described))).collect();
        let operations = invalid.into_result().and_then(|()| Operations::new(all));
        operations.map_err(|invalid| Refusal::invalid(&invalid))
    };
    body::read_long(app, headers, body, arrange).await
}

fn operation(at: usize, described: Described) -> Result<Operation, Invalid> {
    let Described { method, path, operation_id, needs, because } = described;
    let mut invalid = Invalid::default();
    // Another one would be no request's, and the operation nobody's.
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        invalid.add(&format!("operations[{at}].method"), "format", "must be a method as requests write it, such as GET");
    }
    let need = match needs {
        None => Some(Need::Unknown),
        Some(names) => names.iter().map(|name| Permission::parse(name)).collect::<Option<_>>().map(Need::Permissions),
    };
    if need.is_none() {
        invalid.add(&format!("operations[{at}].needs"), "enum", "must be null, or a list of VIEW, TRANSACT and MANAGE");
    }
    invalid.into_result()?;
    Ok(Operation { method, path, id: operation_id, need: need.unwrap_or(Need::Unknown), because })
}

pub(super) async fn read(State(app): State<App>, By(by): By) -> Result<Response, Refusal> {
    let (operations, loaded_at) = app.authority.get_operations(&by).await.map_err(none_loaded)?;
    let all: Vec<_> = operations.all().iter().map(wire::operation).collect();
    Ok(envelope::json(StatusCode::OK, &json!({ "loadedAt": loaded_at.to_string(), "operations": all })))
}

pub(super) async fn diff(State(app): State<App>, By(by): By, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let operations = described(&app, &headers, body).await?;
    let difference = app.authority.diff_operations(&by, &operations).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::difference(&operations, &difference, None)))
}

pub(super) async fn load(State(app): State<App>, Owns(by): Owns, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let operations = described(&app, &headers, body).await?;
    let (difference, receipt) = app.authority.load_operations(&by, &operations).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::difference(&operations, &difference, Some(&receipt))))
}

pub(super) async fn explain(State(app): State<App>, By(by): By, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Asked { method, path } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let (operations, _) = app.authority.get_operations(&by).await.map_err(none_loaded)?;
    let (found, because) = match explained(&operations, &method, &path) {
        Ok(operation) => (Some(operation), operation.because.clone()),
        Err(reason) => (None, reason),
    };
    let needs = found.map_or(Value::Null, |operation| wire::need(operation.need));
    Ok(envelope::json(StatusCode::OK, &json!({ "operation": found.map(wire::operation), "needs": needs, "because": because })))
}

/// Which operation a request is; or, for people, why it is none.
pub(crate) fn explained<'o>(operations: &'o Operations, method: &str, path: &str) -> Result<&'o Operation, String> {
    let target = Target::parse(path).map_err(|ambiguous| format!("its path could be read in two ways: {}", ambiguous.0))?;
    let none = |none| match none {
        NoOperation::Path => "no operation has this path",
        NoOperation::Method => "an operation has this path, but none with this method",
        NoOperation::Ambiguous => "its path leads to two operations, as it was sent and decoded",
    };
    operations.find(method, &target).map_err(|reason| none(reason).to_owned())
}
