//! What a gateway's configuration asks for beyond a live token: `?require=MANAGE&env=production`, or the same as pairs.

use crate::domain::{Environment, Permissions};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Requirement {
    pub(super) permissions: Permissions,
    pub(super) environment: Option<Environment>,
}

impl Requirement {
    /// Reads the query; `None` is a mistake in the gateway's configuration, and nobody may pass for one.
    ///
    /// Behind a path suffix the query can be the client's own, which a gateway appends: names that are not ours are
    /// then none of our business. It can ask for more than the gateway does, never for less.
    pub(super) fn parse(query: Option<&str>, strict: bool) -> Option<Self> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self::of(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))), strict)
    }

    /// The same of names and values that are told apart already.
    pub(super) fn of<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>, strict: bool) -> Option<Self> {
        let mut required = Self::default();
        for pair in pairs {
            match pair {
                ("require", names) if required.permissions.is_empty() => required.permissions = permissions(names)?,
                ("env", name) if required.environment.is_none() => required.environment = Some(Environment::parse(name)?),
                ("require" | "env", _) => return None,
                _ if strict => return None,
                _ => {}
            }
        }
        Some(required)
    }
}

/// Each name once: one that stands there twice was meant to be another.
fn permissions(names: &str) -> Option<Permissions> {
    let set = Permissions::parse(names)?;
    (set.text().len() == names.len()).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Permission;

    #[test]
    fn a_39_what_is_asked_is_understood_whole_or_refused() {
        let parse = |query: &str| Requirement::parse(Some(query), true);
        let manage = Permissions::NONE.with(Permission::Manage);
        assert_eq!(Requirement::parse(None, true), Some(Requirement::default()));
        assert_eq!(parse(""), Some(Requirement::default()));
        assert_eq!(parse("require=MANAGE"), Some(Requirement { permissions: manage, environment: None }));
        let both = Requirement { permissions: manage.with(Permission::View), environment: Some(Environment::Production) };
        assert_eq!(parse("env=production&require=MANAGE,VIEW"), Some(both));
        for query in [
            "require",
            "require=",
            "require=ADMIN",
            "require=manage",
            "require=VIEW,",
            "require=VIEW,VIEW",
            "require=VIEW&require=VIEW",
            "require=VIEW&require=",
            "require=VIEW%2CMANAGE",
            "env=",
            "env=live",
            "env=sandbox&env=sandbox",
            "Require=VIEW",
            "requires=VIEW",
            "x=1",
        ] {
            assert_eq!(parse(query), None, "{query}");
        }
        assert_eq!(Requirement::parse(Some("limit=5&require=MANAGE&q"), false), parse("require=MANAGE"));
        assert_eq!(Requirement::parse(Some("limit=5&require=ADMIN"), false), None);
    }
}
