//! Hashes of passwords: Argon2id with 19 MiB, two passes, one lane, which is what OWASP's password storage cheat sheet asks for.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use constant_time_eq::constant_time_eq_n;
use zeroize::Zeroizing;

use super::Operators;
use crate::{authority::Error, domain::Password};

/// KiB, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Waiting for others' passwords to be hashed: about twenty of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// A hash with its salt.
#[derive(Debug, Clone, Copy)]
pub(super) struct PasswordHash {
    pub(super) salt: [u8; 16],
    pub(super) hash: [u8; 32],
}

impl PasswordHash {
    /// What is hashed against where there is no account: so that nobody learns by the time whether there is.
    pub(super) const NOBODYS: Self = Self { salt: [0; 16], hash: [0; 32] };

    pub(super) fn is(&self, other: &[u8; 32]) -> bool {
        constant_time_eq_n(&self.hash, other)
    }
}

impl Operators {
    /// The hash of a password.
    pub(super) async fn hash(&self, password: Password, salt: [u8; 16]) -> Result<Zeroizing<[u8; 32]>, Error> {
        let busy = || Error::Unavailable("too many are signing in; try again in a moment".to_owned());
        let _turn = tokio::time::timeout(PATIENCE, self.hashing.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())?;
        let hash = move || {
            let (memory, passes, lanes) = COST;
            let params = Params::new(memory, passes, lanes, Some(32)).map_err(|e| e.to_string())?;
            let mut hash = Zeroizing::new([0; 32]);
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password.bytes(), &salt, hash.as_mut_slice()).map_err(|e| e.to_string())?;
            Ok(hash)
        };
        tokio::task::spawn_blocking(hash).await.map_err(|e| Error::Unavailable(e.to_string()))?.map_err(Error::Unavailable)
    }
}
