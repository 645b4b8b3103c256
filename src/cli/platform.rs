//! `countersign platform …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Outcome, open, open_or_create,
    output::{self, Output, harmless},
    settings::StoreSettings,
};
use crate::{
    domain::{Platform, PlatformId, TokenName},
    http::v1::wire,
};

#[derive(Debug, Subcommand)]
pub(super) enum PlatformCommand {
    /// Makes a platform and its root tokens, one an environment; prints their secrets this once
    Create(Create),
    /// Lists the platforms
    List(List),
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
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The platform's id
    id: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

/// Reads a platform's id.
pub(super) fn parse_id(text: &str) -> Result<PlatformId, Failure> {
    PlatformId::parse(text).ok_or_else(|| Failure::Refused("that is no platform id; see countersign platform list".to_owned()))
}

impl PlatformCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(one) => {
                let (authority, operator) = open(&one.settings).await?;
                let platform = authority.get_platform(&operator, parse_id(&one.id)?).await.map_err(unknown)?;
                print(one.output, &platform)
            }
            Self::Disable(one) => one.set_disabled(true).await,
            Self::Enable(one) => one.set_disabled(false).await,
        }
    }
}

fn unknown(error: crate::authority::Error) -> Failure {
    match error {
        crate::authority::Error::NotFound => Failure::Refused("there is no such platform; see countersign platform list".to_owned()),
        other => other.into(),
    }
}

fn print(output: Output, platform: &Platform) -> Outcome {
    output::print(output, || table(std::slice::from_ref(platform)), || json!({ "platform": wire::platform(platform) }))
}

fn table(platforms: &[Platform]) -> String {
    let row = |platform: &Platform| {
        let state = platform.disabled_at.map_or_else(|| "enabled".to_owned(), |at| format!("disabled {at}"));
        vec![platform.id.to_string(), harmless(platform.name.as_str()), platform.created_at.to_string(), state]
    };
    output::table(&["ID", "NAME", "CREATED", "STATE"], &platforms.iter().map(row).collect::<Vec<_>>())
}

impl Create {
    async fn run(self) -> Outcome {
        let name = TokenName::parse("--name", &self.name).map_err(crate::authority::Error::from)?;
        let (authority, operator) = open_or_create(&self.settings).await?;
        let (platform, roots) = authority.create_platform(&operator, name).await?;
        let text = || {
            let roots: Vec<_> = roots.iter().map(output::issued_text).collect();
            format!(
                "{}\n\nIts root tokens; the secrets are shown this once:\n\n{}",
                table(std::slice::from_ref(&platform)),
                roots.join("\n")
            )
        };
        output::print_once(self.output, text, || wire::made(&platform, &roots))
    }
}

impl List {
    async fn run(self) -> Outcome {
        let (authority, operator) = open(&self.settings).await?;
        let platforms = authority.list_platforms(&operator).await?;
        let text = || match platforms.as_slice() {
            [] => "There is no platform yet. Make one: countersign platform create --name NAME".to_owned(),
            platforms => table(platforms),
        };
        output::print(self.output, text, || json!({ "platforms": platforms.iter().map(wire::platform).collect::<Vec<_>>() }))
    }
}

impl One {
    async fn set_disabled(self, disabled: bool) -> Outcome {
        let (authority, operator) = open(&self.settings).await?;
        let (platform, receipt) = authority.set_platform_disabled(&operator, parse_id(&self.id)?, disabled).await.map_err(unknown)?;
        let text = || format!("{}\n{}", table(std::slice::from_ref(&platform)), output::receipt_text(&receipt));
        let json = || json!({ "platform": wire::platform(&platform), "receipt": wire::receipt(&receipt) });
        output::print(self.output, text, json)
    }
}
