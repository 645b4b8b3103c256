//! `countersign audit list`

use clap::Args;
use serde_json::Value;

use super::{moment, refused};
use crate::{
    cli::{
        Outcome,
        output::{self, list, member},
        platform,
        reach::{Asking, query},
        token,
    },
    domain::{Action, Actor, PageLimit},
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
    #[command(flatten)]
    asking: Asking,
}

impl List {
    pub(super) async fn run(self) -> Outcome {
        let actions = Action::ALL.map(Action::name).join(", ");
        let action =
            self.action.as_deref().map(|text| refused(Action::parse(text), "--action", &format!("one of {actions}"))).transpose()?;
        let actor = self.actor.as_deref();
        let actor = actor.map(|text| refused(Actor::parse(text), "--actor", "a token's id, operator:NAME or system")).transpose()?;
        let limit = refused(PageLimit::new(self.limit), "--limit", "from 1 to 100")?;
        let path = query(
            "/audit",
            &[
                ("platform", self.platform.as_deref().map(platform::parse_id).transpose()?.map(|id| id.to_string())),
                ("token", self.token.as_deref().map(token::parse_id).transpose()?.map(|id| id.to_string())),
                ("action", action.map(|action| action.name().to_owned())),
                ("actor", actor.map(|actor| actor.to_string())),
                ("after", moment(self.after.as_deref(), "--after", true)?.map(|at| at.to_string())),
                ("before", moment(self.before.as_deref(), "--before", false)?.map(|at| at.to_string())),
                ("beforeSeq", self.before_seq.map(|seq| seq.to_string())),
                ("limit", Some(limit.get().to_string())),
            ],
        );
        let json = self.asking.reach().await?.get(&path).await.map_err(platform::unknown)?;
        let text = || {
            let entries = list(&json, "entries");
            if entries.is_empty() {
                return "There is no such entry.".to_owned();
            }
            let rest = json["nextBeforeSeq"].as_u64().map_or_else(String::new, |seq| format!("\n\nThere are more: add --before-seq {seq}"));
            let rows: Vec<_> = entries.iter().map(row).collect();
            format!("{}{rest}", output::table(&["SEQ", "TIME", "ACTION", "ACTOR", "ON", "REQUEST", "DETAIL"], &rows))
        };
        self.asking.print(text, &json)
    }
}

fn row(entry: &Value) -> Vec<String> {
    let of = |name| member(entry, name);
    let on = Some(of("token")).filter(|id| !id.is_empty()).unwrap_or_else(|| of("platform"));
    vec![of("seq"), of("at"), of("action"), of("actor"), on, of("requestId"), of("detail")]
}
