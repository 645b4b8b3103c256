//! What the two dialects' creates share: the `Idempotency-Key`, the reading of `{name, permissions}`, the 201.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    body::{self, Json},
    envelope::Refusal,
    json::{self, Object},
};
use crate::{
    authority::{IdempotencyKey, Issued},
    domain::{Invalid, NewToken, Permission, Permissions, Token, TokenName},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The optional header that lets a create be repeated.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Invalid> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match values.next() {
        None => IdempotencyKey::parse(value.as_bytes()).map(Some),
        Some(_) => Err(Invalid::one("Idempotency-Key", "unique", "must be given once")),
    }
}

/// Reads a create: what to create, and the key to repeat it by; all that is wrong with either at once.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    timeout: Duration,
    new_token: fn(&Json) -> Result<NewToken, Invalid>,
) -> Result<(NewToken, Option<IdempotencyKey>), Refusal> {
    let json = body::read_json(headers, body, timeout).await?;
    let mut invalid = Invalid::default();
    match (invalid.take(idempotency_key(headers)), invalid.take(new_token(&json))) {
        (Some(key), Some(new)) => Ok((new, key)),
        _ => Err(Refusal::invalid(&invalid)),
    }
}

/// Reads `{name, permissions}`, where `parse` knows the dialect's names of permissions.
pub(super) fn new_token(json: &Json, names: &str, parse: impl Fn(&str) -> Option<Permission>) -> Result<NewToken, Invalid> {
    let mut invalid = Invalid::default();
    let name = match json.get("name") {
        Some(Json::String(text)) => TokenName::parse("name", text),
        Some(_) => Err(Invalid::one("name", "type", "must be a string")),
        None => Err(Invalid::one("name", "required", "is required")),
    };
    let (name, permissions) = (invalid.take(name), invalid.take(permissions(json, names, parse)));
    match (name, permissions) {
        (Some(name), Some(permissions)) => Ok(NewToken { name, permissions }),
        _ => Err(invalid),
    }
}

fn permissions(json: &Json, names: &str, parse: impl Fn(&str) -> Option<Permission>) -> Result<Permissions, Invalid> {
    let items = match json.get("permissions") {
        Some(Json::Array(items)) => items,
        Some(_) => return Err(Invalid::one("permissions", "type", format!("must be an array of {names}"))),
        None => return Err(Invalid::one("permissions", "required", "is required")),
    };
    if items.is_empty() {
        return Err(Invalid::one("permissions", "min_items", format!("must have at least one of {names}")));
    }
    let (mut invalid, mut set) = (Invalid::default(), Permissions::NONE);
    for (i, item) in items.iter().enumerate() {
        match item {
            Json::String(name) if parse(name).is_some() => set = parse(name).map_or(set, |permission| set.with(permission)),
            // A long list of nonsense is answered briefly.
            _ if invalid.problems().len() < 10 => invalid.add(&format!("permissions[{i}]"), "enum", format!("must be {names}")),
            _ => {}
        }
    }
    invalid.into_result().map(|()| set)
}

/// The 201 with a dialect's token and its secret, marked if an earlier request made it: the only body that has one.
pub(super) fn answer(issued: &Issued, token: impl Fn(&mut Object<'_>, &Token)) -> Response {
    let response = json::answer(StatusCode::CREATED, 512, |members| {
        token(members, &issued.token);
        if let Some(secret) = &issued.secret {
            members.plain("clientSecret", &[secret.expose().as_bytes()]);
        }
    });
    if issued.replayed { replayed(response) } else { response }
}

/// Marks an answer that an earlier request had before.
pub(super) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
    response
}
