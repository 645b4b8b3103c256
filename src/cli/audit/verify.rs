//! `countersign audit verify`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::heads;
use crate::{
    authority::audit::{self, Verified},
    cli::{
        Failure, Outcome,
        copying::{Progress, number},
        database,
        output::{self, Output, harmless},
        settings::StoreSettings,
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// A file with heads in its lines, of syslog say; can be given several times [default: the file of audit_head]
    #[arg(long = "heads", value_name = "FILE")]
    heads: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Verify {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let kept = heads(&self.heads, &config)?;
        let mut progress = Progress::new("rows");
        let tell = |done, of| progress.tell(done, of);
        let verified = audit::verify(&database(&config), &config.keys, &kept, tell).await.map_err(Failure::CouldNotRun)?;
        let took = progress.end();
        output::print(self.output, || text(&verified, took), || to_json(&verified, took))?;
        match verified.problems.first() {
            None => Ok(()),
            Some(first) => {
                let more = match verified.found - 1 {
                    0 => String::new(),
                    1 => " (and one more)".to_owned(),
                    more => format!(" (and {} more)", number(more)),
                };
                Err(Failure::Refused(format!("{}{more}", harmless(&first.what))))
            }
        }
    }
}

fn text(verified: &Verified, took: Duration) -> String {
    let Verified { entries, first, last, checkpoints, heads, .. } = verified;
    let mut lines = vec![format!("read {} audit entries in {:.1} s: {first} to {last}", number(*entries), took.as_secs_f64())];
    if *entries == 0 {
        lines = vec!["read no audit entry: there is none".to_owned()];
    }
    if *first > 1 {
        lines.push(format!("entries before {first} were pruned"));
    }
    if *checkpoints > 0 {
        lines.push(format!("checkpoints that fit: {}", number(*checkpoints)));
    }
    match verified.newest {
        Some((size, at)) => lines.push(format!("heads that fit: {}, the newest of {} entries at {at}", number(*heads), number(size))),
        None => lines.push(
            "no head was given that could be checked: an end that was cut off, or an older copy, cannot be told (audit_head, --heads)"
                .to_owned(),
        ),
    }
    let passed_over = [
        (verified.heads_of_pruned, "of entries that were pruned since"),
        (verified.heads_of_others, "of other installations"),
        (verified.heads_torn, "not whole"),
    ];
    lines.extend(
        passed_over.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("heads passed over, {what}: {}", number(*count))),
    );
    lines.extend(verified.problems.iter().map(|problem| format!("NOT RIGHT: {}", harmless(&problem.what))));
    if verified.found == 0 {
        lines.push("every entry is as it was sealed, behind the one before; what has ended is not live".to_owned());
    }
    lines.join("\n")
}

fn to_json(verified: &Verified, took: Duration) -> Value {
    json!({
        "intact": verified.found == 0,
        "entries": verified.entries,
        "first": verified.first,
        "last": verified.last,
        "checkpoints": verified.checkpoints,
        "heads": {
            "fit": verified.heads,
            "newest": verified.newest.map(|(size, at)| json!({ "size": size, "at": at.to_string() })),
            "pruned": verified.heads_of_pruned,
            "foreign": verified.heads_of_others,
            "torn": verified.heads_torn,
        },
        "problems": verified.problems.iter().map(|problem| json!({ "seq": problem.seq, "what": problem.what })).collect::<Vec<_>>(),
        "found": verified.found,
        "seconds": took.as_secs_f64(),
    })
}
