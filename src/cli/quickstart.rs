//! `countersign quickstart`

use clap::Args;

use super::{
    Outcome, operator,
    output::{self, Output},
    serve::Server,
    settings::AllSettings,
};
use crate::{
    authority::{Error, Issued},
    domain::{Environment, TokenName},
    http,
};

#[derive(Debug, Args)]
pub(super) struct Quickstart {
    #[command(flatten)]
    settings: AllSettings,
}

impl Quickstart {
    pub(super) async fn run(self) -> Outcome {
        let mut settings = self.settings;
        // Somebody watches: the lines to paste must not scroll away under one log line a request.
        for (name, value) in [("log", "warn"), ("log_format", "text")] {
            settings.0.flags.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let config = settings.to_serve()?;
        let data = config.data.display().to_string();
        let (made, with) = match config.database {
            None => (format!("in {data}: a database, a server key"), ""),
            Some(_) => (format!("tables in the database, in {data} a server key"), " and with COUNTERSIGN_DATABASE set to its URL"),
        };
        let server = Server::start(config).await?;
        let address = server.listeners.api.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let operator = operator();
        let platforms = server.authority.list_platforms(&operator).await?;
        let secret = if platforms.is_empty() {
            let name = TokenName::parse("name", "demo").map_err(Error::from)?;
            let (_, roots) = server.authority.create_platform(&operator, name, None).await?;
            roots.into_iter().find(|root| root.token.scope.environment == Environment::Sandbox)
        } else {
            None
        };
        let text = help(secret.as_ref(), &address, &data, [made, with.to_owned()]);
        output::print_once(Output::Text, || text, || serde_json::Value::Null)?;
        server.run().await
    }
}

/// What to paste next.
fn help(root: Option<&Issued>, address: &str, data: &str, [made, with]: [String; 2]) -> String {
    let program = std::env::current_exe().map_or_else(|_| "countersign".to_owned(), |path| path.display().to_string());
    let general = [
        ("@address@", address.to_owned()),
        ("@data@", data.to_owned()),
        ("@made@", made),
        ("@with@", with),
        ("@program@", program),
        ("@grid@", format!("http://{address}{}", http::GRID)),
        ("@blips@", format!("http://{address}{}", http::BLIPS)),
    ];
    let fill = |text: &str| general.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
    match root {
        None => fill(include_str!("quickstart_again.txt")),
        Some(root) => fill(include_str!("quickstart.txt"))
            .replace("@client_id@", &root.token.client_id().to_string())
            .replace("@client_secret@", root.secret.as_ref().map(|secret| secret.expose()).unwrap_or_default()),
    }
}
