//! `countersign keys …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    copying::{Progress, number},
    open_as, operator,
    output::{self, Output, list, member, member_or_dash},
    reach::{Asking, Declined, Reach},
    settings::StoreSettings,
};
use crate::authority::{Clock as _, KeyFileEdit, SystemClock, SystemEntropy};

/// Tokens that are told one by one where a person reads it.
const TOLD: usize = 20;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Lists the keys, and what lives by each
    List(Asking),
    /// Adds a key that nothing is sealed with yet, so that every server can have it first
    Add(Add),
    /// Makes a key the one that new things are sealed with, from each server's next SIGHUP on
    Activate(One),
    /// Retires a key: nothing is accepted under it any more when this returns. Refused while tokens live by it
    Retire(Retire),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The key's id
    id: u32,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The key's id
    id: u32,
    /// End the tokens that live by it: it lists how many first
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    asking: Asking,
}

impl KeysCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::List(asking) => list_all(&asking).await,
            Self::Add(add) => add.run().await,
            Self::Activate(one) => one.activate().await,
            Self::Retire(retire) => retire.run().await,
        }
    }
}

const NEXT: &str = "Copy the key file to every server, and send each SIGHUP";

async fn list_all(asking: &Asking) -> Outcome {
    let json = asking.reach().await?.get("/keys").await?;
    let text = || {
        let row = |key: &Value| {
            let counts = ["liveTokens", "platforms", "operations"].map(|of| number(key[of].as_u64().unwrap_or(0)));
            [vec![member(key, "id"), member(key, "state"), member_or_dash(key, "createdAt")], counts.into()].concat()
        };
        let headings = ["ID", "STATE", "CREATED", "LIVE TOKENS", "PLATFORMS", "OPERATIONS"];
        output::table(&headings, &list(&json, "keys").iter().map(row).collect::<Vec<_>>())
    };
    asking.print(text, &json)
}

impl Add {
    async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let mut edit = KeyFileEdit::begin(&config.keys).map_err(Failure::CouldNotRun)?;
        // Opened first: a file that is not this database's is not added to.
        let (authority, operator) = (open_as(config).await?, operator());
        let id = edit.add(SystemClock.wall(), &SystemEntropy).map_err(Failure::CouldNotRun)?;
        edit.write().map_err(Failure::CouldNotRun)?;
        authority.note_key_added(&operator, id).await?;
        let text = || format!("Key {id} is in the key file; nothing is sealed with it yet. {NEXT}; then: countersign keys activate {id}");
        output::print(self.output, text, || json!({ "id": id, "state": "verify-only" }))
    }
}

impl One {
    async fn activate(self) -> Outcome {
        let (id, config) = (self.id, self.settings.config()?);
        let mut edit = KeyFileEdit::begin(&config.keys).map_err(Failure::CouldNotRun)?;
        let (authority, operator) = (open_as(config).await?, operator());
        if edit.activate(id).map_err(Failure::Refused)? {
            // The log first: a file that can't be written is tried again, and entered again.
            authority.note_key_activated(&operator, id).await?;
            edit.write().map_err(Failure::CouldNotRun)?;
        }
        let text = || format!("Key {id} is active in the key file. {NEXT}: from then on it seals what is new there");
        output::print(self.output, text, || json!({ "id": id, "state": "active" }))
    }
}

impl Retire {
    async fn run(self) -> Outcome {
        let config = self.asking.settings.config()?;
        // A server's key file is where it is, and nobody but its operator writes it.
        let edit = if config.server.is_none() { Some(KeyFileEdit::begin(&config.keys).map_err(Failure::CouldNotRun)?) } else { None };
        let reach = self.asking.reach().await?;
        let unknown = |declined: Declined| declined.or_missing("there is no such key; see countersign keys list");
        let plan = reach.post(&self.path(), Some(json!({ "dryRun": true }))).await.map_err(unknown)?;
        let count = plan["count"].as_u64().unwrap_or_default();
        if count > 0 {
            match (self.asking.output, self.force) {
                (Output::Text, _) => output::print(Output::Text, || planned(&plan), || Value::Null)?,
                (Output::Json, false) => output::print(Output::Json, String::new, || plan.clone())?,
                (Output::Json, true) => {}
            }
        }
        if count > 0 && !self.force {
            let tokens = if count == 1 { "one live token".to_owned() } else { format!("{} live tokens", number(count)) };
            return Err(Failure::Refused(format!("the key is in use: {tokens} would end; --force does it")));
        }
        let retired = self.retire(&reach, &plan).await?;
        let id = self.id;
        let of_file = match edit {
            Some(mut edit) => {
                edit.retire(id);
                edit.write().map_err(|e| {
                    Failure::CouldNotRun(format!(
                        "key {id} is retired everywhere, but {e}; run this again so that the key file says so too"
                    ))
                })?;
                "Copy the key file to every server; the key stays in it".to_owned()
            }
            None => format!(
                "The key files do not say so yet, which changes nothing: run this again where one is, without --server, and copy it to \
                 every server; key {id} stays in it"
            ),
        };
        let text = || {
            let ended = number(retired["retired"]["endedCount"].as_u64().unwrap_or_default());
            format!("Key {id} is retired; {ended} tokens have ended. {} {of_file}", output::receipt_text(&retired["retired"]["receipt"]))
        };
        self.asking.print(text, &retired)
    }

    fn path(&self) -> String {
        format!("/keys/{}/retire", self.id)
    }

    /// Retires it, part by part; returns the first answer, with what all of them together have done.
    async fn retire(&self, reach: &Reach, plan: &Value) -> Result<Value, Failure> {
        let mut progress = Progress::new("tokens");
        let count = plan["count"].as_u64().unwrap_or_default();
        let (mut left, mut ended, mut first) = (count, 0, None);
        loop {
            let agreed = json!({ "expectedCount": count, "seq": plan["seq"] });
            let part = reach.post(&self.path(), Some(agreed)).await.map_err(|declined| {
                let again = "more tokens live by the key now than were listed, so nothing was done; run this again";
                Failure::from(declined.or_conflict("other_count", again))
            })?;
            let done = &part["retired"];
            ended += done["endedCount"].as_u64().unwrap_or_default();
            let (before, receipt) = (left, done["receipt"].clone());
            left = done["leftCount"].as_u64().unwrap_or_default();
            let whole = first.get_or_insert(part);
            whole["retired"] = json!({ "endedCount": ended, "leftCount": left, "receipt": receipt });
            progress.tell(ended, count);
            // What does not get less is not waited for.
            if left == 0 || left >= before {
                progress.end();
                return Ok(std::mem::take(whole));
            }
        }
    }
}

/// What would end: how many of each platform, and the first of them.
fn planned(plan: &Value) -> String {
    let count = |json: &Value, name: &str| json[name].as_u64().unwrap_or_default();
    let counts: Vec<_> =
        list(plan, "platforms").iter().map(|platform| vec![member(platform, "id"), number(count(platform, "liveTokens"))]).collect();
    let row = |token: &Value| ["id", "environment", "name"].map(|name| member(token, name)).into();
    let first: Vec<_> = list(plan, "tokens").iter().take(TOLD).map(row).collect();
    let rest = match count(plan, "count").saturating_sub(first.len() as u64) {
        0 => String::new(),
        more => format!("\nand {} more", number(more)),
    };
    format!(
        "Live tokens under key {}, which end with it:\n\n{}\n\n{}{rest}\n",
        member(plan, "key"),
        output::table(&["PLATFORM", "LIVE TOKENS"], &counts),
        output::table(&["ID", "ENVIRONMENT", "NAME"], &first)
    )
}
