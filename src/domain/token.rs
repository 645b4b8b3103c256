//! The token: the record that everything is about.

use std::fmt;

use compact_str::CompactString;
use uuid::Uuid;

use super::{ClientId, ClientTag, Invalid, Permissions, Scope, Timestamp};

/// The identity of a token: a UUIDv7, so that the order of ids is the order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub Uuid);

impl TokenId {
    /// The id made of a moment and 74 random bits.
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(at.millis().unsigned_abs(), &random).into_uuid())
    }

    /// The least id of a moment: with [`TokenId::last_of`], a span of time is a span of ids.
    pub fn first_of(at: Timestamp) -> Self {
        Self(Uuid::from_u128(u128::from(at.millis().unsigned_abs()) << 80))
    }

    /// The greatest id of a moment.
    pub fn last_of(at: Timestamp) -> Self {
        Self(Uuid::from_u128((u128::from(at.millis().unsigned_abs()) << 80) | ((1 << 80) - 1)))
    }

    /// The moment inside the id.
    pub fn created_at(self) -> Timestamp {
        Timestamp::from_millis((self.0.as_u128() >> 80) as i64)
    }

    /// Reads either dialect's form, with or without `Token:`: a lower-case UUID with dashes (Grid), or `tok_` and the
    /// same 32 digits without them (Blips). One identity has exactly these texts; anything else is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("Token:").unwrap_or(text);
        let uuid = match text.strip_prefix("tok_") {
            Some(digits) if digits.len() == 32 => Uuid::try_parse(digits).ok()?,
            None if text.len() == 36 => Uuid::try_parse(text).ok()?,
            _ => return None,
        };
        (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(Self(uuid))
    }

    /// The 32 digits without dashes.
    pub fn simple(self) -> uuid::fmt::Simple {
        self.0.simple()
    }
}

/// Grid's form, which is also ours in logs, audit and on the command line: `Token:<uuid>`.
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        f.write_str("Token:")?;
        f.write_str(self.0.hyphenated().encode_lower(&mut text))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name: 1 to 255 Unicode scalar values after trimming, none of them a control character; not unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName(CompactString);

impl TokenName {
    /// Trims and checks a name that stands in `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(Invalid::one(field, "required", "must not be empty"));
        }
        if trimmed.chars().count() > 255 {
            return Err(Invalid::one(field, "max_length", "must have at most 255 characters"));
        }
        if trimmed.chars().any(char::is_control) {
            return Err(Invalid::one(field, "characters", "must not contain control characters"));
        }
        Ok(Self(trimmed.into()))
    }

    /// A name that was checked before it was stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who issued a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// An operator of Countersign, by command.
    Operator,
    /// The platform itself, through one of the dialects.
    Platform,
}

impl Issuer {
    /// The name, as Blips and the database write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator_issued",
            Self::Platform => "platform_self_service",
        }
    }

    /// The issuer of that exact name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Operator, Self::Platform].into_iter().find(|issuer| issuer.name() == text)
    }
}

/// A token, as everybody who may see it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its identity.
    pub id: TokenId,
    /// Whose it is.
    pub scope: Scope,
    /// Its label.
    pub name: TokenName,
    /// What it may do.
    pub permissions: Permissions,
    /// What of its clientId the server key made.
    pub tag: ClientTag,
    /// Who issued it.
    pub issuer: Issuer,
    /// Whether the platform may end it; an operator always may.
    pub revocable: bool,
    /// When it was ended. There is no way back.
    pub revoked_at: Option<Timestamp>,
}

impl Token {
    /// The public half of its credential.
    pub const fn client_id(&self) -> ClientId {
        ClientId { environment: self.scope.environment, token: self.id, tag: self.tag }
    }

    /// When it was created.
    pub fn created_at(&self) -> Timestamp {
        self.id.created_at()
    }

    /// When its data last changed: nothing changes a live token. Use does not count.
    pub fn updated_at(&self) -> Timestamp {
        self.revoked_at.unwrap_or_else(|| self.created_at())
    }
}

/// What a caller asks for when it creates a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The label.
    pub name: TokenName,
    /// At least one.
    pub permissions: Permissions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "019542f5-b3e7-7d02-8000-000000000001";

    #[test]
    fn both_forms_are_one_identity_with_or_without_prefix() {
        let simple = UUID.replace('-', "");
        let id = TokenId::parse(UUID).unwrap();
        for text in [format!("Token:{UUID}"), format!("Token:tok_{simple}"), format!("tok_{simple}")] {
            assert_eq!(TokenId::parse(&text), Some(id), "{text}");
        }
        assert_eq!(id.to_string(), format!("Token:{UUID}"));
    }

    #[test]
    fn i_01_h100_what_is_no_id() {
        let simple = UUID.replace('-', "");
        for text in [
            "",
            "Token:",
            "tok_",
            "Token:tok_",
            &simple,
            &format!("Agent:{UUID}"),
            &UUID.to_uppercase(),
            &format!("{{{UUID}}}"),
            &format!("urn:uuid:{UUID}"),
            &format!("tok_{UUID}"),
            &format!("{UUID}\0"),
            &format!("Token:Token:{UUID}"),
            &format!("token:{UUID}"),
            "tok_2f9d7c0ab431",
            &"a".repeat(4096),
            "Token:٠١٩542f5-b3e7-7d02-8000-000000001",
        ] {
            assert_eq!(TokenId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn i_01_names() {
        for text in ["", "   ", "a\0b", "a\nb", "\u{1b}[2J", "a\u{85}b", &"x".repeat(256)] {
            assert!(TokenName::parse("name", text).is_err(), "{text:?}");
        }
        for text in ["a", "\u{202e}x", "\u{200b}", "e\u{301}", "=cmd|' /C calc'!A0", "<script>", &"é".repeat(255)] {
            assert_eq!(TokenName::parse("name", &format!(" {text} ")).unwrap().as_str(), text.trim());
        }
    }

    proptest! {
        #[test]
        fn the_moment_survives_in_the_id(millis in 0..Timestamp::MAX.millis(), random: [u8; 10]) {
            let at = Timestamp::from_millis(millis);
            let id = TokenId::new(at, random);
            prop_assert_eq!(id.created_at(), at);
            prop_assert!(TokenId::first_of(at) <= id && id <= TokenId::last_of(at));
            prop_assert_eq!(TokenId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,50}") {
            let _ = TokenId::parse(&text);
        }
    }
}
