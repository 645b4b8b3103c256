//! Getting in at the console: with an invitation for the first time, then with a password and a code; and who is signed in.

use std::{fmt, net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use constant_time_eq::constant_time_eq_n;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::{
    access::Access,
    accounts::Invitation,
    password::PasswordHash,
    totp::{SECRET_LEN, Totp},
};
use crate::{
    authority::{Authority, Error, Reason, keyring::Seen},
    domain::{Account, AccountName, Action, Invalid, Operator, Password, RequestInfo, Timestamp},
    store::{AccountRecord, Seal, SessionRecord},
};

/// For how long somebody is signed in who asks for nothing, and at the most.
const IDLE: i64 = 30 * 60 * 1000;
const LONGEST: i64 = 12 * 60 * 60 * 1000;
/// How exactly it is known when they last asked for something.
const NOTED_EVERY: i64 = 60 * 1000;
/// For how long a second factor that was shown can be taken: somebody installs an app meanwhile.
const ENROLMENT: i64 = 60 * 60 * 1000;
const ENROLMENT_PURPOSE: &[u8] = b"enrolment";

/// Why somebody does not get in.
#[derive(Debug)]
pub enum Refused {
    /// Something is not right; which, nobody is told.
    Wrong,
    /// Too many attempts have failed; so long to wait.
    Limited(Duration),
    /// What they chose can't be.
    Invalid(Invalid),
    /// It could not be looked at.
    Unavailable(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => Self::Invalid(invalid),
            Error::Tampered | Error::NotFound | Error::Changed => Self::Wrong,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<crate::store::Error> for Refused {
    fn from(error: crate::store::Error) -> Self {
        Error::from(error).into()
    }
}

/// What somebody presents at the console. Wiped; cannot be printed.
pub struct SignIn {
    /// Whose account.
    pub name: String,
    /// Its password, or the one that they choose.
    pub password: String,
    /// The code that their app shows.
    pub code: String,
}

impl Drop for SignIn {
    fn drop(&mut self) {
        self.password.zeroize();
        self.code.zeroize();
    }
}

/// A second factor to be set up: what the app is to read, and what is to be sent back with its first code.
#[derive(ZeroizeOnDrop)]
pub struct Enrolment {
    totp: Totp,
    #[zeroize(skip)]
    sealed: String,
}

impl Enrolment {
    /// As an app reads it from a picture.
    pub fn uri(&self, account: &str) -> String {
        self.totp.uri(account)
    }

    /// As people type it.
    pub fn text(&self) -> String {
        self.totp.text()
    }

    /// To be sent back: opens for nobody else.
    pub fn sealed(&self) -> &str {
        &self.sealed
    }
}

/// Somebody who is signed in, and what their browser keeps. Wiped; cannot be printed.
pub struct SignedIn {
    /// Who.
    pub account: Account,
    secret: Zeroizing<[u8; 32]>,
}

impl SignedIn {
    /// What the browser is to keep.
    pub fn cookie(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.secret[..])
    }

    /// The id of their session.
    pub(super) fn session(&self) -> [u8; 32] {
        Sha256::digest(&self.secret[..]).into()
    }

    /// As an operator, with a request.
    pub fn operator(&self, request: RequestInfo) -> Operator {
        Operator::of(&self.account, request)
    }

    /// What every form of theirs has, so that no other site can send one.
    pub fn form_key(&self) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(&self.secret[..]).map(|mut mac| {
            mac.update(b"countersign form");
            mac.finalize().into_bytes()
        });
        mac.map(|mac| URL_SAFE_NO_PAD.encode(mac)).unwrap_or_default()
    }

    /// Whether a form is theirs.
    pub fn has_sent(&self, form_key: &str) -> bool {
        let (ours, theirs) = (Sha256::digest(self.form_key()), Sha256::digest(form_key));
        !form_key.is_empty() && constant_time_eq_n::<32>(&ours.into(), &theirs.into())
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("account", &self.account.name).finish_non_exhaustive()
    }
}

/// An account whose password and code were presented, and how its holder gets in once that code is used up.
pub(super) struct Proven {
    pub(super) before: AccountRecord,
    pub(super) access: Access,
}

impl Authority {
    /// A second factor for somebody who is about to accept an invitation; or the one that they were shown before.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub fn enrol(&self, shown: Option<&str>) -> Result<Enrolment, Error> {
        match shown.and_then(|sealed| self.enrolment_of(ENROLMENT_PURPOSE, sealed)) {
            Some(enrolment) => Ok(enrolment),
            None => self.new_enrolment(ENROLMENT_PURPOSE),
        }
    }

    /// Another second factor, sealed so that it opens for that purpose alone.
    pub(super) fn new_enrolment(&self, purpose: &[u8]) -> Result<Enrolment, Error> {
        let totp = Totp::new(self.random()?);
        let message = Zeroizing::new([&totp.secret()[..], &self.now().millis().to_be_bytes()].concat());
        let sealed = self.keyring.encrypt(purpose, self.random()?, &message);
        let sealed = sealed.ok_or_else(|| Error::Unavailable("cannot encrypt".to_owned()))?;
        Ok(Enrolment { totp, sealed: URL_SAFE_NO_PAD.encode(sealed) })
    }

    /// The one that somebody was shown for that purpose, unless that was too long ago.
    pub(super) fn enrolment_of(&self, purpose: &[u8], sealed: &str) -> Option<Enrolment> {
        let message = self.keyring.decrypt(purpose, &URL_SAFE_NO_PAD.decode(sealed).ok()?)?;
        let (secret, at) = message.split_first_chunk::<SECRET_LEN>()?;
        let shown_at = Timestamp::from_millis(i64::from_be_bytes(at.try_into().ok()?));
        let recent = shown_at.plus_millis(ENROLMENT) >= self.now();
        recent.then(|| Enrolment { totp: Totp::new(*secret), sealed: sealed.to_owned() })
    }

    /// The second factor that somebody was shown for that purpose, and the step of the code by which they prove that their app
    /// has it. Who got so far is told what is wrong.
    pub(super) fn set_up(&self, purpose: &[u8], sealed: &str, code: &str) -> Result<(Totp, i64), Refused> {
        let expired = || Refused::Invalid(Invalid::one("code", "expired", "was shown too long ago; scan the new picture"));
        let totp = self.enrolment_of(purpose, sealed).ok_or_else(expired)?.totp.clone();
        match totp.check(code, self.now(), 0) {
            Some(step) => Ok((totp, step)),
            None => Err(Refused::Invalid(Invalid::one("code", "wrong", "is not the one that the app shows now; is its clock right?"))),
        }
    }

    /// The hash of a password that somebody has chosen, with a salt of its own.
    pub(super) async fn hash_chosen(&self, password: Password) -> Result<PasswordHash, Refused> {
        let salt = self.random().map_err(Error::from)?;
        Ok(PasswordHash { salt, hash: *self.operators.hash(password, salt).await? })
    }

    /// Takes an invitation: the account has that password and that second factor from now on, and its holder is signed in.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn accept_invitation(
        &self,
        chosen: SignIn,
        invitation: &str,
        enrolment: &str,
        source: IpAddr,
        request: RequestInfo,
    ) -> Result<SignedIn, Refused> {
        let Ok(name) = AccountName::parse("name", &chosen.name) else { return Err(self.refused(source, None)) };
        self.refuse_limited(source, &name)?;
        let wrong = || self.refused(source, Some(&name));
        let (typed, found) = (Invitation::digest_of(invitation), self.store.find_account(name.clone()).await?);
        let before = found.filter(|record| record.account.disabled_at.is_none()).ok_or_else(wrong)?;
        let before = self.intact_account(before)?;
        match self.keyring.access_of(&before) {
            Some(Access::Invited { digest, until })
                if until >= self.now() && typed.is_some_and(|typed| constant_time_eq_n(&typed, &digest)) => {}
            _ => return Err(wrong()),
        }
        let (totp, step) = self.set_up(ENROLMENT_PURPOSE, enrolment, &chosen.code)?;
        let password = Password::choose(chosen.password.clone(), &name).map_err(Refused::Invalid)?;
        let access = Access::Chosen { password: self.hash_chosen(password).await?, totp, step };
        let record = self.seal_account(before.account.clone(), before.generation.saturating_add(1), &access.to_bytes())?;
        self.begin_session(before.seal, record, request, Action::OperatorSignIn, serde_json::json!({ "with": "invitation" })).await
    }

    /// Signs somebody in. It takes as long whether or not there is such an account.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn sign_in(&self, given: SignIn, source: IpAddr, request: RequestInfo) -> Result<SignedIn, Refused> {
        let Ok(name) = AccountName::parse("name", &given.name) else { return Err(self.refused(source, None)) };
        let Proven { before, access } = self.prove_holder(&name, &given, source).await?;
        let record = self.seal_account(before.account, before.generation, &access.to_bytes())?;
        self.begin_session(before.seal, record, request, Action::OperatorSignIn, serde_json::json!({ "with": "password and code" })).await
    }

    /// Proves a password and a code, within the limits of attempts.
    pub(super) async fn prove_holder(&self, name: &AccountName, given: &SignIn, source: IpAddr) -> Result<Proven, Refused> {
        let Some(password) = Password::presented(given.password.clone()) else { return Err(self.refused(source, None)) };
        self.refuse_limited(source, name)?;
        let found = self.store.find_account(name.clone()).await?;
        let usable = found.filter(|record| record.account.disabled_at.is_none() && self.keyring.see_account(record) == Seen::Intact);
        let access = usable.as_ref().and_then(|record| self.keyring.access_of(record));
        let chosen = match access {
            Some(Access::Chosen { password, totp, step }) => Some((password, totp, step)),
            _ => None,
        };
        let kept = chosen.as_ref().map_or(PasswordHash::NOBODYS, |(password, ..)| *password);
        let hash = self.operators.hash(password, kept.salt).await?;
        let proven = chosen.filter(|_| kept.is(&hash)).and_then(|(password, totp, step)| {
            let step = totp.check(&given.code, self.now(), step)?;
            Some(Access::Chosen { password, totp, step })
        });
        match (usable, proven) {
            (Some(before), Some(access)) => Ok(Proven { before, access }),
            _ => Err(self.refused(source, Some(name))),
        }
    }

    fn refuse_limited(&self, source: IpAddr, name: &AccountName) -> Result<(), Refused> {
        let (failures, now) = (&self.operators.failures, self.clock.boot());
        match failures.too_many(source, now).or_else(|| failures.too_many_named(name, now)) {
            Some(wait) => Err(Refused::Limited(wait)),
            None => Ok(()),
        }
    }

    fn refused(&self, source: IpAddr, name: Option<&AccountName>) -> Refused {
        self.denials.note(Reason::SignIn);
        self.operators.failures.failed(source, name, self.clock.boot()).map_or(Refused::Wrong, Refused::Limited)
    }

    /// Signs somebody in whose account is that record from then on, in place of the one with that seal.
    pub(super) async fn begin_session(
        &self,
        before: Seal,
        record: AccountRecord,
        request: RequestInfo,
        action: Action,
        detail: serde_json::Value,
    ) -> Result<SignedIn, Refused> {
        let (now, secret) = (self.now(), Zeroizing::new(self.random::<32>().map_err(Error::from)?));
        let signed_in = SignedIn { account: record.account.clone(), secret };
        let session = self.keyring.seal_session(SessionRecord {
            id: signed_in.session(),
            account: record.account.id,
            generation: record.generation,
            created_at: now,
            seen_at: now,
            seal: Seal { key: 0, mac: [0; 32] },
        });
        let entry = self.operator_entry(&signed_in.operator(request), action, &record.account, detail);
        // Of two with the same code, at whatever server, one finds the account changed.
        if !self.store.insert_session(before, record, session, entry).await? {
            return Err(Refused::Wrong);
        }
        self.store.forget_sessions(now.plus_millis(-LONGEST), now.plus_millis(-IDLE)).await?;
        Ok(signed_in)
    }

    /// Who a browser says that it is; `None` if nobody is signed in with that any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn signed_in(&self, cookie: &str) -> Result<Option<SignedIn>, Error> {
        let Some((who, seen_at)) = self.bearer_of(cookie).await? else { return Ok(None) };
        let now = self.now();
        if seen_at.plus_millis(NOTED_EVERY) <= now {
            self.store.touch_session(who.session(), now).await?;
        }
        Ok(Some(who))
    }

    /// The same where it is no sign that anybody is there: a page that asks by itself keeps nobody signed in.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn still_signed_in(&self, cookie: &str) -> Result<Option<SignedIn>, Error> {
        Ok(self.bearer_of(cookie).await?.map(|(who, _)| who))
    }

    async fn bearer_of(&self, cookie: &str) -> Result<Option<(SignedIn, Timestamp)>, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        if URL_SAFE_NO_PAD.decode_slice(cookie, &mut secret[..]).ok() != Some(32) {
            return Ok(None);
        }
        let held = self.holder_of(Sha256::digest(&secret[..]).into()).await?;
        Ok(held.map(|(record, seen_at)| (SignedIn { account: record.account, secret }, seen_at)))
    }

    /// Whose session that is, as their account is now, and when they last asked for something; `None` if it is over.
    pub(super) async fn holder_of(&self, id: [u8; 32]) -> Result<Option<(AccountRecord, Timestamp)>, Error> {
        let Some((session, record)) = self.store.find_session(id).await? else { return Ok(None) };
        let now = self.now();
        let holds = self.keyring.see_session(&session) == Seen::Intact
            && session.id == id
            && session.account == record.account.id
            && session.generation == record.generation
            && record.account.disabled_at.is_none()
            && session.created_at.plus_millis(LONGEST) > now
            && session.seen_at.plus_millis(IDLE) > now;
        if !holds {
            return Ok(None);
        }
        match self.intact_account(record) {
            Ok(record) => Ok(Some((record, session.seen_at))),
            Err(Error::Tampered) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Signs somebody out.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn sign_out(&self, who: &SignedIn, request: RequestInfo) -> Result<(), Error> {
        let by = who.operator(request);
        let entry = self.operator_entry(&by, Action::OperatorSignOut, &who.account, serde_json::json!({}));
        Ok(self.store.remove_session(who.session(), entry).await?)
    }
}
