//! Which tokens to list, in which order, from where.

use super::{Scope, Timestamp, TokenId, TokenName};

/// How many on a page: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// The least.
    pub const MIN: u16 = 1;
    /// The most.
    pub const MAX: u16 = 100;

    /// The most.
    pub const LARGEST: Self = Self(Self::MAX);

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

pub(super) fn span(filter: &TokenFilter, order: Order, after: Option<TokenId>) -> (TokenId, TokenId) {
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
