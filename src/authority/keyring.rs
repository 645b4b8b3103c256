//! What the server key makes: digests, seals, tags, cursors, canaries, the seal of a replay, seeds of signing keys.
//!
//! Each key file entry is one 256-bit root; from it one key a purpose is derived (HKDF-SHA-256), so no two purposes can
//! be played against each other. All are HMAC-SHA-256: a secret has 256 random bits, so a password hash would add
//! nothing but a way to exhaust the server.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
#[cfg(feature = "server")]
use chacha20poly1305::{XChaCha20Poly1305, aead::Payload};
use constant_time_eq::constant_time_eq_n;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    digester::Digester,
    key_file::{KeyEntry, KeyFile, KeyState},
};
use crate::{
    domain::{
        AuditEntry, ClientId, ClientSecret, ClientTag, Environment, Issuer, KeySource, Permissions, Platform, SecretBody, SecretDigest,
        Timestamp, Token, TokenId, TokenName,
    },
    store::{Canary, Mark, OperationsRecord, PlatformRecord, Record, Seal, SealEntries},
};

#[cfg(feature = "server")]
use crate::{domain::RecordedEntry, store::Checkpoint};

type HmacSha256 = Hmac<Sha256>;

/// All keys that anything stored was made with, and the one that new things are made with.
///
/// Keys are added and retired while it is in use, and never taken away: an entry of the index names its key by the place
/// here. So nothing is swapped as a whole, and whoever proves something takes no guard: which key is active, and whether it is
/// retired, are each one value, and of no two of them does it matter whether they changed together.
pub(crate) struct Keyring {
    keys: boxcar::Vec<Key>,
    active: AtomicUsize,
    /// How often it has changed.
    version: AtomicU64,
}

/// What a seal says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is as it was sealed.
    Intact,
    /// It is not.
    Edited,
    /// It may have been once; but its key is retired.
    Retired,
    /// Nobody can say here: the key is not on the ring.
    Unknown,
}

/// One key of the ring: each purpose's key, expanded once.
pub(crate) struct Key {
    id: u32,
    /// When it was made, if the key file says so.
    #[cfg(feature = "server")]
    created: Option<String>,
    retired: AtomicBool,
    digest: Digester,
    seal: HmacSha256,
    entry: HmacSha256,
    tag: HmacSha256,
    cursor: HmacSha256,
    canary: HmacSha256,
    replay: HmacSha256,
    replay_secret: Hkdf<Sha256>,
    journal: HmacSha256,
    #[cfg(feature = "server")]
    assertion: HmacSha256,
    #[cfg(feature = "server")]
    head: Zeroizing<[u8; 32]>,
    #[cfg(feature = "server")]
    operator: HmacSha256,
    #[cfg(feature = "server")]
    private: XChaCha20Poly1305,
}

impl Key {
    fn new(entry: &KeyEntry) -> Option<Self> {
        let hkdf = Hkdf::<Sha256>::from_prk(entry.root.as_array()).ok()?;
        let derive_bytes = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf.expand_multi_info(&[b"countersign v1 ", purpose.as_bytes()], key.as_mut_slice()).ok().map(|()| key)
        };
        let derive = |purpose| HmacSha256::new_from_slice(derive_bytes(purpose)?.as_slice()).ok();
        let mut replay_root = Zeroizing::new([0; 32]);
        hkdf.expand(b"countersign v1 replay secret", replay_root.as_mut_slice()).ok()?;
        Some(Self {
            id: entry.id,
            #[cfg(feature = "server")]
            created: entry.created.clone(),
            retired: AtomicBool::new(false),
            digest: Digester::new(&*derive_bytes("digest")?),
            seal: derive("seal")?,
            entry: derive("entry")?,
            tag: derive("tag")?,
            cursor: derive("cursor")?,
            canary: derive("canary")?,
            replay: derive("replay")?,
            replay_secret: Hkdf::from_prk(replay_root.as_slice()).ok()?,
            journal: derive("journal")?,
            #[cfg(feature = "server")]
            assertion: derive("assertion")?,
            #[cfg(feature = "server")]
            head: derive_bytes("audit head")?,
            #[cfg(feature = "server")]
            operator: derive("operator")?,
            #[cfg(feature = "server")]
            private: XChaCha20Poly1305::new_from_slice(derive_bytes("private")?.as_slice()).ok()?,
        })
    }
}

