//! Tokens of any platform that the operator sees.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Asks, By, Manages, Oversees, error, platforms,
    search::{self, Asked},
    wire,
};
use crate::{
    authority::{Denied, Error},
    domain::{Environment, Invalid, NewToken, Permission, Permissions, Presented, Scope, TokenId, TokenName},
    http::{App, body, create, envelope, envelope::Refusal, path, uses},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    platform: String,
    environment: String,
    name: String,
    permissions: Vec<String>,
}

pub(super) fn environment(text: &str) -> Result<Environment, Invalid> {
    Environment::parse(text).ok_or_else(|| Invalid::one("environment", "enum", "must be sandbox or production"))
}

fn permissions(names: &[String]) -> Result<Permissions, Invalid> {
    let wrong = || Invalid::one("permissions", "enum", "must be one or more of VIEW, TRANSACT and MANAGE");
    let all = names.iter().map(|name| Permission::parse(name)).collect::<Option<Permissions>>();
    all.filter(|all| !all.is_empty()).ok_or_else(wrong)
}

fn id_in_path(uri: &Uri) -> Result<TokenId, Refusal> {
    path::token_id(uri).ok_or_else(Refusal::token_not_found)
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::NotFound => Refusal::token_not_found(),
        other => error::refusal(other),
    }
}

pub(super) async fn create(State(app): State<App>, Manages(by): Manages, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let key = create::idempotency_key(&headers).map_err(|invalid| Refusal::invalid(&invalid))?;
    let new: New = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let mut invalid = Invalid::default();
    let platform = invalid.take(platforms::id_in("platform", &new.platform));
    let environment = invalid.take(environment(&new.environment));
    let name = invalid.take(TokenName::parse("name", &new.name));
    let permissions = invalid.take(permissions(&new.permissions));
    let (Some(platform), Some(environment), Some(name), Some(permissions)) = (platform, environment, name, permissions) else {
        return Err(Refusal::invalid(&invalid));
    };
    let caller = app.authority.locate_platform(&by, platform, environment).await.map_err(error::refusal)?;
    let by = caller.may_manage().map_err(|lacking| error::refusal(lacking.into()))?;
    let issued = app.authority.create_token(&by, NewToken { name, permissions }, key).await.map_err(error::refusal)?;
    let answer = envelope::json(StatusCode::CREATED, &wire::issued(&issued));
    Ok(if issued.replayed { create::replayed(answer) } else { answer })
}

pub(super) async fn list(State(app): State<App>, Asks(by): Asks, uri: Uri) -> Result<Response, Refusal> {
    let (scope, asked) = search::asked(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let caller = match scope {
        Some(Scope { platform, environment }) => {
            Some(app.authority.locate_platform(&by, platform, environment).await.map_err(error::refusal)?)
        }
        None => None,
    };
    let json = match (caller, asked) {
        (Some(caller), Asked::Page(list)) => {
            let by = caller.may_read().map_err(|lacking| error::refusal(lacking.into()))?;
            let page = app.authority.list_tokens(&by, list).await.map_err(error::refusal)?;
            let tokens: Vec<_> = page.tokens.iter().map(wire::token).collect();
            json!({ "tokens": tokens, "nextCursor": page.next, "totalCount": page.total })
        }
        (_, Asked::Search(search)) => {
            let page = app.authority.search_tokens(&by, &search).await.map_err(error::refusal)?;
            let tokens: Vec<_> = page.found.iter().map(wire::found).collect();
            json!({ "tokens": tokens, "nextCursor": page.next.map(search::cursor), "totalCount": null })
        }
        (None, Asked::Page(_)) => return Err(Refusal::internal()),
    };
    Ok(envelope::json(StatusCode::OK, &json))
}

pub(super) async fn read(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    let id = id_in_path(&uri)?;
    let by = app.authority.locate_token(&by, id).await.and_then(|caller| Ok(caller.may_read()?)).map_err(refusal)?;
    let token = app.authority.get_token(&by, id).await.map_err(refusal)?;
    let used = app.authority.token_use(&by, id).await.map_err(refusal)?;
    let mut json = wire::token(&token);
    json["lastUsedAt"] = used.last_used_at.map_or(Value::Null, |at| at.to_string().into());
    json["uses"] = uses::json(&used);
    json["sources"] = wire::sources(&used.sources);
    Ok(envelope::json(StatusCode::OK, &json))
}

pub(super) async fn revoke(State(app): State<App>, Manages(by): Manages, uri: Uri) -> Result<Response, Refusal> {
    let id = id_in_path(&uri)?;
    let by = app.authority.locate_token(&by, id).await.and_then(|caller| Ok(caller.may_manage()?)).map_err(refusal)?;
    let ended = app.authority.revoke_token(&by, id).await.map_err(refusal)?;
    let mut json = wire::token(&ended.token);
    json["already"] = ended.already.into();
    json["receipt"] = wire::receipt(&ended.receipt);
    Ok(envelope::json(StatusCode::OK, &json))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Pair {
    client_id: String,
    client_secret: String,
}

/// Whether a credential is proven. Whoever sees all tokens may know why one is not; the wire of the platform never says.
pub(super) async fn check(State(app): State<App>, Oversees(_): Oversees, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Pair { client_id, client_secret } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let client_secret = Zeroizing::new(client_secret);
    let pair = Zeroizing::new([client_id.as_bytes(), b":", client_secret.as_bytes()].concat());
    let checked = match app.authority.prove(Presented::parse_pair(&pair).as_ref(), None).await {
        Ok(proven) => Ok(proven),
        Err(Denied::Refused(reason)) => Err(reason),
        Err(Denied::Unknown) => return Err(Refusal::unavailable_because("the database cannot say whether the credential holds")),
    };
    Ok(envelope::json(StatusCode::OK, &wire::checked(checked)))
}
