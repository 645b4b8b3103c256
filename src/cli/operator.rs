//! `countersign operator …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    output::{self, Output, list, member, member_or_dash},
    platform,
    reach::{Asking, Declined, Reach},
};
use crate::{
    authority::Error,
    domain::{AccountName, OperatorTokenId, Role, Timestamp, TokenName},
};

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// Makes an operator's account, and prints this once the invitation with which they choose a password at the console
    Create(Create),
    /// Lists the operators
    List(Asking),
    /// Shows an operator
    Show(One),
    /// Gives an operator another role
    Role(ChangeRole),
    /// Disables an operator: they are signed out, and their tokens are nobody's, when this returns
    Disable(One),
    /// Enables an operator again
    Enable(One),
    /// Takes away an operator's password and second factor, and prints a new invitation
    Reset(One),
    /// Tokens with which programs act for an operator
    #[command(subcommand)]
    Token(OperatorTokenCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum OperatorTokenCommand {
    /// Makes a token; prints it this once
    Create(CreateToken),
    /// Lists an operator's tokens
    List(One),
    /// Ends a token: no server takes it any more when this returns
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Their name: an e-mail address, or another one in lower case
    name: String,
    /// viewer (sees everything), manager (issues and ends tokens too) or owner (may do everything)
    #[arg(long, value_parser = role)]
    role: Role,
    /// Only this platform's: for its own staff
    #[arg(long)]
    platform: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The operator's name
    name: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct ChangeRole {
    /// The operator's name
    name: String,
    /// viewer, manager or owner
    #[arg(value_parser = role)]
    role: Role,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct CreateToken {
    /// The operator's name
    #[arg(long)]
    operator: String,
    /// What the token is for
    #[arg(long)]
    name: String,
    /// When it ends of itself: a moment such as 2027-01-31T00:00:00Z
    #[arg(long, value_parser = moment)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct RevokeToken {
    /// The token's id
    id: String,
    #[command(flatten)]
    asking: Asking,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "it is viewer, manager or owner".to_owned())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text, true).ok_or_else(|| "it is a moment such as 2027-01-31T00:00:00Z".to_owned())
}

fn name(text: &str) -> Result<AccountName, Failure> {
    Ok(AccountName::parse("the name", text).map_err(Error::from)?)
}

fn unknown(declined: Declined) -> Declined {
    declined.or_missing("there is no such operator; see countersign operator list").or_edited(
        "that operator's row was edited in the database, or sealed by a key that is retired; countersign operator reset NAME makes it good",
    )
}

impl OperatorCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(asking) => list_all(&asking).await,
            Self::Show(one) => {
                let path = format!("/operators/{}", name(&one.name)?);
                print(one.asking.output, &one.asking.reach().await?.get(&path).await.map_err(unknown)?)
            }
            Self::Role(change) => {
                let path = format!("/operators/{}/role", name(&change.name)?);
                let role = json!({ "role": change.role.name() });
                print(change.asking.output, &change.asking.reach().await?.post(&path, Some(role)).await.map_err(unknown)?)
            }
            Self::Disable(one) => one.set("disable").await,
            Self::Enable(one) => one.set("enable").await,
            Self::Reset(one) => {
                let path = format!("/operators/{}/reset", name(&one.name)?);
                let reach = one.asking.reach().await?;
                let json = reach.post(&path, None).await.map_err(unknown)?;
                invited(one.asking.output, &json, &reach)
            }
            Self::Token(OperatorTokenCommand::Create(create)) => create.run().await,
            Self::Token(OperatorTokenCommand::List(one)) => one.list_tokens().await,
            Self::Token(OperatorTokenCommand::Revoke(revoke)) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Outcome {
        let name = name(&self.name)?;
        let platform = self.platform.as_deref().map(platform::parse_id).transpose()?.map(|id| id.to_string());
        let reach = self.asking.reach().await?;
        let new = json!({ "name": name.as_str(), "role": self.role.name(), "platform": platform });
        let json = reach.post("/operators", Some(new)).await.map_err(platform::unknown)?;
        invited(self.asking.output, &json, &reach)
    }
}

