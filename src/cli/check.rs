//! `countersign check`

use std::io::Read as _;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Failure, Outcome, open,
    output::{self, Output},
    settings::StoreSettings,
};
use crate::{
    authority::Denied,
    domain::{Presented, RequestInfo},
};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

impl Check {
    /// From standard input, never from an argument: others on the machine can read those.
    pub(super) async fn run(self) -> Outcome {
        let mut pair = Zeroizing::new(Vec::with_capacity(1024));
        let read = std::io::stdin().lock().take(1024).read_to_end(&mut pair);
        read.map_err(|e| Failure::CouldNotRun(format!("cannot read standard input: {e}")))?;
        let presented = Presented::parse_pair(pair.trim_ascii());
        let (authority, operator) = open(&self.settings).await?;
        let request = RequestInfo { source: "check".to_owned(), ..operator.request().clone() };
        match authority.verify(presented, request).await {
            Ok(caller) => {
                let json = json!({
                    "verified": true,
                    "token": caller.actor.to_string(),
                    "platform": caller.scope.platform.to_string(),
                    "environment": caller.scope.environment.name(),
                    "permissions": caller.permissions.iter().map(|permission| permission.name()).collect::<Vec<_>>(),
                });
                let text = || {
                    format!(
                        "verified: {} of {} in {}, may {}",
                        caller.actor, caller.scope.platform, caller.scope.environment, caller.permissions
                    )
                };
                output::print(self.output, text, || json)
            }
            // An operator may know why; the wire never says.
            Err(Denied::Refused(reason)) => {
                if self.output == Output::Json {
                    output::print(self.output, String::new, || json!({ "verified": false, "reason": reason.name() }))?;
                }
                Err(Failure::Refused(format!("refused ({reason}): pipe clientId:clientSecret of a live token into this command")))
            }
            Err(Denied::Unknown) => Err(Failure::CouldNotRun("the database did not answer; run the command again".to_owned())),
        }
    }
}
