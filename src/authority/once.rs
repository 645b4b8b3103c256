//! Forms that make one thing however often they are sent: by a double click, by going back, by loading the answer again.
//!
//! Nothing is kept of forms. What one makes has an id that comes of it: the moment at which its page was made, and, under the
//! server key, a digest of who sends it, its key and what it asks for. Whoever sends it again, to whichever server and behind
//! whatever restart, finds the id taken; a form in which they ask for something else is another one. (A token's create is
//! repeated by its replay instead, which brings the secret again.)

use super::{Authority, Error, REPLAY};
use crate::domain::{Invalid, Operator, Timestamp, TokenId};

/// By how much the clock of the server that made a page may be ahead of ours.
const AHEAD: i64 = 60 * 1000;
/// A moment of 6 bytes and 16 random ones, in hexadecimal digits.
const KEY_LEN: usize = 44;
const MOMENT_LEN: usize = 12;

/// What a form is known by.
pub struct OneTimeKey {
    text: String,
    made_at: Timestamp,
}

impl OneTimeKey {
    /// Reads what [`Authority::one_time_key`] made.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_one = text.len() == KEY_LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let moment = text.get(..MOMENT_LEN).filter(|_| is_one).and_then(|digits| i64::from_str_radix(digits, 16).ok());
        let wrong = || Invalid::one("once", "format", "must be the one of the page; load it again");
        Ok(Self { text: text.to_owned(), made_at: moment.map(Timestamp::from_millis).ok_or_else(wrong)? })
    }
}

impl Authority {
    /// What a form is to be known by, made with its page.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn one_time_key(&self) -> Result<String, Error> {
        let random: String = self.random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{:012x}{random}", self.now().millis()))
    }

    /// The id of something new: of random bits, or of the form that asks for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the form is older than a day: ids are in the order of creation, as good as.
    pub(super) fn new_id(&self, at: Timestamp, by: &Operator, form: Option<&OneTimeKey>, asked: &[&[u8]]) -> Result<TokenId, Error> {
        let Some(OneTimeKey { text, made_at }) = form else { return Ok(TokenId::new(at, self.random()?)) };
        if *made_at > at.plus_millis(AHEAD) || made_at.plus_millis(REPLAY) < at {
            return Err(Invalid::one("once", "expired", "is of a page that is older than a day; load it again").into());
        }
        let actor = by.actor().to_string();
        let digest = self.keyring.replay_digest(&[&[&b"form"[..], actor.as_bytes(), text.as_bytes()], asked].concat());
        Ok(TokenId::new(*made_at, std::array::from_fn(|i| digest[i])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_forms_have_one_text() {
        let good = format!("0197{:040x}", 7);
        assert_eq!(OneTimeKey::parse(&good).unwrap().made_at, Timestamp::from_millis(0x0197_0000_0000));
        for odd in ["", "0197", &good[1..], &format!("{good}0"), &good.to_uppercase().replace('0', "A"), &good.replace("0197", "+197")] {
            assert!(OneTimeKey::parse(odd).is_err(), "{odd}");
        }
        assert!(OneTimeKey::parse(&format!("é{}", &good[2..])).is_err());
    }
}
