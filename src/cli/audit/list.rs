//! `countersign audit list`

use clap::Args;
use serde_json::json;

use super::{moment, refused};
use crate::{
    cli::{
        Outcome, open,
        output::{self, Output, harmless},
        platform,
        settings::StoreSettings,
        token,
    },
    domain::{Action, Actor, AuditQuery, PageLimit, RecordedEntry},
    http::v1::wire,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only on this platform
    #[arg(long)]
    platform: Option<String>,
    /// Only to this token
    #[arg(long)]
    token: Option<String>,
    /// Only of this kind, such as token.revoke
    #[arg(long)]
    action: Option<String>,
    /// Only by this actor: a token's id, operator:NAME or system
    #[arg(long)]
    actor: Option<String>,
    /// Only at or after this moment, in RFC 3339
    #[arg(long)]
    after: Option<String>,
    /// Only at or before this moment, in RFC 3339
    #[arg(long)]
    before: Option<String>,
    /// Only before this place: where the page before ended
    #[arg(long, value_name = "SEQ")]
    before_seq: Option<u64>,
    /// At most so many, 1 to 100
    #[arg(long, default_value_t = 20)]
    limit: u16,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl List {
    pub(super) async fn run(self) -> Outcome {
        let actions = Action::ALL.map(Action::name).join(", ");
        let query = AuditQuery {
            platform: self.platform.as_deref().map(platform::parse_id).transpose()?,
            token: self.token.as_deref().map(token::parse_id).transpose()?,
            action: self
                .action
                .as_deref()
                .map(|text| refused(Action::parse(text), "--action", &format!("one of {actions}")))
                .transpose()?,
            actor: self
                .actor
                .as_deref()
                .map(|text| refused(Actor::parse(text), "--actor", "a token's id, operator:NAME or system"))
                .transpose()?,
            after: moment(self.after.as_deref(), "--after", true)?,
            before: moment(self.before.as_deref(), "--before", false)?,
            before_seq: self.before_seq,
            limit: refused(PageLimit::new(self.limit), "--limit", "from 1 to 100")?,
        };
        let (authority, operator) = open(&self.settings).await?;
        let (entries, more) = authority.list_audit(&operator, query).await?;
        let last = entries.last().map(|entry| entry.seq).filter(|_| more);
        let text = || {
            if entries.is_empty() {
                return "There is no such entry.".to_owned();
            }
            let rest = last.map_or_else(String::new, |seq| format!("\n\nThere are more: add --before-seq {seq}"));
            format!(
                "{}{rest}",
                output::table(&["SEQ", "TIME", "ACTION", "ACTOR", "ON", "REQUEST", "DETAIL"], &entries.iter().map(row).collect::<Vec<_>>())
            )
        };
        let json = || json!({ "entries": entries.iter().map(wire::entry).collect::<Vec<_>>(), "more": more, "nextBeforeSeq": last });
        output::print(self.output, text, json)
    }
}

fn row(recorded: &RecordedEntry) -> Vec<String> {
    let entry = &recorded.entry;
    let on = entry.token.map(|id| id.to_string()).or_else(|| entry.platform.map(|id| id.to_string())).unwrap_or_default();
    vec![
        recorded.seq.to_string(),
        entry.at.to_string(),
        entry.action.name().to_owned(),
        harmless(&entry.actor.to_string()),
        on,
        harmless(&entry.request.id),
        harmless(&entry.detail),
    ]
}
