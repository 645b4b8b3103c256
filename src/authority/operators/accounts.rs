//! Accounts: inviting somebody, changing what they may, resetting how they get in.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use super::access::Access;
use crate::{
    authority::{Authority, Error, OneTimeKey, keyring::Seen},
    domain::{Account, AccountId, AccountName, Action, Invalid, Operator, Owner, PlatformId, Role, Timestamp},
    store::{AccountRecord, Put},
};

/// For how long an invitation can be accepted.
const INVITATION: i64 = 24 * 60 * 60 * 1000;
/// Its bits are random: 130 of them, in characters that nobody mistakes for others.
const CODE_LEN: usize = 16;

/// What an operator is sent, once, to choose a password with: 26 characters in groups, good for a day. Cannot be printed or
/// compared.
#[derive(ZeroizeOnDrop)]
pub struct Invitation {
    text: String,
    #[zeroize(skip)]
    until: Timestamp,
}

impl Invitation {
    fn of(bytes: &[u8; CODE_LEN], until: Timestamp) -> Self {
        let mut code = BASE32_NOPAD.encode(bytes);
        let groups: Vec<_> = code.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
        let text = groups.join("-");
        code.zeroize();
        Self { text, until }
    }

    /// The text, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Until when it can be accepted.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// The digest of what somebody typed, if it could be one: case, dashes and spaces do not matter.
    pub(super) fn digest_of(typed: &str) -> Option<[u8; 32]> {
        let mut code: String = typed.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(code.as_bytes());
        code.zeroize();
        let mut bytes = bytes.ok().filter(|bytes| bytes.len() == CODE_LEN)?;
        let digest = Sha256::digest(&bytes).into();
        bytes.zeroize();
        Some(digest)
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invitation([REDACTED])")
    }
}

/// How it stands with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its holder has an invitation, good until then, and has not accepted it.
    Invited(Timestamp),
    /// Its holder can sign in.
    Active,
    /// Nobody can use it.
    Disabled,
    /// Its row was edited, or sealed by a key that is retired: it is refused until it is reset.
    Broken,
}

/// An account in a list.
#[derive(Debug, Clone)]
pub struct AccountListed {
    /// The account.
    pub account: Account,
    /// How it stands.
    pub standing: Standing,
}

impl Authority {
    /// All accounts, by name.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::Unavailable`].
    pub async fn list_accounts(&self, by: &Operator) -> Result<Vec<AccountListed>, Error> {
        by.may_oversee()?;
        Ok(self.store.list_accounts().await?.into_iter().map(|record| self.listed(record)).collect())
    }

