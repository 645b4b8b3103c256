//! The server key on disk: outside the database, readable by its owner alone, made on first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::entropy::{Entropy, NoEntropy};
use crate::{
    domain::Timestamp,
    files::{AT_ONCE, open_plain},
};

/// The greatest id: the index keeps 24 bits of it.
const MAX_ID: u32 = 0xFF_FFFF;

/// The keys of one installation. More than one while they are being changed.
pub(crate) struct KeyFile {
    pub(crate) keys: Vec<KeyEntry>,
}

/// One root key.
pub(crate) struct KeyEntry {
    pub(crate) id: u32,
    pub(crate) state: KeyState,
    /// When it was made, if the file says so.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "whoever lists keys shows it"))]
    pub(crate) created: Option<String>,
    pub(crate) root: RootKey,
}

/// 256 bits; wiped after use.
#[derive(zeroize::ZeroizeOnDrop)]
pub(crate) struct RootKey([u8; 32]);

impl RootKey {
    pub(crate) const fn as_array(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a key is still good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyState {
    /// New things are made with it. Exactly one key is.
    Active,
    /// What was made with it still holds.
    VerifyOnly,
    /// It proves nothing any more; entries of the audit log are still checked with it.
    Retired,
}

impl KeyState {
    /// Its name, as the file writes it.
    #[cfg(feature = "server")]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::VerifyOnly => "verify-only",
            Self::Retired => "retired",
        }
    }
}

/// The file's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) version: u32,
    pub(super) keys: Vec<KeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyText {
    pub(super) id: u32,
    pub(super) state: KeyState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    root: String,
}

impl KeyText {
    /// A new key.
    pub(super) fn draw(id: u32, state: KeyState, at: Timestamp, entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let mut root = RootKey([0; 32]);
        entropy.fill(&mut root.0)?;
        Ok(Self { id, state, created: Some(at.to_string()), root: STANDARD.encode(root.0) })
    }
}

impl Text {
    /// As it stands in the file.
    pub(super) fn written(&self) -> Zeroizing<String> {
        // Numbers and texts alone: nothing in it can fail to be JSON.
        Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default())
    }
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.root.zeroize();
    }
}

impl KeyFile {
    /// The text of a file; `None` if there is none.
    ///
    /// # Errors
    /// It can't be read, or others can read it.
    pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
        let mut file = match open_plain(OpenOptions::new().read(true), AT_ONCE, path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| e.to_string())?,
        };
        let metadata = file.metadata().map_err(|e| e.to_string())?;
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(format!("others can read it (mode {mode:o}); run: chmod 600 {}", path.display()));
        }
        // With room for all of it: no copy is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
        file.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(Some(text))
    }

    /// Reads the JSON of such a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser's own message could quote a key.
        let text: Text = serde_json::from_str(text).map_err(|e| format!("is not a key file (line {}, column {})", e.line(), e.column()))?;
        Self::of(&text)
    }

    /// The keys of a text, if it is valid.
    pub(super) fn of(text: &Text) -> Result<Self, String> {
        if text.version != 1 {
            return Err(format!("is of version {}; this countersign knows version 1", text.version));
        }
        let mut keys = Vec::new();
        for key in &text.keys {
            let mut root = RootKey([0; 32]);
            let decoded = Zeroizing::new(STANDARD.decode(&key.root).map_err(|_| format!("key {} is not base64", key.id))?);
            if decoded.len() != root.0.len() {
                return Err(format!("key {} has {} bytes, not 32", key.id, decoded.len()));
            }
            root.0.copy_from_slice(&decoded);
            if key.id > MAX_ID {
                return Err(format!("key {} has an id above {MAX_ID}", key.id));
            }
            let created = key.created.as_deref().map(|at| Timestamp::parse_rfc3339(at, false).map(|at| at.to_string()));
            let created = created.map(|at| at.ok_or_else(|| format!("key {} was created at no moment in RFC 3339", key.id))).transpose()?;
            keys.push(KeyEntry { id: key.id, state: key.state, created, root });
        }
        let active = keys.iter().filter(|key| key.state == KeyState::Active).count();
        let mut ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if active != 1 || ids.len() != keys.len() || keys.len() > 200 {
            return Err("must have exactly one active key, each with an id of its own, and at most 200".to_owned());
        }
        Ok(Self { keys })
    }

    /// Makes a file with one new key, unless another process is quicker.
    ///
    /// # Errors
    /// A sentence: no random bytes, or it can't be written.
    pub(crate) fn create(path: &Path, at: Timestamp, entropy: &dyn Entropy) -> Result<(), String> {
        let in_file = |e: io::Error| format!("cannot make the key file {}: {e}", path.display());
        let mut suffix = [0; 8];
        let key = KeyText::draw(1, KeyState::Active, at, entropy).and_then(|key| entropy.fill(&mut suffix).map(|()| key));
        let text = Text { version: 1, keys: vec![key.map_err(|e| format!("no random bytes: {}", e.0))?] }.written();

        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(in_file)?;
        // Written aside and linked into place: the file is there whole or not at all, and never replaces one.
        let aside = path.with_extension(format!("{:016x}", u64::from_be_bytes(suffix)));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(in_file)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| match fs::hard_link(&aside, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        fs::remove_file(&aside).map_err(in_file)?;
        linked.and_then(|()| File::open(directory)?.sync_all()).map_err(in_file)
    }
}
