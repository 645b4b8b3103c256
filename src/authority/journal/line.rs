//! The lines of a journal: what each says, how each is sealed, and finding the last one.
//!
//! Each line is sealed under the server key, together with the seal of the line before, so none can be edited, taken out or
//! moved unnoticed. One that names no line before it begins a part of the journal, and what it says had been followed is not in
//! that part. So any piece of a journal says only what is true: what ended between its first line and its last. Whoever
//! cuts lines off the end makes it reach less far, which no seal can tell, but the place and time of its last line.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use constant_time_eq::constant_time_eq;
use serde::{Deserialize, Serialize};

use crate::{
    authority::keyring::Keyring,
    domain::Timestamp,
    files::{AT_ONCE, open_plain},
    store::Mark,
};

/// How much of a journal is looked at first, to find its last line.
const END: u64 = 1 << 16;
/// What every journal begins with.
const BEGINNING: &[u8] = b"{\"installation\":\"";

/// One line. It is sealed as it is written here: no field may change its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    installation: String,
    seq: u64,
    seal: String,
    /// When it had been followed up to there.
    at: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) disabled: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) enabled: Vec<String>,
    /// All keys that are retired, where that may be news.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retired: Vec<u32>,
    /// The seal of the line before, unless this one begins a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    key: u32,
    /// The seal of this line, over all of the above.
    pub(super) mac: String,
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authority) struct Place {
    pub(in crate::authority) installation: [u8; 16],
    pub(in crate::authority) mark: Mark,
    pub(in crate::authority) at: Timestamp,
}

pub(in crate::authority) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(in crate::authority) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes().chunks_exact(2);
    (text.len() == 2 * N).then_some(())?;
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Line {
    /// That everything up to there was followed. It is not sealed yet.
    pub(super) fn at(installation: &[u8; 16], mark: &Mark, at: Timestamp) -> Self {
        Self {
            installation: hex(installation),
            seq: mark.seq,
            seal: hex(&mark.mac),
            at: at.to_string(),
            ended: Vec::new(),
            disabled: Vec::new(),
            enabled: Vec::new(),
            retired: Vec::new(),
            after: None,
            key: 0,
            mac: String::new(),
        }
    }

    /// The same without what ended.
    pub(super) fn mark_alone(self) -> Self {
        Self { ended: Vec::new(), disabled: Vec::new(), enabled: Vec::new(), retired: Vec::new(), ..self }
    }

    /// Goes as far as another one, and says what that one says too.
    pub(super) fn take_in(&mut self, later: Self) {
        let Self { seq, seal, at, ended, disabled, enabled, retired, .. } = later;
        self.ended.extend(ended);
        self.retired.retain(|key| !retired.contains(key));
        self.retired.extend(retired);
        self.disabled.retain(|id| !enabled.contains(id));
        self.enabled.retain(|id| !disabled.contains(id));
        self.disabled.extend(disabled);
        self.enabled.extend(enabled);
        (self.seq, self.seal, self.at) = (seq, seal, at);
    }

    /// Whether it says that something ended, or may be used again.
    pub(super) const fn is_news(&self) -> bool {
        !(self.ended.is_empty() && self.disabled.is_empty() && self.enabled.is_empty() && self.retired.is_empty())
    }

    /// Adds it to a text, sealed behind the line with that seal, or as the beginning of a part; returns its own.
    pub(super) fn write(mut self, after: Option<String>, keyring: &Keyring, text: &mut Vec<u8>) -> io::Result<String> {
        (self.after, self.key) = (after, keyring.active().id());
        self.mac = self.expected(keyring)?.map(|mac| hex(&mac)).ok_or_else(|| io::Error::other("there is no active key"))?;
        serde_json::to_writer(&mut *text, &self)?;
        text.push(b'\n');
        Ok(self.mac)
    }

    /// What its seal should be; `None` if its key is not there.
    fn expected(&self, keyring: &Keyring) -> io::Result<Option<[u8; 16]>> {
        let unsealed = Self { mac: String::new(), ..self.clone() };
        Ok(keyring.journal_mac(self.key, &serde_json::to_vec(&unsealed)?))
    }

    /// What a whole line says, if it is one.
    pub(super) fn read(text: &[u8]) -> Option<(Self, Place)> {
        let line: Self = serde_json::from_slice(text.strip_suffix(b"\n")?).ok()?;
        let (installation, mac) = (parse_hex(&line.installation)?, parse_hex(&line.seal)?);
        let at = Timestamp::parse_rfc3339(&line.at, false)?;
        let mark = Mark { seq: line.seq, mac };
        Some((line, Place { installation, mark, at }))
    }

    /// Why it is not believed, where it is not as it was sealed.
    pub(super) fn problem(&self, keyring: &Keyring) -> Option<String> {
        match self.expected(keyring) {
            Ok(Some(mac)) if constant_time_eq(hex(&mac).as_bytes(), self.mac.as_bytes()) => None,
            Ok(Some(_)) => Some("is not as it was written".to_owned()),
            _ => Some(format!("was sealed by key {}, which the key file lacks; put that key back", self.key)),
        }
    }
}

