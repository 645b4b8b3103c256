//! What the server key makes: digests, seals, tags, cursors, canaries, the seal of a replay, seeds of assertion keys.
//!
//! Each key file entry is one 256-bit root; from it one key a purpose is derived (HKDF-SHA-256), so no two purposes can
//! be played against each other. All are HMAC-SHA-256: a secret has 256 random bits, so a password hash would add
//! nothing but a way to exhaust the server.

use std::path::Path;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use constant_time_eq::constant_time_eq_n;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    digester::Digester,
    key_file::{KeyFile, KeyState},
};
use crate::{
    domain::{
        AuditEntry, ClientId, ClientSecret, ClientTag, Environment, Issuer, Permissions, Platform, SecretBody, SecretDigest, Timestamp,
        Token, TokenId, TokenName,
    },
    store::{Mark, OperationsRecord, PlatformRecord, Record, Seal, SealEntries},
};

#[cfg(feature = "server")]
use crate::domain::RecordedEntry;

type HmacSha256 = Hmac<Sha256>;

/// All keys that anything stored was made with, and the one that new things are made with.
pub(crate) struct Keyring {
    keys: Vec<Key>,
    active: usize,
}

/// One key of the ring: each purpose's key, expanded once.
struct Key {
    id: u32,
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
}

impl Key {
    fn new(id: u32, root: &[u8; 32]) -> Option<Self> {
        let hkdf = Hkdf::<Sha256>::from_prk(root).ok()?;
        let derive_bytes = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf.expand_multi_info(&[b"countersign v1 ", purpose.as_bytes()], key.as_mut_slice()).ok().map(|()| key)
        };
        let derive = |purpose| HmacSha256::new_from_slice(derive_bytes(purpose)?.as_slice()).ok();
        let mut replay_root = Zeroizing::new([0; 32]);
        hkdf.expand(b"countersign v1 replay secret", replay_root.as_mut_slice()).ok()?;
        Some(Self {
            id,
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

impl Keyring {
    /// The ring of a key file; `None` if the file has no active key.
    pub(crate) fn new(file: &KeyFile) -> Option<Self> {
        let keys = file.keys.iter().map(|key| Key::new(key.id, key.root.as_array())).collect::<Option<Vec<_>>>()?;
        let active = file.keys.iter().position(|key| key.state == KeyState::Active)?;
        Some(Self { keys, active })
    }

    fn active(&self) -> &Key {
        &self.keys[self.active]
    }

    fn get(&self, id: u32) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The key that new things are made with.
    pub(crate) fn active_id(&self) -> u32 {
        self.active().id
    }

    /// The digest of a secret under a key; under the active one if there is no such key, so that the work is the same.
    ///
    /// It covers every bit of both halves: what was not covered could be altered by whoever holds the secret, and they
    /// would be taken for another token. (The environment's prefixes are compared; the row's seal covers the rest.)
    pub(crate) fn digest(&self, key: u32, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        self.get(key).unwrap_or_else(|| self.active()).digest.digest(client_id, body)
    }

    /// The place on the ring of a key; `None` where there is none, and for places that an index entry cannot hold.
    pub(crate) fn place(&self, id: u32) -> Option<u8> {
        self.keys.iter().position(|key| key.id == id).and_then(|place| u8::try_from(place).ok())
    }

    /// Whether the active key is at a place.
    pub(crate) fn is_active(&self, place: u8) -> bool {
        usize::from(place) == self.active
    }

    /// The digest of a secret under the active key.
    pub(crate) fn digest_active(&self, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        self.active().digest.digest(client_id, body)
    }

    /// The digest of a secret under the key at a place; under the active one if there is none.
    pub(crate) fn digest_at(&self, place: u8, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        self.keys.get(usize::from(place)).unwrap_or_else(|| self.active()).digest.digest(client_id, body)
    }

    /// What only we can make of a token's clientId.
    pub(crate) fn tag(&self, environment: Environment, token: TokenId) -> ClientTag {
        tag(self.active(), environment, token)
    }

    /// Whether one of the keys made this clientId.
    pub(crate) fn is_genuine(&self, client_id: &ClientId) -> bool {
        self.keys.iter().any(|key| constant_time_eq_n(&tag(key, client_id.environment, client_id.token).0, &client_id.tag.0))
    }

    /// Seals a token's record.
    pub(crate) fn seal_token(&self, token: Token, digest: SecretDigest, digest_key: u32) -> Option<Record> {
        // A record has one key: its digest can be made again only with the secret, so its seal stays with that key.
        let mac = token_seal(self.get(digest_key)?, &token, &digest);
        Some(Record { token, digest, seal: Seal { key: digest_key, mac } })
    }

    /// Whether a record is as it was sealed.
    pub(crate) fn is_intact(&self, record: &Record) -> bool {
        let seal = &record.seal;
        self.get(seal.key).is_some_and(|key| constant_time_eq_n(&token_seal(key, &record.token, &record.digest), &seal.mac))
    }

    /// Seals a platform's record.
    pub(crate) fn seal_platform(&self, platform: Platform) -> PlatformRecord {
        let key = self.active();
        let mac = platform_seal(key, &platform);
        PlatformRecord { platform, seal: Seal { key: key.id, mac } }
    }

    /// Whether a platform's record is as it was sealed.
    pub(crate) fn is_platform_intact(&self, record: &PlatformRecord) -> bool {
        let seal = &record.seal;
        self.get(seal.key).is_some_and(|key| constant_time_eq_n(&platform_seal(key, &record.platform), &seal.mac))
    }

    /// Seals the operations.
    pub(crate) fn seal_operations(&self, document: String, loaded_at: Timestamp) -> OperationsRecord {
        let key = self.active();
        let mac = operations_seal(key, &document, loaded_at);
        OperationsRecord { document, loaded_at, seal: Seal { key: key.id, mac } }
    }

    /// Whether the operations are as they were sealed.
    pub(crate) fn are_operations_intact(&self, record: &OperationsRecord) -> bool {
        let expected = self.get(record.seal.key).map(|key| operations_seal(key, &record.document, record.loaded_at));
        expected.is_some_and(|expected| constant_time_eq_n(&expected, &record.seal.mac))
    }

    /// The canary of each key, for an installation.
    pub(crate) fn canaries(&self, installation: &[u8; 16]) -> impl Iterator<Item = (u32, [u8; 32])> {
        self.keys.iter().map(move |key| (key.id, mac(&key.canary, &[installation])))
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

    /// The keyed digest of something about a repeatable create.
    pub(crate) fn replay_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac_of_all(&self.active().replay, parts)
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
        let text = self.keys.iter().find_map(open)?;
        String::from_utf8(text).ok().map(ClientSecret::unsealed)
    }

    /// The seed of the key that signs assertions on a day.
    #[cfg(feature = "server")]
    pub(crate) fn assertion_seed(&self, day: i64) -> Zeroizing<[u8; 32]> {
        assertion_seed(self.active(), day)
    }

    /// The seeds of all keys that sign assertions on a day: other processes may have another active key, while keys are
    /// being changed.
    #[cfg(feature = "server")]
    pub(crate) fn assertion_seeds(&self, day: i64) -> impl Iterator<Item = Zeroizing<[u8; 32]>> {
        self.keys.iter().map(move |key| assertion_seed(key, day))
    }
}

impl Keyring {
    /// Whether an entry of the audit log is as it was sealed, behind the one at `before`.
    #[cfg(feature = "server")]
    pub(crate) fn is_entry_intact(&self, before: &Mark, entry: &RecordedEntry, seal: &Seal) -> bool {
        let expected = self.get(seal.key).map(|key| entry_seal(key, before, &entry.node, &entry.entry));
        entry.seq == before.seq + 1 && expected.is_some_and(|expected| constant_time_eq_n(&expected, &seal.mac))
    }
}

impl SealEntries for Keyring {
    fn seal_entry(&self, before: &Mark, node: &str, entry: &AuditEntry) -> Seal {
        let key = self.active();
        Seal { key: key.id, mac: entry_seal(key, before, node, entry) }
    }
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

/// Refuses a key file, whose canaries are `ours`, that is not the one of a database with those canaries.
pub(crate) fn check_canaries(ours: &[(u32, [u8; 32])], stored: Vec<(u32, [u8; 32])>, path: &Path) -> Result<(), String> {
    for (id, mac) in stored {
        match ours.iter().find(|(ours, _)| *ours == id) {
            Some((_, expected)) if constant_time_eq_n(expected, &mac) => {}
            Some(_) => {
                return Err(format!(
                    "the key file {} belongs to another database, or somebody edited this one's rows in installation or canary: \
                     its key {id} does not fit; put the key file back that does, or the rows from a backup",
                    path.display()
                ));
            }
            None => {
                return Err(format!(
                    "the key file {} lacks key {id}, which sealed rows of this database; put it back from your backup",
                    path.display()
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