fn mac(key: &HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Values behind one another, each with its length: no two different sequences give the same bytes.
fn mac_of_all(key: &HmacSha256, values: &[&[u8]]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(512);
    for value in values {
        bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    mac(key, &[&bytes])
}

/// The layout of what is sealed, so that there can be another one.
const LAYOUT: u8 = 1;

/// What a seal covers, in a fixed layout: every value has its place, and the name, the only one that varies, is last.
struct Sealed {
    bytes: [u8; 96],
    len: usize,
}

impl Sealed {
    fn of(kind: u8) -> Self {
        Self { bytes: [0; 96], len: 0 }.fixed(&[LAYOUT, kind])
    }

    fn fixed<const N: usize>(mut self, value: &[u8; N]) -> Self {
        self.bytes[self.len..self.len + N].copy_from_slice(value);
        self.len += N;
        self
    }

    fn time(self, at: Timestamp) -> Self {
        self.fixed(&at.millis().to_be_bytes())
    }

    /// No moment is negative, so -1 is none.
    fn optional_time(self, at: Option<Timestamp>) -> Self {
        self.fixed(&at.map_or(-1, Timestamp::millis).to_be_bytes())
    }

    fn named(self, key: &HmacSha256, name: &TokenName) -> [u8; 32] {
        mac(key, &[&self.bytes[..self.len], name.as_str().as_bytes()])
    }
}

impl Key {
    /// Its id.
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Whether it proves nothing any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// The digest of a secret.
    ///
    /// It covers every bit of both halves: what was not covered could be altered by whoever holds the secret, and they
    /// would be taken for another token. (The environment's prefixes are compared; the row's seal covers the rest.)
    pub(crate) fn digest(&self, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        self.digest.digest(client_id, body)
    }
}

impl Keyring {
    /// The ring of a key file; `None` if the file has no active key.
    pub(crate) fn new(file: &KeyFile) -> Option<Self> {
        let this = Self { keys: boxcar::Vec::new(), active: AtomicUsize::new(0), version: AtomicU64::new(0) };
        this.take_over(file).then_some(this)
    }

    /// Goes by another key file from now on, whose keys are known to be the same as far as they are here already. Says
    /// whether it did: not, if that has no active key.
    pub(crate) fn take_over(&self, file: &KeyFile) -> bool {
        let new = file.keys.iter().filter(|key| self.get(key.id).is_none()).map(Key::new);
        let Some(new) = new.collect::<Option<Vec<_>>>() else { return false };
        let Some(active) = file.keys.iter().find(|key| key.state == KeyState::Active) else { return false };
        for key in new {
            self.keys.push(key);
        }
        let Some(place) = self.keys.iter().find_map(|(place, key)| (key.id == active.id).then_some(place)) else { return false };
        self.active.store(place, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
        for key in file.keys.iter().filter(|key| key.state == KeyState::Retired) {
            self.retire(key.id);
        }
        true
    }

    /// Retires a key, for good; says whether it was not before.
    pub(crate) fn retire(&self, id: u32) -> bool {
        let news = self.get(id).is_some_and(|key| !key.retired.swap(true, Ordering::SeqCst));
        self.version.fetch_add(u64::from(news), Ordering::SeqCst);
        news
    }

    /// How often it has changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(|(_, key)| key)
    }

    /// Those that are not retired.
    fn valid(&self) -> impl Iterator<Item = &Key> {
        self.keys().filter(|key| !key.is_retired())
    }

    /// The key that new things are made with, and its place.
    pub(crate) fn active_at(&self) -> (usize, &Key) {
        let place = self.active.load(Ordering::SeqCst);
        (place, &self.keys[place])
    }

    /// The key that new things are made with.
    pub(crate) fn active(&self) -> &Key {
        self.active_at().1
    }

    /// The key with an id.
    pub(crate) fn get(&self, id: u32) -> Option<&Key> {
        self.keys().find(|key| key.id == id)
    }

    /// All of them, retired ones too: id, what each is good for, and when it was made, if the key file says so.
    #[cfg(feature = "server")]
    pub(crate) fn list(&self) -> Vec<(u32, KeyState, Option<String>)> {
        let active = self.active().id;
        let state = |key: &Key| match key.id {
            _ if key.is_retired() => KeyState::Retired,
            id if id == active => KeyState::Active,
            _ => KeyState::VerifyOnly,
        };
        self.keys().map(|key| (key.id, state(key), key.created.clone())).collect()
    }

    /// The place on the ring of a key; `None` where there is none, and for places that an index entry cannot hold.
    pub(crate) fn place(&self, id: u32) -> Option<u8> {
        self.keys.iter().find(|(_, key)| key.id == id).and_then(|(place, _)| u8::try_from(place).ok())
    }

    /// The key at a place.
    pub(crate) fn at(&self, place: u8) -> Option<&Key> {
        self.keys.get(usize::from(place))
    }

    /// What only we can make of a token's clientId.
    pub(crate) fn tag(&self, environment: Environment, token: TokenId) -> ClientTag {
        tag(self.active(), environment, token)
    }

    /// Whether one of the keys made this clientId.
    pub(crate) fn is_genuine(&self, client_id: &ClientId) -> bool {
        let is_by = |key| constant_time_eq_n(&tag(key, client_id.environment, client_id.token).0, &client_id.tag.0);
        // Retired ones too: a tag opens nothing, and tokens outlive the key that their tag was made with. All of them, whichever
        // fits: the same work for everybody.
        self.keys().fold(false, |genuine, key| is_by(key) | genuine)
    }

    /// Seals a token's record.
    pub(crate) fn seal_token(&self, token: Token, digest: SecretDigest, digest_key: u32) -> Option<Record> {
        // A record has one key: its digest can be made again only with the secret, so its seal stays with that key.
        let mac = token_seal(self.get(digest_key)?, &token, &digest);
        Some(Record { token, digest, seal: Seal { key: digest_key, mac } })
    }

    /// What its seal says of a token's record. One that has ended is as it was sealed also under a retired key: that it has
    /// ended gives nobody anything, and without the secret its digest can't be made again.
    pub(crate) fn see_token(&self, record: &Record) -> Seen {
        let seen = self.see(&record.seal, |key| token_seal(key, &record.token, &record.digest));
        if seen == Seen::Retired && record.token.revoked_at.is_some() { Seen::Intact } else { seen }
    }

    fn see(&self, seal: &Seal, expected: impl FnOnce(&Key) -> [u8; 32]) -> Seen {
        let Some(key) = self.get(seal.key) else { return Seen::Unknown };
        match constant_time_eq_n(&expected(key), &seal.mac) {
            false => Seen::Edited,
            true if key.is_retired() => Seen::Retired,
            true => Seen::Intact,
        }
    }

    /// Seals a platform's record.
    pub(crate) fn seal_platform(&self, platform: Platform) -> PlatformRecord {
        let key = self.active();
        let mac = platform_seal(key, &platform);
        PlatformRecord { platform, seal: Seal { key: key.id, mac } }
    }

    /// What its seal says of a platform's record.
    pub(crate) fn see_platform(&self, record: &PlatformRecord) -> Seen {
        self.see(&record.seal, |key| platform_seal(key, &record.platform))
    }

    /// Seals the operations.
    pub(crate) fn seal_operations(&self, document: String, loaded_at: Timestamp) -> OperationsRecord {
        let key = self.active();
        let mac = operations_seal(key, &document, loaded_at);
        OperationsRecord { document, loaded_at, seal: Seal { key: key.id, mac } }
    }

    /// What their seal says of the operations.
    pub(crate) fn see_operations(&self, record: &OperationsRecord) -> Seen {
        self.see(&record.seal, |key| operations_seal(key, &record.document, record.loaded_at))
    }

    /// Authenticates a cursor's contents: the id of the key, and the code.
    pub(crate) fn cursor_mac(&self, key: Option<u32>, parts: &[&[u8]]) -> Option<(u32, [u8; 16])> {
        let key = key.map_or(Some(self.active()), |id| self.get(id))?;
        let code = mac_of_all(&key.cursor, parts);
        Some((key.id, std::array::from_fn(|i| code[i])))
    }

    /// Authenticates a line of a journal under a key; `None` if there is no such key.
    pub(crate) fn journal_mac(&self, key: u32, line: &[u8]) -> Option<[u8; 16]> {
        let code = mac(&self.get(key)?.journal, &[&[LAYOUT, b'J'], line]);
        Some(std::array::from_fn(|i| code[i]))
    }

    /// The keyed digest of something about a repeatable create: under the oldest key, so that a request can be repeated
    /// while the active one changes, at whatever process.
    pub(crate) fn replay_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac_of_all(&self.valid().min_by_key(|key| key.id).unwrap_or_else(|| self.active()).replay, parts)
    }

    /// Seals a secret so that it opens with the server key and the `Idempotency-Key` together, never with either alone.
    pub(crate) fn seal_secret(&self, token: TokenId, idempotency_key: &str, secret: &ClientSecret) -> Option<Vec<u8>> {
        let cipher = replay_cipher(self.active(), token, idempotency_key)?;
        // The key is used for this one message (the token's id is in it), so the nonce need not vary.
        cipher.encrypt(&Default::default(), secret.expose().as_bytes()).ok()
    }

    /// Opens what [`Keyring::seal_secret`] sealed, under whichever key that was.
    pub(crate) fn unseal_secret(&self, token: TokenId, idempotency_key: &str, sealed: &[u8]) -> Option<ClientSecret> {
        let open = |key| replay_cipher(key, token, idempotency_key)?.decrypt(&Default::default(), sealed).ok();
        let text = self.valid().find_map(open)?;
        String::from_utf8(text).ok().map(ClientSecret::unsealed)
    }

    /// The seed of the key that signs assertions on a day.
    #[cfg(feature = "server")]
    pub(crate) fn assertion_seed(&self, day: i64) -> Zeroizing<[u8; 32]> {
        assertion_seed(self.active(), day)
    }

    /// The seeds of all keys that may sign assertions on a day: other processes may have another active key, while keys are
    /// being changed.
    #[cfg(feature = "server")]
    pub(crate) fn assertion_seeds(&self, day: i64) -> impl Iterator<Item = Zeroizing<[u8; 32]>> {
        self.valid().map(move |key| assertion_seed(key, day))
    }
}

#[cfg(feature = "server")]
impl Keyring {
    /// What its seal says of an entry of the audit log, behind the one at `before`. One under a retired key is as it was sealed:
    /// what happened, happened.
    pub(crate) fn see_entry(&self, before: &Mark, entry: &RecordedEntry, seal: &Seal) -> Seen {
        match self.see(seal, |key| entry_seal(key, before, &entry.node, &entry.entry)) {
            Seen::Unknown => Seen::Unknown,
            Seen::Intact | Seen::Retired if entry.seq == before.seq + 1 => Seen::Intact,
            _ => Seen::Edited,
        }
    }

    /// Whether it is as it was sealed.
    pub(crate) fn is_entry_intact(&self, before: &Mark, entry: &RecordedEntry, seal: &Seal) -> bool {
        self.see_entry(before, entry, seal) == Seen::Intact
    }

    /// Seals that what was lost up to a place was taken in.
    pub(crate) fn seal_lost_mark(&self, lost: &Mark) -> Seal {
        let key = self.active();
        Seal { key: key.id, mac: lost_mark_seal(key, lost) }
    }

    /// Seals a checkpoint of the audit log.
    pub(crate) fn seal_checkpoint(&self, mark: Mark, peaks: Vec<u8>, pruned: bool) -> Checkpoint {
        let key = self.active();
        let mac = checkpoint_seal(key, &mark, &peaks, pruned);
        Checkpoint { mark, peaks, pruned, seal: Seal { key: key.id, mac } }
    }

    /// Whether a checkpoint is as it was sealed; as with entries, whether its key was retired since does not matter.
    pub(crate) fn is_checkpoint_intact(&self, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { mark, peaks, pruned, seal } = checkpoint;
        matches!(self.see(seal, |key| checkpoint_seal(key, mark, peaks, *pruned)), Seen::Intact | Seen::Retired)
    }

    /// The seeds of all keys that have ever signed heads of the audit log, each with its key's id: of retired ones too.
    pub(crate) fn head_seeds(&self) -> impl Iterator<Item = (u32, &[u8; 32])> {
        self.keys().map(|key| (key.id, &*key.head))
    }

    /// The seed that heads are signed with now.
    pub(crate) fn active_head_seed(&self) -> (u32, &[u8; 32]) {
        let key = self.active();
        (key.id, &key.head)
    }

    /// Seals the values of a row about operators, of which there are several kinds.
    pub(crate) fn seal_of_operator(&self, kind: &[u8], values: &[&[u8]]) -> Seal {
        let key = self.active();
        Seal { key: key.id, mac: operator_seal(key, kind, values) }
    }

    /// What its seal says of such a row.
    pub(crate) fn see_of_operator(&self, seal: &Seal, kind: &[u8], values: &[&[u8]]) -> Seen {
        self.see(seal, |key| operator_seal(key, kind, values))
    }

    /// Encrypts what the database is not to know, under a random nonce; it opens only as what it was made for.
    pub(crate) fn encrypt(&self, purpose: &[u8], nonce: [u8; NONCE_LEN], message: &[u8]) -> Option<Vec<u8>> {
        let key = self.active();
        let sealed = key.private.encrypt(&nonce.into(), Payload { msg: message, aad: purpose }).ok()?;
        Some([&key.id.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// Opens what [`Keyring::encrypt`] made, unless its key is retired.
    pub(crate) fn decrypt(&self, purpose: &[u8], encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (id, rest) = encrypted.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.get(u32::from_be_bytes(*id)).filter(|key| !key.is_retired())?;
        key.private.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: purpose }).ok().map(Zeroizing::new)
    }
}

/// Random bytes that each encryption takes: so many that none ever comes twice.
#[cfg(feature = "server")]
pub(crate) const NONCE_LEN: usize = 24;

#[cfg(feature = "server")]
fn operator_seal(key: &Key, kind: &[u8], values: &[&[u8]]) -> [u8; 32] {
    let of_kind: [&[u8]; 2] = [&[LAYOUT], kind];
    mac_of_all(&key.operator, &[&of_kind, values].concat())
}

impl SealEntries for Keyring {
    fn seal_entry(&self, before: &Mark, node: &str, entry: &AuditEntry) -> Seal {
        let key = self.active();
        Seal { key: key.id, mac: entry_seal(key, before, node, entry) }
    }

    fn is_taken_in(&self, lost: &Mark, seal: &Seal) -> bool {
        matches!(self.see(seal, |key| lost_mark_seal(key, lost)), Seen::Intact | Seen::Retired)
    }
}

fn lost_mark_seal(key: &Key, lost: &Mark) -> [u8; 32] {
    mac(&key.seal, &[&[LAYOUT, b'L'], &lost.seq.to_be_bytes(), &lost.mac])
}

fn entry_seal(key: &Key, before: &Mark, node: &str, entry: &AuditEntry) -> [u8; 32] {
    let AuditEntry { at, action, actor, platform, scope, token, request, detail } = entry;
    let id = |id: &Option<uuid::Uuid>| id.map(uuid::Uuid::into_bytes);
    let actor = actor.to_string();
    let (platform, token) = (id(&platform.map(|id| id.0)), id(&token.map(|id| id.0)));
    let values: [&[u8]; 13] = [
        &[LAYOUT, b'A'],
        &(before.seq + 1).to_be_bytes(),
        &before.mac,
        &at.millis().to_be_bytes(),
        action.name().as_bytes(),
        actor.as_bytes(),
        platform.as_ref().map_or(&[], |id| id),
        scope.map_or("", |scope| scope.environment.name()).as_bytes(),
        token.as_ref().map_or(&[], |id| id),
        request.id.as_bytes(),
        request.source.as_bytes(),
        node.as_bytes(),
        detail.as_bytes(),
    ];
    mac_of_all(&key.entry, &values)
}

#[cfg(feature = "server")]
fn checkpoint_seal(key: &Key, mark: &Mark, peaks: &[u8], pruned: bool) -> [u8; 32] {
    mac(&key.seal, &[&[LAYOUT, b'C'], &mark.seq.to_be_bytes(), &mark.mac, &[u8::from(pruned)], peaks])
}

/// What each key of a file makes of an installation's identity; `None` if a key can't be derived.
pub(crate) fn canaries(file: &KeyFile, installation: &[u8; 16]) -> Option<Vec<(u32, [u8; 32])>> {
    let canary = |key: &KeyEntry| Some((key.id, mac(&Key::new(key)?.canary, &[installation])));
    file.keys.iter().map(canary).collect()
}

/// Refuses a key file that is not the one of an installation, by what the database knows of its keys.
pub(crate) fn check_canaries(file: &KeyFile, installation: &[u8; 16], known: &[Canary], source: &KeySource) -> Result<(), String> {
    let ours = canaries(file, installation).ok_or_else(|| format!("{source} has a key that can't be used"))?;
    for Canary { key, mac, retired_at } in known {
        match ours.iter().find(|(ours, _)| ours == key) {
            Some((_, expected)) if !constant_time_eq_n(expected, mac) => {
                return Err(format!(
                    "{source} belongs to another database, or somebody edited this one's rows in installation or canary: \
                     its key {key} does not fit; put the key file back that does, or the rows from a backup"
                ));
            }
            Some(_) if retired_at.is_some() && file.keys.iter().any(|entry| entry.id == *key && entry.state == KeyState::Active) => {
                return Err(format!("{source} is older than the database: its active key {key} is retired; put the newer one in place"));
            }
            Some(_) => {}
            None => {
                return Err(format!(
                    "{source} lacks key {key}, which sealed rows of this database; put it back from your backup, or copy the newer file here"
                ));
            }
        }
    }
    Ok(())
}

fn tag(key: &Key, environment: Environment, token: TokenId) -> ClientTag {
    let code = mac(&key.tag, &[environment.name().as_bytes(), token.0.as_bytes()]);
    ClientTag(std::array::from_fn(|i| code[i]))
}

fn token_seal(key: &Key, token: &Token, digest: &SecretDigest) -> [u8; 32] {
    let flags = [
        u8::from(token.scope.environment == Environment::Production),
        Permissions::bits(token.permissions),
        u8::from(token.issuer == Issuer::Operator),
        u8::from(token.revocable),
    ];
    Sealed::of(b'T')
        .fixed(token.id.0.as_bytes())
        .fixed(token.scope.platform.0.as_bytes())
        .fixed(&token.tag.0)
        .fixed(&flags)
        .optional_time(token.revoked_at)
        .fixed(digest.bytes())
        .named(&key.seal, &token.name)
}

fn platform_seal(key: &Key, platform: &Platform) -> [u8; 32] {
    Sealed::of(b'P')
        .fixed(platform.id.0.as_bytes())
        .time(platform.created_at)
        .optional_time(platform.disabled_at)
        .named(&key.seal, &platform.name)
}

fn operations_seal(key: &Key, document: &str, loaded_at: Timestamp) -> [u8; 32] {
    mac(&key.seal, &[&[LAYOUT, b'O'], &loaded_at.millis().to_be_bytes(), document.as_bytes()])
}

#[cfg(feature = "server")]
fn assertion_seed(key: &Key, day: i64) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(mac(&key.assertion, &[&day.to_be_bytes()]))
}

fn replay_cipher(key: &Key, token: TokenId, idempotency_key: &str) -> Option<ChaCha20Poly1305> {
    let mut derived = Zeroizing::new([0; 32]);
    key.replay_secret.expand_multi_info(&[token.0.as_bytes(), idempotency_key.as_bytes()], derived.as_mut_slice()).ok()?;
    ChaCha20Poly1305::new_from_slice(derived.as_slice()).ok()
}
