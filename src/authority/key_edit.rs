//! Editing the key file: one command at a time, written beside and put in place whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    entropy::Entropy,
    key_file::{KeyFile, KeyState, KeyText, Text},
};
use crate::domain::{KeySource, Timestamp};

/// A key file that nobody else edits meanwhile.
pub struct KeyFileEdit {
    path: PathBuf,
    directory: File,
    text: Text,
}

impl KeyFileEdit {
    /// Begins.
    ///
    /// # Errors
    /// A sentence: the key is in no file, or it can't be read.
    pub fn begin(source: &KeySource) -> Result<Self, String> {
        let KeySource::File(path) = source else {
            return Err(format!(
                "{source} is kept elsewhere, and only a file is edited: write it to a file that only you can read, run this with --key-file FILE, put what is in it back where it came from, and remove the file"
            ));
        };
        let failed = |what: String| format!("{source}: {what}");
        // Where it is behind links: they stay.
        let path = fs::canonicalize(path).map_err(|e| failed(e.to_string()))?;
        let directory = File::open(path.parent().unwrap_or(Path::new("/"))).map_err(|e| failed(e.to_string()))?;
        directory.lock().map_err(|e| failed(e.to_string()))?;
        let text = KeyFile::read(&path).map_err(failed)?.ok_or_else(|| failed("is missing".to_owned()))?;
        KeyFile::parse(&text).map_err(failed)?;
        let text = serde_json::from_str(&text).map_err(|_| failed("is not a key file".to_owned()))?;
        Ok(Self { path, directory, text })
    }

    /// Adds a key that nothing is made with yet; returns its id, which is above all others.
    ///
    /// # Errors
    /// No random bytes.
    pub fn add(&mut self, at: Timestamp, entropy: &dyn Entropy) -> Result<u32, String> {
        let id = self.text.keys.iter().map(|key| key.id).max().unwrap_or(0).saturating_add(1);
        let key = KeyText::draw(id, KeyState::VerifyOnly, at, entropy).map_err(|e| format!("no random bytes: {}", e.0))?;
        self.text.keys.push(key);
        Ok(id)
    }

    /// Makes a key the active one; the one before is for verifying only from then on. Says whether it was not before.
    ///
    /// # Errors
    /// A sentence: there is no such key, or it is retired.
    pub fn activate(&mut self, id: u32) -> Result<bool, String> {
        match self.text.keys.iter().find(|key| key.id == id).map(|key| key.state) {
            None => return Err(format!("there is no key {id}; see countersign keys list")),
            Some(KeyState::Retired) => return Err(format!("key {id} is retired, for good; add another one (countersign keys add)")),
            Some(KeyState::Active) => return Ok(false),
            Some(KeyState::VerifyOnly) => {}
        }
        for key in &mut self.text.keys {
            match key.state {
                _ if key.id == id => key.state = KeyState::Active,
                KeyState::Active => key.state = KeyState::VerifyOnly,
                KeyState::VerifyOnly | KeyState::Retired => {}
            }
        }
        Ok(true)
    }

    /// Retires a key.
    pub fn retire(&mut self, id: u32) {
        self.text.keys.iter_mut().filter(|key| key.id == id).for_each(|key| key.state = KeyState::Retired);
    }

    /// Puts it in the place of the file, on the disk, with the same owner, and readable by nobody else.
    ///
    /// # Errors
    /// A sentence. The file is as it was, or whole as it should be.
    pub fn write(&self) -> Result<(), String> {
        let failed = |what: String| format!("cannot write the key file {}: {what}", self.path.display());
        KeyFile::of(&self.text).map_err(failed)?;
        self.put().map_err(|e| failed(e.to_string()))
    }

    fn put(&self) -> io::Result<()> {
        let before = fs::metadata(&self.path)?;
        let aside = self.path.with_added_extension("new");
        // What an interrupted run has left.
        match fs::remove_file(&aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let owner = file.metadata()?;
        if (owner.uid(), owner.gid()) != (before.uid(), before.gid()) {
            // Else a server under its own account could not read what root has written.
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(self.text.written().as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        self.directory.sync_all()
    }
}
