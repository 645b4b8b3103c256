//! Where the server key comes from: a file, the environment, or a command, so that whatever keeps secrets can give it.

use std::{fmt, path::PathBuf};

use zeroize::Zeroizing;

/// Where the key file's text is.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, which is made with a new database.
    File(PathBuf),
    /// It was given as it is, by the environment.
    Text(Zeroizing<String>),
    /// A command for `/bin/sh` writes it to its standard output.
    #[cfg(feature = "server")]
    Command(String),
}

/// Without the text, and without the command: a password may be in it.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key file {}", path.display()),
            Self::Text(_) => f.write_str("the key file in COUNTERSIGN_KEY"),
            #[cfg(feature = "server")]
            Self::Command(_) => f.write_str("the key file that key_command gives"),
        }
    }
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}
