//! `countersign bench`: what verifying, creating, listing and revoking cost on this machine, under this configuration.
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | what is measured: `serve` as configured, on a database of its own; and bare HTTP to compare it with |
//! | `load.rs` | clients, each with one request under way, and how long each waited |
//! | `report.rs` | the table, and the picture of it |
//!
//! What is compared is measured in one run, in rounds that take turns: machines are noisy, and ratios of the same minute are not.

mod load;
mod report;
mod server;

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use rustix::fs::OFlags;

pub(super) use self::server::end_with_parent;
use self::{
    load::{Load, Request},
    report::{Report, Row},
    server::Scratch,
};
use super::{
    Failure, Outcome,
    output::{self, Output},
    settings::AllSettings,
    told_to_end,
};
use crate::files::{AT_ONCE, open_plain};

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// Tokens that are made; the first 50,000 of them are then verified in turn
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    tokens: u32,
    /// Clients, each with one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Rounds, in which everything that is compared has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds of each turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Writes the table as a picture to this file, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Is the bare server, for the process of this number
    #[arg(long, hide = true, value_name = "PID")]
    bare: Option<i32>,
    #[command(flatten)]
    settings: AllSettings,
}

/// Tokens that are verified in turn: more would say no more, and credentials take memory here that the server should have.
const VERIFIED: usize = 50_000;
/// Tokens that are revoked, one after the other.
const REVOKES: usize = 500;

impl Bench {
    pub(super) async fn run(self) -> Outcome {
        if let Some(parent) = self.bare {
            return server::be_bare(parent).await.map_err(|e| Failure::CouldNotRun(format!("the bare server: {e}")));
        }
        let cannot = |e| Failure::CouldNotRun(format!("cannot write {}: {e}", self.chart.as_deref().unwrap_or(Path::new("")).display()));
        // Before anything is measured; and never through a link, which somebody else may have put there.
        let open = |file: &PathBuf| open_plain(OpenOptions::new().write(true).create(true), AT_ONCE | OFlags::NOFOLLOW, file);
        let chart = self.chart.as_ref().map(open).transpose().map_err(cannot)?;
        let measured = tokio::select! {
            // It listens before anything is made: what was goes with it.
            biased;
            told = told_to_end("ended before it was done; its directory is removed") => Err(told),
            measured = self.measure() => measured.map_err(Failure::CouldNotRun),
        };
        let measured = measured.inspect_err(|_| {
            // A picture of nothing; one that was there before stays.
            if let Some(file) = self.chart.as_ref().filter(|file| std::fs::metadata(file).is_ok_and(|file| file.len() == 0)) {
                let _ = std::fs::remove_file(file);
            }
        })?;
        output::print(self.output, || measured.text(), || measured.json())?;
        let write = |mut file: File| file.set_len(0).and_then(|()| file.write_all(measured.chart().as_bytes()));
        chart.map_or(Ok(()), write).map_err(cannot)
    }

    async fn measure(&self) -> Result<Report, String> {
        let config = self.settings.config().map_err(Failure::into_text)?;
        let scratch = Scratch::new(&config, &self.settings)?;
        let turn = Duration::from_secs(self.seconds.into());
        note(&format!("making {} tokens", self.tokens));
        let root = scratch.create_platform()?;
        let mut server = scratch.serve()?;
        let before = server.memory()?;

        let creates = Arc::new(vec![Request::create(&root)]);
        let made = load::run(&server, Load::counted(creates, self.tokens as usize).keeping(VERIFIED), self.clients).await?;
        let tokens = made.answers.iter().map(|answer| load::Made::of(answer)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = vec![Row::once("create a token", made)];

        // A second start, for what a server with these tokens takes.
        drop(server);
        server = scratch.serve()?;
        let (started, memory) = (server.starting, server.memory()?.saturating_sub(before));

        let bare = scratch.bare()?;
        let credentials: Arc<Vec<_>> = Arc::new(tokens.iter().map(Request::verify).collect());
        let others = tokens.iter().cycle().skip(1);
        let wrong: Arc<Vec<_>> = Arc::new(tokens.iter().zip(others).map(|(token, other)| Request::verify_wrongly(token, other)).collect());
        let lists = Arc::new(vec![Request::list(&root)]);
        let turns = [
            ("bare HTTP: an empty answer", &bare, Load::timed(Arc::clone(&credentials), turn)),
            ("verify: a live token", &server, Load::timed(credentials, turn).answered(b"200")),
            ("verify: a wrong secret", &server, Load::timed(wrong, turn).answered(b"401")),
            ("list 100 tokens", &server, Load::timed(lists, turn).answered(b"200")),
        ];
        let mut measured = turns.each_ref().map(|_| Vec::new());
        for round in 0..self.rounds {
            note(&format!("round {} of {}", round + 1, self.rounds));
            for ((_, server, load), measured) in turns.iter().zip(&mut measured) {
                measured.push(load::run(server, load.clone(), self.clients).await?);
            }
        }
        rows.splice(0..0, turns.iter().zip(&measured).map(|((name, ..), measured)| Row::of(name, measured)));

        note("revoking");
        let (revoked, accepted) = load::revoke(&server, &root, &tokens[..REVOKES.min(tokens.len())]).await?;
        rows.push(Row::once("revoke a token, one client", revoked));
        if accepted > 0 {
            return Err(format!("{accepted} tokens were accepted behind the answer to their revoke"));
        }
        let place = scratch.place();
        Ok(Report { rows, tokens: self.tokens, clients: self.clients, rounds: self.rounds, turn, started, memory, place })
    }
}

/// What it is at, for whoever waits.
fn note(text: &str) {
    output::error(text);
}
