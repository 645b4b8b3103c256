//! Heads: what the whole log was at a moment, in one signed line, which anybody can check who has the public key.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use serde::Deserialize;

use super::{Member, object};
use crate::{
    authority::{
        Authority,
        journal::{hex, parse_hex},
        key_source,
        keyring::Keyring,
    },
    domain::{KeySource, Operator, RoleLacking, Timestamp},
    store::Mark,
};

/// What a head says that it is: nothing else that these keys might ever sign begins so.
const TYPE: &str = "audit head 1";
/// How a head's line begins, by which it is found in the lines of others.
const BEGINNING: &str = r#"{"countersign":"audit head"#;
/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authority) struct Head {
    pub(in crate::authority) installation: [u8; 16],
    /// The last entry, whose place is the number of entries.
    pub(in crate::authority) mark: Mark,
    /// Of the tree over the lines of all of them.
    pub(in crate::authority) root: [u8; 32],
    pub(in crate::authority) at: Timestamp,
    pub(in crate::authority) node: String,
}

/// A head as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    countersign: String,
    installation: String,
    size: u64,
    seal: String,
    root: String,
    at: String,
    node: String,
    key_id: u32,
    signature: String,
}

impl Head {
    /// The text that is signed: the line without its last member.
    fn text(&self, key: u32) -> String {
        self.object(key, None)
    }

    fn object(&self, key: u32, signature: Option<String>) -> String {
        let text = |text: String| Member::Text(text.into());
        let members = [
            ("countersign", Member::Text(TYPE.into())),
            ("installation", text(hex(&self.installation))),
            ("size", Member::Number(self.mark.seq)),
            ("seal", text(hex(&self.mark.mac))),
            ("root", text(hex(&self.root))),
            ("at", text(self.at.to_string())),
            ("node", text(self.node.clone())),
            ("keyId", Member::Number(key.into())),
        ];
        object(members.into_iter().chain(signature.map(|signature| ("signature", text(signature)))))
    }

    /// Its line, signed with the active key.
    pub(in crate::authority) fn sign(&self, keyring: &Keyring) -> String {
        let (key, seed) = keyring.active_head_seed();
        let signature = SigningKey::from_bytes(seed).sign(self.text(key).as_bytes());
        self.object(key, Some(hex(&signature.to_bytes())))
    }
}

impl Written {
    fn read(self) -> Option<(Head, u32, [u8; 64])> {
        let head = Head {
            installation: parse_hex(&self.installation)?,
            mark: Mark { seq: self.size, mac: parse_hex(&self.seal)? },
            root: parse_hex(&self.root)?,
            at: Timestamp::parse_rfc3339(&self.at, false)?,
            node: self.node,
        };
        (self.countersign == TYPE).then_some(())?;
        Some((head, self.key_id, parse_hex(&self.signature)?))
    }
}

/// Heads that were kept, as they were found.
#[derive(Debug, Default)]
pub struct Heads {
    /// By the line, so that one that is in several files is there once; with where it was found first.
    found: BTreeMap<String, String>,
    /// What begins as a head does, and is none: torn by a power cut, say.
    torn: u64,
}

impl Heads {
    /// Takes the heads that are anywhere in a text, such as the lines of syslog; returns how many there are.
    pub fn take(&mut self, name: &str, text: &str) -> usize {
        (1..).zip(text.lines()).map(|(number, line)| self.take_line(name, number, line)).sum()
    }

