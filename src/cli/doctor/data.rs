//! What is kept, and who works on it: the database, the keys, the servers, what goes elsewhere.

use std::{fs::File, io, os::unix::net::UnixDatagram, path::Path, sync::Arc, time::Duration};

use super::{
    super::{database, open_by, operator, options},
    Findings,
};
use crate::{
    authority::{Authority, Clock as _, Error, SystemClock},
    client::Peer,
    config::Config,
    domain::{AuditQuery, HeadSink},
    files::{AT_ONCE, open_plain},
};

/// Places of the feed by which a server may be behind for a moment.
const BEHIND: u64 = 1000;
/// How long another machine may take to take a connection.
const REACH: Duration = Duration::from_secs(5);

pub(super) async fn look(config: Config, findings: &mut Findings) {
    journal(&config.journal, findings);
    for sink in &config.audit_head {
        elsewhere(sink, findings).await;
    }
    if config.audit_head.is_empty() {
        let then = "name a place that whoever runs the database can't write (audit_head, docs/audit.md)";
        findings.doubtful("audit_head", "no heads of the audit log are kept elsewhere: nobody would notice if its end were cut off", then);
    }
    if let Some(collector) = &config.otlp {
        match reach(collector).await {
            Ok(()) => findings.good("otlp", "the collector takes connections"),
            Err(why) => findings.doubtful("otlp", format!("the collector can't be reached: {why}"), "start it, or leave out otlp"),
        }
    }
    let database = database(&config);
    if database.file().is_some_and(|file| !file.exists()) {
        return findings.doubtful("database", "there is none yet", "make it: countersign quickstart, or countersign platform create");
    }
    match open_by(options(config, false)).await {
        Err(failure) => findings.bad("database", failure.into_text(), "do what is said there; docs/operating.md says more"),
        Ok(authority) => {
            if let Err(e) = opened(&authority, &database, findings).await {
                findings.bad("database", e.to_string(), "look at the database and at the way to it");
            }
        }
    }
}

async fn opened(authority: &Arc<Authority>, database: &crate::authority::Database, findings: &mut Findings) -> Result<(), Error> {
    let by = operator();
    let health = authority.examine(&by, database).await?;
    findings.good("database", health.found);
    for (found, then) in health.doubts {
        findings.doubtful("database", found, then);
    }

    let (keys, now) = (authority.list_keys(&by).await?, SystemClock.wall());
    let missing: Vec<_> = keys.iter().filter(|key| key.state == "missing").map(|key| key.id.to_string()).collect();
    if missing.is_empty() {
        let active = keys.iter().find(|key| key.state == "active").map_or(0, |key| key.id);
        findings.good("keys", format!("{}, of which {active} is active; they fit the database", keys.len()));
    } else {
        let found = format!("the database knows keys that the key file lacks: {}", missing.join(", "));
        findings.bad("keys", found, "copy the newer key file here (docs/keys.md)");
    }

    let (entries, _) = authority.list_audit(&by, AuditQuery::default()).await?;
    if let Some(last) = entries.first().filter(|last| last.entry.at > now.plus_millis(60_000)) {
        let found = format!("the last entry of the audit log is of {}, which is still to come", last.entry.at);
        findings.bad("clock", found, "set this machine's clock, or that of the machine that wrote it (timedatectl set-ntp true)");
    }

    let (last, nodes) = authority.list_nodes(&by).await?;
    let furthest = nodes.iter().filter_map(|node| node.followed).map(|followed| last.saturating_sub(followed)).max().unwrap_or(0);
    for node in nodes.iter().filter(|node| node.suspected) {
        let found = format!("node {} was last seen at {}: others wait for it when a token ends", node.id, node.seen_at);
        findings.doubtful("nodes", found, "look whether it runs; it is removed by itself soon");
    }
    match nodes.len() {
        0 => findings.doubtful("nodes", "no server runs on this database", "start one: countersign serve"),
        _ if furthest > BEHIND => {
            findings.bad(
                "nodes",
                format!("one is {furthest} changes behind"),
                "countersign nodes says which; look at its way to the database",
            );
        }
        count => findings.good("nodes", format!("{count}, none behind by more than {furthest} changes")),
    }
    Ok(())
}

/// Whether what ends can be kept.
fn journal(path: &Path, findings: &mut Findings) {
    match open_plain(File::options().append(true), AT_ONCE, path) {
        Ok(_) => findings.good("journal", format!("{} can be written", path.display())),
        // The first server makes it; its directory was looked at.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => {
            let then = "let the server's account write it: without it a restored backup revives tokens that had ended";
            findings.bad("journal", format!("{}: {e}", path.display()), then);
        }
    }
}

/// Whether a place for heads takes any. Nothing is written there.
async fn elsewhere(sink: &HeadSink, findings: &mut Findings) {
    let what = "audit_head";
    match sink {
        // Its directory was looked at.
        HeadSink::File(file) => match open_plain(File::options().append(true), AT_ONCE, file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                findings.bad(what, format!("{}: {e}", file.display()), "let the server's account write it");
            }
            _ => {}
        },
        HeadSink::Syslog(socket) => match UnixDatagram::unbound().and_then(|ours| ours.connect(socket)) {
            Ok(()) => findings.good(what, format!("syslog at {} takes lines", socket.display())),
            Err(e) => findings.bad(what, format!("syslog at {}: {e}", socket.display()), "start it, or name another sink"),
        },
        HeadSink::Http(url) => {
            let reached = match url.parse() {
                Ok(url) => reach(&url).await,
                Err(_) => Err("it is no URL".to_owned()),
            };
            match reached {
                Ok(()) => findings.good(what, "the collector takes connections"),
                Err(why) => findings.bad(what, format!("the collector can't be reached: {why}"), "start it, or name another sink"),
            }
        }
    }
}

/// Connects, and says nothing.
async fn reach(url: &http::Uri) -> Result<(), String> {
    let connected = tokio::time::timeout(REACH, Peer::of(url)?.connect(|_| true)).await;
    connected.unwrap_or_else(|_| Err("it does not answer".to_owned())).map(drop)
}
