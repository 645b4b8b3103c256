//! The digest of a secret: HMAC-SHA-256 (RFC 2104), written for what it is asked for with each request.
//!
//! Both pads are hashed once for each key, and what is covered has a fixed length that fits into one block. So a digest is
//! two compressions, without buffers and counters around them, and the first one's block, in which the secret was, is the
//! second one's.

use sha2::block_api::compress256;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::domain::{ClientId, SecretBody, SecretDigest};

/// SHA-256's state before any block (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BLOCK: usize = 64;
/// What is covered: the id, the tag, the body.
const COVERED: usize = 16 + 4 + SecretBody::LEN;

/// A key, as it makes digests.
#[derive(ZeroizeOnDrop)]
pub(super) struct Digester {
    /// The states behind the inner and the outer pad.
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Digester {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let behind = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = START;
            compress256(&mut state, std::slice::from_ref(&*block));
            state
        };
        Self { inner: behind(0x36), outer: behind(0x5c) }
    }

    /// The digest of a secret: it covers every bit of both halves.
    pub(super) fn digest(&self, client_id: &ClientId, body: &SecretBody) -> SecretDigest {
        let mut block = [0; BLOCK];
        block[..SecretBody::LEN].copy_from_slice(body.bytes());
        block[SecretBody::LEN..][..16].copy_from_slice(client_id.token.0.as_bytes());
        block[SecretBody::LEN + 16..][..4].copy_from_slice(&client_id.tag.0);
        let inner = last_block(self.inner, &mut block, COVERED);
        block = [0; BLOCK];
        block[..32].copy_from_slice(&inner);
        SecretDigest(last_block(self.outer, &mut block, 32))
    }
}

/// Hashes a block that is filled up to `len`, behind another one.
fn last_block(mut state: [u32; 8], block: &mut [u8; BLOCK], len: usize) -> [u8; 32] {
    const { assert!(COVERED + 1 + 8 <= BLOCK) };
    block[len] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&(((BLOCK + len) * 8) as u64).to_be_bytes());
    compress256(&mut state, std::slice::from_ref(block));
    let mut bytes = [0; 32];
    bytes.as_chunks_mut().0.iter_mut().zip(state).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
    bytes
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
            [&packed[..], &id.token.0.as_bytes()[..], &tag[..]].iter().for_each(|part| theirs.update(part));
            let theirs: [u8; 32] = theirs.finalize().into_bytes().into();
            prop_assert_eq!(Digester::new(&key).digest(&id, presented.body()).0, theirs);
        }
    }

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
}
