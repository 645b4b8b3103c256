//! Blips' JSON shapes, and its projection of permissions.

use uuid::fmt::Simple;

use crate::{
    authority::TokenPage,
    domain::{Invalid, NewToken, Permission, Permissions, Timestamp, Token},
    http::{body::Json, create, json::Object},
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

/// The token, but for the secret.
pub(super) fn token(members: &mut Object<'_>, token: &Token) {
    let mut id = [0; Simple::LENGTH];
    members.plain("id", &[b"Token:tok_", token.id.simple().encode_lower(&mut id).as_bytes()]);
    members.text("name", token.name.as_str());
    members.plain_list("permissions", token.permissions.iter().filter_map(name));
    members.plain("accessLevel", &[access_level(token.permissions).as_bytes()]);
    members.plain("issuerType", &[token.issuer.name().as_bytes()]);
    members.plain("status", &[if token.revoked_at.is_some() { b"REVOKED" } else { b"ACTIVE" }]);
    members.flag("revocable", token.revocable);
    members.plain("clientId", &[&token.client_id().text()]);
    let created_at = token.created_at().text();
    members.plain("createdAt", &[&created_at]);
    members.plain("updatedAt", &[&token.revoked_at.map_or(created_at, Timestamp::text)]);
    match token.revoked_at {
        Some(at) => members.plain("revokedAt", &[&at.text()]),
        None => members.null("revokedAt"),
    }
}

/// The answer to a list that was asked for in pages.
pub(super) fn page(members: &mut Object<'_>, page: &TokenPage) {
    members.objects("data", page.tokens.iter(), token);
    members.flag("hasMore", page.next.is_some());
    if let Some(next) = &page.next {
        members.plain("nextCursor", &[next.as_bytes()]);
    }
}

/// Reads `{name, permissions}`.
pub(in crate::http) fn new_token(json: &Json) -> Result<NewToken, Invalid> {
    let known = |text: &str| Permission::ALL.into_iter().find(|permission| name(*permission) == Some(text));
    create::new_token(json, "view or manage", known)
}
