//! `countersign keys …`

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, copying, open_as, operator,
    output::{self, Output, harmless, member, member_or_dash},
    reach::Asking,
    settings::StoreSettings,
};
use crate::{
    authority::{Clock as _, KeyFileEdit, Retirement, SystemClock, SystemEntropy},
    domain::Token,
    http::v1::wire,
};

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
    /// End the tokens that live by it: those that it lists first
    #[arg(long)]
    force: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
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
            let counts = ["liveTokens", "platforms", "operations"].map(|of| copying::number(key[of].as_u64().unwrap_or(0)));
            [vec![member(key, "id"), member(key, "state"), member_or_dash(key, "createdAt")], counts.into()].concat()
        };
        let headings = ["ID", "STATE", "CREATED", "LIVE TOKENS", "PLATFORMS", "OPERATIONS"];
        output::table(&headings, &output::list(&json, "keys").iter().map(row).collect::<Vec<_>>())
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
        let (id, config) = (self.id, self.settings.config()?);
        let mut edit = KeyFileEdit::begin(&config.keys).map_err(Failure::CouldNotRun)?;
        let (authority, operator) = (open_as(config).await?, operator());
        let plan = authority.plan_retirement(&operator, id).await?;
        if !plan.tokens.is_empty() {
            match (self.output, self.force) {
                (Output::Text, _) => output::print(Output::Text, || listed(&plan), || Value::Null)?,
                (Output::Json, false) => output::print(
                    Output::Json,
                    String::new,
                    || json!({ "id": id, "tokens": plan.tokens.iter().map(wire::token).collect::<Vec<_>>() }),
                )?,
                (Output::Json, true) => {}
            }
        }
        let retired = Arc::clone(&authority).retire_key(&operator, &plan, self.force).await?;
        edit.retire(id);
        edit.write().map_err(|e| {
            Failure::CouldNotRun(format!("key {id} is retired everywhere, but {e}; run this again so that the key file says so too"))
        })?;
        let text = || {
            let ended = copying::number(retired.tokens.len() as u64);
            let receipt = output::receipt_text(&wire::receipt(&retired.receipt));
            format!("Key {id} is retired; {ended} tokens have ended. {receipt} Copy the key file to every server; the key stays in it")
        };
        let json = || {
            json!({
                "id": id, "state": "retired", "tokens": retired.tokens.iter().map(wire::token).collect::<Vec<_>>(),
                "receipt": wire::receipt(&retired.receipt),
            })
        };
        output::print(self.output, text, json)
    }
}

/// What would end: how many of each platform, and the first of them.
fn listed(plan: &Retirement) -> String {
    let mut platforms = std::collections::BTreeMap::<_, u64>::new();
    plan.tokens.iter().for_each(|token| *platforms.entry(token.scope.platform.to_string()).or_default() += 1);
    let counts: Vec<_> = platforms.into_iter().map(|(platform, tokens)| vec![platform, copying::number(tokens)]).collect();
    let row = |token: &Token| vec![token.id.to_string(), token.scope.environment.to_string(), harmless(token.name.as_str())];
    let first: Vec<_> = plan.tokens.iter().take(TOLD).map(row).collect();
    let rest = match plan.tokens.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("\nand {} more (--output json has all)", copying::number(more as u64)),
    };
    format!(
        "Live tokens under key {}, which end with it:\n\n{}\n\n{}{rest}\n",
        plan.key,
        output::table(&["PLATFORM", "LIVE TOKENS"], &counts),
        output::table(&["ID", "ENVIRONMENT", "NAME"], &first)
    )
}
