//! `countersign check`

use std::io::Read as _;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Failure, Outcome,
    output::{self, Output, member},
    reach::Asking,
};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    asking: Asking,
}

impl Check {
    /// From standard input, never from an argument: others on the machine can read those.
    pub(super) async fn run(self) -> Outcome {
        let mut pair = Zeroizing::new(Vec::with_capacity(1024));
        let read = std::io::stdin().lock().take(1024).read_to_end(&mut pair);
        read.map_err(|e| Failure::CouldNotRun(format!("cannot read standard input: {e}")))?;
        let text = Zeroizing::new(String::from_utf8_lossy(pair.trim_ascii()).into_owned());
        let (client_id, client_secret) = text.split_once(':').unwrap_or((&text, ""));
        let body = json!({ "clientId": client_id, "clientSecret": client_secret });
        let json = self.asking.reach().await?.post("/tokens:check", Some(body)).await?;
        let is_verified = json["verified"] == true;
        if is_verified || self.asking.output == Output::Json {
            let may = || output::list(&json, "permissions").iter().filter_map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let [token, platform, environment] = ["token", "platform", "environment"].map(|name| member(&json, name));
            self.asking.print(|| format!("verified: {token} of {platform} in {environment}, may {}", may()), &json)?;
        }
        // An operator may know why; the wire of the platform never says.
        let reason = member(&json, "reason");
        let refused = || Failure::Refused(format!("refused ({reason}): pipe clientId:clientSecret of a live token into this command"));
        is_verified.then_some(()).ok_or_else(refused)
    }
}
