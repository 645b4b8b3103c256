//! Grid's JSON shapes.

use serde::{Serialize, Serializer};

use crate::{
    authority::TokenPage,
    domain::{ClientId, Invalid, NewToken, Permission, Permissions, Timestamp, Token, TokenId},
    http::{body::Json, create, envelope::shown},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiToken<'t> {
    #[serde(serialize_with = "shown")]
    id: TokenId,
    name: &'t str,
    #[serde(serialize_with = "names")]
    permissions: Permissions,
    #[serde(serialize_with = "shown")]
    client_id: ClientId,
    #[serde(serialize_with = "shown")]
    created_at: Timestamp,
    #[serde(serialize_with = "shown")]
    updated_at: Timestamp,
}

impl<'t> From<&'t Token> for ApiToken<'t> {
    fn from(token: &'t Token) -> Self {
        Self {
            id: token.id,
            name: token.name.as_str(),
            permissions: token.permissions,
            client_id: token.client_id,
            created_at: token.created_at,
            updated_at: token.updated_at,
        }
    }
}

fn names<S: Serializer>(permissions: &Permissions, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(permissions.iter().map(Permission::name))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenList<'t> {
    data: Vec<ApiToken<'t>>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<u64>,
}

impl<'t> From<&'t TokenPage> for TokenList<'t> {
    fn from(page: &'t TokenPage) -> Self {
        Self {
            data: page.tokens.iter().map(ApiToken::from).collect(),
            has_more: page.next.is_some(),
            next_cursor: page.next.as_deref(),
            total_count: page.total,
        }
    }
}

/// Reads `{name, permissions}`.
pub(super) fn new_token(json: &Json) -> Result<NewToken, Invalid> {
    create::new_token(json, "VIEW, TRANSACT or MANAGE", Permission::parse)
}
