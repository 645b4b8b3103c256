//! `countersign nodes`

use clap::Args;
use serde_json::Value;

use super::{
    Outcome,
    output::{self, list, member, member_or_dash},
    reach::Asking,
};

#[derive(Debug, Args)]
pub(super) struct Nodes {
    #[command(flatten)]
    asking: Asking,
}

impl Nodes {
    pub(super) async fn run(self) -> Outcome {
        let json = self.asking.reach().await?.get("/nodes").await?;
        self.asking.print(|| text(&json), &json)
    }
}

fn text(json: &Value) -> String {
    let row = |node: &Value| {
        let is = |name: &str| node[name] == true;
        let state = match () {
            () if is("suspected") => "not seen, about to be removed",
            () if is("here") => "the server that was asked",
            () => "",
        };
        let of = |name| member(node, name);
        vec![
            of("id"),
            member_or_dash(node, "followed"),
            member_or_dash(node, "behind"),
            format!("{} ms", of("leaseMillis")),
            format!("{} ms", of("staleMillis")),
            of("seenAt"),
            state.to_owned(),
        ]
    };
    let nodes: Vec<_> = list(json, "nodes").iter().map(row).collect();
    let mut lines = vec![match nodes.len() {
        0 => "No process answers from memory: no server runs on this database.".to_owned(),
        _ => output::table(&["NODE", "FOLLOWED", "BEHIND", "WAITED FOR", "WITHOUT DATABASE", "SEEN", ""], &nodes),
    }];
    lines.push(format!("The last change is number {}.", member(json, "last")));
    let server = &json["server"];
    if server.is_object() {
        let of = |name| member(server, name);
        let says = |name: &str, yes: &'static str, no: &'static str| if server[name] == true { yes } else { no };
        lines.push(format!(
            "The server that was asked has {} live tokens in memory, {}; its journal {}.",
            of("liveTokens"),
            says("leaseHolds", "which is believed", says("stale", "which is older than its lease, and goes on", "which is too old")),
            says("journalFailing", "CANNOT BE WRITTEN", "is written")
        ));
    }
    lines.join("\n")
}
