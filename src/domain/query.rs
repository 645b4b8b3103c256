//! Which tokens to list, in which order, from where.

use super::{Permission, Scope, Timestamp, Token, TokenId, TokenName};

/// How many on a page: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// The least.
    pub const MIN: u16 = 1;
    /// The most.
    pub const MAX: u16 = 100;

    /// That many, if it is allowed.
    pub const fn new(limit: u16) -> Option<Self> {
        if limit >= Self::MIN && limit <= Self::MAX { Some(Self(limit)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(20)
    }
}

/// Whether ended tokens are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Only tokens that verify (Grid).
    Live,
    /// Ended ones too (Blips).
    All,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By id downwards: newest first (Grid).
    NewestFirst,
    /// By id upwards (Blips).
    OldestFirst,
}

/// What to list. Bounds are inclusive; all given ones must hold.
///
/// A live token's data never change, so its `updated_at` is its `created_at`, and both pairs of bounds are one span of
/// time. An operation that changes a live token has to end this shortcut first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFilter {
    /// Exactly this name.
    pub name: Option<TokenName>,
    /// Not created, and not changed, before this.
    pub from: Timestamp,
    /// Not created, and not changed, after this.
    pub until: Timestamp,
}

impl Default for TokenFilter {
    fn default() -> Self {
        Self { name: None, from: Timestamp::MIN, until: Timestamp::MAX }
    }
}

/// One page to read.
#[derive(Debug, Clone)]
pub struct TokenQuery {
    /// Whose tokens.
    pub scope: Scope,
    /// Live ones or all.
    pub liveness: Liveness,
    /// Which of them.
    pub filter: TokenFilter,
    /// In which order.
    pub order: Order,
    /// Behind this one.
    pub after: Option<TokenId>,
    /// How many.
    pub limit: usize,
    /// Whether to count all matches, pages aside.
    pub count: bool,
}

impl TokenQuery {
    /// The span of ids that can match, both ends included: the filter's times and the place in the list, in one.
    pub fn span(&self) -> (TokenId, TokenId) {
        span(&self.filter, self.order, self.after)
    }
}

fn span(filter: &TokenFilter, order: Order, after: Option<TokenId>) -> (TokenId, TokenId) {
    let (mut low, mut high) = (TokenId::first_of(filter.from), TokenId::last_of(filter.until));
    if let Some(after) = after {
        let place = after.0.as_u128();
        match order {
            Order::NewestFirst => high = high.min(TokenId(uuid::Uuid::from_u128(place.saturating_sub(1)))),
            Order::OldestFirst => low = low.max(TokenId(uuid::Uuid::from_u128(place.saturating_add(1)))),
        }
    }
    (low, high)
}

/// When a token was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastUse {
    /// Never.
    Never,
    /// Before this, or never.
    Before(Timestamp),
    /// At or after this.
    Since(Timestamp),
}

/// What operators look for among tokens; all that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSearch {
    /// In this half of a platform; in all of them.
    pub scope: Option<Scope>,
    /// In the name, whatever the case of letters `a`–`z`.
    pub name: Option<String>,
    /// With this permission.
    pub permission: Option<Permission>,
    /// Live ones, or those that have ended.
    pub live: Option<bool>,
    /// By their last use, as far as servers have written it.
    pub used: Option<LastUse>,
    /// Created no earlier than this.
    pub from: Timestamp,
    /// Created no later than this.
    pub until: Timestamp,
    /// In which order.
    pub order: Order,
    /// Behind this one.
    pub after: Option<TokenId>,
    /// How many.
    pub limit: PageLimit,
}

impl Default for TokenSearch {
    fn default() -> Self {
        Self {
            scope: None,
            name: None,
            permission: None,
            live: None,
            used: None,
            from: Timestamp::MIN,
            until: Timestamp::MAX,
            order: Order::NewestFirst,
            after: None,
            limit: PageLimit::default(),
        }
    }
}

impl TokenSearch {
    /// Whether a token of the scope is looked for, by when it was last used.
    pub fn matches(&self, token: &Token, last_used: Option<Timestamp>) -> bool {
        let named = |part: &String| token.name.as_str().to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        let used = |wanted| match (wanted, last_used) {
            (LastUse::Never | LastUse::Before(_), None) => true,
            (LastUse::Never, Some(_)) | (LastUse::Since(_), None) => false,
            (LastUse::Before(moment), Some(at)) => at < moment,
            (LastUse::Since(moment), Some(at)) => at >= moment,
        };
        self.name.as_ref().is_none_or(named)
            && self.permission.is_none_or(|permission| token.permissions.contains(permission))
            && self.live.is_none_or(|live| live == token.revoked_at.is_none())
            && self.used.is_none_or(used)
    }

    /// The ids that can match behind a place, both ends included.
    pub fn span(&self, after: Option<TokenId>) -> (TokenId, TokenId) {
        let bounds = TokenFilter { name: None, from: self.from, until: self.until };
        span(&bounds, self.order, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientTag, Environment, Issuer, Permissions, PlatformId};

    #[test]
    fn all_that_is_given_must_hold() {
        let at = Timestamp::from_millis;
        let token = |name: &str, revoked_at| Token {
            id: TokenId(uuid::Uuid::nil()),
            scope: Scope { platform: PlatformId(uuid::Uuid::nil()), environment: Environment::Sandbox },
            name: TokenName::parse("name", name).unwrap(),
            permissions: Permissions::NONE.with(Permission::View).with(Permission::Manage),
            tag: ClientTag([0; 4]),
            issuer: Issuer::Platform,
            revocable: true,
            revoked_at,
        };
        let (live, ended) = (token("Größe 100%", None), token("Größe 100%", Some(at(9))));
        let any = TokenSearch::default();
        assert!(any.matches(&live, None) && any.matches(&ended, Some(at(5))));
        let named = |part: &str| TokenSearch { name: Some(part.to_owned()), ..TokenSearch::default() }.matches(&live, None);
        assert!(named("") && named("größe") && named("GRö") && named("0%") && named("Größe 100%"));
        assert!(!named("GRÖSSE") && !named("grÖ") && !named("%1") && !named("Größe  100") && !named("_"));
        let with = |permission| TokenSearch { permission: Some(permission), ..TokenSearch::default() }.matches(&live, None);
        assert!(with(Permission::View) && with(Permission::Manage) && !with(Permission::Transact));
        let alive = |live: bool, token: &Token| TokenSearch { live: Some(live), ..TokenSearch::default() }.matches(token, None);
        assert!(alive(true, &live) && alive(false, &ended) && !alive(true, &ended) && !alive(false, &live));
        let used = |wanted, last: Option<i64>| TokenSearch { used: Some(wanted), ..TokenSearch::default() }.matches(&live, last.map(at));
        assert!(used(LastUse::Never, None) && !used(LastUse::Never, Some(5)));
        assert!(used(LastUse::Before(at(5)), Some(4)) && !used(LastUse::Before(at(5)), Some(5)) && used(LastUse::Before(at(5)), None));
        assert!(used(LastUse::Since(at(5)), Some(5)) && !used(LastUse::Since(at(5)), Some(4)) && !used(LastUse::Since(at(5)), None));
        // One that does not hold is enough.
        let all = TokenSearch {
            name: Some("größe".to_owned()),
            permission: Some(Permission::View),
            live: Some(true),
            used: Some(LastUse::Since(at(5))),
            ..TokenSearch::default()
        };
        assert!(all.matches(&live, Some(at(5))) && !all.matches(&live, None) && !all.matches(&ended, Some(at(5))));
    }
}
