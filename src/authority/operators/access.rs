//! How somebody gets in, as it is kept, encrypted: an invitation, or what they have chosen.

use zeroize::{Zeroize as _, Zeroizing};

use super::{
    password::PasswordHash,
    totp::{SECRET_LEN, Totp},
};
use crate::domain::Timestamp;

/// How the holder of an account gets in.
pub(super) enum Access {
    /// With what they were sent, once, to choose a password.
    Invited {
        /// SHA-256 of it.
        digest: [u8; 32],
        /// No longer than this.
        until: Timestamp,
    },
    /// With a password and a code.
    Chosen {
        password: PasswordHash,
        totp: Totp,
        /// That of the last code: none counts twice.
        step: i64,
    },
}

const INVITED: u8 = 1;
const CHOSEN: u8 = 2;

impl Access {
    /// In bytes: a mark of which it is, and its values, each of a fixed length.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + 16 + 32 + SECRET_LEN + 8));
        match self {
            Self::Invited { digest, until } => {
                bytes.push(INVITED);
                bytes.extend_from_slice(digest);
                bytes.extend_from_slice(&until.millis().to_be_bytes());
            }
            Self::Chosen { password, totp, step } => {
                bytes.push(CHOSEN);
                bytes.extend_from_slice(&password.salt);
                bytes.extend_from_slice(&password.hash);
                bytes.extend_from_slice(totp.secret());
                bytes.extend_from_slice(&step.to_be_bytes());
            }
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            INVITED => {
                let (digest, until) = rest.split_first_chunk()?;
                Some(Self::Invited { digest: *digest, until: Timestamp::from_millis(i64::from_be_bytes(until.try_into().ok()?)) })
            }
            CHOSEN => {
                let (salt, rest) = rest.split_first_chunk()?;
                let (hash, rest) = rest.split_first_chunk()?;
                let (secret, step) = rest.split_first_chunk::<SECRET_LEN>()?;
                let step = i64::from_be_bytes(step.try_into().ok()?);
                let mut secret = *secret;
                let totp = Totp::new(secret);
                secret.zeroize();
                Some(Self::Chosen { password: PasswordHash { salt: *salt, hash: *hash }, totp, step })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_nothing_else_is() {
        let invited = Access::Invited { digest: [7; 32], until: Timestamp::from_millis(1_900_000_000_000) };
        let password = PasswordHash { salt: [1; 16], hash: [2; 32] };
        let chosen = Access::Chosen { password, totp: Totp::new([3; SECRET_LEN]), step: 59 };
        for access in [invited, chosen] {
            let bytes = access.to_bytes();
            assert_eq!(*Access::from_bytes(&bytes).unwrap().to_bytes(), *bytes);
            assert!(Access::from_bytes(&bytes[..bytes.len() - 1]).is_none());
            assert!(Access::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
        }
        assert!(Access::from_bytes(&[]).is_none() && Access::from_bytes(&[3; 41]).is_none());
    }
}
