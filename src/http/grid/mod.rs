//! The Grid dialect: `/grid/2025-10-13`.

mod error;
mod wire;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    App,
    auth::{Manages, Reads, RequestContext},
    create,
    envelope::Refusal,
    json, path,
    query::Query,
};
use crate::domain::{Invalid, Liveness, Order, Timestamp, TokenFilter, TokenName};

pub(super) use self::wire::new_token;

/// Where the dialect is mounted: the last part is the published version.
pub(crate) const MOUNT: &str = "/grid/2025-10-13";

/// All operations.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/tokens", get(list).post(create_token)).route("/tokens/{token_id}", get(read).delete(end))
}

async fn create_token(State(app): State<App>, Manages(by): Manages, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (new, key) = create::read(&headers, body, app.limits.body_timeout, new_token).await?;
    let issued = app.authority.create_token(&by, new, key).await.map_err(error::refusal)?;
    Ok(create::answer(&issued, wire::token))
}

async fn list(State(app): State<App>, Reads(by): Reads, uri: Uri) -> Result<Response, Refusal> {
    let list = list_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let page = app.authority.list_tokens(&by, list).await.map_err(error::refusal)?;
    Ok(json::answer(StatusCode::OK, 512 * (page.tokens.len() + 1), |members| wire::page(members, &page)))
}

pub(super) fn list_of(query: Option<&str>) -> Result<crate::authority::ListTokens, Invalid> {
    let known = ["name", "createdAfter", "createdBefore", "updatedAfter", "updatedBefore", "limit", "cursor"];
    let mut query = Query::parse(query, &known);
    let name = query.parsed("name", |text| TokenName::parse("name", text));
    let from = query.time("createdAfter", true).max(query.time("updatedAfter", true));
    let until = [query.time("createdBefore", false), query.time("updatedBefore", false)].into_iter().flatten().min();
    let limit = query.limit("limit").unwrap_or_default();
    let cursor = query.text("cursor").filter(|cursor| !cursor.is_empty());
    query.finish()?;
    let filter = TokenFilter { name, from: from.unwrap_or(Timestamp::MIN), until: until.unwrap_or(Timestamp::MAX) };
    Ok(crate::authority::ListTokens { liveness: Liveness::Live, filter, order: Order::NewestFirst, cursor, limit, count: true })
}

async fn read(State(app): State<App>, Reads(by): Reads, uri: Uri) -> Result<Response, Refusal> {
    let id = path::token_id(&uri).ok_or_else(Refusal::token_not_found)?;
    let token = app.authority.get_token(&by, id).await.map_err(error::refusal)?;
    // To Grid an ended token is gone.
    if token.revoked_at.is_some() {
        return Err(Refusal::token_not_found());
    }
    Ok(json::answer(StatusCode::OK, 512, |members| wire::token(members, &token)))
}

async fn end(
    State(app): State<App>,
    Manages(by): Manages,
    Extension(context): Extension<RequestContext>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let id = path::token_id(&uri).ok_or_else(Refusal::token_not_found)?;
    let ended = app.authority.revoke_token(&by, id).await.map_err(error::refusal)?;
    let _ = context.receipt.set(ended.receipt);
    if ended.already {
        return Err(Refusal::token_not_found());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
