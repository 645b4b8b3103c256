//! What a list of tokens is asked for: a page of one half of a platform, which is counted; or what is known of tokens, wherever they
//! are.

use super::{platforms, tokens::environment};
use crate::{
    authority::ListTokens,
    domain::{Invalid, LastUse, Liveness, Order, Permission, Scope, TokenFilter, TokenId, TokenName, TokenSearch},
    http::query::Query,
};

/// How the last use is asked for: one of these.
const USES: [&str; 3] = ["neverUsed", "usedBefore", "usedSince"];
/// What else makes a search of a list, beside leaving out the platform.
const SEARCHES: [&str; 5] = ["namePart", "permission", "createdSince", "createdUntil", "order"];

pub(super) enum Asked {
    /// A page of one half of a platform.
    Page(ListTokens),
    /// What is known of the tokens.
    Search(TokenSearch),
}

/// By the rules of whole names: an empty one is a mistake where every parameter may be left out.
fn name_part(text: &str) -> Result<String, Invalid> {
    TokenName::parse("namePart", text).map(|part| part.as_str().to_owned())
}

fn permission(text: &str) -> Result<Permission, Invalid> {
    Permission::parse(text).ok_or_else(|| Invalid::one("permission", "enum", "must be VIEW, TRANSACT or MANAGE"))
}

/// Live ones, ended ones, or both.
fn live(text: &str) -> Result<Option<bool>, Invalid> {
    match text {
        "active" => Ok(Some(true)),
        "revoked" => Ok(Some(false)),
        "all" => Ok(None),
        _ => Err(Invalid::one("status", "enum", "must be active, revoked or all")),
    }
}

fn order(text: &str) -> Result<Order, Invalid> {
    match text {
        "newest" => Ok(Order::NewestFirst),
        "oldest" => Ok(Order::OldestFirst),
        _ => Err(Invalid::one("order", "enum", "must be newest or oldest")),
    }
}

fn never(text: &str) -> Result<LastUse, Invalid> {
    (text == "true").then_some(LastUse::Never).ok_or_else(|| Invalid::one("neverUsed", "enum", "must be true, or left out"))
}

/// Where a search goes on, as clients carry it: it is a place among all tokens, and hides nothing.
pub(super) fn cursor(next: TokenId) -> String {
    next.0.hyphenated().to_string()
}

/// Reads a query: where, and what.
pub(super) fn asked(raw: Option<&str>) -> Result<(Option<Scope>, Asked), Invalid> {
    let known = [&["platform", "environment", "name", "status", "limit", "cursor"][..], &USES, &SEARCHES].concat();
    let mut query = Query::parse(raw, &known);
    let scoped = query.text("platform").or(query.text("environment")).is_some();
    let (platform, environment) = match scoped {
        true => (query.required("platform", |text| platforms::id_in("platform", text)), query.required("environment", environment)),
        false => (None, None),
    };
    let scope = platform.zip(environment).map(|(platform, environment)| Scope { platform, environment });
    let live = query.parsed("status", live).unwrap_or(Some(true));
    let is_given = |name: &&&str| query.text(name).is_some();
    let uses: Vec<_> = USES.iter().filter(is_given).collect();
    let searches = !scoped || live == Some(false) || !uses.is_empty() || SEARCHES.iter().any(|name| is_given(&name));
    if let [first, second, ..] = uses[..] {
        query.parsed::<()>(second, |_| Err(Invalid::one(second, "exclusive", format!("can't be given with {first}"))));
    }
    let name = query.parsed("name", |text| match searches {
        true => Err(Invalid::one("name", "exclusive", "goes with platform, environment and status active or all alone; see namePart")),
        false => TokenName::parse("name", text),
    });
    let (name_part, permission) = (query.parsed("namePart", name_part), query.parsed("permission", permission));
    let (never, order) = (query.parsed("neverUsed", never), query.parsed("order", order));
    let (before, since) = (query.time("usedBefore", true).map(LastUse::Before), query.time("usedSince", true).map(LastUse::Since));
    let (from, until) = (query.time("createdSince", true), query.time("createdUntil", false));
    let limit = query.limit("limit").unwrap_or_default();
    let cursor = query.text("cursor").filter(|cursor| !cursor.is_empty());
    let place = |text: String| TokenId::parse(&text).ok_or_else(|| Invalid::one("cursor", "cursor", "is not one of a search"));
    let after = match searches {
        true => query.parsed("cursor", |_| cursor.clone().map(place).transpose()).flatten(),
        false => None,
    };
    query.finish()?;
    if !searches {
        let liveness = if live.is_some() { Liveness::Live } else { Liveness::All };
        let filter = TokenFilter { name, ..TokenFilter::default() };
        // The counters are of live ones.
        let count = matches!(liveness, Liveness::Live);
        return Ok((scope, Asked::Page(ListTokens { liveness, filter, order: Order::NewestFirst, cursor, limit, count })));
    }
    let any = TokenSearch::default();
    let search = TokenSearch {
        scope,
        name: name_part,
        permission,
        live,
        used: never.or(before).or(since),
        from: from.unwrap_or(any.from),
        until: until.unwrap_or(any.until),
        order: order.unwrap_or(any.order),
        after,
        limit,
    };
    Ok((scope, Asked::Search(search)))
}
