//! The credential: what its two halves look like, and how a presented one is taken apart.
//!
//! ```text
//! clientId      ik_test_   32 hex digits: the token's id    8 hex digits: the keyed tag
//! clientSecret  iksec_test_   43 base62 digits: 256 random bits   6 base62 digits: CRC-32 of all before
//! ```
//! The id inside the clientId makes it a primary key (nothing else needs to be stored or looked up), and the tag lets
//! a made-up one be refused without the database. The checksum proves nothing: it is public, so that scanners for
//! leaked secrets can recognise one offline. Neither half ever contains a colon.
//!
//! Every request is taken apart here, so it is done without a branch a digit, and with as little to wipe as can be.
//!
//! NEVER CHANGE THE PREFIXES: scanners and clients know them, and every digest covers them.

use std::fmt;

use base64_simd::{Out, STANDARD};
use constant_time_eq::constant_time_eq_n;
use zerocopy::IntoBytes as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Environment, TokenId};

/// Random digits in a secret: 62^43 > 2^256.
const SECRET_BODY_LEN: usize = 43;
const SECRET_PREFIX_LEN: usize = 11;
const CHECKSUM_LEN: usize = 6;
/// All that are digits in a secret.
const DIGITS: usize = SECRET_BODY_LEN + CHECKSUM_LEN;
const SECRET_LEN: usize = SECRET_PREFIX_LEN + DIGITS;
const CLIENT_ID_PREFIX_LEN: usize = 8;
const CLIENT_ID_LEN: usize = CLIENT_ID_PREFIX_LEN + 32 + 8;
const PAIR_LEN: usize = CLIENT_ID_LEN + 1 + SECRET_LEN;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const fn client_id_prefix(environment: Environment) -> &'static str {
    match environment {
        Environment::Sandbox => "ik_test_",
        Environment::Production => "ik_live_",
    }
}

const fn secret_prefix(environment: Environment) -> &'static str {
    match environment {
        Environment::Sandbox => "iksec_test_",
        Environment::Production => "iksec_live_",
    }
}

/// What every secret begins with, and the CRC-32 of it.
const MARK: &[u8; 6] = b"iksec_";
const CRC_OF_MARK: u32 = 0xF249CBD5;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A bit that no digit's worth has, and all that is none.
const NO_DIGIT: u8 = 0x80;

/// What a digit is worth. Without a table or a branch, so that the compiler does sixteen at once.
const fn hex_value(digit: u8) -> u8 {
    among(digit, b'0', 10, 0) & among(digit, b'a', 6, 10)
}

/// The same of a digit of base 62.
const fn base62_value(digit: u8) -> u8 {
    among(digit, b'0', 10, 0) & among(digit, b'A', 26, 10) & among(digit, b'a', 26, 36)
}

/// What a digit of a range is worth; of any other, all bits.
const fn among(digit: u8, first: u8, count: u8, worth: u8) -> u8 {
    let at = digit.wrapping_sub(first);
    let others = ((at < count) as u8).wrapping_sub(1);
    at.wrapping_add(worth) | others
}

/// What 48 digits are worth: so many because sixteen fill a vector.
fn evaluate(digits: &[u8; 48], values: &mut [u8; 48], value: impl Fn(u8) -> u8) {
    values.iter_mut().zip(digits).for_each(|(worth, digit)| *worth = value(*digit));
}

/// Whether all these are what digits are worth.
fn are_digits(values: &[u8]) -> bool {
    values.iter().fold(0, |seen, value| seen | value) & NO_DIGIT == 0
}

/// `BITS` of each of eight values, one behind the other.
const fn gather<const BITS: u32>(values: [u8; 8]) -> u64 {
    let mut all = u64::from_be_bytes(values);
    all = (all >> 8 & 0x00FF_00FF_00FF_00FF) << BITS | all & 0x00FF_00FF_00FF_00FF;
    all = (all >> 16 & 0x0000_FFFF_0000_FFFF) << (2 * BITS) | all & 0x0000_FFFF_0000_FFFF;
    all >> 32 << (4 * BITS) | all & 0xFFFF_FFFF
}

/// The part of a clientId that only a holder of the server key can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTag(pub [u8; 4]);

/// The public half of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId {
    /// Which half of its platform it opens.
    pub environment: Environment,
    /// The token.
    pub token: TokenId,
    /// Proof that the server made it.
    pub tag: ClientTag,
}

