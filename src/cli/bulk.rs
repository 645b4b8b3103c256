//! `countersign token bulk-revoke`, `bulk-revokes` and `bulk-stop`

use std::{
    io::{BufRead as _, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Failure, Outcome,
    copying::{Progress, number},
    known::Known,
    output::{self, list, member, member_or_dash},
    platform,
    reach::{Asking, Declined, Reach},
    token,
};
use crate::domain::{BulkId, Environment};

/// How often it is asked how far one is.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Only this platform's; goes with --environment
    #[arg(long, requires = "environment")]
    platform: Option<String>,
    /// Only this environment's: sandbox or production; goes with --platform
    #[arg(long, value_parser = token::environment, requires = "platform")]
    environment: Option<Environment>,
    #[command(flatten)]
    known: Known,
    /// Counts only, and shows the first of them
    #[arg(long, conflicts_with = "expect")]
    dry_run: bool,
    /// How many tokens it is to end; if they are another number, nothing is done. Without it, a terminal is asked
    #[arg(long)]
    expect: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The bulk revoke's id
    id: String,
    #[command(flatten)]
    asking: Asking,
}

fn counted(count: u64) -> String {
    if count == 1 { "1 token".to_owned() } else { format!("{} tokens", number(count)) }
}

impl Revoke {
    fn filter(&self) -> Result<Value, Failure> {
        let mut filter = Map::new();
        if let (Some(platform), Some(environment)) = (&self.platform, self.environment) {
            filter.insert("platform".to_owned(), platform::parse_id(platform)?.to_string().into());
            filter.insert("environment".to_owned(), environment.name().into());
        }
        for (name, value) in self.known.members() {
            filter.insert(name.to_owned(), if name == "neverUsed" { true.into() } else { value.into() });
        }
        Ok(Value::Object(filter))
    }

    pub(super) async fn run(self) -> Outcome {
        let filter = self.filter()?;
        let reach = self.asking.reach().await?;
        let ask = async |body: Value| reach.post("/tokens:bulkRevoke", Some(body)).await.map_err(platform::unknown);
        let plan = ask(json!({ "filter": filter, "dryRun": true })).await?;
        let count = plan["count"].as_u64().unwrap_or_default();
        if self.dry_run {
            return self.asking.print(|| planned(count, &plan), &plan);
        }
        let expected = match self.expect {
            Some(expected) => expected,
            None if count == 0 => return self.asking.print(|| planned(0, &plan), &plan),
            None => typed(count, &plan)?,
        };
        let begun = ask(json!({ "filter": plan["filter"], "expectedCount": expected })).await.map_err(|declined| {
            let words = format!("it would end {}, not {}; nothing was done. Look at them with --dry-run", counted(count), number(expected));
            declined.or_conflict("other_count", &words)
        })?;
        let bulk = watch(&reach, begun["bulkRevoke"].clone()).await?;
        self.asking.print(|| described(&bulk), &bulk)
    }
}

/// What a dry run has counted.
fn planned(count: u64, plan: &Value) -> String {
    if count == 0 {
        return "No live token is like that; root tokens are ended one at a time (countersign token revoke).".to_owned();
    }
    let tokens = list(plan, "tokens");
    let row = |token: &Value| {
        let of = |name| member(token, name);
        vec![of("id"), of("environment"), of("name"), output::words(token, "permissions", ","), member_or_dash(token, "lastUsedAt")]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    let shown = if count > tokens.len() as u64 { format!("; the first {}", tokens.len()) } else { String::new() };
    let table = output::table(&["ID", "ENVIRONMENT", "NAME", "PERMISSIONS", "LAST USED"], &rows);
    format!("{table}\n\nIt would end {}{shown}. To end them: the same with --expect {count} in place of --dry-run.", counted(count))
}

/// How many somebody at a terminal says that they are.
fn typed(count: u64, plan: &Value) -> Result<u64, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refused(format!(
            "it would end {}: say --expect {count} to end them, or --dry-run to look at them",
            counted(count)
        )));
    }
    planned(count, plan).lines().take_while(|line| !line.is_empty()).for_each(output::error);
    output::standing(&format!("It will end {}, which can't be brought back. Type how many they are: ", counted(count)));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.ok().and_then(|_| line.trim().parse().ok()).ok_or_else(|| Failure::Refused("that is no number; nothing was done".to_owned()))
}

/// Follows one until it is over.
async fn watch(reach: &Reach, mut bulk: Value) -> Result<Value, Failure> {
    let (id, mut progress) = (member(&bulk, "id"), Progress::new("tokens"));
    while bulk["status"] == "RUNNING" {
        tokio::time::sleep(EVERY).await;
        bulk = reach.get(&format!("/bulk-revokes/{id}")).await.map_err(|declined| {
            let (Failure::Refused(told) | Failure::CouldNotRun(told)) = declined.into();
            Failure::CouldNotRun(format!("{told}; it was begun ({id}), and a server goes on with it: countersign token bulk-revokes"))
        })?;
        let number = |name: &str| bulk[name].as_u64().unwrap_or_default();
        progress.tell(number("endedCount"), number("expectedCount"));
    }
    progress.end();
    Ok(bulk)
}

fn described(bulk: &Value) -> String {
    let of = |name: &str| bulk[name].as_u64().unwrap_or_default();
    let (ended, expected, id) = (of("endedCount"), of("expectedCount"), member(bulk, "id"));
    let ended_otherwise = match expected.saturating_sub(ended) {
        0 => String::new(),
        missing => format!(" {} had ended otherwise meanwhile.", counted(missing)),
    };
    match bulk["status"].as_str() {
        Some("FINISHED") => {
            format!("{} ended ({id}). No server accepts any of them since {}.{ended_otherwise}", counted(ended), member(bulk, "overAt"))
        }
        Some("STOPPED") => {
            format!("{} of {} ended ({id}); it was stopped at {}.", number(ended), counted(expected), member(bulk, "overAt"))
        }
        _ => format!("{} of {} ended so far ({id}).", number(ended), counted(expected)),
    }
}

pub(super) async fn list_all(asking: &Asking) -> Outcome {
    let json = asking.reach().await?.get("/bulk-revokes").await?;
    let text = || match list(&json, "bulkRevokes") {
        [] => "There is none. Look for what has to go: countersign token bulk-revoke --dry-run --help".to_owned(),
        all => {
            let row = |bulk: &Value| {
                let of = |name| member(bulk, name);
                vec![of("id"), of("operator"), of("createdAt"), of("endedCount"), of("expectedCount"), of("status")]
            };
            output::table(&["ID", "OPERATOR", "CREATED", "ENDED", "EXPECTED", "STATUS"], &all.iter().map(row).collect::<Vec<_>>())
        }
    };
    asking.print(text, &json)
}

impl One {
    /// Stops it.
    pub(super) async fn stop(self) -> Outcome {
        let unknown = |declined: Declined| declined.or_missing("there is no such bulk revoke; see countersign token bulk-revokes");
        let id = BulkId::parse(&self.id)
            .ok_or_else(|| Failure::Refused("that is no id of a bulk revoke; see countersign token bulk-revokes".to_owned()))?;
        let json = self.asking.reach().await?.post(&format!("/bulk-revokes/{id}/stop"), None).await.map_err(unknown)?;
        self.asking.print(|| described(&json), &json)
    }
}
