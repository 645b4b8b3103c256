//! `countersign token …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, open,
    output::{self, Output, harmless},
    platform,
    settings::StoreSettings,
};
use crate::{
    authority::{Error, ListTokens},
    domain::{Environment, Liveness, NewToken, Order, PageLimit, Permissions, Token, TokenFilter, TokenId, TokenName},
    http::{self, v1::wire},
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issues a token; prints its secret this once
    Create(Create),
    /// Lists the tokens of a platform's environment, newest first
    List(List),
    /// Shows a token, and how it was used until the servers last wrote that (flush_interval)
    Show(One),
    /// Ends a token: no server accepts it any more when this returns, or from the moment on that it says
    Revoke(One),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The platform's id
    #[arg(long)]
    platform: String,
    /// sandbox or production
    #[arg(long, value_parser = environment)]
    environment: Environment,
    /// The token's name
    #[arg(long)]
    name: String,
    /// VIEW, TRANSACT, MANAGE, separated by commas
    #[arg(long, value_parser = permissions)]
    permissions: Permissions,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this platform's
    #[arg(long)]
    platform: Option<String>,
    /// Only this environment's: sandbox or production
    #[arg(long, value_parser = environment)]
    environment: Option<Environment>,
    /// Only of this name
    #[arg(long)]
    name: Option<String>,
    /// Ended ones too
    #[arg(long)]
    all: bool,
    /// At most so many of each environment
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The token's id, in either form
    id: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

fn environment(text: &str) -> Result<Environment, String> {
    Environment::parse(text).ok_or_else(|| "it is sandbox or production".to_owned())
}

fn permissions(text: &str) -> Result<Permissions, String> {
    Permissions::parse(text).ok_or_else(|| "it is one or more of VIEW, TRANSACT, MANAGE, separated by commas".to_owned())
}

/// Reads a token's id.
pub(super) fn parse_id(text: &str) -> Result<TokenId, Failure> {
    TokenId::parse(text).ok_or_else(|| Failure::Refused("that is no token id; see countersign token list".to_owned()))
}

fn unknown(error: Error) -> Failure {
    match error {
        Error::NotFound => Failure::Refused("there is no such token; see countersign token list".to_owned()),
        other => other.into(),
    }
}

impl TokenCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(one) => one.show().await,
            Self::Revoke(one) => one.revoke().await,
        }
    }
}

impl Create {
    async fn run(self) -> Outcome {
        let name = TokenName::parse("--name", &self.name).map_err(Error::from)?;
        let id = platform::parse_id(&self.platform)?;
        let (authority, operator) = open(&self.settings).await?;
        let unknown = |error| match error {
            Error::NotFound => Failure::Refused("there is no such platform; see countersign platform list".to_owned()),
            other => Failure::from(other),
        };
        let caller = authority.locate_platform(&operator, id, self.environment).await.map_err(unknown)?;
        let by = caller.may_manage().map_err(Error::from)?;
        let issued = authority.create_token(&by, NewToken { name, permissions: self.permissions }, None).await.map_err(unknown)?;
        let text = || format!("The secret is shown this once:\n\n{}", output::issued_text(&issued));
        output::print_once(self.output, text, || wire::issued(&issued))
    }
}

