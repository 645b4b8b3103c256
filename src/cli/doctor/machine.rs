//! What is around the program: files, disks, the clock, limits, addresses.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{statfs, statvfs};

use super::{super::serve::descriptors_kept, Findings};
use crate::{
    authority::{Clock as _, SystemClock},
    client::Peer,
    config::{Config, Origin},
    domain::{HeadSink, KeySource, Timestamp},
    measure::Stopwatch,
};

/// Before this release there was nothing to run: 2026-11-01.
const EARLIEST: Timestamp = Timestamp::from_millis(1_793_491_200_000);
/// Free space below which a disk is soon full, and below which it is.
const LITTLE: u64 = 2 << 30;
const NONE: u64 = 128 << 20;
/// A flush that takes longer than that is what changes wait for.
const SLOW: Duration = Duration::from_millis(25);
const FLUSHES: usize = 9;

pub(super) async fn look(config: &Config, findings: &mut Findings) {
    configuration(config, findings);
    key_file(config, findings);
    data(config, findings);
    for (what, place) in places(config) {
        disk(what, &place, what == "data directory" && config.database.is_none(), findings);
    }
    clock(findings);
    descriptors(config, findings);
    for (what, address) in
        [("listen", Some(config.listen)), ("admin_listen", Some(config.admin_listen)), ("ext_authz_listen", config.ext_authz_listen)]
    {
        if let Some(address) = address {
            listening(what, address, config, findings).await;
        }
    }
}

/// Whether a file with a secret in it is for its owner alone.
fn configuration(config: &Config, findings: &mut Findings) {
    let what = "configuration";
    let given = config.shown().iter().filter(|shown| shown.origin != Origin::Default).count();
    let holds_secret = |name: &str| ["database", "audit_head", "key_command"].contains(&name);
    let files = config.shown().iter().filter_map(|shown| match &shown.origin {
        Origin::File(file) if holds_secret(shown.name) && shown.value.contains("[REDACTED]") => Some((shown.name, file)),
        _ => None,
    });
    for (name, file) in files {
        if let Some(mode) = fs::metadata(file).ok().map(|file| file.mode() & 0o777).filter(|mode| mode & 0o007 != 0) {
            let found = format!("{} holds a secret ({name}), and everybody on the machine can read it (mode {mode:o})", file.display());
            findings.bad(what, found, format!("chmod 640 {}", file.display()));
        }
    }
    findings.good(what, format!("valid; {given} settings are not as they are by default"));
}

fn key_file(config: &Config, findings: &mut Findings) {
    let what = "key file";
    let KeySource::File(path) = &config.keys else { return findings.good(what, format!("the key is from {}", config.keys)) };
    let shown = path.display();
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            findings.doubtful(what, format!("{shown} is not there"), "the first server makes it, unless there is a database already");
        }
        Err(e) => findings.bad(what, format!("{shown}: {e}"), "run this as the account that the server runs as"),
        Ok(file) if file.mode() & 0o077 != 0 => {
            let found = format!("others can read {shown} (mode {:o}): with it and the database they can make tokens", file.mode() & 0o777);
            findings.bad(what, found, format!("chmod 600 {shown}; if somebody may have read it, change the key (docs/keys.md)"));
        }
        Ok(_) => findings.good(what, format!("{shown}, for its owner alone")),
    }
}

fn data(config: &Config, findings: &mut Findings) {
    let (what, path) = ("data directory", &config.data);
    let shown = path.display();
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            findings.doubtful(what, format!("{shown} is not there"), "the first server makes it; or say where it is (--data)");
        }
        Err(e) => findings.bad(what, format!("{shown}: {e}"), "run this as the account that the server runs as"),
        Ok(found) if !found.is_dir() => findings.bad(what, format!("{shown} is no directory"), "say where it is (--data)"),
        Ok(found) if found.mode() & 0o022 != 0 => {
            let told = format!("others can write in {shown} (mode {:o}): they can put another database there", found.mode() & 0o777);
            findings.bad(what, told, format!("chmod 700 {shown}"));
        }
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            let told = format!("{shown} is of account {}, and this is {}", found.uid(), rustix::process::geteuid().as_raw());
            findings.doubtful(what, told, "run this as the account that the server runs as");
        }
        Ok(_) => findings.good(what, format!("{shown}")),
    }
}

/// Directories in which a server writes, each once.
fn places(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let of_file = |file: &Path| file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let sinks = config.audit_head.iter().filter_map(|sink| match sink {
        HeadSink::File(file) => Some(("audit_head", of_file(file))),
        _ => None,
    });
    let mut places: Vec<(&str, PathBuf)> = Vec::new();
    for (what, place) in [("data directory", config.data.clone()), ("journal", of_file(&config.journal))].into_iter().chain(sinks) {
        if !places.iter().any(|(_, known)| *known == place) {
            places.push((what, place));
        }
    }
    places
}

