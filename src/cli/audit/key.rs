//! `countersign audit key`

use clap::Args;
use serde_json::Value;

use crate::{
    authority::audit,
    cli::{Failure, Outcome, output, reach::Asking},
    http::v1::wire,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    #[command(flatten)]
    asking: Asking,
}

impl Key {
    pub(super) async fn run(self) -> Outcome {
        let config = self.asking.settings.config()?;
        // Here the key file is enough: heads are checked where the database is not.
        let json = match config.server {
            Some(_) => self.asking.reach().await?.get("/audit/keys").await?,
            None => wire::head_keys(&audit::head_keys(&config.keys).await.map_err(Failure::CouldNotRun)?),
        };
        // What stands before a key in a PEM file is passed over by whoever reads it.
        let one = |key: &Value| format!("key {}\n{}", key["keyId"], key["pem"].as_str().unwrap_or_default());
        self.asking.print(|| output::list(&json, "keys").iter().map(one).collect::<String>(), &json)
    }
}