impl ClientId {
    /// Reads the text exactly: no other case, no space.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; CLIENT_ID_LEN] = text.try_into().ok()?;
        let environment = Environment::ALL.into_iter().find(|e| text.starts_with(client_id_prefix(*e).as_bytes()))?;
        let mut values = [0; CLIENT_ID_LEN];
        evaluate(text, &mut values, hex_value);
        let (_, values) = values.split_at(CLIENT_ID_PREFIX_LEN);
        if !are_digits(values) {
            return None;
        }
        let mut eights = values.as_chunks().0.iter().map(|values| gather::<4>(*values) as u32);
        let [a, b, c, d, tag] = std::array::from_fn(|_| eights.next().unwrap_or_default());
        let id = [a, b, c, d].iter().fold(0, |id, eight| id << 32 | u128::from(*eight));
        Some(Self { environment, token: TokenId(uuid::Uuid::from_u128(id)), tag: ClientTag(tag.to_be_bytes()) })
    }
}

impl ClientId {
    /// The text, which is ASCII.
    pub fn text(&self) -> [u8; CLIENT_ID_LEN] {
        let mut text = [0; CLIENT_ID_LEN];
        let (prefix, digits) = text.split_at_mut(CLIENT_ID_PREFIX_LEN);
        prefix.copy_from_slice(client_id_prefix(self.environment).as_bytes());
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.token.0.as_bytes().iter().chain(&self.tag.0)) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        text
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

/// The secret half, as it is handed out once. It cannot be printed, copied, compared or serialized, and its memory is
/// wiped: the one way to the text is [`ClientSecret::expose`].
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ClientSecret {
    text: String,
}

impl ClientSecret {
    /// Makes the secret of 43 digits drawn by `draw`, which fills its argument with random bytes.
    ///
    /// Digits are drawn one by one (bytes from 248 up are drawn again), so each is uniform over the alphabet.
    ///
    /// # Errors
    /// Whatever `draw` fails with.
    pub fn draw<E>(environment: Environment, mut draw: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut text = String::with_capacity(SECRET_LEN);
        text.push_str(secret_prefix(environment));
        let mut bytes = Zeroizing::new([0; 64]);
        while text.len() < SECRET_PREFIX_LEN + SECRET_BODY_LEN {
            draw(bytes.as_mut_slice())?;
            let missing = SECRET_PREFIX_LEN + SECRET_BODY_LEN - text.len();
            let fair = bytes.iter().filter(|byte| **byte < 248);
            text.extend(fair.take(missing).map(|byte| char::from(BASE62[usize::from(byte % 62)])));
        }
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { text })
    }

    /// The secret of a text that was sealed earlier.
    pub(crate) fn unsealed(text: String) -> Self {
        Self { text }
    }

    /// What is random in it; `None` of a text that never was a secret.
    pub fn body(&self) -> Option<SecretBody> {
        SecretBody::parse(self.text.as_bytes().get(SECRET_PREFIX_LEN..)?.try_into().ok()?).map(|(body, _)| body)
    }

    /// The text itself. A test counts the callers.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret([REDACTED])")
    }
}

/// Values that are wiped: in words, because that is done value by value.
type Words<const N: usize> = [u64; N];

/// What is random in a secret, which is what its digest covers: 43 digits of 6 bits, and zeros. Wiped after use; cannot be
/// printed.
#[derive(ZeroizeOnDrop)]
pub struct SecretBody(Words<5>);

impl SecretBody {
    /// Bits of it: so few that together with a clientId they fit into one block of SHA-256.
    pub const BITS: usize = SECRET_BODY_LEN * 6;

    /// Reads a secret's digits: those of its body, and the number that the others are.
    fn parse(digits: &[u8; DIGITS]) -> Option<(Self, u64)> {
        let (digits, last) = digits.split_first_chunk()?;
        let last = last.first().map_or(NO_DIGIT, |digit| base62_value(*digit));
        let mut values = Zeroizing::new(Words::<6>::default());
        let values: &mut [u8; 48] = zerocopy::transmute_mut!(&mut *values);
        evaluate(digits, values, base62_value);
        let mut eights = values.as_chunks().0.iter().map(|values| gather::<6>(*values));
        let [a, b, c, d, e, mixed] = std::array::from_fn(|_| eights.next().unwrap_or_default());
        // Three digits of the body, and all but the last one of the checksum.
        let (f, sum) = (mixed >> 30 << 30, (0..5).rev().map(|at| mixed >> (6 * at) & 63));
        let checksum = sum.chain([u64::from(last)]).fold(0, |sum, digit| sum * 62 + digit);
        // 48 bits each, from the top.
        let body = Self([a << 16 | b >> 32, b << 32 | c >> 16, c << 48 | d, e << 16 | f >> 32, f << 32]);
        (are_digits(values) && are_digits(&[last])).then_some((body, checksum))
    }

    /// The bits, from the top of the first word.
    pub const fn words(&self) -> &[u64; 5] {
        &self.0
    }
}