async fn list_all(asking: &Asking) -> Outcome {
    let json = asking.reach().await?.get("/operators").await?;
    let text = || match list(&json, "operators") {
        [] => "There is no operator yet. Make the first one: countersign operator create NAME --role owner".to_owned(),
        all => table(all),
    };
    asking.print(text, &json)
}

impl One {
    /// Disables or enables them.
    async fn set(self, change: &str) -> Outcome {
        let path = format!("/operators/{}/{change}", name(&self.name)?);
        print(self.asking.output, &self.asking.reach().await?.post(&path, None).await.map_err(unknown)?)
    }

    async fn list_tokens(self) -> Outcome {
        let path = format!("/operators/{}/tokens", name(&self.name)?);
        let json = self.asking.reach().await?.get(&path).await.map_err(unknown)?;
        let text = || match list(&json, "operatorTokens") {
            [] => "They have no token. Make one: countersign operator token create --help".to_owned(),
            tokens => {
                let row = |token: &Value| {
                    let (of, shown) = (|name| member(token, name), |name| member_or_dash(token, name));
                    vec![of("id"), of("name"), of("createdAt"), shown("expiresAt"), shown("revokedAt")]
                };
                output::table(&["ID", "NAME", "CREATED", "EXPIRES", "REVOKED"], &tokens.iter().map(row).collect::<Vec<_>>())
            }
        };
        self.asking.print(text, &json)
    }
}

impl CreateToken {
    async fn run(self) -> Outcome {
        let (account, named) = (name(&self.operator)?, TokenName::parse("--name", &self.name).map_err(Error::from)?);
        let new = json!({ "name": named.as_str(), "expiresAt": self.expires.map(|at| at.to_string()) });
        let reach = self.asking.reach().await?;
        let json = reach.post(&format!("/operators/{account}/tokens"), Some(new)).await.map_err(unknown)?;
        let text = || format!("The token is shown this once:\n\n{}\n", member(&json, "token"));
        output::print_once(self.asking.output, text, || json.clone())
    }
}

impl RevokeToken {
    async fn run(self) -> Outcome {
        const NONE: &str = "there is no such token of an operator; see countersign operator token list";
        let id = uuid::Uuid::try_parse(&self.id).map(OperatorTokenId).map_err(|_| Failure::Refused(NONE.to_owned()))?;
        let reach = self.asking.reach().await?;
        let revoked = reach.post(&format!("/operator-tokens/{}/revoke", id.0), None).await;
        let json = revoked.map_err(|declined| declined.or_missing(NONE))?;
        self.asking.print(|| format!("{} has ended, at {}.", id.0, member(&json, "revokedAt")), &json)
    }
}

fn print(output: Output, json: &Value) -> Outcome {
    output::print(output, || table(std::slice::from_ref(&json["operator"])), || json.clone())
}

fn invited(output: Output, json: &Value, reach: &Reach) -> Outcome {
    let text = || {
        format!(
            "{}\n\nTheir invitation, shown this once, good until {}:\n\n  {}\n\nThey open the console ({}), choose\n\"I have an invitation\", and set up a password and a second factor.\n",
            table(std::slice::from_ref(&json["operator"])),
            member(&json["operator"], "invitedUntil"),
            member(json, "invitation"),
            reach.console(),
        )
    };
    output::print_once(output, text, || json.clone())
}

fn table(all: &[Value]) -> String {
    let row = |operator: &Value| {
        let of = |name| member(operator, name);
        let state = match of("invitedUntil") {
            until if until.is_empty() => of("status"),
            until => format!("invited until {until}"),
        };
        let platform = Some(of("platform")).filter(|id| !id.is_empty()).unwrap_or_else(|| "all".to_owned());
        vec![of("name"), of("role"), platform, of("createdAt"), state]
    };
    output::table(&["NAME", "ROLE", "PLATFORM", "CREATED", "STATE"], &all.iter().map(row).collect::<Vec<_>>())
}