impl List {
    async fn run(self) -> Outcome {
        let name = self.name.as_deref().map(|name| TokenName::parse("--name", name)).transpose().map_err(Error::from)?;
        let wanted = self.platform.as_deref().map(platform::parse_id).transpose()?;
        let (authority, operator) = open(&self.settings).await?;
        let platforms = authority.list_platforms(&operator).await?;
        if let Some(id) = wanted
            && !platforms.iter().any(|platform| platform.id == id)
        {
            return Err(Failure::Refused("there is no such platform; see countersign platform list".to_owned()));
        }
        let (mut tokens, mut more) = (Vec::new(), false);
        for platform in platforms.iter().filter(|platform| wanted.is_none_or(|id| platform.id == id)) {
            for environment in
                Environment::ALL.into_iter().filter(|environment| self.environment.is_none_or(|wanted| wanted == *environment))
            {
                let caller = authority.locate_platform(&operator, platform.id, environment).await?;
                let by = caller.may_read().map_err(Error::from)?;
                let mut left = self.limit;
                let mut cursor = None;
                while let Some(limit) = PageLimit::new(u16::try_from(left.min(100)).unwrap_or(100)) {
                    let list = ListTokens {
                        liveness: if self.all { Liveness::All } else { Liveness::Live },
                        filter: TokenFilter { name: name.clone(), ..TokenFilter::default() },
                        order: Order::NewestFirst,
                        cursor: cursor.take(),
                        limit,
                        count: false,
                    };
                    let page = authority.list_tokens(&by, list).await?;
                    left -= page.tokens.len().min(left);
                    tokens.extend(page.tokens);
                    cursor = page.next;
                    if cursor.is_none() {
                        break;
                    }
                }
                more |= cursor.is_some();
            }
        }
        let text = || {
            if tokens.is_empty() {
                return "There is no such token. Issue one: countersign token create --help".to_owned();
            }
            let rows: Vec<_> = tokens.iter().map(row).collect();
            let rest = if more { "\n\nThere are more: raise --limit." } else { "" };
            format!("{}{rest}", output::table(&["ID", "ENVIRONMENT", "NAME", "PERMISSIONS", "STATUS", "CREATED"], &rows))
        };
        let json = || json!({ "tokens": tokens.iter().map(wire::token).collect::<Vec<_>>(), "more": more });
        output::print(self.output, text, json)
    }
}

fn row(token: &Token) -> Vec<String> {
    vec![
        token.id.to_string(),
        token.scope.environment.to_string(),
        harmless(token.name.as_str()),
        token.permissions.to_string(),
        wire::status(token).to_owned(),
        token.created_at().to_string(),
    ]
}

impl One {
    async fn show(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let (authority, operator) = open(&self.settings).await?;
        let by = authority.locate_token(&operator, id).await.map_err(unknown)?.may_read().map_err(Error::from)?;
        let token = authority.get_token(&by, id).await.map_err(unknown)?;
        let uses = authority.token_use(&by, id).await.map_err(unknown)?;
        let last_used = uses.last_used_at.map(|at| at.to_string());
        let mut json = wire::token(&token);
        json["lastUsedAt"] = last_used.clone().map_or(Value::Null, Value::from);
        json["uses"] = http::uses_json(&uses);
        let text = || {
            let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let counted = |uses: u64| if uses == 1 { "1 use".to_owned() } else { format!("{uses} uses") };
            let rows = [
                ("id", token.id.to_string()),
                ("name", harmless(token.name.as_str())),
                ("platform", token.scope.platform.to_string()),
                ("environment", token.scope.environment.to_string()),
                ("permissions", token.permissions.to_string()),
                ("clientId", token.client_id().to_string()),
                ("issued by", token.issuer.name().to_owned()),
                ("status", wire::status(&token).to_owned()),
                ("created", token.created_at().to_string()),
                ("revoked", shown(token.revoked_at.map(|at| at.to_string()))),
                ("last used", shown(last_used)),
                ("last hour", counted(uses.last_hour())),
                ("last 24 h", counted(uses.last_24_hours())),
                ("last 30 d", counted(uses.last_30_days())),
                ("last 365 d", counted(uses.last_365_days())),
            ];
            rows.map(|(name, value)| format!("{name:<12} {value}")).join("\n")
        };
        output::print(self.output, text, || json)
    }

    async fn revoke(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let (authority, operator) = open(&self.settings).await?;
        let by = authority.locate_token(&operator, id).await.map_err(unknown)?.may_manage().map_err(Error::from)?;
        let ended = authority.revoke_token(&by, id).await.map_err(unknown)?;
        let text = || {
            let at = ended.token.revoked_at.map(|at| at.to_string()).unwrap_or_default();
            let has = if ended.already { "had ended already" } else { "has ended" };
            format!("{id} {has}, at {at}. {}", output::receipt_text(&ended.receipt))
        };
        let mut json = wire::token(&ended.token);
        json["receipt"] = wire::receipt(&ended.receipt);
        output::print(self.output, text, || json)
    }
}
