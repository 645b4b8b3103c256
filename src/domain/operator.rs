//! The people who run platforms: their accounts, and the tokens that programs of theirs use.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::{Invalid, PlatformId, Timestamp, TokenName};

/// What an operator may do; each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// See everything.
    Viewer,
    /// Issue and end tokens.
    Manager,
    /// Make and disable platforms, load operations, change keys, decide who else is an operator.
    Owner,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Manager, Self::Owner];

    /// The name, as it is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Manager => "manager",
            Self::Owner => "owner",
        }
    }

    /// The role of that exact name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The identity of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub Uuid);

/// The name of an account, which is unique: 1 to 64 of `a`–`z`, digits and `.`, `_`, `-`, `@`, a letter first, so that an
/// e-mail address is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountName(String);

impl AccountName {
    /// Reads one that stands in `field`. Whoever runs commands is `uid-` and a number in the audit log, so no account is.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-@".contains(&byte);
        let valid = (1..=64).contains(&text.len()) && text.bytes().all(fits) && text.as_bytes()[0].is_ascii_lowercase();
        if !valid {
            let problem = "must be 1 to 64 lower-case letters, digits, dots, dashes, underscores or @, a letter first";
            return Err(Invalid::one(field, "format", problem));
        }
        if text.starts_with("uid-") {
            return Err(Invalid::one(field, "reserved", "must not begin with uid-: commands are entered in the audit log so"));
        }
        Ok(Self(text.to_owned()))
    }

    /// A name that was checked before it was stored.
    #[cfg(feature = "server")]
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operator's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its identity.
    pub id: AccountId,
    /// Its name.
    pub name: AccountName,
    /// What they may do.
    pub role: Role,
    /// The only platform that there is for them, if they are its own staff.
    pub platform: Option<PlatformId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when nobody can use it.
    pub disabled_at: Option<Timestamp>,
}

/// The identity of an operator's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorTokenId(pub Uuid);

impl OperatorTokenId {
    /// Reads the UUID in lower case, as it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text).map(Self)
    }
}

/// What a program uses in an operator's place: it may what its account may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorToken {
    /// Its identity.
    pub id: OperatorTokenId,
    /// Whose it is.
    pub account: AccountId,
    /// What for.
    pub name: TokenName,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is nobody's.
    pub expires_at: Option<Timestamp>,
    /// Since when it has ended.
    pub revoked_at: Option<Timestamp>,
}

const MARK: &str = "csop_";
const ID_LEN: usize = 16;
const BODY_LEN: usize = 32;
/// Id, secret, and the checksum of both, by which scanners for leaked secrets know ours from noise.
const BYTES_LEN: usize = ID_LEN + BODY_LEN + 4;

/// An operator's token as its holder has it: `csop_` and 70 characters of base64url. Made once and shown once; cannot be printed
/// or compared.
#[derive(ZeroizeOnDrop)]
pub struct OperatorSecret(String);

impl OperatorSecret {
    /// The text of a token's id and its 32 random bytes.
    #[cfg(any(feature = "server", test))]
    pub(crate) fn of(id: OperatorTokenId, body: &[u8; BODY_LEN]) -> Self {
        let mut bytes = Zeroizing::new([0; BYTES_LEN]);
        bytes[..ID_LEN].copy_from_slice(id.0.as_bytes());
        bytes[ID_LEN..ID_LEN + BODY_LEN].copy_from_slice(body);
        let sum = crc32fast::hash(&bytes[..ID_LEN + BODY_LEN]);
        bytes[ID_LEN + BODY_LEN..].copy_from_slice(&sum.to_be_bytes());
        let mut text = String::with_capacity(MARK.len() + BYTES_LEN.div_ceil(3) * 4);
        text.push_str(MARK);
        URL_SAFE_NO_PAD.encode_string(&bytes[..], &mut text);
        Self(text)
    }

    /// The text, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OperatorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorSecret([REDACTED])")
    }
}

/// An operator's token that somebody sent: well-formed, unproven.
#[derive(ZeroizeOnDrop)]
pub struct PresentedOperator {
    #[zeroize(skip)]
    id: OperatorTokenId,
    body: [u8; BODY_LEN],
}

impl PresentedOperator {
    /// Takes apart a token's text, which is the only one of its bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; BYTES_LEN]);
        let read = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(MARK)?, &mut bytes[..]).ok()?;
        let (covered, sum) = bytes.split_at(ID_LEN + BODY_LEN);
        if read != BYTES_LEN || sum != crc32fast::hash(covered).to_be_bytes() {
            return None;
        }
        let (id, body) = covered.split_at(ID_LEN);
        Some(Self { id: OperatorTokenId(Uuid::from_slice(id).ok()?), body: body.try_into().ok()? })
    }

    /// Takes apart the value of an `Authorization` header: `Bearer` in any case, one or more spaces, the token.
    pub fn parse_bearer(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(6)?;
        let text = std::str::from_utf8(rest.strip_prefix(b" ")?).ok()?;
        if scheme.eq_ignore_ascii_case(b"bearer") { Self::parse(text.trim_start_matches(' ')) } else { None }
    }

    /// Which token it says that it is.
    pub const fn id(&self) -> OperatorTokenId {
        self.id
    }

    /// What proves it.
    #[cfg(any(feature = "server", test))]
    pub(crate) const fn body(&self) -> &[u8; BODY_LEN] {
        &self.body
    }
}

