//! A door for `tests/fuzz`: what reads bytes of strangers here is private, and each to its module. Hidden, and no part of the
//! interface; it decides nothing.

use bytes::Bytes;

use super::{
    blips,
    body::{self, Json},
    grid, path, query, verify,
};
use crate::{
    authority::ListTokens,
    domain::{Invalid, NewToken, TokenId},
};

/// The decoded parameters of a query.
pub fn query(raw: &str, known: &[&'static str]) -> Result<Vec<(&'static str, String)>, Invalid> {
    let query = query::Query::parse(Some(raw), known);
    let values = known.iter().filter_map(|name| Some((*name, query.text(name)?))).collect();
    query.finish().map(|()| values)
}

/// What a query of Grid's list asks for.
pub fn list(raw: &str) -> Result<ListTokens, Invalid> {
    grid::list_of(Some(raw))
}

/// The token of a path.
pub fn token_id(path: &str) -> Option<TokenId> {
    path::token_id(&path.parse().ok()?)
}

/// A body as `Debug` shows it.
pub fn json(bytes: &[u8]) -> Result<String, Invalid> {
    body::parse(bytes).map(|json| format!("{json:?}"))
}

/// What a body creates, by Grid and by Blips; `None` if it is no JSON.
pub fn creates(bytes: &[u8]) -> Option<[Result<NewToken, Invalid>; 2]> {
    let json: Json = body::parse(bytes).ok()?;
    Some([grid::new_token(&json), blips::new_token(&json)])
}

/// The first head of some bytes if it is plain, in lines, and how many bytes it has.
pub fn plain(bytes: &[u8]) -> Option<(String, usize)> {
    verify::first_plain(bytes)
}

/// What decides of a call of Envoy's: method, path, credentials, forwarded addresses, and the route's own pairs.
pub fn call(bytes: Bytes) -> Option<[Vec<Bytes>; 5]> {
    verify::ext_authz::read_framed(bytes)
}
