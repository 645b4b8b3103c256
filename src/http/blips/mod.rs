//! The Blips dialect: `/blips`.

mod error;
mod wire;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::{
    App,
    auth::{Manages, Reads, RequestContext},
    create,
    envelope::Refusal,
    json, path,
    query::Query,
};
use crate::{
    authority::{Error, ListTokens},
    domain::{Invalid, Liveness, MayRead, Order, Token, TokenFilter, TokenId},
};

pub(super) use self::wire::new_token;

/// Where the dialect is mounted; the published server has no prefix.
pub(crate) const MOUNT: &str = "/blips";

/// Tokens read and sent at once when the whole list is streamed.
const CHUNK: usize = 500;

/// All operations.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/tokens", get(list).post(create_token))
        .route("/tokens/{token_id}", get(read))
        .route("/tokens/{token_id}/revoke", post(revoke))
}

async fn create_token(State(app): State<App>, Manages(by): Manages, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let (new, key) = create::read(&headers, body, app.limits.body_timeout, new_token).await?;
    let issued = app.authority.create_token(&by, new, key).await.map_err(error::refusal)?;
    Ok(create::answer(&issued, wire::token))
}

async fn list(State(app): State<App>, Reads(by): Reads, uri: Uri) -> Result<Response, Refusal> {
    match page_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))? {
        Some(list) => {
            let page = app.authority.list_tokens(&by, list).await.map_err(error::refusal)?;
            Ok(json::answer(StatusCode::OK, 512 * (page.tokens.len() + 1), |members| wire::page(members, &page)))
        }
        None => whole_list(app, by).await,
    }
}

/// The page that was asked for; without `limit` and `cursor`, the whole list.
fn page_of(query: Option<&str>) -> Result<Option<ListTokens>, Invalid> {
    let mut query = Query::parse(query, &["limit", "cursor"]);
    let limit = query.limit("limit");
    let cursor = query.text("cursor").filter(|cursor| !cursor.is_empty());
    query.finish()?;
    let paged = limit.is_some() || cursor.is_some();
    Ok(paged.then(|| ListTokens {
        liveness: Liveness::All,
        filter: TokenFilter::default(),
        order: Order::OldestFirst,
        cursor,
        limit: limit.unwrap_or_default(),
        count: false,
    }))
}

/// Streams the list in bounded memory: a chunk is read when the one before was sent.
async fn whole_list(app: App, by: MayRead) -> Result<Response, Refusal> {
    // The first chunk before the status: a database that can't be read is still a 503.
    let (tokens, next) = app.authority.walk_tokens(&by, None, CHUNK).await.map_err(error::refusal)?;
    let first = chunk(b"{\"data\":[", &tokens, next);
    let rest = stream::try_unfold((next, !tokens.is_empty()), move |(next, begun)| {
        let (app, by) = (app.clone(), by.clone());
        async move {
            let Some(after) = next else { return Ok(None) };
            let (tokens, next) = app.authority.walk_tokens(&by, Some(after), CHUNK).await?;
            // A chunk of edited rows only is empty.
            let opening: &[u8] = if begun && !tokens.is_empty() { b"," } else { b"" };
            Ok::<_, Error>(Some((chunk(opening, &tokens, next), (next, begun || !tokens.is_empty()))))
        }
    });
    let chunks = futures_util::StreamExt::chain(stream::iter([Ok(first)]), rest);
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from_stream(chunks)).into_response())
}

fn chunk(opening: &[u8], tokens: &[Token], next: Option<TokenId>) -> Bytes {
    let mut bytes = Vec::with_capacity(512 * tokens.len() + 16);
    bytes.extend_from_slice(opening);
    for (n, token) in tokens.iter().enumerate() {
        if n > 0 {
            bytes.push(b',');
        }
        json::object(&mut bytes, |members| wire::token(members, token));
    }
    if next.is_none() {
        bytes.extend_from_slice(b"]}");
    }
    bytes.into()
}

async fn read(State(app): State<App>, Reads(by): Reads, uri: Uri) -> Result<Response, Refusal> {
    let id = path::token_id(&uri).ok_or_else(Refusal::token_not_found)?;
    let token = app.authority.get_token(&by, id).await.map_err(error::refusal)?;
    Ok(json::answer(StatusCode::OK, 512, |members| wire::token(members, &token)))
}

async fn revoke(
    State(app): State<App>,
    Manages(by): Manages,
    Extension(context): Extension<RequestContext>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let id = path::token_id(&uri).ok_or_else(Refusal::token_not_found)?;
    let ended = app.authority.revoke_token(&by, id).await.map_err(error::refusal)?;
    let _ = context.receipt.set(ended.receipt);
    Ok(json::answer(StatusCode::OK, 512, |members| wire::token(members, &ended.token)))
}