impl fmt::Debug for PresentedOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresentedOperator({:?}, [REDACTED])", self.id)
    }
}

/// The least and the most characters of a password: length is what makes one hard to guess, and no more than that is read.
const PASSWORD: (usize, usize) = (12, 128);

/// A password that somebody types. Wiped after use; cannot be printed or compared.
#[derive(ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// One that somebody presents: of any length that one could have.
    pub fn presented(mut text: String) -> Option<Self> {
        if text.chars().count() <= PASSWORD.1 {
            return Some(Self(text));
        }
        text.zeroize();
        None
    }

    /// One that somebody chooses, for an account: 12 to 128 characters, not the account's name and not one character repeated.
    ///
    /// # Errors
    /// [`Invalid`], which says what is wrong with it.
    pub fn choose(text: String, account: &AccountName) -> Result<Self, Invalid> {
        let this = Self(text);
        let len = this.0.chars().count();
        let invalid = |constraint, problem: &str| Err(Invalid::one("password", constraint, problem));
        if !(PASSWORD.0..=PASSWORD.1).contains(&len) {
            return invalid("length", "must have 12 to 128 characters; several words in a row are easy to remember and hard to guess");
        }
        let mut characters: Vec<char> = this.0.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        if characters.len() < 5 || this.0.to_lowercase().contains(account.as_str()) && account.as_str().len() > 3 {
            return invalid("weak", "must not be a few characters repeated, nor have the account's name in it");
        }
        Ok(this)
    }

    /// The text, for the password hash.
    #[cfg(feature = "server")]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_accounts() {
        let longest = format!("a{}", "b".repeat(63));
        for good in ["a", "alice", "alice@example.com", "a.b-c_d9", longest.as_str()] {
            assert_eq!(AccountName::parse("name", good).unwrap().as_str(), good);
        }
        let long = format!("{longest}b");
        for bad in ["", "Alice", "1a", " a", "a ", "a b", "-a", "ä", "uid-0", "a\n", "<b>", long.as_str()] {
            assert!(AccountName::parse("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_has_one_text() {
        let id = OperatorTokenId(Uuid::from_u128(0x0195_42f5_b3e7_7d02_8000_0000_0000_0001));
        let secret = OperatorSecret::of(id, &[0xA7; 32]);
        let text = secret.expose();
        assert_eq!(text.len(), 75);
        let presented = PresentedOperator::parse(text).unwrap();
        assert_eq!((presented.id(), presented.body()), (id, &[0xA7; 32]));
        for position in 0..text.len() {
            let mut altered = text.to_owned().into_bytes();
            altered[position] = if altered[position] == b'x' { b'y' } else { b'x' };
            assert!(PresentedOperator::parse(std::str::from_utf8(&altered).unwrap()).is_none(), "position {position}");
        }
        for odd in [format!("{text}="), format!("{text}A"), format!(" {text}"), text[..74].to_owned(), text.replace("csop_", "")] {
            assert!(PresentedOperator::parse(&odd).is_none(), "{odd}");
        }
        for scheme in ["Bearer ", "bearer   ", "BEARER "] {
            assert!(PresentedOperator::parse_bearer(format!("{scheme}{text}").as_bytes()).is_some(), "{scheme:?}");
        }
        for scheme in ["", "Bearer", "Bearer\t", "Basic ", " Bearer "] {
            assert!(PresentedOperator::parse_bearer(format!("{scheme}{text}").as_bytes()).is_none(), "{scheme:?}");
        }
        assert_eq!(format!("{secret:?} {presented:?}"), format!("OperatorSecret([REDACTED]) PresentedOperator({id:?}, [REDACTED])"));
    }

    #[test]
    fn passwords_that_may_be_chosen() {
        let account = AccountName::parse("name", "alice").unwrap();
        let choose = |text: &str| Password::choose(text.to_owned(), &account).is_ok();
        assert!(choose("correct horse battery") && choose(&"äöüß…x".repeat(20)));
        for bad in ["", "short", "aaaaaaaaaaaaaaa", "abababababab", "I am Alice, not bob", &"abcdefgh".repeat(20)] {
            assert!(!choose(bad), "{bad}");
        }
        assert!(Password::presented("x".repeat(129)).is_none());
    }
}
