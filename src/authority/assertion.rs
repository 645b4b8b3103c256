//! Signed assertions: what [`Authority::prove`] found, in a form that whoever is behind the gateway can check.
//!
//! ```text
//! root key ── HKDF "assertion" ── HMAC of the day's number ── Ed25519 key of that day
//! ```
//! Every process with the key file signs with the same key, and tomorrow with the next one: rotation has no state, no
//! command and no moment at which processes differ. The key set holds yesterday's, today's and tomorrow's public keys,
//! so one that was read at any time of a day knows all that is signed until the end of the next.
//!
//! An assertion is a JWT (RFC 7519) of at most thirty seconds. It has no `jti`, because whoever would refuse a second use
//! would have to keep what all its processes have seen, and its method and path already narrow what a second use is good
//! for; and no `nbf`, which would say what `iat` says.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Authority, Clock, keyring::Keyring};
use crate::domain::{Proven, Timestamp};

/// For how long an assertion may hold, in seconds.
const LIFETIME: (u64, u64) = (1, 30);

/// For how long a key signs, in milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// An explicit type (RFC 8725, 3.11): nothing else that these keys might ever sign, and no token of anybody who believes
/// the same key set, is taken for an assertion, or an assertion for an access token.
const TYPE: &str = "countersign-assertion+jwt";

/// The name under which all of us sign; whose assertion it is, the key set says.
const ISSUER: &str = "countersign";

/// `EdDSA`, as every library has it; RFC 9864 calls the same `Ed25519`, which few of them know.
const ALGORITHM: &str = "EdDSA";

/// Signs what was proven.
pub struct Assertions {
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    lifetime: i64,
    audience: Option<String>,
    /// The day of the last signature: derived once, then read without a lock.
    day: ArcSwap<Day>,
}

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertions").field("lifetime", &self.lifetime).field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// What one day signs with, and what it publishes.
struct Day {
    number: i64,
    /// Of the keyring that it was made of.
    version: u64,
    key: SigningKey,
    /// The first part of every assertion, and its dot.
    head: String,
    /// The key set.
    published: Bytes,
}

#[derive(Serialize)]
struct Head<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
    client_id: String,
    platform: String,
    environment: &'a str,
    permissions: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

/// A public key as RFC 8037 writes it.
#[derive(Serialize)]
struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    x: String,
    kid: String,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
}

#[derive(Serialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

impl Authority {
    /// What signs assertions for an upstream that knows itself as `audience`; each holds for `lifetime`, in whole seconds
    /// and held between 1 and 30.
    pub fn assertions(&self, lifetime: Duration, audience: Option<String>) -> Assertions {
        let (keyring, clock) = (Arc::clone(&self.keyring), Arc::clone(&self.clock));
        let lifetime = lifetime.as_secs().clamp(LIFETIME.0, LIFETIME.1).cast_signed();
        let day = ArcSwap::from_pointee(Day::new(&keyring, number(clock.wall())));
        Assertions { keyring, clock, lifetime, audience, day }
    }
}

impl Assertions {
    /// The assertion about somebody proven just now; with the method of the request that they sent and its path, as it
    /// was received and without its query, where both are known. It consists of `[A-Za-z0-9._-]`.
    pub fn sign(&self, proven: &Proven, request: Option<(&str, &str)>) -> Bytes {
        let now = self.clock.wall();
        let issued = now.millis().div_euclid(1000);
        let claims = Claims {
            iss: ISSUER,
            sub: proven.client_id.token.to_string(),
            aud: self.audience.as_deref(),
            iat: issued,
            exp: issued + self.lifetime,
            client_id: proven.client_id.to_string(),
            platform: proven.scope.platform.to_string(),
            environment: proven.scope.environment.name(),
            permissions: proven.permissions.iter().map(|permission| permission.name()).collect(),
            method: request.map(|(method, _)| method),
            path: request.map(|(_, path)| path),
        };
        let day = self.day(now);
        let claims = json(&claims);
        // The claims in four digits for three bytes, a dot, and the signature's 86 digits.
        let mut text = String::with_capacity(day.head.len() + claims.len().div_ceil(3) * 4 + 87);
        text.push_str(&day.head);
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let signature = day.key.sign(text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut text);
        text.into()
    }

    /// The public keys, as a JSON Web Key Set (RFC 7517): of yesterday, today and tomorrow, for each key of the key file.
    pub fn key_set(&self) -> Bytes {
        self.day(self.clock.wall()).published.clone()
    }

    fn day(&self, now: Timestamp) -> Guard<Arc<Day>> {
        let (number, day) = (number(now), self.day.load());
        if day.number == number && day.version == self.keyring.version() {
            return day;
        }
        let day = Arc::new(Day::new(&self.keyring, number));
        self.day.store(Arc::clone(&day));
        Guard::from_inner(day)
    }
}

fn number(at: Timestamp) -> i64 {
    at.millis().div_euclid(DAY)
}

impl Day {
    fn new(keyring: &Keyring, number: i64) -> Self {
        // The day before: what it signed last still holds. The day after: whoever reads this now need not read again
        // when it begins, and clocks may differ by hours.
        let days = [number - 1, number, number + 1];
        let version = keyring.version();
        let keys: Vec<_> = days.iter().flat_map(|day| keyring.assertion_seeds(*day)).map(|seed| public(&signing(&seed))).collect();
        let key = signing(&keyring.assertion_seed(number));
        let head = json(&Head { typ: TYPE, alg: ALGORITHM, kid: &public(&key).kid });
        let head = URL_SAFE_NO_PAD.encode(head) + ".";
        Self { number, version, key, head, published: json(&KeySet { keys }).into() }
    }
}

fn signing(seed: &[u8; 32]) -> SigningKey {
    SigningKey::from_bytes(seed)
}

fn public(key: &SigningKey) -> PublicKey {
    let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    // RFC 7638: the key's own members, in this order, without a space.
    let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)));
    PublicKey { kty: "OKP", crv: "Ed25519", x, kid, alg: ALGORITHM, usage: "sig" }
}

/// Names and texts alone: nothing in them can fail to be JSON, and what is empty verifies nowhere.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
