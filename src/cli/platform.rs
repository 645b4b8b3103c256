//! `countersign platform …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    output::{self, list, member},
    reach::{Asking, Declined},
};
use crate::{
    authority::Error,
    domain::{PlatformId, TokenName},
};

#[derive(Debug, Subcommand)]
pub(super) enum PlatformCommand {
    /// Makes a platform and its root tokens, one an environment; prints their secrets this once
    Create(Create),
    /// Lists the platforms
    List(Asking),
    /// Shows a platform
    Show(One),
    /// Disables a platform: none of its tokens verifies any more, anywhere, when this returns, or from the moment on that it says
    Disable(One),
    /// Enables a platform again, and with it its tokens that have not ended
    Enable(One),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name
    #[arg(long)]
    name: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The platform's id
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Reads a platform's id.
pub(super) fn parse_id(text: &str) -> Result<PlatformId, Failure> {
    PlatformId::parse(text).ok_or_else(|| Failure::Refused("that is no platform id; see countersign platform list".to_owned()))
}

impl PlatformCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(asking) => list_all(&asking).await,
            Self::Show(one) => {
                let id = parse_id(&one.id)?;
                let json = one.asking.reach().await?.get(&format!("/platforms/{id}")).await.map_err(unknown)?;
                one.asking.print(|| table(std::slice::from_ref(&json["platform"])), &json)
            }
            Self::Disable(one) => one.set("disable").await,
            Self::Enable(one) => one.set("enable").await,
        }
    }
}

/// What is said where a platform is not there.
pub(super) fn unknown(declined: Declined) -> Declined {
    declined.or_missing("there is no such platform; see countersign platform list")
}

fn table(platforms: &[Value]) -> String {
    let row = |platform: &Value| {
        let state = match member(platform, "disabledAt") {
            at if at.is_empty() => "enabled".to_owned(),
            at => format!("disabled {at}"),
        };
        vec![member(platform, "id"), member(platform, "name"), member(platform, "createdAt"), state]
    };
    output::table(&["ID", "NAME", "CREATED", "STATE"], &platforms.iter().map(row).collect::<Vec<_>>())
}

impl Create {
    async fn run(self) -> Outcome {
        let name = TokenName::parse("--name", &self.name).map_err(Error::from)?;
        let json = self.asking.reach_or_create().await?.post("/platforms", Some(json!({ "name": name.as_str() }))).await?;
        let text = || {
            let roots: Vec<_> = list(&json, "tokens").iter().map(output::issued_text).collect();
            let platform = table(std::slice::from_ref(&json["platform"]));
            format!("{platform}\n\nIts root tokens; the secrets are shown this once:\n\n{}", roots.join("\n"))
        };
        output::print_once(self.asking.output, text, || json.clone())
    }
}

async fn list_all(asking: &Asking) -> Outcome {
    let json = asking.reach().await?.get("/platforms").await?;
    let text = || match list(&json, "platforms") {
        [] => "There is no platform yet. Make one: countersign platform create --name NAME".to_owned(),
        platforms => table(platforms),
    };
    asking.print(text, &json)
}

impl One {
    /// Disables or enables it.
    async fn set(self, change: &str) -> Outcome {
        let id = parse_id(&self.id)?;
        let json = self.asking.reach().await?.post(&format!("/platforms/{id}/{change}"), None).await.map_err(unknown)?;
        let text = || format!("{}\n{}", table(std::slice::from_ref(&json["platform"])), output::receipt_text(&json["receipt"]));
        self.asking.print(text, &json)
    }
}