    /// The same of a file, which may be longer than there is memory.
    ///
    /// # Errors
    /// It can't be read, or has a line that is longer than any with a head.
    pub fn read(&mut self, name: &str, mut file: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if Read::take(&mut file, LONGEST_LINE + 1).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 > LONGEST_LINE {
                return Err(io::Error::other(format!("line {number} has more than {LONGEST_LINE} bytes")));
            }
            self.take_line(name, number, &String::from_utf8_lossy(&line));
        }
        Ok(())
    }

    fn take_line(&mut self, name: &str, number: u64, line: &str) -> usize {
        let mut taken = 0;
        for (at, _) in line.match_indices(BEGINNING) {
            let mut read = serde_json::Deserializer::from_str(&line[at..]).into_iter::<Written>();
            match read.next() {
                Some(Ok(_)) => {
                    let line = line[at..at + read.byte_offset()].to_owned();
                    self.found.entry(line).or_insert_with(|| format!("{name}, line {number}"));
                    taken += 1;
                }
                _ => self.torn += 1,
            }
        }
        taken
    }

    /// The newest of them, at most so many, as lines.
    pub fn newest(&self, most: usize) -> Vec<&str> {
        let size = |line: &str| serde_json::from_str::<Written>(line).map_or(0, |head| head.size);
        let mut lines: Vec<_> = self.found.keys().map(String::as_str).collect();
        lines.sort_by_cached_key(|line| std::cmp::Reverse(size(line)));
        lines.truncate(most);
        lines
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// Of what others keep, a line at the most: those of syslog end long before.
const LONGEST_LINE: u64 = 1 << 20;

/// Heads whose signatures were checked.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Those of this installation, by their sizes, each with its line and where it was found.
    pub(super) heads: BTreeMap<u64, Vec<(Head, String, String)>>,
    /// Where some are that this installation's keys have signed, but for another database.
    pub(super) replaced: Vec<String>,
    /// The sizes of some that name this installation, and that none of its keys has signed, and where they are.
    pub(super) forged: Vec<(u64, String)>,
    /// How many are of other installations.
    pub(super) foreign: u64,
    /// How many are not whole.
    pub(super) torn: u64,
}

impl Heads {
    /// The lines that were signed for this installation.
    pub(in crate::authority) fn signed(&self, keyring: &Keyring, installation: &[u8; 16]) -> Vec<String> {
        self.check(keyring, installation).heads.into_values().flatten().map(|(_, line, _)| line).collect()
    }

    /// Checks who signed them.
    pub(super) fn check(&self, keyring: &Keyring, installation: &[u8; 16]) -> Checked {
        let keys: BTreeMap<u32, _> = keyring.head_seeds().map(|(id, seed)| (id, SigningKey::from_bytes(seed).verifying_key())).collect();
        let mut checked = Checked { torn: self.torn, ..Checked::default() };
        for (line, place) in &self.found {
            let Some((head, key, signature)) = serde_json::from_str::<Written>(line).ok().and_then(Written::read) else {
                checked.torn += 1;
                continue;
            };
            // Of the line as we write it: what is read in another way than it was meant is not signed, nor is another text of it.
            let signed = head.object(key, Some(hex(&signature))) == *line
                && keys
                    .get(&key)
                    .is_some_and(|public| public.verify_strict(head.text(key).as_bytes(), &Signature::from_bytes(&signature)).is_ok());
            match (signed, head.installation == *installation) {
                (true, true) => checked.heads.entry(head.mark.seq).or_default().push((head, line.clone(), place.clone())),
                (true, false) => checked.replaced.push(place.clone()),
                (false, true) => checked.forged.push((head.mark.seq, place.clone())),
                (false, false) => checked.foreign += 1,
            }
        }
        checked
    }
}

/// A public key with which heads are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadKey {
    /// The key of the key file that it is derived from.
    pub id: u32,
    /// The key itself.
    pub public: [u8; 32],
}

impl HeadKey {
    /// As a PEM file has it (RFC 7468, RFC 8410).
    pub fn pem(&self) -> String {
        let der = STANDARD.encode([&SPKI[..], &self.public].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }
}

/// The public keys of a key file, in its order: of all keys that have ever signed, because a retired one stays in the file.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub async fn head_keys(keys: &KeySource) -> Result<Vec<HeadKey>, String> {
    let file = key_source::read(keys).await?.ok_or_else(|| format!("{keys} is missing; say where it is with --key-file"))?;
    let keyring = Keyring::new(&file).ok_or_else(|| format!("{keys} has no active key"))?;
    Ok(of_ring(&keyring))
}

impl Authority {
    /// The same of the keys that this process goes by.
    ///
    /// # Errors
    /// [`RoleLacking`].
    pub fn head_keys(&self, by: &Operator) -> Result<Vec<HeadKey>, RoleLacking> {
        by.may_oversee().map(|()| of_ring(&self.keyring))
    }
}

fn of_ring(keyring: &Keyring) -> Vec<HeadKey> {
    let key = |(id, seed): (u32, &[u8; 32])| HeadKey { id, public: SigningKey::from_bytes(seed).verifying_key().to_bytes() };
    keyring.head_seeds().map(key).collect()
}
