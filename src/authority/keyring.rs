//! What the server key makes: digests, seals, tags, cursors, canaries, the seal of a replay.
//!
//! Each key file entry is one 256-bit root; from it one key a purpose is derived (HKDF-SHA-256), so no two purposes can
//! be played against each other. All are HMAC-SHA-256: a secret has 256 random bits, so a password hash would add
//! nothing but a way to exhaust the server.

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::key_file::{KeyFile, KeyState};
use crate::{
    domain::{
        ClientId, ClientSecret, ClientTag, Environment, Permissions, Platform, SECRET_BODY_LEN, SecretDigest, Timestamp, Token, TokenId,
    },
    store::{PlatformRecord, Record, Seal},
};

type HmacSha256 = Hmac<Sha256>;

/// All keys that anything stored was made with, and the one that new things are made with.
pub(crate) struct Keyring {
    keys: Vec<Key>,
    active: usize,
}

/// One key of the ring: each purpose's key, expanded once.
struct Key {
    id: u32,
    digest: HmacSha256,
    seal: HmacSha256,
    tag: HmacSha256,
    cursor: HmacSha256,
    canary: HmacSha256,
    replay: HmacSha256,
    replay_secret: Hkdf<Sha256>,
}

impl Key {
    fn new(id: u32, root: &[u8; 32]) -> Option<Self> {
        let hkdf = Hkdf::<Sha256>::from_prk(root).ok()?;
        let derive = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf.expand_multi_info(&[b"countersign v1 ", purpose.as_bytes()], key.as_mut_slice()).ok()?;
            HmacSha256::new_from_slice(key.as_slice()).ok()
        };
        let mut replay_root = Zeroizing::new([0; 32]);
        hkdf.expand(b"countersign v1 replay secret", replay_root.as_mut_slice()).ok()?;
        Some(Self {
            id,
            digest: derive("digest")?,
            seal: derive("seal")?,
            tag: derive("tag")?,
            cursor: derive("cursor")?,
            canary: derive("canary")?,
            replay: derive("replay")?,
            replay_secret: Hkdf::from_prk(replay_root.as_slice()).ok()?,
        })
    }
}

