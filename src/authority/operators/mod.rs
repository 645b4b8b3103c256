//! Who may act as an operator: accounts, their passwords and second factors, tokens of programs, who is signed in.
//!
//! | file | what |
//! |---|---|
//! | `accounts.rs` | inviting, changing, resetting |
//! | `sign_in.rs` | accepting an invitation, signing in, who is signed in |
//! | `own.rs` | changing one's own password and second factor |
//! | `tokens.rs` | tokens that programs use in an operator's place |
//! | `access.rs` | how somebody gets in, as it is kept |
//! | `password.rs`, `totp.rs` | the two factors |
//! | `seal.rs` | what proves the rows |
//!
//! Nobody is believed by what is in memory: each request as an operator reads its rows, so whoever was disabled is so at once, everywhere.

mod access;
mod accounts;
mod own;
mod password;
mod seal;
mod sign_in;
mod tokens;
mod totp;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use constant_time_eq::constant_time_eq_n;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{
    Authority, Error,
    attempts::{AttemptLimits, Attempts},
    keyring::Seen,
};
use crate::{
    domain::{Account, Action, AuditEntry, Operator, OperatorTokenId, PresentedOperator},
    store::AccountRecord,
};

pub use accounts::{AccountListed, Invitation, Standing};
pub use sign_in::{Enrolment, Refused, SignIn, SignedIn};
pub use tokens::OperatorIssued;

/// Attempts to sign in that may fail in a minute, from one address and with one account. Whoever knows a name can so keep its
/// holder out at the console, as long as they go on; without a limit they could go on guessing. Commands are never kept out.
const FAILURES: AttemptLimits = AttemptLimits { per_source: 10, per_client: 20 };
/// Passwords that are hashed at once: each takes 19 MiB.
const HASHING: usize = 2;

/// Good tokens of programs that are remembered, at the most.
const KNOWN: usize = 10_000;

/// What is kept in memory about operators.
pub(super) struct Operators {
    failures: Attempts,
    /// Apart from those of the platform's customers: strangers at the API, who may come by the same proxy, keep no operator out.
    programs: Attempts,
    /// Tokens of programs that were good here before, with the digests of their secrets.
    known: Mutex<HashMap<OperatorTokenId, [u8; 32]>>,
    hashing: Semaphore,
}

impl Operators {
    /// With the limits for programs.
    pub(super) fn new(programs: AttemptLimits) -> Self {
        Self {
            failures: Attempts::new(FAILURES),
            programs: Attempts::new(programs),
            known: Mutex::default(),
            hashing: Semaphore::new(HASHING),
        }
    }
}

impl Operators {
    fn known(&self) -> MutexGuard<'_, HashMap<OperatorTokenId, [u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was good when it was looked up last. Its id alone says nothing: many see that.
    fn knows(&self, presented: &PresentedOperator) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented.body()).into();
        self.known().get(&presented.id()).is_some_and(|known| constant_time_eq_n(known, &digest))
    }

    /// Notes a token that is good, of whose secret this is the digest.
    fn know(&self, id: OperatorTokenId, digest: [u8; 32]) {
        let mut known = self.known();
        let any = known.keys().next().copied();
        if known.len() >= KNOWN
            && let Some(any) = any
        {
            known.remove(&any);
        }
        known.insert(id, digest);
    }

    /// Notes that it is no more, if it was.
    fn forget(&self, presented: &PresentedOperator) {
        if self.knows(presented) {
            self.known().remove(&presented.id());
        }
    }
}

impl Authority {
    /// The record, if it is as it was sealed and its key is here.
    fn intact_account(&self, record: AccountRecord) -> Result<AccountRecord, Error> {
        match self.keyring.see_account(&record) {
            Seen::Intact => Ok(record),
            Seen::Unknown => Err(self.lacking(record.seal.key)),
            Seen::Edited => {
                self.note_tampered(format!("operator {}", record.account.name));
                Err(Error::Tampered)
            }
            // Reset it: that needs nothing of what was made under that key.
            Seen::Retired => Err(Error::Tampered),
        }
    }

    fn operator_entry(&self, by: &Operator, action: Action, account: &Account, detail: serde_json::Value) -> AuditEntry {
        let mut told = serde_json::json!({ "operator": account.name.as_str() });
        if let (Some(told), serde_json::Value::Object(detail)) = (told.as_object_mut(), detail) {
            told.extend(detail);
        }
        AuditEntry {
            at: self.now(),
            action,
            actor: by.actor(),
            platform: account.platform,
            scope: None,
            token: None,
            request: by.request().clone(),
            detail: told.to_string(),
        }
    }
}
