//! Changing how one gets in oneself: the password, or the second factor.
//!
//! Either takes both factors as they are, so that whoever has found a browser signed in changes nothing; what fails counts as it
//! does when signing in. It signs every browser out, and the one in anew that asked.
//!
//! A second factor that was shown and not confirmed is nowhere but in the form, sealed: who gives up on the way leaves no secret
//! behind in the database, and whichever server gets the form can go on.

use std::net::IpAddr;

use super::{
    access::Access,
    sign_in::{Enrolment, Proven, Refused, SignIn, SignedIn},
};
use crate::{
    authority::Authority,
    domain::{Action, Password, RequestInfo},
    store::{AccountRecord, Put},
};

/// What was shown to somebody opens again in the same session alone, and so not behind a change, which begins another one.
fn purpose(who: &SignedIn) -> Vec<u8> {
    [&b"second factor"[..], &who.session()].concat()
}

impl Authority {
    /// Gives somebody another password: `given` is their old one, and a code.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn change_password(
        &self,
        who: &SignedIn,
        given: SignIn,
        new: String,
        source: IpAddr,
        request: RequestInfo,
    ) -> Result<SignedIn, Refused> {
        let name = &who.account.name;
        // The rules are no secret: what breaks them uses up no code.
        let new = Password::choose(new, name).map_err(Refused::Invalid)?;
        let Proven { before, access } = self.prove_holder(name, &given, source).await?;
        let Access::Chosen { totp, step, .. } = access else { return Err(Refused::Wrong) };
        let access = Access::Chosen { password: self.hash_chosen(new).await?, totp, step };
        self.sign_in_anew(before, &access, request, serde_json::json!({ "password": "changed" })).await
    }

    /// A second factor to take the place of somebody's, who presents both as they are. It counts once
    /// [`Authority::replace_second_factor`] has a code of it; the code that was given counts no more.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn enrol_anew(&self, who: &SignedIn, given: SignIn, source: IpAddr, request: RequestInfo) -> Result<Enrolment, Refused> {
        let Proven { before, access } = self.prove_holder(&who.account.name, &given, source).await?;
        let record = self.seal_account(before.account, before.generation, &access.to_bytes())?;
        let shown = serde_json::json!({ "secondFactor": "shown" });
        let entry = self.operator_entry(&who.operator(request), Action::OperatorChange, &record.account, shown);
        if self.store.put_account(Some(before.seal), record, Some(entry)).await? != Put::Done {
            return Err(Refused::Wrong);
        }
        Ok(self.new_enrolment(&purpose(who))?)
    }

    /// The one that they were shown, if they were and can still take it: there is no other without a proof.
    pub fn enrolment_anew(&self, who: &SignedIn, sealed: &str) -> Option<Enrolment> {
        self.enrolment_of(&purpose(who), sealed)
    }

    /// Puts the second factor that somebody was shown in place of theirs, by a code of it.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn replace_second_factor(&self, who: &SignedIn, sealed: &str, code: &str, request: RequestInfo) -> Result<SignedIn, Refused> {
        let (totp, step) = self.set_up(&purpose(who), sealed, code)?;
        // As it is now: it may have been changed, and they been signed out, since the request came.
        let (before, _) = self.holder_of(who.session()).await?.ok_or(Refused::Wrong)?;
        let Some(Access::Chosen { password, .. }) = self.keyring.access_of(&before) else { return Err(Refused::Wrong) };
        let access = Access::Chosen { password, totp, step };
        self.sign_in_anew(before, &access, request, serde_json::json!({ "secondFactor": "replaced" })).await
    }

    /// Signs every browser out of an account, and one in, which gets in like that from now on.
    async fn sign_in_anew(
        &self,
        before: AccountRecord,
        access: &Access,
        request: RequestInfo,
        detail: serde_json::Value,
    ) -> Result<SignedIn, Refused> {
        let record = self.seal_account(before.account, before.generation.saturating_add(1), &access.to_bytes())?;
        self.begin_session(before.seal, record, request, Action::OperatorChange, detail).await
    }
}
