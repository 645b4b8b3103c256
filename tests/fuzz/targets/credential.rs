//! Credentials and ids.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    authority::IdempotencyKey,
    domain::{ClientId, PlatformId, Presented, TokenId},
    http::fuzzed,
};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// CRC-32, bit by bit, as the last six digits of a secret.
fn checksum(text: &[u8]) -> String {
    let mut crc = !0_u32;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    let digit = |n: u32| char::from(BASE62[(!crc as usize / 62_usize.pow(n)) % 62]);
    (0..6).rev().map(digit).collect()
}

/// The pair that a header's value is for.
fn slowly(value: &[u8]) -> Option<String> {
    let (scheme, rest) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let encoded = rest.trim_start_matches(' ');
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let canonical = STANDARD.encode(&pair) == encoded;
    let environments = [("ik_test_", "iksec_test_"), ("ik_live_", "iksec_live_")];
    let of = |(id, secret): &(&str, &str)| {
        let (id_text, secret_text) = pair.split_once(':')?;
        let (hex, digits) = (id_text.strip_prefix(id)?, secret_text.strip_prefix(secret)?);
        let whole = hex.len() == 40 && hex.chars().all(|c| "0123456789abcdef".contains(c));
        let whole = whole && digits.len() == 49 && digits.bytes().all(|digit| BASE62.contains(&digit));
        (whole && digits[43..] == checksum(format!("{secret}{}", &digits[..43]).as_bytes())).then_some(())
    };
    let well_formed = environments.iter().any(|prefixes| of(prefixes).is_some());
    (scheme.eq_ignore_ascii_case("basic") && canonical && well_formed).then_some(pair)
}

/// A secret's 43 digits, in six bits each.
fn bits(secret: &str) -> [u64; 5] {
    let mut words = [0; 5];
    for (n, digit) in secret.as_bytes()[11..54].iter().enumerate() {
        let worth = BASE62.iter().position(|known| known == digit).unwrap();
        for bit in 0..6 {
            let (at, is_set) = (6 * n + bit, worth >> (5 - bit) & 1);
            words[at / 64] |= (is_set as u64) << (63 - at % 64);
        }
    }
    words
}

fn present(value: &[u8]) {
    let (presented, pair) = (Presented::parse_basic(value), slowly(value));
    assert_eq!(presented.is_some(), pair.is_some(), "{:?}", value.escape_ascii().to_string());
    assert!(Presented::parse_only([value, value]).is_none() && Presented::parse_only([value, b""]).is_none());
    assert!(Presented::parse_only([b"", value]).is_none());
    let (Some(presented), Some(pair)) = (presented, pair) else { return };
    let (id, secret) = pair.split_once(':').unwrap();
    assert_eq!(presented.client_id().to_string(), id);
    assert_eq!(*presented.body().words(), bits(secret));
    assert!(Presented::parse_only([value]).is_some() && Presented::parse_pair(pair.as_bytes()).is_some());
    assert!(!format!("{presented:?}").contains(&secret[11..]));
}

/// A header's value; and a pair, as it is and with a checksum that fits: no change would hit that by chance.
pub(super) fn authorization(input: &[u8]) {
    present(input);
    let basic = |pair: &[u8]| format!("Basic {}", STANDARD.encode(pair)).into_bytes();
    present(&basic(input));
    if let Some(colon) = input.iter().position(|byte| *byte == b':')
        && let Some(covered) = input.len().checked_sub(6).map(|end| &input[..end]).filter(|covered| covered.len() > colon)
    {
        present(&basic(&[covered, checksum(&covered[colon + 1..]).as_bytes()].concat()));
    }
}

/// The text of a UUID, with dashes or without.
fn is_uuid(text: &str, dashed: bool) -> bool {
    let form = if dashed { "00000000-0000-0000-0000-000000000000".to_owned() } else { "0".repeat(32) };
    let fits = |(c, form)| if form == '0' { "0123456789abcdef".contains(c) } else { c == form };
    text.len() == form.len() && text.chars().zip(form.chars()).all(fits)
}

pub(super) fn ids(input: &[u8]) {
    let client_id = ClientId::parse(input);
    assert!(client_id.is_none_or(|id| id.text() == input));
    let key = IdempotencyKey::parse(input);
    assert_eq!(key.is_ok(), (1..=255).contains(&input.len()) && input.iter().all(|byte| (b'!'..=b'~').contains(byte)));
    let Ok(text) = std::str::from_utf8(input) else { return };
    let bare = text.strip_prefix("Token:").unwrap_or(text);
    let is_one = |bare: &str| bare.strip_prefix("tok_").map_or(is_uuid(bare, true), |digits| is_uuid(digits, false));
    let id = TokenId::parse(text);
    assert_eq!(id.is_some(), is_one(bare), "{text:?}");
    if let Some(id) = id {
        assert!(id.to_string() == format!("Token:{bare}") || bare == format!("tok_{}", id.simple()));
    }
    // In a path the colon may be encoded, and nothing else.
    let path = format!("/blips/tokens/{text}");
    let segment = text.split(['/', '?', '#']).next().unwrap();
    let decoded = ["Token%3A", "Token%3a"].iter().find_map(|prefix| segment.strip_prefix(prefix)).map(|bare| format!("Token:{bare}"));
    if !text.contains("/tokens/") {
        let expected = TokenId::parse(&decoded.unwrap_or_else(|| segment.to_owned())).filter(|_| path.parse::<http::Uri>().is_ok());
        assert_eq!(fuzzed::token_id(&path), expected, "{text:?}");
    }
    let platform = PlatformId::parse(text);
    assert_eq!(platform.is_some(), is_uuid(text.strip_prefix("Platform:").unwrap_or(text), true));
}