    /// One account.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn get_account(&self, by: &Operator, name: AccountName) -> Result<AccountListed, Error> {
        by.may_oversee()?;
        Ok(self.listed(self.store.find_account(name).await?.ok_or(Error::NotFound)?))
    }

    fn listed(&self, record: AccountRecord) -> AccountListed {
        let standing = match (self.keyring.see_account(&record), self.keyring.access_of(&record)) {
            (Seen::Edited | Seen::Retired, _) => Standing::Broken,
            _ if record.account.disabled_at.is_some() => Standing::Disabled,
            (Seen::Intact, Some(Access::Invited { until, .. })) => Standing::Invited(until),
            (Seen::Intact, Some(Access::Chosen { .. })) => Standing::Active,
            _ => Standing::Broken,
        };
        AccountListed { account: record.account, standing }
    }

    /// Makes an account and the invitation with which its holder gets in for the first time. Of one platform: for its own staff,
    /// who see nothing else, and are viewers or managers.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NameTaken`], [`Error::MadeBefore`], [`Error::NotFound`] (there is no such platform),
    /// [`Error::Unavailable`].
    pub async fn create_account(
        &self,
        by: &Owner,
        name: AccountName,
        role: Role,
        platform: Option<PlatformId>,
        form: Option<OneTimeKey>,
    ) -> Result<(AccountListed, Invitation), Error> {
        refuse_owner_of_one(role, platform)?;
        if let Some(platform) = platform {
            self.store.find_platform(platform).await?.ok_or(Error::NotFound)?;
        }
        let now = self.now();
        let of = platform.map_or([0; 16], |id| id.0.into_bytes());
        let asked = [b"operator", name.as_str().as_bytes(), role.name().as_bytes(), &of];
        let id = AccountId(self.new_id(now, by, form.as_ref(), &asked)?.0);
        let account = Account { id, name, role, platform, created_at: now, disabled_at: None };
        let (record, invitation) = self.invite(account, 1)?;
        let entry = self.operator_entry(by, Action::OperatorCreate, &record.account, serde_json::json!({ "role": role.name() }));
        match self.store.put_account(None, record.clone(), Some(entry)).await? {
            Put::Done => Ok((self.listed(record), invitation)),
            Put::NameTaken => Err(Error::NameTaken),
            Put::Changed => Err(Error::MadeBefore),
        }
    }

    /// Gives an account another role.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::LastOwner`], [`Error::NotFound`], [`Error::Tampered`], [`Error::Changed`],
    /// [`Error::Unavailable`].
    pub async fn set_account_role(&self, by: &Owner, name: AccountName, role: Role) -> Result<AccountListed, Error> {
        self.change_account(by, name, |account| {
            account.role = role;
            refuse_owner_of_one(role, account.platform)?;
            Ok(serde_json::json!({ "role": role.name() }))
        })
        .await
    }

    /// Disables an account: its holder is signed out, and its tokens are nobody's, when this returns; or enables it again.
    ///
    /// # Errors
    /// As [`Authority::set_account_role`].
    pub async fn set_account_disabled(&self, by: &Owner, name: AccountName, disabled: bool) -> Result<AccountListed, Error> {
        let now = self.now();
        self.change_account(by, name, |account| {
            account.disabled_at = if disabled { account.disabled_at.or(Some(now)) } else { None };
            Ok(serde_json::json!({ "disabled": disabled }))
        })
        .await
    }

    async fn change_account(
        &self,
        by: &Owner,
        name: AccountName,
        change: impl FnOnce(&mut Account) -> Result<serde_json::Value, Invalid>,
    ) -> Result<AccountListed, Error> {
        let before = self.intact_account(self.store.find_account(name).await?.ok_or(Error::NotFound)?)?;
        let mut account = before.account.clone();
        let detail = change(&mut account)?;
        if account == before.account {
            return Ok(self.listed(before));
        }
        if is_owner(&before.account) && !is_owner(&account) {
            self.refuse_last_owner(&account).await?;
        }
        let access = self.keyring.decrypt_access(&before).ok_or(Error::Tampered)?;
        // Who was signed in is so no more, even where the account is enabled again.
        let generation = before.generation.saturating_add(u32::from(account.disabled_at.is_some()));
        let record = self.seal_account(account, generation, &access)?;
        let entry = self.operator_entry(by, Action::OperatorChange, &record.account, detail);
        self.put_changed(&before, record, entry).await
    }

    /// Two who do this to each other at the same moment both succeed: then the command line makes another owner.
    async fn refuse_last_owner(&self, leaving: &Account) -> Result<(), Error> {
        let others = self.store.list_accounts().await?.into_iter().filter(|record| record.account.id != leaving.id);
        match others.map(|record| record.account).any(|account| is_owner(&account)) {
            true => Ok(()),
            false => Err(Error::LastOwner),
        }
    }

    /// Takes away how the holder of an account gets in, signs them out, and makes an invitation. Their tokens stay.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Changed`], [`Error::Unavailable`].
    pub async fn reset_account(&self, by: &Owner, name: AccountName) -> Result<(AccountListed, Invitation), Error> {
        let before = self.store.find_account(name).await?.ok_or(Error::NotFound)?;
        let mut account = before.account.clone();
        if self.keyring.see_account(&before) != Seen::Intact {
            // Whoever edited it decides nothing by it: the least that it could be, until an owner says more.
            account.role = Role::Viewer;
        }
        let (record, invitation) = self.invite(account, before.generation.saturating_add(1))?;
        let entry = self.operator_entry(by, Action::OperatorChange, &record.account, serde_json::json!({ "reset": true }));
        Ok((self.put_changed(&before, record, entry).await?, invitation))
    }

    async fn put_changed(
        &self,
        before: &AccountRecord,
        record: AccountRecord,
        entry: crate::domain::AuditEntry,
    ) -> Result<AccountListed, Error> {
        match self.store.put_account(Some(before.seal), record.clone(), Some(entry)).await? {
            Put::Done => Ok(self.listed(record)),
            Put::NameTaken | Put::Changed => Err(Error::Changed),
        }
    }

    fn invite(&self, account: Account, generation: u32) -> Result<(AccountRecord, Invitation), Error> {
        let invitation = Invitation::of(&self.random()?, self.now().plus_millis(INVITATION));
        let digest = Invitation::digest_of(invitation.expose()).ok_or(Error::Tampered)?;
        let access = Access::Invited { digest, until: invitation.until };
        Ok((self.seal_account(account, generation, &access.to_bytes())?, invitation))
    }

    /// Encrypts and seals an account under the active key.
    pub(super) fn seal_account(&self, account: Account, generation: u32, access: &[u8]) -> Result<AccountRecord, Error> {
        let encrypted = self.keyring.encrypt_access(&account, self.random()?, access);
        let encrypted = encrypted.ok_or_else(|| Error::Unavailable("cannot encrypt".to_owned()))?;
        Ok(self.keyring.seal_account(account, generation, encrypted))
    }

    /// Seals anew, under the active key, what another one has sealed; of what was edited nothing.
    pub(in crate::authority) async fn reseal_operators(&self, key: u32) -> Result<(), Error> {
        for before in self.store.list_accounts().await?.into_iter().filter(|record| record.seal.key == key) {
            let access = self.keyring.decrypt_access(&before).filter(|_| self.keyring.see_account(&before) == Seen::Intact);
            let Some(access) = access else { continue };
            let record = self.seal_account(before.account.clone(), before.generation, &access)?;
            if self.store.put_account(Some(before.seal), record, None).await? != Put::Done {
                return Err(Error::Changed);
            }
        }
        for before in self.store.list_operator_tokens().await?.into_iter().filter(|record| record.seal.key == key) {
            if self.keyring.see_operator_token(&before) != Seen::Intact {
                continue;
            }
            let record = self.keyring.seal_operator_token(before.token, before.digest);
            if !self.store.put_operator_token(Some(before.seal), record, None).await? {
                return Err(Error::Changed);
            }
        }
        Ok(())
    }
}

fn is_owner(account: &Account) -> bool {
    account.role == Role::Owner && account.platform.is_none() && account.disabled_at.is_none()
}

fn refuse_owner_of_one(role: Role, platform: Option<PlatformId>) -> Result<(), Invalid> {
    match (role, platform) {
        (Role::Owner, Some(_)) => Err(Invalid::one("role", "of_platform", "must be viewer or manager for an operator of one platform")),
        _ => Ok(()),
    }
}
