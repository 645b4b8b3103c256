//! `countersign config …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Outcome,
    output::{self, Output},
    settings::AllSettings,
};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows the configuration in force, each value with where it came from; exit code 2 if it is not valid
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: AllSettings,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Outcome {
        let Self::Show(show) = self;
        let config = show.settings.config()?;
        let text = || {
            let rows: Vec<_> =
                config.shown().iter().map(|shown| vec![shown.name.to_owned(), shown.value.clone(), shown.origin.to_string()]).collect();
            output::table(&["SETTING", "VALUE", "FROM"], &rows)
        };
        let value =
            |shown: &crate::config::Shown| (shown.name.to_owned(), json!({ "value": shown.value, "origin": shown.origin.to_string() }));
        output::print(show.output, text, || Value::Object(config.shown().iter().map(value).collect()))
    }
}
