//! The audit log that proves itself: entries behind entries, heads elsewhere, and what whoever edits the database cannot hide.

mod attacks;
mod auditor;
mod collector;
mod heads;
mod retention;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use countersign::{
    authority::{
        Clock as _,
        audit::{Export, HeadWriter, Heads, Pruned, Pruning, Verified, export, head_keys, prove, verify},
    },
    domain::{Action, AuditQuery, HeadSink, KeySource, Presented, TokenName},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    keys::write_keys,
    support::{
        GRID, Pair, TestApp, database, operator,
        program::{Server, create_platform, program_on, refusal, run, until},
    },
};

pub(crate) fn keys(app: &TestApp) -> KeySource {
    app.directory.path().join("keys.json").into()
}

fn writer_to(app: &TestApp, sinks: &[HeadSink]) -> HeadWriter {
    HeadWriter::new(&app.authority, sinks).unwrap()
}

/// Heads in a file that is not beside the database.
struct Elsewhere {
    directory: TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("heads.jsonl")
    }

    fn writer(&self, app: &TestApp) -> HeadWriter {
        writer_to(app, &[HeadSink::File(self.file())])
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn heads(&self) -> Heads {
        heads(&self.text())
    }
}

fn heads(text: &str) -> Heads {
    let mut heads = Heads::default();
    heads.take("heads.jsonl", text);
    heads
}

async fn verified(app: &TestApp, heads: &Heads) -> Verified {
    verify(&database::of(app.directory.path()), &keys(app), heads, |_, _| {}).await.unwrap()
}

async fn lines(app: &TestApp, wanted: Export) -> Vec<String> {
    let mut lines = Vec::new();
    let database = database::of(app.directory.path());
    let unreadable = export(&database, &wanted, |entry| {
        lines.push(entry.line());
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(unreadable.await, Ok(None));
    lines
}

/// Edits the log as somebody does who knows how the feed is kept.
fn attack(app: &TestApp, statements: &str) {
    let feed = match database::postgres() {
        None => "",
        Some(_) => {
            "; UPDATE feed SET seq = coalesce((SELECT max(seq) FROM audit), 0), \
             seal = coalesce((SELECT seal FROM audit ORDER BY seq DESC LIMIT 1), decode(repeat('00', 32), 'hex'))"
        }
    };
    database::edit(app.directory.path(), &format!("{statements}{feed}"));
}

/// A log of nine entries, with heads of six, seven and nine.
async fn log() -> (TestApp, Elsewhere) {
    let (app, elsewhere) = (TestApp::new().await, Elsewhere::new());
    let mut writer = elsewhere.writer(&app);
    for name in ["a", "b", "c"] {
        app.token(name, &["VIEW"]).await;
    }
    writer.write().await;
    app.token("d", &["VIEW"]).await;
    writer.write().await;
    writer.write().await;
    for name in ["e", "f"] {
        app.token(name, &["MANAGE"]).await;
    }
    writer.write().await;
    let verified = verified(&app, &elsewhere.heads()).await;
    assert_eq!((verified.problems.as_slice(), verified.entries, verified.heads, verified.last), ([].as_slice(), 9, 3, 9));
    assert_eq!(verified.newest.map(|(size, _)| size), Some(9));
    app.authority.follow().await.unwrap();
    for most in [1, 2, 4, 9, 200_000] {
        assert_eq!(in_parts(&app, most).await, (Vec::new(), 9), "{most}");
    }
    (app, elsewhere)
}

/// The log verified by its server, in parts of so many entries: what is not right, and how many entries there were.
async fn in_parts(app: &TestApp, most: u64) -> (Vec<(u64, String)>, u64) {
    let (mut problems, mut entries, mut after) = (Vec::new(), 0, 0);
    loop {
        let part = app.authority.verify_audit(&operator(), after, most).await.unwrap();
        entries += part.verified.entries;
        problems.extend(part.verified.problems.into_iter().map(|problem| (problem.seq, problem.what)));
        match part.next {
            None => return (problems, entries),
            Some(next) => {
                assert!(next > after, "it goes nowhere");
                after = next;
            }
        }
    }
}

/// What is found first where the log was edited so; it must be found without any head too, unless only heads tell.
async fn found(statements: &str, only_heads_tell: bool) -> (u64, String) {
    let (app, elsewhere) = log().await;
    attack(&app, statements);
    let alone = verified(&app, &Heads::default()).await;
    assert_eq!(alone.found == 0, only_heads_tell, "{statements}: {:?}", alone.problems);
    let with_heads = verified(&app, &elsewhere.heads()).await;
    let first = with_heads.problems.first().unwrap_or_else(|| panic!("nothing was found: {statements}")).clone();
    assert_eq!(alone.problems.first().map_or(first.seq, |alone| alone.seq), first.seq, "{statements}");
    // The server needs no head: it knows what it has followed. How it is cut into parts hides nothing.
    for most in [1, 2, 3, 4, 5, 200_000] {
        let (problems, _) = in_parts(&app, most).await;
        assert_eq!(problems.iter().map(|(seq, _)| *seq).min(), Some(first.seq), "{statements}, parts of {most}: {problems:?}");
    }
    (first.seq, first.what)
}

pub(crate) const COLUMNS: &str = "at, action, actor, platform_id, environment, token_id, request_id, source, node, detail, key_id, seal";

const DAY: u64 = 24 * 60 * 60;

/// Prunes what is from before `days` ago, as the app's process.
async fn pruned(app: &TestApp, heads: Heads, days: u64) -> Result<Pruned, String> {
    let before = app.clock.wall().plus_millis(-i64::try_from(days * DAY * 1000).unwrap());
    app.authority.prune_audit(&operator(), heads, Pruning { before, recent: false, most: None }).await.map_err(|e| e.to_string())
}
