//! Where heads are written: a file, syslog, a collector over HTTP. None of them holds anything up, and each gives up in time.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use rustix::fs::OFlags;
use tokio::net::UnixDatagram;

use crate::{
    client::Peer,
    domain::{HeadSink, Timestamp},
    files::open_plain,
};

/// How long writing one head may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Facility authpriv, severity informational (RFC 5424).
const PRIORITY: u8 = 10 * 8 + 6;

/// A place that is ready to be written to.
pub(super) enum Sink {
    File(PathBuf),
    Syslog(PathBuf),
    Http(Box<Collector>),
}

/// Who takes heads over HTTP.
pub(super) struct Collector {
    peer: Peer,
    /// What the URL says behind its host.
    target: String,
    authorization: Option<HeaderValue>,
}

/// Without credentials.
impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Syslog(path) => write!(f, "syslog:{}", path.display()),
            Self::Http(collector) => f.write_str(&collector.peer.name()),
        }
    }
}

impl Sink {
    pub(super) fn open(sink: &HeadSink) -> Result<Self, String> {
        Ok(match sink {
            HeadSink::File(path) => Self::File(path.clone()),
            HeadSink::Syslog(path) => Self::Syslog(path.clone()),
            HeadSink::Http(url) => Self::Http(Box::new(Collector::new(url)?)),
        })
    }

    /// Writes a head's line, which was signed at that moment.
    pub(super) async fn write(&self, at: Timestamp, line: &str) -> Result<(), String> {
        let write = async {
            match self {
                Self::File(path) => {
                    let (path, line) = (path.clone(), line.to_owned());
                    let append = move || append(&path, &line).map_err(|e| e.to_string());
                    tokio::task::spawn_blocking(append).await.map_err(|e| e.to_string())?
                }
                Self::Syslog(path) => to_syslog(path, at, line).await.map_err(|e| e.to_string()),
                Self::Http(collector) => collector.post(line).await,
            }
        };
        tokio::time::timeout(DEADLINE, write).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
    }
}

/// Adds a line to a file, to the disk. Opened each time: who moves it away finds the next line in a new one.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = open_plain(OpenOptions::new().read(true).append(true).create(true).mode(0o600), OFlags::empty(), path)?;
    // What a power cut has torn stays a line of its own.
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let before = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{before}{line}\n").as_bytes())?;
    file.sync_data()?;
    if is_new {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

async fn to_syslog(path: &Path, at: Timestamp, line: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let message = format!("<{PRIORITY}>1 {at} - countersign {} audit-head - {line}", std::process::id());
    socket.send(message.as_bytes()).await.map(drop)
}

impl Collector {
    fn new(url: &str) -> Result<Self, String> {
        // Nothing of the URL is repeated: a password may be in it.
        let unfit = || "a URL in audit_head is not one such as https://collector.internal/heads".to_owned();
        let uri: Uri = url.parse().map_err(|_| unfit())?;
        let authority = uri.authority().ok_or_else(unfit)?;
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| login);
        let authorization = login.map(|login| HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(login)))).transpose();
        Ok(Self {
            peer: Peer::of(&uri).map_err(|e| format!("audit_head: {e}"))?,
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            authorization: authorization.map_err(|_| unfit())?,
        })
    }

    async fn post(&self, line: &str) -> Result<(), String> {
        let mut request = Request::post(&self.target).header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(line.as_bytes()))).map_err(|e| e.to_string())?;
        match self.peer.connect(|_| true).await?.send(request).await?.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}
