//! Reading the key file's text, wherever it is.

use super::key_file::KeyFile;
use crate::domain::KeySource;

/// Reads the keys; `None` if they are to be in a file, and that is not there.
///
/// # Errors
/// A sentence. No piece of a key is in it.
pub(super) async fn read(source: &KeySource) -> Result<Option<KeyFile>, String> {
    let text = match source {
        KeySource::File(path) => KeyFile::read(path),
        KeySource::Text(text) => Ok(Some(text.clone())),
        #[cfg(feature = "server")]
        KeySource::Command(command) => {
            let command = command.clone();
            let run = tokio::task::spawn_blocking(move || super::key_command::run(&command));
            run.await.unwrap_or_else(|e| Err(e.to_string())).map(Some)
        }
    };
    let keys = text.and_then(|text| text.map(|text| KeyFile::parse(&text)).transpose());
    keys.map_err(|what| format!("{source}: {what}"))
}
