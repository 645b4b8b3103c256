//! Blips' JSON shapes, and its projection of permissions.

use serde::{Serialize, Serializer};

use crate::{
    authority,
    domain::{ClientId, Invalid, NewToken, Permission, Permissions, Timestamp, Token, TokenId},
    http::{body::Json, create, envelope::shown},
};

/// Blips' name of a permission; it has none for TRANSACT.
const fn name(permission: Permission) -> Option<&'static str> {
    match permission {
        Permission::View => Some("view"),
        Permission::Transact => None,
        Permission::Manage => Some("manage"),
    }
}

fn access_level(permissions: Permissions) -> &'static str {
    if permissions.contains(Permission::Manage) { "management" } else { "view_only" }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiToken<'t> {
    #[serde(serialize_with = "id")]
    id: TokenId,
    name: &'t str,
    #[serde(serialize_with = "names")]
    permissions: Permissions,
    access_level: &'static str,
    issuer_type: &'static str,
    status: &'static str,
    revocable: bool,
    #[serde(serialize_with = "shown")]
    client_id: ClientId,
    #[serde(serialize_with = "shown")]
    created_at: Timestamp,
    #[serde(serialize_with = "shown")]
    updated_at: Timestamp,
    #[serde(serialize_with = "revoked_at")]
    revoked_at: Option<Timestamp>,
}

impl<'t> From<&'t Token> for ApiToken<'t> {
    fn from(token: &'t Token) -> Self {
        Self {
            id: token.id,
            name: token.name.as_str(),
            permissions: token.permissions,
            access_level: access_level(token.permissions),
            issuer_type: token.issuer.name(),
            status: if token.revoked_at.is_some() { "REVOKED" } else { "ACTIVE" },
            revocable: token.revocable,
            client_id: token.client_id,
            created_at: token.created_at,
            updated_at: token.updated_at,
            revoked_at: token.revoked_at,
        }
    }
}

fn id<S: Serializer>(id: &TokenId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("Token:tok_{}", id.simple()))
}

fn names<S: Serializer>(permissions: &Permissions, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(permissions.iter().filter_map(name))
}

fn revoked_at<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => shown(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenPage<'t> {
    data: Vec<ApiToken<'t>>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<&'t str>,
}

impl<'t> From<&'t authority::TokenPage> for TokenPage<'t> {
    fn from(page: &'t authority::TokenPage) -> Self {
        Self { data: page.tokens.iter().map(ApiToken::from).collect(), has_more: page.next.is_some(), next_cursor: page.next.as_deref() }
    }
}

/// Reads `{name, permissions}`.
pub(super) fn new_token(json: &Json) -> Result<NewToken, Invalid> {
    let known = |text: &str| Permission::ALL.into_iter().find(|permission| name(*permission) == Some(text));
    create::new_token(json, "view or manage", known)
}
