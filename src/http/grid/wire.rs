//! Grid's JSON shapes.

use uuid::fmt::Hyphenated;

use crate::{
    authority::TokenPage,
    domain::{Invalid, NewToken, Permission, Timestamp, Token},
    http::{body::Json, create, json::Object},
};

/// `ApiToken`, but for the secret.
pub(super) fn token(members: &mut Object<'_>, token: &Token) {
    let mut id = [0; Hyphenated::LENGTH];
    members.plain("id", &[b"Token:", token.id.0.hyphenated().encode_lower(&mut id).as_bytes()]);
    members.text("name", token.name.as_str());
    members.plain_list("permissions", token.permissions.iter().map(Permission::name));
    members.plain("clientId", &[&token.client_id().text()]);
    let created_at = token.created_at().text();
    members.plain("createdAt", &[&created_at]);
    members.plain("updatedAt", &[&token.revoked_at.map_or(created_at, Timestamp::text)]);
}

/// The answer to a list.
pub(super) fn page(members: &mut Object<'_>, page: &TokenPage) {
    members.objects("data", page.tokens.iter(), token);
    members.flag("hasMore", page.next.is_some());
    if let Some(next) = &page.next {
        members.plain("nextCursor", &[next.as_bytes()]);
    }
    if let Some(total) = page.total {
        members.number("totalCount", total);
    }
}

/// Reads `{name, permissions}`.
pub(in crate::http) fn new_token(json: &Json) -> Result<NewToken, Invalid> {
    create::new_token(json, "VIEW, TRANSACT or MANAGE", Permission::parse)
}
