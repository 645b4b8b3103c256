//! Platforms and the audit log: what only operators do.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{Authority, Error, Issued, OneTimeKey, Receipt, keyring::Seen, tokens::entry_of};
use crate::{
    domain::{
        Action, AuditEntry, AuditQuery, Environment, Issuer, NewToken, Operator, Owner, Permissions, Platform, PlatformId, RecordedEntry,
        Scope, Timestamp, TokenName,
    },
    store::{Decision, PlatformRecord},
};

impl Authority {
    /// Makes a platform and, for each of its environments, the root token that only an operator can end.
    ///
    /// # Errors
    /// [`Error::MadeBefore`], [`Error::Invalid`] (the form is too old), [`Error::Unavailable`].
    pub async fn create_platform(
        self: &Arc<Self>,
        by: &Owner,
        name: TokenName,
        form: Option<OneTimeKey>,
    ) -> Result<(Platform, Vec<Issued>), Error> {
        let (authority, by) = (Arc::clone(self), by.clone());
        // Apart from the caller, as a token's create is.
        tokio::spawn(async move { authority.make_platform(&by, name, form).await }.in_current_span())
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?
    }

    async fn make_platform(&self, by: &Owner, name: TokenName, form: Option<OneTimeKey>) -> Result<(Platform, Vec<Issued>), Error> {
        let now = self.now();
        let id = PlatformId(self.new_id(now, by, form.as_ref(), &[b"platform", name.as_str().as_bytes()])?.0);
        let platform = Platform { id, name, created_at: now, disabled_at: None };
        let (mut roots, mut issued) = (Vec::new(), Vec::new());
        for environment in Environment::ALL {
            let scope = Scope { platform: id, environment };
            let new = NewToken { name: TokenName::parse("name", "Root token")?, permissions: Permissions::ALL };
            let (record, secret) = self.issue(scope, new, Issuer::Operator, false, now)?;
            let entry = entry_of(&record.token, &by.within(scope), Action::TokenCreate, now);
            issued.push(Issued { token: record.token.clone(), secret: Some(secret), replayed: false });
            roots.push((record, entry));
        }
        let (record, entry) = (self.keyring.seal_platform(platform.clone()), platform_entry(&platform, by, Action::PlatformCreate, now));
        let records: Vec<_> = roots.iter().map(|(record, _)| record.clone()).collect();
        let known = self.followed();
        let Some(seq) = self.store.insert_platform(record.clone(), entry, roots).await? else { return Err(Error::MadeBefore) };
        if self.lease.is_some() {
            self.remember(&known, |read| {
                self.index.put_platform(&record, seq);
                records.iter().for_each(|record| self.put_new_token(record, read));
            });
        }
        Ok((platform, issued))
    }

    /// All platforms that there are for the operator, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list_platforms(&self, by: &Operator) -> Result<Vec<Platform>, Error> {
        let all = self.store.list_platforms().await?.into_iter();
        let mut all: Vec<_> = all.map(|record| record.platform).filter(|platform| by.sees(platform.id)).collect();
        all.sort_by_key(|platform| platform.created_at);
        Ok(all)
    }

    /// One platform.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get_platform(&self, by: &Operator, id: PlatformId) -> Result<Platform, Error> {
        let found = self.store.find_platform(id).await?.map(|record| record.platform);
        found.filter(|platform| by.sees(platform.id)).ok_or(Error::NotFound)
    }

    /// Disables a platform, so that none of its tokens verifies anywhere when this returns; or enables it again, and
    /// with it all tokens that have not ended, everywhere when this returns; unless the receipt says by when.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Tampered`], [`Error::Unavailable`].
    pub async fn set_platform_disabled(self: &Arc<Self>, by: &Owner, id: PlatformId, disabled: bool) -> Result<(Platform, Receipt), Error> {
        let (authority, by) = (Arc::clone(self), by.clone());
        tokio::spawn(async move { authority.change_platform(by, id, disabled).await }.in_current_span())
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?
    }

    async fn change_platform(&self, by: Owner, id: PlatformId, disabled: bool) -> Result<(Platform, Receipt), Error> {
        let (keyring, now) = (Arc::clone(&self.keyring), self.now());
        let action = if disabled { Action::PlatformDisable } else { Action::PlatformEnable };
        let decide = move |before: &PlatformRecord| {
            if before.platform.disabled_at.is_some() == disabled || keyring.see_platform(before) != Seen::Intact {
                return Decision::Keep;
            }
            let mut platform = before.platform.clone();
            platform.disabled_at = disabled.then_some(now);
            let entry = platform_entry(&platform, &by, action, now);
            Decision::Write(keyring.seal_platform(platform), entry)
        };
        let known = self.followed();
        let (record, seq) = self.store.change_platform(id, decide).await?.ok_or(Error::NotFound)?;
        match self.keyring.see_platform(&record) {
            Seen::Intact => {}
            Seen::Unknown => return Err(self.lacking(record.seal.key)),
            Seen::Edited | Seen::Retired => {
                self.put_platform(&record, 0);
                self.refuse_tampered().await?;
                return Err(Error::Tampered);
            }
        }
        if let Some(seq) = seq {
            self.remember(&known, |_| self.index.put_platform(&record, seq));
        }
        Ok((record.platform, self.receipt(seq).await?))
    }

    /// A page of the audit log, newest first, and whether there is more. For the staff of one platform, what is entered of that.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it was asked of a platform that is not there for them, [`Error::Unavailable`].
    pub async fn list_audit(&self, by: &Operator, mut query: AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
        if query.platform.is_some_and(|platform| !by.sees(platform)) {
            return Err(Error::NotFound);
        }
        query.platform = query.platform.or(by.platform());
        Ok(self.store.list_audit(query).await?)
    }
}

fn platform_entry(platform: &Platform, by: &Operator, action: Action, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        action,
        actor: by.actor(),
        platform: Some(platform.id),
        scope: None,
        token: None,
        request: by.request().clone(),
        detail: serde_json::json!({ "name": platform.name.as_str() }).to_string(),
    }
}
