//! The digest of a secret: HMAC-SHA-256 (RFC 2104), written for what it is asked for with each request.
//!
//! Both pads are hashed once for each key, and what is covered has a fixed length that fits into one block. So a digest is
//! two compressions, without buffers and counters around them.

use sha2::block_api::compress256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::domain::{ClientId, SecretBody, SecretDigest};

/// SHA-256's state before any block (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Bytes of a block.
const BLOCK: usize = 64;
/// What is covered: the id, the body, filled up to whole bytes, and the tag.
const COVERED: usize = 16 + SecretBody::BITS.div_ceil(8) + 4;

/// A key, as it makes digests.
#[derive(ZeroizeOnDrop)]
pub(super) struct Digester {
    /// The states behind the inner and the outer pad.
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Digester {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = START;
            compress256(&mut state, std::slice::from_ref(&*block));
            state
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// The digest of a secret: it covers every bit of both halves.
    pub(super) fn digest(&self, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        const { assert!(COVERED == 53, "the last of the body is one byte, and the tag and the end stand behind it") };
        let (id, body) = (client_id.token.0.as_u128(), body.words());
        let last = body[4] | u64::from(u32::from_be_bytes(client_id.tag.0)) << 24 | END >> 40;
        let mut block = [(id >> 64) as u64, id as u64, body[0], body[1], body[2], body[3], last, bits(COVERED)];
        let [a, b, c, d] = behind(self.inner, &block);
        block = [a, b, c, d, END, 0, 0, bits(32)];
        let digest = behind(self.outer, &block).map(u64::to_be_bytes);
        SecretDigest::new(zerocopy::transmute!(digest))
    }
}

/// What stands behind all that is hashed: one bit, here at the top of a word.
const END: u64 = 1 << 63;

/// How much was hashed, in bits, when a block of so many bytes comes behind another one.
const fn bits(len: usize) -> u64 {
    ((BLOCK + len) * 8) as u64
}

/// The state behind a block, as words of 64 bits.
fn behind(mut state: [u32; 8], block: &[u64; 8]) -> [u64; 4] {
    let block: [u8; BLOCK] = zerocopy::transmute!(block.map(u64::to_be_bytes));
    compress256(&mut state, &[block]);
    std::array::from_fn(|at| u64::from(state[2 * at]) << 32 | u64::from(state[2 * at + 1]))
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;
    use crate::domain::{ClientTag, Environment, Presented, TokenId};

    proptest! {
        /// The same as what a library makes that has its own blocks and pads.
        #[test]
        fn it_is_hmac_sha_256(key: [u8; 32], id: u128, tag: [u8; 4], digits in "[0-9A-Za-z]{43}") {
            let id = ClientId { environment: Environment::Sandbox, token: TokenId(uuid::Uuid::from_u128(id)), tag: ClientTag(tag) };
            let text = format!("iksec_test_{digits}");
            let sum = crc32fast::hash(text.as_bytes());
            let sum: String = (0..6).rev().map(|at| char::from(ALPHABET[(sum / 62_u32.pow(at) % 62) as usize])).collect();
            let presented = Presented::parse_pair(format!("{id}:{text}{sum}").as_bytes()).unwrap();
            // Six bits a digit, the first one's on top, and six more to fill the last byte.
            let bits: Vec<u8> = digits.bytes().chain([b'0']).map(|digit| ALPHABET.iter().position(|other| *other == digit).unwrap() as u8).collect();
            let packed: Vec<u8> = bits.chunks(4).flat_map(|four| four.iter().fold(0, |all, six| all << 6 | u32::from(*six)).to_be_bytes()[1..].to_vec()).collect();
            let mut theirs = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            [&id.token.0.as_bytes()[..], &packed[..], &tag[..]].iter().for_each(|part| theirs.update(part));
            let theirs: [u8; 32] = theirs.finalize().into_bytes().into();
            let ours = Digester::new(&key).digest(&id, presented.body());
            prop_assert_eq!(ours.bytes(), &theirs);
        }
    }

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
}