/// The CRC-32 of a text that begins with [`MARK`], which need not be gone through again: what is left is a whole number of
/// the steps that it is made in.
fn crc_behind_mark(text: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(CRC_OF_MARK);
    crc.update(text.get(MARK.len()..).unwrap_or_default());
    crc.finalize()
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut value = crc32fast::hash(text);
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits
}

/// The keyed digest of a secret: what is stored of it. Compared in constant time only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretDigest(Words<4>);

impl SecretDigest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(zerocopy::transmute!(bytes))
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        zerocopy::transmute_ref!(&self.0)
    }

    /// Its first half, as the index has it.
    pub const fn half(&self) -> [u64; 2] {
        [self.0[0], self.0[1]]
    }

    /// Whether the two are equal, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq_n(self.bytes(), other.bytes())
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest([REDACTED])")
    }
}

/// A credential that somebody sent: well-formed, unproven. Wiped after use; cannot be printed.
#[derive(ZeroizeOnDrop)]
pub struct Presented {
    #[zeroize(skip)]
    client_id: ClientId,
    body: SecretBody,
}

impl Presented {
    /// Takes apart the only one of a request's `Authorization` values.
    ///
    /// Two are nobody's: whoever is in front of us may have looked at the other.
    pub fn parse_only<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Option<Self> {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse_basic(value.as_ref()),
            _ => None,
        }
    }

    /// Takes apart the value of an `Authorization` header.
    ///
    /// `Basic` in any case, one or more spaces, canonical padded base64 of exactly the pair that we hand out; anything
    /// else is nobody. Nothing is allocated, and nothing longer than a real credential is decoded.
    pub fn parse_basic(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(6)?;
        let (name, space) = scheme.split_at(5);
        if !name.eq_ignore_ascii_case(b"basic") || space != b" " {
            return None;
        }
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let encoded = &rest[spaces..];
        if encoded.len() != PAIR_LEN.div_ceil(3) * 4 {
            return None;
        }
        let mut pair = Zeroizing::new(Words::<{ PAIR_LEN.div_ceil(8) }>::default());
        Self::parse_pair(STANDARD.decode(encoded, Out::from_slice(pair.as_mut_bytes())).ok()?)
    }

    /// Takes apart `clientId:clientSecret`.
    pub fn parse_pair(pair: &[u8]) -> Option<Self> {
        if pair.len() != PAIR_LEN || pair[CLIENT_ID_LEN] != b':' {
            return None;
        }
        let client_id = ClientId::parse(&pair[..CLIENT_ID_LEN])?;
        let secret = &pair[CLIENT_ID_LEN + 1..];
        let (prefix, digits) = secret.split_at(SECRET_PREFIX_LEN);
        let (body, checksum) = SecretBody::parse(digits.try_into().ok()?)?;
        let covered = &secret[..SECRET_LEN - CHECKSUM_LEN];
        let is_whole = prefix == secret_prefix(client_id.environment).as_bytes() && checksum == u64::from(crc_behind_mark(covered));
        is_whole.then_some(Self { client_id, body })
    }

    /// The public half.
    pub const fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// What the digest covers of the secret half.
    pub const fn body(&self) -> &SecretBody {
        &self.body
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, [REDACTED])", self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use proptest::prelude::*;

    fn secret(environment: Environment, fill: u8) -> ClientSecret {
        let mut next = fill;
        ClientSecret::draw(environment, |bytes| {
            for byte in bytes {
                next = next.wrapping_mul(31).wrapping_add(17);
                *byte = next;
            }
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    fn client_id(environment: Environment) -> ClientId {
        let token = TokenId::parse("019542f5-b3e7-7d02-8000-000000000001").unwrap();
        ClientId { environment, token, tag: ClientTag([1, 2, 3, 4]) }
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    fn accepts(value: &str) -> bool {
        Presented::parse_basic(value.as_bytes()).is_some()
    }

    #[test]
    fn what_every_secret_begins_with_need_not_be_summed_up() {
        assert_eq!(CRC_OF_MARK, crc32fast::hash(MARK));
        for environment in Environment::ALL {
            let text = format!("{}digits", secret_prefix(environment));
            assert!(text.as_bytes().starts_with(MARK));
            assert_eq!(crc_behind_mark(text.as_bytes()), crc32fast::hash(text.as_bytes()));
        }
    }

    #[test]
    fn a_pair_that_we_handed_out_is_taken_apart() {
        for environment in Environment::ALL {
            let (id, secret) = (client_id(environment), secret(environment, 7));
            let presented = Presented::parse_basic(basic(&format!("{id}:{}", secret.expose())).as_bytes()).unwrap();
            assert_eq!(presented.client_id(), &id);
            assert_eq!(presented.body().words(), secret.body().unwrap().words());
            assert_eq!(format!("{presented:?}"), format!("Presented({id}, [REDACTED])"));
            assert_eq!(format!("{secret:?}"), "ClientSecret([REDACTED])");
        }
    }

    #[test]
    fn a_03_scheme_in_any_case_and_one_or_more_spaces_but_no_tab() {
        let value = basic(&format!("{}:{}", client_id(Environment::Sandbox), secret(Environment::Sandbox, 1).expose()));
        let encoded = value.strip_prefix("Basic ").unwrap();
        for scheme in ["Basic ", "basic ", "BASIC  ", "bAsIc      "] {
            assert!(accepts(&format!("{scheme}{encoded}")), "{scheme:?}");
        }
        for scheme in ["Basic\t", "Basic \t", "Bearer ", " Basic ", "Basic", "Basic,", "Basic\u{a0}"] {
            assert!(!accepts(&format!("{scheme}{encoded}")), "{scheme:?}");
        }
    }

    #[test]
    fn a_08_one_credential_has_exactly_one_encoding() {
        let pair = format!("{}:{}", client_id(Environment::Sandbox), secret(Environment::Sandbox, 1).expose());
        let value = basic(&pair);
        assert!(accepts(&value) && value.ends_with("=="));
        assert!(!accepts(value.trim_end_matches('=')), "no padding");
        assert!(!accepts(&format!("{value}=")), "more padding");
        assert!(!accepts(&format!("{value} ")), "space behind");
        let mut trailing_bits = value.clone().into_bytes();
        let last = trailing_bits.len() - 3;
        trailing_bits[last] += 1;
        assert!(!accepts(std::str::from_utf8(&trailing_bits).unwrap()), "non-zero trailing bits");
        assert!(!accepts(&value.replace('A', "-")) && !accepts(&value.replace('c', " ")), "other alphabets, inner space");
    }

    #[test]
    fn a_02_every_altered_character_makes_it_nobody_or_somebody_else() {
        let pair = format!("{}:{}", client_id(Environment::Sandbox), secret(Environment::Sandbox, 1).expose());
        for position in CLIENT_ID_LEN..pair.len() {
            let mut altered = pair.clone().into_bytes();
            altered[position] = if altered[position] == b'x' { b'y' } else { b'x' };
            assert!(Presented::parse_pair(&altered).is_none(), "position {position}");
        }
    }

    #[test]
    fn z_08_a_prefix_of_the_other_environment_does_not_fit() {
        let pair = format!("{}:{}", client_id(Environment::Sandbox), secret(Environment::Production, 1).expose());
        assert!(Presented::parse_pair(pair.as_bytes()).is_none());
    }

    #[test]
    fn s_03_digits_are_uniform_and_secrets_unique() {
        use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([3; 32]);
        let (mut seen, mut counts) = (std::collections::HashSet::new(), [0_u64; 256]);
        const SECRETS: u64 = 100_000;
        for _ in 0..SECRETS {
            let secret = ClientSecret::draw(Environment::Sandbox, |bytes| {
                rng.fill_bytes(bytes);
                Ok::<_, ()>(())
            })
            .unwrap();
            assert_eq!(secret.expose().len(), SECRET_LEN);
            let digits = &secret.expose().as_bytes()[SECRET_PREFIX_LEN..][..SECRET_BODY_LEN];
            digits.iter().for_each(|digit| counts[usize::from(*digit)] += 1);
            assert!(seen.insert(secret.expose().to_owned()));
        }
        let expected = (SECRETS * SECRET_BODY_LEN as u64) as f64 / 62.0;
        let chi: f64 = BASE62.iter().map(|d| (counts[usize::from(*d)] as f64 - expected).powi(2) / expected).sum();
        // 61 degrees of freedom: mean 61, p = 0.0001 at about 108.
        assert!(chi < 108.0, "chi-square {chi}");
    }

    proptest! {
        #[test]
        fn i_04_parsing_never_panics(value in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..200usize) {
            let _ = Presented::parse_basic(&value);
            let _ = Presented::parse_pair(&value);
            let _ = ClientId::parse(&value);
            let real = basic(&format!("{}:{}", client_id(Environment::Sandbox), secret(Environment::Sandbox, 1).expose()));
            let _ = Presented::parse_basic(&[&real.as_bytes()[..cut.min(real.len())], &value[..]].concat());
        }

        #[test]
        fn client_ids_round_trip(id: u128, tag: [u8; 4], live: bool) {
            let environment = if live { Environment::Production } else { Environment::Sandbox };
            let id = ClientId { environment, token: TokenId(uuid::Uuid::from_u128(id)), tag: ClientTag(tag) };
            prop_assert_eq!(ClientId::parse(id.to_string().as_bytes()), Some(id));
        }
    }
}
