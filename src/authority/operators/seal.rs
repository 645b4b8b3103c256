//! What proves the rows about operators, and opens what is private in them.

use zeroize::Zeroizing;

use super::access::Access;
use crate::{
    authority::keyring::{Keyring, NONCE_LEN, Seen},
    domain::{Account, OperatorToken, Timestamp},
    store::{AccountRecord, OperatorTokenRecord, Seal, SessionRecord},
};

const ACCOUNT: &[u8] = b"account";
const TOKEN: &[u8] = b"token";
const SESSION: &[u8] = b"session";

/// No moment is negative, so -1 is none.
fn time(at: Option<Timestamp>) -> [u8; 8] {
    at.map_or(-1, Timestamp::millis).to_be_bytes()
}

fn of_account<R>(account: &Account, generation: u32, access: &[u8], then: impl FnOnce(&[&[u8]]) -> R) -> R {
    let platform = account.platform.map(|id| id.0.into_bytes());
    then(&[
        account.id.0.as_bytes(),
        account.name.as_str().as_bytes(),
        account.role.name().as_bytes(),
        platform.as_ref().map_or(&[], |id| id),
        &time(Some(account.created_at)),
        &time(account.disabled_at),
        &generation.to_be_bytes(),
        access,
    ])
}

fn of_token<R>(token: &OperatorToken, digest: &[u8; 32], then: impl FnOnce(&[&[u8]]) -> R) -> R {
    then(&[
        token.id.0.as_bytes(),
        token.account.0.as_bytes(),
        token.name.as_str().as_bytes(),
        &time(Some(token.created_at)),
        &time(token.expires_at),
        &time(token.revoked_at),
        digest,
    ])
}

fn of_session<R>(session: &SessionRecord, then: impl FnOnce(&[&[u8]]) -> R) -> R {
    let SessionRecord { id, account, generation, created_at, .. } = session;
    then(&[id, account.0.as_bytes(), &generation.to_be_bytes(), &time(Some(*created_at))])
}

impl Keyring {
    pub(in crate::authority) fn seal_account(&self, account: Account, generation: u32, access: Vec<u8>) -> AccountRecord {
        let seal = of_account(&account, generation, &access, |values| self.seal_of_operator(ACCOUNT, values));
        AccountRecord { account, generation, access, seal }
    }

    pub(in crate::authority) fn see_account(&self, record: &AccountRecord) -> Seen {
        let AccountRecord { account, generation, access, seal } = record;
        of_account(account, *generation, access, |values| self.see_of_operator(seal, ACCOUNT, values))
    }

    pub(in crate::authority) fn seal_operator_token(&self, token: OperatorToken, digest: [u8; 32]) -> OperatorTokenRecord {
        let seal = of_token(&token, &digest, |values| self.seal_of_operator(TOKEN, values));
        OperatorTokenRecord { token, digest, seal }
    }

    pub(in crate::authority) fn see_operator_token(&self, record: &OperatorTokenRecord) -> Seen {
        of_token(&record.token, &record.digest, |values| self.see_of_operator(&record.seal, TOKEN, values))
    }

    pub(super) fn seal_session(&self, session: SessionRecord) -> SessionRecord {
        let seal: Seal = of_session(&session, |values| self.seal_of_operator(SESSION, values));
        SessionRecord { seal, ..session }
    }

    pub(super) fn see_session(&self, session: &SessionRecord) -> Seen {
        of_session(session, |values| self.see_of_operator(&session.seal, SESSION, values))
    }

    /// Encrypts how the holder of an account gets in: it opens in no other account's row.
    pub(in crate::authority) fn encrypt_access(&self, account: &Account, nonce: [u8; NONCE_LEN], access: &[u8]) -> Option<Vec<u8>> {
        self.encrypt(&[ACCOUNT, account.id.0.as_bytes()].concat(), nonce, access)
    }

    pub(in crate::authority) fn decrypt_access(&self, record: &AccountRecord) -> Option<Zeroizing<Vec<u8>>> {
        self.decrypt(&[ACCOUNT, record.account.id.0.as_bytes()].concat(), &record.access)
    }

    pub(super) fn access_of(&self, record: &AccountRecord) -> Option<Access> {
        Access::from_bytes(&self.decrypt_access(record)?)
    }
}
