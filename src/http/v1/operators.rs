//! Operators and their tokens.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::{By, Owns, error, platforms, wire};
use crate::{
    authority::{AccountListed, Error, Invitation},
    domain::{AccountName, Invalid, OperatorTokenId, Owner, Role, Timestamp, TokenName},
    http::{App, body, envelope, envelope::Refusal, path},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    role: String,
    platform: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRole {
    role: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewToken {
    name: String,
    expires_at: Option<String>,
}

fn role(text: &str) -> Result<Role, Invalid> {
    Role::parse(text).ok_or_else(|| Invalid::one("role", "enum", "must be viewer, manager or owner"))
}

/// What is no name is nobody's. The one character of names that clients may encode is `@`.
fn name_in_path(uri: &Uri) -> Result<AccountName, Refusal> {
    let name = path::behind(uri, "/operators/").and_then(|name| AccountName::parse("name", &name.replacen("%40", "@", 1)).ok());
    name.ok_or_else(error::not_found)
}

fn refusal(refused: Error) -> Refusal {
    match refused {
        Error::Tampered => error::conflict("edited", "Its row was edited in the database, or its key is retired; reset the operator."),
        other => error::refusal(other),
    }
}

fn one(listed: &AccountListed) -> Response {
    envelope::json(StatusCode::OK, &json!({ "operator": wire::operator(listed) }))
}

fn invited(status: StatusCode, (listed, invitation): &(AccountListed, Invitation)) -> Response {
    envelope::json(status, &json!({ "operator": wire::operator(listed), "invitation": invitation.expose() }))
}

pub(super) async fn list(State(app): State<App>, By(by): By) -> Result<Response, Refusal> {
    let all = app.authority.list_accounts(&by).await.map_err(refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "operators": all.iter().map(wire::operator).collect::<Vec<_>>() })))
}

pub(super) async fn create(State(app): State<App>, Owns(by): Owns, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let new: New = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let mut invalid = Invalid::default();
    let name = invalid.take(AccountName::parse("name", &new.name));
    let role = invalid.take(role(&new.role));
    let platform = new.platform.as_deref().map(|text| platforms::id_in("platform", text)).transpose();
    let platform = invalid.take(platform);
    let (Some(name), Some(role), Some(platform)) = (name, role, platform) else { return Err(Refusal::invalid(&invalid)) };
    let made = app.authority.create_account(&by, name, role, platform, None).await.map_err(refusal)?;
    Ok(invited(StatusCode::CREATED, &made))
}

pub(super) async fn read(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    Ok(one(&app.authority.get_account(&by, name_in_path(&uri)?).await.map_err(refusal)?))
}

pub(super) async fn set_role(
    State(app): State<App>,
    Owns(by): Owns,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let NewRole { role: text } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let role = role(&text).map_err(|invalid| Refusal::invalid(&invalid))?;
    Ok(one(&app.authority.set_account_role(&by, name_in_path(&uri)?, role).await.map_err(refusal)?))
}

pub(super) async fn disable(State(app): State<App>, Owns(by): Owns, uri: Uri) -> Result<Response, Refusal> {
    set_disabled(app, by, &uri, true).await
}

pub(super) async fn enable(State(app): State<App>, Owns(by): Owns, uri: Uri) -> Result<Response, Refusal> {
    set_disabled(app, by, &uri, false).await
}

async fn set_disabled(app: App, by: Owner, uri: &Uri, disabled: bool) -> Result<Response, Refusal> {
    Ok(one(&app.authority.set_account_disabled(&by, name_in_path(uri)?, disabled).await.map_err(refusal)?))
}

pub(super) async fn reset(State(app): State<App>, Owns(by): Owns, uri: Uri) -> Result<Response, Refusal> {
    let reset = app.authority.reset_account(&by, name_in_path(&uri)?).await.map_err(refusal)?;
    Ok(invited(StatusCode::OK, &reset))
}

pub(super) async fn list_tokens(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    let tokens = app.authority.list_operator_tokens(&by, name_in_path(&uri)?).await.map_err(refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "operatorTokens": tokens.iter().map(wire::operator_token).collect::<Vec<_>>() })))
}

pub(super) async fn create_token(
    State(app): State<App>,
    By(by): By,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let new: NewToken = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let moment = |text: &str| {
        let wrong = || Invalid::one("expiresAt", "date_time", "must be an RFC 3339 date-time such as 2027-01-31T00:00:00Z");
        Timestamp::parse_rfc3339(text, true).ok_or_else(wrong)
    };
    let mut invalid = Invalid::default();
    let named = invalid.take(TokenName::parse("name", &new.name));
    let expires = invalid.take(new.expires_at.as_deref().map(moment).transpose());
    let (Some(named), Some(expires)) = (named, expires) else { return Err(Refusal::invalid(&invalid)) };
    let issued = app.authority.create_operator_token(&by, name_in_path(&uri)?, named, expires, None).await.map_err(refusal)?;
    let mut json = wire::operator_token(&issued.token);
    json["token"] = issued.secret.expose().into();
    Ok(envelope::json(StatusCode::CREATED, &json))
}

pub(super) async fn revoke_token(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    let id = path::behind(&uri, "/operator-tokens/").and_then(OperatorTokenId::parse).ok_or_else(error::not_found)?;
    let token = app.authority.revoke_operator_token(&by, id).await.map_err(refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::operator_token(&token)))
}
