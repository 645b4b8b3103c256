//! The server key on disk: outside the database, readable by its owner alone, made on first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::entropy::Entropy;

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
}

/// The file's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    keys: Vec<KeyText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    id: u32,
    state: KeyState,
    root: String,
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.root.zeroize();
    }
}

impl KeyFile {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// A sentence: it can't be read, others can read it, or it is not a key file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        let in_file = |what: String| format!("the key file {}: {what}", path.display());
        let metadata = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|e| in_file(e.to_string()))?,
        };
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(in_file(format!("others can read it (mode {mode:o}); run: chmod 600 {}", path.display())));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| in_file(e.to_string()))?);
        Self::parse(&text).map(Some).map_err(in_file)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser's own message could quote a key.
        let text: Text = serde_json::from_str(text).map_err(|e| format!("is not a key file (line {}, column {})", e.line(), e.column()))?;
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
            keys.push(KeyEntry { id: key.id, state: key.state, root });
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
    pub(crate) fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), String> {
        let in_file = |e: io::Error| format!("cannot make the key file {}: {e}", path.display());
        let mut root = RootKey([0; 32]);
        let mut suffix = [0; 8];
        entropy.fill(&mut root.0).and_then(|()| entropy.fill(&mut suffix)).map_err(|e| format!("no random bytes: {}", e.0))?;
        let key = KeyText { id: 1, state: KeyState::Active, root: STANDARD.encode(root.0) };
        let text =
            serde_json::to_string_pretty(&Text { version: 1, keys: vec![key] }).map(Zeroizing::new).map_err(|e| in_file(e.into()))?;

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