/// Opens a journal to read it.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open_plain(OpenOptions::new().read(true), AT_ONCE, path)
}

/// How a journal ends: all that a server needs to go on, however long it is.
#[derive(Debug)]
pub(super) struct End {
    /// Its last whole line, if there is one.
    pub(super) last: Option<(Line, Place)>,
    /// Where that ends.
    pub(super) whole: u64,
}

impl End {
    /// Looks for it. A file that is no journal is never said to have an end: what is behind it is cut off.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    pub(super) fn find(file: &File, path: &Path) -> Result<Self, String> {
        let failed = |e: io::Error| format!("cannot read the journal {}: {e}", path.display());
        let read = |from: u64, most: u64| {
            let (mut file, mut bytes) = (file, Vec::new());
            file.seek(SeekFrom::Start(from))?;
            file.take(most).read_to_end(&mut bytes).map(|_| bytes)
        };
        let head = read(0, BEGINNING.len() as u64).map_err(failed)?;
        // A first line that was torn is the beginning of one.
        if !BEGINNING.starts_with(&head) {
            return Err(format!(
                "{} is no journal, and nothing in it was changed; say where the journal is to be kept with --journal",
                path.display()
            ));
        }
        let behind_last_end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut size = END;
        loop {
            let from = file.metadata().map_err(failed)?.len().saturating_sub(size);
            let bytes = read(from, u64::MAX).map_err(failed)?;
            let mut end = behind_last_end(&bytes);
            // The last one may have been torn with its end on the disk; not the one before.
            for may_be_torn in [true, false] {
                let begin = behind_last_end(&bytes[..end.saturating_sub(1)]);
                if begin == 0 && from > 0 {
                    break;
                }
                match Line::read(&bytes[begin..end]) {
                    Some(last) => return Ok(Self { last: Some(last), whole: from + end as u64 }),
                    None if end == 0 => return Ok(Self { last: None, whole: 0 }),
                    None if may_be_torn => end = begin,
                    None => return Err(format!("the journal {} does not end with lines that countersign wrote", path.display())),
                }
            }
            size *= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::authority::journal::tests::ring;

    const ID: &str = "0198c9a5-0000-7000-8000-000000000000";

    fn line(seq: u64, ended: usize) -> String {
        let line = Line { ended: vec![ID.to_owned(); ended], ..Line::at(&[7; 16], &Mark { seq, mac: [9; 32] }, Timestamp::MIN) };
        let mut text = Vec::new();
        line.write(None, &ring(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// However long its lines are, and wherever a power cut has left it.
    #[test]
    fn the_end_of_a_journal_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let end = |text: &str| {
            fs::write(&path, text).unwrap();
            let End { last, whole } = End::find(&File::open(&path).unwrap(), &path)?;
            Ok::<_, String>((last.map_or(0, |(_, place)| place.mark.seq), whole))
        };
        let lines = [line(1, 0), line(2, 5000), line(3, 1), line(4, 20_000)];
        let (mut text, mut before) = (String::new(), (0, 0));
        for (seq, line) in (1..).zip(&lines) {
            let mut torn = vec![String::new(), line[..1].to_owned(), line[..line.len() - 1].to_owned()];
            if seq > 1 {
                torn.extend(["torn\n".to_owned(), format!("{}\n", "x".repeat(300_000))]);
            }
            for torn in torn {
                assert_eq!(end(&format!("{text}{torn}")), Ok(before), "{seq}");
            }
            text += line;
            before = (seq, text.len() as u64);
        }
        assert_eq!(end(&text), Ok((4, text.len() as u64)));
        assert!(end(&format!("{text}torn\ntorn\n")).is_err());
        for foreign in ["torn\ntorn\n", "torn\n", "torn", "{\"version\":1}", "{\"installed\":\"", "\0\0\0"] {
            assert!(end(foreign).unwrap_err().contains("is no journal"), "{foreign}");
        }
    }

    /// No digit of a line can be another one.
    #[test]
    fn a_line_that_was_edited_is_not_believed() {
        let (whole, ring) = (line(5, 2), ring());
        let problem = |text: &str| Line::read(text.as_bytes()).map(|(line, _)| line.problem(&ring));
        assert_eq!(problem(&whole), Some(None));
        for at in 0..whole.len() - 1 {
            for other in ["0", "1", "a"] {
                if whole[at..].starts_with(other) {
                    continue;
                }
                let edited = format!("{}{other}{}", &whole[..at], &whole[at + 1..]);
                assert_ne!(problem(&edited), Some(None), "{edited}");
            }
        }
        assert_ne!(problem(&whole.replacen(&format!("\"{ID}\","), "", 1)), Some(None));
        assert!(problem(&whole.replace("\"key\":1", "\"key\":2")).unwrap().unwrap().contains("key 2"));
    }
}