/// Whether a directory's disk has room, keeps what is written, and how long it takes for that.
fn disk(what: &'static str, place: &Path, is_database: bool, findings: &mut Findings) {
    if !place.is_dir() {
        // Said of the data directory already.
        if what != "data directory" {
            let found = format!("{} is not there", place.display());
            findings.bad(what, found, "make it, for the account that the server runs as");
        }
        return;
    }
    let name = place.display();
    let (Ok(kind), Ok(room)) = (statfs(place), statvfs(place)) else {
        return findings.doubtful(what, format!("nothing is known of the disk of {name}"), "look at it yourself");
    };
    // As linux/magic.h names them.
    match kind.f_type as u64 & 0xFFFF_FFFF {
        0x0102_1994 | 0x8584_58F6 => {
            let then = "name a directory on a disk; what is there is gone when the machine is";
            findings.bad(what, format!("{name} is in memory (tmpfs)"), then);
        }
        0x6969 | 0xFF53_4D42 | 0xFE53_4D42 | 0x517B | 0x0102_1997 | 0x00C3_6400 if is_database => {
            let then = "put the embedded database on a disk of this machine, or use PostgreSQL: locks do not hold over a network";
            findings.bad(what, format!("{name} is on another machine's disk"), then);
        }
        _ => {}
    }
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let told = format!("{} MiB are free in {name}", free >> 20);
    if free < NONE {
        findings.bad(what, told, "make room: changes are refused when the disk is full");
    } else if free < LITTLE {
        findings.doubtful(what, told, "make room before it is full");
    } else if room.f_files > 0 && room.f_favail < 1000 {
        findings.bad(what, format!("{} more files can be made in {name}", room.f_favail), "remove files: there is no room for another one");
    } else {
        match flush(place) {
            Err(e) => findings.bad(
                what,
                format!("nothing can be written in {name}: {e}"),
                "mount it for writing, or run this as the server's account",
            ),
            Ok(took) if took > SLOW => {
                let then = "use a faster disk: each change waits for one flush";
                findings.doubtful(what, format!("{told}; a flush takes {:.1} ms", took.as_secs_f64() * 1e3), then);
            }
            Ok(took) => findings.good(what, format!("{told}; a flush takes {:.1} ms", took.as_secs_f64() * 1e3)),
        }
    }
}

/// How long it takes until a little that was written is on the disk: the median of some, in a file that is gone afterwards.
fn flush(place: &Path) -> io::Result<Duration> {
    let path = place.join(format!(".doctor-{}", rustix::process::getpid().as_raw_nonzero()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let measured = (0..FLUSHES).map(|_| {
        let began = Stopwatch::start();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(began.took())
    });
    let measured: io::Result<Vec<_>> = measured.collect();
    fs::remove_file(&path)?;
    let mut took = measured?;
    took.sort_unstable();
    Ok(took[FLUSHES / 2])
}

fn clock(findings: &mut Findings) {
    let now = SystemClock.wall();
    if now < EARLIEST {
        findings.bad("clock", format!("it is {now}, before there was this program"), "set the machine's clock (timedatectl set-ntp true)");
    } else {
        findings.good("clock", format!("it is {now}"));
    }
}

fn descriptors(config: &Config, findings: &mut Findings) {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = config.max_connections as u64 + descriptors_kept(config);
    if most < wanted {
        let found = format!("at most {most} files can be open, for max_connections = {}", config.max_connections);
        findings.doubtful("open files", found, format!("allow {wanted} (LimitNOFILE= of the service), or lower max_connections"));
    } else {
        findings.good("open files", format!("{most} at the most"));
    }
}

/// Whether an address can be had, or has a server of ours at it already.
async fn listening(what: &'static str, address: SocketAddr, config: &Config, findings: &mut Findings) {
    match TcpListener::bind(address) {
        Ok(_) if address.ip().is_loopback() || config.tls_terminated_elsewhere => findings.good(what, format!("{address} is free")),
        // Refused by the configuration.
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && what == "admin_listen" => match ready(address).await {
            Some((200, _)) => findings.good(what, format!("a server is at {address}, and ready")),
            Some((_, said)) if said.contains("not ready") => {
                findings.bad(what, format!("the server at {address} is not ready: {said}"), "its log says more");
            }
            _ => findings.bad(what, format!("somebody else is at {address}"), "end that program, or choose another port"),
        },
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => match ready(config.admin_listen).await {
            Some(_) => findings.good(what, format!("{address} is in use, by the server that admin_listen is of")),
            None => findings.bad(what, format!("somebody else is at {address}"), "end that program, or choose another port"),
        },
        Err(e) => findings.bad(what, format!("{address}: {e}"), "name an address of this machine, and a port that the account may use"),
    }
}

/// What a server there says of itself.
async fn ready(address: SocketAddr) -> Option<(u16, String)> {
    let url: http::Uri = format!("http://{address}/").parse().ok()?;
    let peer = Peer::of(&url).ok()?;
    let asked = async {
        let mut connection = peer.connect(|_| true).await.ok()?;
        let request = http::Request::get("/readyz").body(Default::default()).ok()?;
        let (parts, body) = connection.send(request).await.ok()?.into_parts();
        let body = http_body_util::BodyExt::collect(http_body_util::Limited::new(body, 64 << 10)).await.ok()?.to_bytes();
        Some((parts.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(Duration::from_secs(3), asked).await.ok().flatten()
}