fn mac(key: &HmacSha256, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Values behind one another, each with its length: no two different sequences give the same bytes.
struct Canonical(Vec<u8>);

impl Canonical {
    fn new() -> Self {
        Self(Vec::with_capacity(512))
    }

    fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(&(value.len() as u64).to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    fn number(self, value: i64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn time(self, value: Option<Timestamp>) -> Self {
        match value {
            Some(at) => self.number(at.millis()),
            None => self.bytes(b""),
        }
    }

    fn mac(self, key: &HmacSha256) -> [u8; 32] {
        mac(key, &[&self.0])
    }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
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
    pub(crate) fn digest(&self, key: u32, client_id: &ClientId, body: &[u8; SECRET_BODY_LEN]) -> SecretDigest {
        let key = self.get(key).unwrap_or_else(|| self.active());
        SecretDigest(mac(&key.digest, &[client_id.token.0.as_bytes(), &client_id.tag.0, body]))
    }

    /// The clientId of a token.
    pub(crate) fn client_id(&self, environment: Environment, token: TokenId) -> ClientId {
        ClientId { environment, token, tag: tag(self.active(), environment, token) }
    }

    /// Whether one of the keys made this clientId.
    pub(crate) fn is_genuine(&self, client_id: &ClientId) -> bool {
        self.keys.iter().any(|key| equal(&tag(key, client_id.environment, client_id.token).0, &client_id.tag.0))
    }

    /// Seals a token's record as its `version`-th writing.
    pub(crate) fn seal_token(&self, token: Token, digest: SecretDigest, digest_key: u32, version: u32) -> Option<Record> {
        // A record has one key: its digest can be made again only with the secret, so its seal stays with that key.
        let mac = token_seal(self.get(digest_key)?, &token, &digest, version);
        Some(Record { token, digest, seal: Seal { key: digest_key, version, mac } })
    }

    /// Whether a record is as it was sealed.
    pub(crate) fn is_intact(&self, record: &Record) -> bool {
        let seal = &record.seal;
        self.get(seal.key).is_some_and(|key| equal(&token_seal(key, &record.token, &record.digest, seal.version), &seal.mac))
    }

    /// Seals a platform's record as its `version`-th writing.
    pub(crate) fn seal_platform(&self, platform: Platform, version: u32) -> PlatformRecord {
        let key = self.active();
        let mac = platform_seal(key, &platform, version);
        PlatformRecord { platform, seal: Seal { key: key.id, version, mac } }
    }

    /// Whether a platform's record is as it was sealed.
    pub(crate) fn is_platform_intact(&self, record: &PlatformRecord) -> bool {
        let seal = &record.seal;
        self.get(seal.key).is_some_and(|key| equal(&platform_seal(key, &record.platform, seal.version), &seal.mac))
    }

    /// The canary of each key, for an installation.
    pub(crate) fn canaries(&self, installation: &[u8; 16]) -> impl Iterator<Item = (u32, [u8; 32])> {
        self.keys.iter().map(move |key| (key.id, mac(&key.canary, &[installation])))
    }

    /// Authenticates a cursor's contents: the id of the key, and the code.
    pub(crate) fn cursor_mac(&self, key: Option<u32>, parts: &[&[u8]]) -> Option<(u32, [u8; 16])> {
        let key = key.map_or(Some(self.active()), |id| self.get(id))?;
        let code = parts.iter().fold(Canonical::new(), |canonical, part| canonical.bytes(part)).mac(&key.cursor);
        Some((key.id, std::array::from_fn(|i| code[i])))
    }

    /// The keyed digest of something about a repeatable create.
    pub(crate) fn replay_digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        parts.iter().fold(Canonical::new(), |canonical, part| canonical.bytes(part)).mac(&self.active().replay)
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
}

fn tag(key: &Key, environment: Environment, token: TokenId) -> ClientTag {
    let code = mac(&key.tag, &[environment.name().as_bytes(), token.0.as_bytes()]);
    ClientTag(std::array::from_fn(|i| code[i]))
}

fn token_seal(key: &Key, token: &Token, digest: &SecretDigest, version: u32) -> [u8; 32] {
    Canonical::new()
        .bytes(b"token")
        .bytes(token.id.0.as_bytes())
        .bytes(token.scope.platform.0.as_bytes())
        .bytes(token.scope.environment.name().as_bytes())
        .bytes(token.name.as_str().as_bytes())
        .bytes(&[Permissions::bits(token.permissions)])
        .bytes(token.client_id.token.0.as_bytes())
        .bytes(&token.client_id.tag.0)
        .bytes(token.client_id.environment.name().as_bytes())
        .bytes(token.issuer.name().as_bytes())
        .number(i64::from(token.revocable))
        .time(Some(token.created_at))
        .time(Some(token.updated_at))
        .time(token.revoked_at)
        .bytes(&digest.0)
        .number(i64::from(version))
        .mac(&key.seal)
}

fn platform_seal(key: &Key, platform: &Platform, version: u32) -> [u8; 32] {
    Canonical::new()
        .bytes(b"platform")
        .bytes(platform.id.0.as_bytes())
        .bytes(platform.name.as_str().as_bytes())
        .time(Some(platform.created_at))
        .time(platform.disabled_at)
        .number(i64::from(version))
        .mac(&key.seal)
}

fn replay_cipher(key: &Key, token: TokenId, idempotency_key: &str) -> Option<ChaCha20Poly1305> {
    let mut derived = Zeroizing::new([0; 32]);
    key.replay_secret.expand_multi_info(&[token.0.as_bytes(), idempotency_key.as_bytes()], derived.as_mut_slice()).ok()?;
    ChaCha20Poly1305::new_from_slice(derived.as_slice()).ok()
}
