//! Tokens that programs use in an operator's place.

use std::{net::IpAddr, time::Duration};

use constant_time_eq::constant_time_eq_n;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, Error, OneTimeKey, Reason, keyring::Seen},
    domain::{
        AccountName, Action, Invalid, Operator, OperatorSecret, OperatorToken, OperatorTokenId, PresentedOperator, RequestInfo, Timestamp,
        TokenName,
    },
    store::OperatorTokenRecord,
};

/// A token that was made: the only value that holds its secret.
#[derive(Debug)]
pub struct OperatorIssued {
    /// The token.
    pub token: OperatorToken,
    /// Its secret.
    pub secret: OperatorSecret,
}

impl Authority {
    /// Makes a token of an account: one's own, or, for an owner, anybody's.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Invalid`], [`Error::Tampered`], [`Error::MadeBefore`],
    /// [`Error::Unavailable`].
    pub async fn create_operator_token(
        &self,
        by: &Operator,
        account: AccountName,
        name: TokenName,
        expires_at: Option<Timestamp>,
        form: Option<OneTimeKey>,
    ) -> Result<OperatorIssued, Error> {
        by.may_have_tokens_of(&account)?;
        let now = self.now();
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Invalid::one("expiresAt", "past", "must be in the future").into());
        }
        // A token that was lent for an hour is not to become one for ever.
        if let Some(until) = by.until()
            && expires_at.is_none_or(|at| at > until)
        {
            let longer = format!("must be no later than {until}, when the token ends that asks");
            return Err(Invalid::one("expiresAt", "too_late", longer).into());
        }
        let record = self.intact_account(self.store.find_account(account).await?.ok_or(Error::NotFound)?)?;
        // When it ends is told from when it is made, which is another moment each time.
        let asked = [b"operator token", record.account.name.as_str().as_bytes(), name.as_str().as_bytes()];
        let id = OperatorTokenId(self.new_id(now, by, form.as_ref(), &asked)?.0);
        let body = Zeroizing::new(self.random::<32>()?);
        let token = OperatorToken { id, account: record.account.id, name, created_at: now, expires_at, revoked_at: None };
        let entry = self.operator_entry(by, Action::OperatorTokenCreate, &record.account, told(&token));
        let sealed = self.keyring.seal_operator_token(token.clone(), Sha256::digest(&body[..]).into());
        if !self.store.put_operator_token(None, sealed, Some(entry)).await? {
            return Err(Error::MadeBefore);
        }
        Ok(OperatorIssued { token, secret: OperatorSecret::of(id, &body) })
    }

    /// The tokens of an account, newest first, ended ones too: one's own, or, for an owner, anybody's.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn list_operator_tokens(&self, by: &Operator, account: AccountName) -> Result<Vec<OperatorToken>, Error> {
        by.may_have_tokens_of(&account)?;
        let of = self.store.find_account(account).await?.ok_or(Error::NotFound)?.account.id;
        let all = self.store.list_operator_tokens().await?.into_iter();
        let mut all: Vec<_> = all.map(|record| record.token).filter(|token| token.account == of).collect();
        all.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        Ok(all)
    }

    /// Ends one; it is nobody's, anywhere, when this returns.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Tampered`], [`Error::Changed`], [`Error::Unavailable`].
    pub async fn revoke_operator_token(&self, by: &Operator, id: OperatorTokenId) -> Result<OperatorToken, Error> {
        let (before, account) = self.store.find_operator_token(id).await?.ok_or(Error::NotFound)?;
        // Whoever may not see it learns nothing of it.
        by.may_have_tokens_of(&account.account.name).map_err(|_| Error::NotFound)?;
        if self.keyring.see_operator_token(&before) == Seen::Edited {
            return Err(Error::Tampered);
        }
        if before.token.revoked_at.is_some() {
            return Ok(before.token);
        }
        let token = OperatorToken { revoked_at: Some(self.now()), ..before.token.clone() };
        let entry = self.operator_entry(by, Action::OperatorTokenRevoke, &account.account, told(&token));
        let record = self.keyring.seal_operator_token(token.clone(), before.digest);
        if self.store.put_operator_token(Some(before.seal), record, Some(entry)).await? { Ok(token) } else { Err(Error::Changed) }
    }

    /// Whether too many programs without a good token have asked from there to look another one up; how long to wait then. One
    /// that was good before is looked up all the same: strangers, who may come by the same proxy, keep nobody from revoking.
    pub fn is_operator_limited(&self, source: IpAddr, presented: Option<&PresentedOperator>) -> Option<Duration> {
        let limited = self.operators.programs.too_many(source, self.clock.boot())?;
        let is_known = presented.is_some_and(|presented| self.operators.knows(presented));
        (!is_known).then_some(limited)
    }

    /// Counts one of them; returns how long its source should wait, if there were too many.
    pub fn note_operator_failed(&self, source: IpAddr) -> Option<Duration> {
        self.denials.note(Reason::OperatorToken);
        self.operators.programs.failed(source, None::<OperatorTokenId>, self.clock.boot())
    }

    /// Who a program says that it acts for; `None` if that is nobody's.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn prove_operator(&self, presented: &PresentedOperator, request: RequestInfo) -> Result<Option<Operator>, Error> {
        let Some((record, account)) = self.store.find_operator_token(presented.id()).await? else { return Ok(None) };
        let OperatorTokenRecord { token, digest, .. } = &record;
        let holds = constant_time_eq_n(&Sha256::digest(presented.body()).into(), digest)
            && self.keyring.see_operator_token(&record) == Seen::Intact
            && token.id == presented.id()
            && token.account == account.account.id
            && token.revoked_at.is_none()
            && token.expires_at.is_none_or(|at| at > self.now())
            && account.account.disabled_at.is_none();
        match self.intact_account(account) {
            Ok(record) if holds => {
                self.operators.know(token.id, *digest);
                Ok(Some(Operator::of(&record.account, request).ending(token.expires_at)))
            }
            Ok(_) | Err(Error::Tampered) => {
                self.operators.forget(presented);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

fn told(token: &OperatorToken) -> serde_json::Value {
    serde_json::json!({ "operatorToken": token.id.0.to_string(), "name": token.name.as_str() })
}

impl Operator {
    /// One's own tokens are one's own; an owner has everybody's.
    fn may_have_tokens_of(&self, account: &AccountName) -> Result<(), Error> {
        if self.actor() == crate::domain::Actor::Operator(account.as_str().to_owned()) {
            return Ok(());
        }
        Ok(self.clone().may_own().map(drop)?)
    }
}
