//! Operations of the platform's API: a method and a path, with the permissions that a token needs for them.

use std::fmt;

use super::Permissions;

/// What a token needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// All of these; any live token, if it is the empty set.
    Permissions(Permissions),
    /// Nothing says, so nobody may.
    Unknown,
}

/// `VIEW,MANAGE`, `any` for any live token, `nobody`.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permissions(set) if set.is_empty() => "any",
            Self::Permissions(set) => set.text(),
            Self::Unknown => "nobody",
        })
    }
}

impl Need {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Permissions(Permissions::NONE)),
            "nobody" => Some(Self::Unknown),
            _ => Permissions::parse(text).map(Self::Permissions),
        }
    }

    /// Whether whoever meets `other` meets this too.
    pub const fn is_met_by(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Unknown) => true,
            (Self::Unknown, _) => false,
            (Self::Permissions(this), Self::Permissions(other)) => other.lacking(this).is_empty(),
        }
    }
}

/// An operation, with what it needs and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The method, as requests write it.
    pub method: String,
    /// The path, with parameters in braces: `/v1/customers/{customerId}`.
    pub path: String,
    /// The document's name for it; may be empty.
    pub id: String,
    /// What a token needs.
    pub need: Need,
    /// What says so: the document itself, or a rule by its place and text.
    pub because: String,
}

/// An operation as a document describes it.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The method, as requests write it.
    pub method: String,
    /// The path, the server's part included.
    pub path: String,
    /// The document's name for it.
    pub id: String,
    /// The document's tags of it.
    pub tags: Vec<String>,
    /// What the document says that it needs.
    pub stated: Option<Permissions>,
}

impl Described {
    /// What it needs: as stated; else as the first rule that matches says; else unknown.
    pub fn derive(self, rules: &[Rule]) -> Operation {
        let matching = rules.iter().enumerate().find(|(_, rule)| rule.matches(&self));
        let (need, because) = match (self.stated, matching) {
            (Some(permissions), _) => (Need::Permissions(permissions), "x-required-permissions".to_owned()),
            (None, Some((place, rule))) => (rule.need, format!("rule {}: {rule}", place + 1)),
            (None, None) => (Need::Unknown, "no rule matches".to_owned()),
        };
        Operation { method: self.method, path: self.path, id: self.id, need, because }
    }
}

/// A rule of the configuration: `GET,HEAD -> VIEW`, `tag=Reports -> VIEW`, `POST path=/v1/sandbox/** -> any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    methods: Vec<String>,
    tag: Option<String>,
    path: Option<String>,
    need: Need,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    /// Reads rules, separated by semicolons; the first that matches decides.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(Self::parse).collect()
    }

    /// Reads one: conditions that must all hold, an arrow, what is needed. `*` alone matches every operation.
    fn parse(text: &str) -> Option<Self> {
        let (conditions, need) = text.split_once("->")?;
        let need = Need::parse(need.trim())?;
        let mut rule = Self { text: text.to_owned(), methods: Vec::new(), tag: None, path: None, need };
        let mut any = false;
        let mut rest = conditions.trim();
        while !rest.is_empty() {
            any = true;
            if let Some(tag) = rest.strip_prefix("tag=\"") {
                // A tag may have spaces in it, in quotes.
                let (name, behind) = tag.split_once('"')?;
                rule.tag = Some(name.to_owned()).filter(|_| rule.tag.is_none())?.into();
                rest = behind.trim_start();
                continue;
            }
            let (condition, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            match condition.split_once('=') {
                Some(("tag", name)) if rule.tag.is_none() && !name.is_empty() => rule.tag = Some(name.to_owned()),
                Some(("path", pattern)) if rule.path.is_none() && pattern.starts_with('/') => rule.path = Some(pattern.to_owned()),
                None if condition == "*" => {}
                None if rule.methods.is_empty() => {
                    rule.methods = condition.split(',').map(str::to_owned).collect();
                    if !rule.methods.iter().all(|method| !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase())) {
                        return None;
                    }
                }
                _ => return None,
            }
            rest = behind.trim_start();
        }
        any.then_some(rule)
    }

    fn matches(&self, operation: &Described) -> bool {
        let pattern = |pattern: &String| {
            let mut segments = operation.path.split('/');
            for part in pattern.split('/') {
                match (part, segments.next()) {
                    ("**", Some(_)) => return true,
                    ("*", Some(_)) => {}
                    (part, Some(segment)) if part == segment => {}
                    _ => return false,
                }
            }
            segments.next().is_none()
        };
        (self.methods.is_empty() || self.methods.contains(&operation.method))
            && self.tag.as_ref().is_none_or(|tag| operation.tags.contains(tag))
            && self.path.as_ref().is_none_or(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Permission;

    fn described(method: &str, path: &str, tags: &[&str]) -> Described {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Described { method: method.to_owned(), path: path.to_owned(), tags, ..Described::default() }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_no_match_is_nobody() {
        let rules = Rule::parse_all(
            "tag=Reports -> VIEW; POST,PUT path=/v1/config/** -> MANAGE; GET path=/v1/*/list -> any; tag=\"Internal Accounts\" -> VIEW,TRANSACT;",
        )
        .unwrap();
        let need = |method: &str, path: &str, tags: &[&str]| described(method, path, tags).derive(&rules).need.to_string();
        assert_eq!(need("DELETE", "/v1/x", &["Reports"]), "VIEW");
        assert_eq!(need("POST", "/v1/config/a/b", &[]), "MANAGE");
        assert_eq!(need("POST", "/v1/config", &[]), "nobody");
        assert_eq!(need("PATCH", "/v1/config/a", &[]), "nobody");
        assert_eq!(need("GET", "/v1/a/list", &[]), "any");
        assert_eq!(need("GET", "/v1/a/b/list", &[]), "nobody");
        assert_eq!(need("GET", "/v1/x", &["Internal Accounts", "Other"]), "VIEW,TRANSACT");
        assert_eq!(described("GET", "/x", &["Reports"]).derive(&rules).because, "rule 1: tag=Reports -> VIEW");
        let stated = Described { stated: Some(Permissions::NONE.with(Permission::Manage)), ..described("GET", "/x", &["Reports"]) };
        assert_eq!(stated.derive(&rules).need.to_string(), "MANAGE");
        assert_eq!(described("GET", "/", &[]).derive(&Rule::parse_all("* -> MANAGE").unwrap()).need.to_string(), "MANAGE");
    }

    #[test]
    fn rules_are_understood_whole_or_refused() {
        for text in [
            "-> VIEW",
            "GET",
            "GET -> ",
            "GET -> view",
            "get -> VIEW",
            "GET POST -> VIEW",
            "path=x -> VIEW",
            "tag= -> VIEW",
            "GET, -> VIEW",
            "size=1 -> VIEW",
            "tag=a tag=b -> VIEW",
            "tag=\"a -> VIEW",
        ] {
            assert_eq!(Rule::parse_all(text), None, "{text}");
        }
        assert_eq!(Rule::parse_all("").unwrap(), []);
    }

    #[test]
    fn a_need_is_met_by_another_that_is_no_less() {
        let need = |text: &str| Need::parse(text).unwrap();
        for (this, other, met) in [
            ("VIEW", "VIEW,TRANSACT", true),
            ("VIEW", "MANAGE", true),
            ("MANAGE", "VIEW", false),
            ("any", "VIEW", true),
            ("VIEW", "any", false),
            ("VIEW", "nobody", true),
            ("nobody", "VIEW", false),
            ("nobody", "nobody", true),
        ] {
            assert_eq!(need(this).is_met_by(need(other)), met, "{this} by {other}");
        }
    }
}
