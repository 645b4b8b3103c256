//! `countersign audit key`

use clap::Args;
use serde_json::json;

use crate::{
    authority::audit,
    cli::{
        Failure, Outcome,
        output::{self, Output},
        settings::StoreSettings,
    },
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Key {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.config()?;
        let keys = audit::head_keys(&config.keys).await.map_err(Failure::CouldNotRun)?;
        // What stands before a key in a PEM file is passed over by whoever reads it.
        let text = || keys.iter().map(|key| format!("key {}\n{}", key.id, key.pem())).collect::<String>();
        let json = || json!({ "keys": keys.iter().map(|key| json!({ "keyId": key.id, "pem": key.pem() })).collect::<Vec<_>>() });
        output::print(self.output, text, json)
    }
}
