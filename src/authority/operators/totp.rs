//! Codes of six digits that an app shows for half a minute (RFC 6238 over HMAC-SHA-1, which is what the apps do).

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use zeroize::ZeroizeOnDrop;

use crate::domain::Timestamp;

/// Bytes of a secret.
pub(super) const SECRET_LEN: usize = 20;
const STEP: i64 = 30_000;
/// Steps before and behind this one whose codes are taken as well: clocks differ, and people type.
const LEEWAY: i64 = 1;

/// What the app and we share.
#[derive(Clone, ZeroizeOnDrop)]
pub(super) struct Totp([u8; SECRET_LEN]);

impl Totp {
    pub(super) const fn new(secret: [u8; SECRET_LEN]) -> Self {
        Self(secret)
    }

    pub(super) const fn secret(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    /// As people type it into an app that reads no picture.
    pub(super) fn text(&self) -> String {
        BASE32_NOPAD.encode(&self.0)
    }

    /// As apps read it.
    pub(super) fn uri(&self, account: &str) -> String {
        // Names of accounts need no escape in it but @, which apps take either way.
        format!("otpauth://totp/Countersign:{}?secret={}&issuer=Countersign", account.replace('@', "%40"), self.text())
    }

    fn code(&self, step: i64) -> Option<u32> {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).ok()?;
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let at = usize::from(hash.last()? & 15);
        let word = hash.get(at..at + 4)?.try_into().ok()?;
        Some((u32::from_be_bytes(word) & 0x7FFF_FFFF) % 1_000_000)
    }

    /// The step of a code, if it is that of one behind `last` that may be shown now. Each code counts once.
    pub(super) fn check(&self, code: &str, now: Timestamp, last: i64) -> Option<i64> {
        let digits: Vec<u8> = code.bytes().filter(|byte| *byte != b' ').collect();
        if digits.len() != 6 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u32::from(digit - b'0'));
        let step = now.millis() / STEP;
        // All of them, whichever fits: how long it takes says nothing.
        (step - LEEWAY..=step + LEEWAY)
            .fold(None, |found, step| if self.code(step) == Some(code) && step > last { Some(step) } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// RFC 6238, appendix B, of which apps show the last six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let totp = Totp::new(*b"12345678901234567890");
        let known = [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ];
        for (seconds, code) in known {
            assert_eq!(totp.check(code, at(seconds), 0), Some(seconds / 30), "{seconds}");
            assert!(totp.check(code, at(seconds + 29), 0).is_some() && totp.check(code, at(seconds - 30), 0).is_some());
            assert!(totp.check(code, at(seconds + 60), 0).is_none());
            // No moment is before 1970.
            assert!(seconds < 60 || totp.check(code, at(seconds - 60), 0).is_none());
            assert_eq!(totp.check(code, at(seconds), seconds / 30), None, "once");
        }
        assert_eq!(totp.check("287 082", at(59), 0), Some(1));
        for odd in ["", "28708", "2870822", "28708a", "+87082", "٢٨٧٠٨٢"] {
            assert_eq!(totp.check(odd, at(59), 0), None, "{odd}");
        }
        assert_eq!(totp.text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(totp.uri("a@b.c"), "otpauth://totp/Countersign:a%40b.c?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Countersign");
    }
}
