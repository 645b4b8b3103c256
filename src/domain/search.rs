//! What operators look for among tokens.

use super::{
    Environment, Invalid, Order, PageLimit, Permission, PlatformId, Scope, Timestamp, Token, TokenFilter, TokenId, TokenName, query::span,
};

/// When a token was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastUse {
    /// Never.
    Never,
    /// Before this; or never, and created before it.
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
            (LastUse::Never, None) => true,
            // What did not exist then was not left unused since.
            (LastUse::Before(moment), None) => token.created_at() < moment,
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

    /// What is looked for, as a text that is kept: a line for each thing that is asked. Neither order nor place nor limit.
    pub fn text(&self) -> String {
        let mut text = format!("created {} {}\n", self.from.millis(), self.until.millis());
        let mut line = |word: &str, value: String| text.push_str(&format!("{word} {value}\n"));
        if let Some(Scope { platform, environment }) = self.scope {
            line("scope", format!("{platform} {environment}"));
        }
        if let Some(part) = &self.name {
            line("name", part.clone());
        }
        if let Some(permission) = self.permission {
            line("permission", permission.name().to_owned());
        }
        if let Some(live) = self.live {
            line("live", live.to_string());
        }
        match self.used {
            None => {}
            Some(LastUse::Never) => line("used", "never".to_owned()),
            Some(LastUse::Before(at)) => line("used", format!("before {}", at.millis())),
            Some(LastUse::Since(at)) => line("used", format!("since {}", at.millis())),
        }
        text
    }

    /// Reads what [`TokenSearch::text`] writes, and nothing else.
    pub fn parse_text(text: &str) -> Option<Self> {
        let mut search = Self::default();
        let moment = |text: &str| text.parse().ok().map(Timestamp::from_millis);
        for line in text.lines() {
            match line.split_once(' ')? {
                ("created", span) => {
                    let (from, until) = span.split_once(' ')?;
                    (search.from, search.until) = (moment(from)?, moment(until)?);
                }
                ("scope", scope) => {
                    let (platform, environment) = scope.split_once(' ')?;
                    search.scope = Some(Scope { platform: PlatformId::parse(platform)?, environment: Environment::parse(environment)? });
                }
                ("name", part) => search.name = Some(part.to_owned()),
                ("permission", name) => search.permission = Some(Permission::parse(name)?),
                ("live", live) => search.live = Some(live.parse().ok()?),
                ("used", "never") => search.used = Some(LastUse::Never),
                ("used", used) => {
                    search.used = Some(match used.split_once(' ')? {
                        ("before", at) => LastUse::Before(moment(at)?),
                        ("since", at) => LastUse::Since(moment(at)?),
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
        (search.text() == text).then_some(search)
    }
}

/// A part of a name to look for, where it stands in `field`; `None` if it is empty.
///
/// # Errors
/// It can be in no name.
pub fn name_part(field: &str, text: &str) -> Result<Option<String>, Invalid> {
    match text.trim() {
        "" => Ok(None),
        part => TokenName::parse(field, part).map(|part| Some(part.as_str().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientTag, Issuer, Permissions};

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
        assert!(
            used(LastUse::Before(at(5)), Some(4))
                && !used(LastUse::Before(at(5)), Some(5))
                && used(LastUse::Before(live.created_at().plus_millis(1)), None)
        );
        // A token that did not exist then was not left unused since.
        assert!(!used(LastUse::Before(live.created_at()), None));
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

    #[test]
    fn what_is_kept_of_a_search_is_read_back() {
        let at = Timestamp::from_millis;
        let scope = Scope { platform: PlatformId(uuid::Uuid::from_u128(7)), environment: Environment::Production };
        let all = TokenSearch {
            scope: Some(scope),
            name: Some("a b".to_owned()),
            permission: Some(Permission::Transact),
            live: Some(true),
            used: Some(LastUse::Before(at(5))),
            from: at(1),
            until: at(9),
            ..TokenSearch::default()
        };
        let others = [LastUse::Never, LastUse::Since(at(5))].map(|used| TokenSearch { used: Some(used), ..all.clone() });
        for search in others.into_iter().chain([all, TokenSearch::default()]) {
            let text = search.text();
            assert_eq!(TokenSearch::parse_text(&text), Some(search));
            assert_eq!(TokenSearch::parse_text(&format!("{text}odd x\n")), None);
            assert_eq!(TokenSearch::parse_text(&text[1..]), None);
        }
        assert_eq!(TokenSearch::parse_text(""), None);
        assert!(name_part("q", "a\nb").is_err() && name_part("q", " ") == Ok(None) && name_part("q", " a ") == Ok(Some("a".to_owned())));
    }
}
