//! `countersign operator …`

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Outcome, open,
    output::{self, Output, harmless},
    platform,
    settings::StoreSettings,
};
use crate::{
    authority::{AccountListed, Error, Invitation, Standing},
    domain::{AccountName, OperatorToken, OperatorTokenId, Role, Timestamp, TokenName},
    http::v1::wire,
};

#[derive(Debug, Subcommand)]
pub(super) enum OperatorCommand {
    /// Makes an operator's account, and prints this once the invitation with which they choose a password at the console
    Create(Create),
    /// Lists the operators
    List(List),
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
    /// The operator's name
    name: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct ChangeRole {
    /// The operator's name
    name: String,
    /// viewer, manager or owner
    #[arg(value_parser = role)]
    role: Role,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
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
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
}

#[derive(Debug, Args)]
pub(super) struct RevokeToken {
    /// The token's id
    id: String,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    settings: StoreSettings,
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

fn unknown(error: Error) -> Failure {
    match error {
        Error::NotFound => Failure::Refused("there is no such operator; see countersign operator list".to_owned()),
        Error::Tampered => Failure::Refused(
            "that operator's row was edited in the database, or sealed by a key that is retired; countersign operator reset NAME makes it good"
                .to_owned(),
        ),
        other => other.into(),
    }
}

impl OperatorCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(one) => {
                let (authority, owner) = open(&one.settings).await?;
                print(one.output, &authority.get_account(&owner, name(&one.name)?).await.map_err(unknown)?)
            }
            Self::Role(change) => {
                let (authority, owner) = open(&change.settings).await?;
                let listed = authority.set_account_role(&owner, name(&change.name)?, change.role).await.map_err(unknown)?;
                print(change.output, &listed)
            }
            Self::Disable(one) => one.set_disabled(true).await,
            Self::Enable(one) => one.set_disabled(false).await,
            Self::Reset(one) => {
                let (authority, owner) = open(&one.settings).await?;
                let (listed, invitation) = authority.reset_account(&owner, name(&one.name)?).await.map_err(unknown)?;
                invited(one.output, &listed, &invitation)
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
        let platform = self.platform.as_deref().map(platform::parse_id).transpose()?;
        let (authority, owner) = open(&self.settings).await?;
        let made = authority.create_account(&owner, name, self.role, platform).await;
        let (listed, invitation) = made.map_err(|error| match error {
            Error::NotFound => Failure::Refused("there is no such platform; see countersign platform list".to_owned()),
            other => other.into(),
        })?;
        invited(self.output, &listed, &invitation)
    }
}

impl List {
    async fn run(self) -> Outcome {
        let (authority, owner) = open(&self.settings).await?;
        let all = authority.list_accounts(&owner).await?;
        let text = || match all.as_slice() {
            [] => "There is no operator yet. Make the first one: countersign operator create NAME --role owner".to_owned(),
            all => table(all),
        };
        output::print(self.output, text, || json!({ "operators": all.iter().map(wire::operator).collect::<Vec<_>>() }))
    }
}

impl One {
    async fn set_disabled(self, disabled: bool) -> Outcome {
        let (authority, owner) = open(&self.settings).await?;
        print(self.output, &authority.set_account_disabled(&owner, name(&self.name)?, disabled).await.map_err(unknown)?)
    }

    async fn list_tokens(self) -> Outcome {
        let (authority, owner) = open(&self.settings).await?;
        let tokens = authority.list_operator_tokens(&owner, name(&self.name)?).await.map_err(unknown)?;
        let text = || {
            if tokens.is_empty() {
                return "They have no token. Make one: countersign operator token create --help".to_owned();
            }
            let shown = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            let row = |token: &OperatorToken| {
                let (created, name) = (token.created_at.to_string(), harmless(token.name.as_str()));
                vec![token.id.0.to_string(), name, created, shown(token.expires_at), shown(token.revoked_at)]
            };
            output::table(&["ID", "NAME", "CREATED", "EXPIRES", "REVOKED"], &tokens.iter().map(row).collect::<Vec<_>>())
        };
        output::print(self.output, text, || json!({ "operatorTokens": tokens.iter().map(wire::operator_token).collect::<Vec<_>>() }))
    }
}

impl CreateToken {
    async fn run(self) -> Outcome {
        let (account, named) = (name(&self.operator)?, TokenName::parse("--name", &self.name).map_err(Error::from)?);
        let (authority, owner) = open(&self.settings).await?;
        let issued = authority.create_operator_token(&owner, account, named, self.expires).await.map_err(unknown)?;
        let text = || format!("The token is shown this once:\n\n{}\n", issued.secret.expose());
        let json = || {
            let mut json = wire::operator_token(&issued.token);
            json["token"] = issued.secret.expose().into();
            json
        };
        output::print_once(self.output, text, json)
    }
}

impl RevokeToken {
    async fn run(self) -> Outcome {
        let none = || Failure::Refused("there is no such token of an operator; see countersign operator token list".to_owned());
        let id = uuid::Uuid::try_parse(&self.id).map(OperatorTokenId).map_err(|_| none())?;
        let (authority, owner) = open(&self.settings).await?;
        let token = authority.revoke_operator_token(&owner, id).await.map_err(|error| match error {
            Error::NotFound => none(),
            other => other.into(),
        })?;
        let text = || format!("{} has ended, at {}.", token.id.0, token.revoked_at.map(|at| at.to_string()).unwrap_or_default());
        output::print(self.output, text, || wire::operator_token(&token))
    }
}

fn print(output: Output, listed: &AccountListed) -> Outcome {
    output::print(output, || table(std::slice::from_ref(listed)), || json!({ "operator": wire::operator(listed) }))
}

fn invited(output: Output, listed: &AccountListed, invitation: &Invitation) -> Outcome {
    let text = || {
        format!(
            "{}\n\nTheir invitation, shown this once, good until {}:\n\n  {}\n\nThey open the console (http://127.0.0.1:8421/ where a server runs), choose\n\"I have an invitation\", and set up a password and a second factor.\n",
            table(std::slice::from_ref(listed)),
            invitation.until(),
            invitation.expose(),
        )
    };
    let json = || json!({ "operator": wire::operator(listed), "invitation": invitation.expose() });
    output::print_once(output, text, json)
}

fn table(all: &[AccountListed]) -> String {
    let row = |listed: &AccountListed| {
        let AccountListed { account, standing } = listed;
        let state = match standing {
            Standing::Invited(until) => format!("invited until {until}"),
            other => wire::standing(*other).to_owned(),
        };
        let of = account.platform.map_or_else(|| "all".to_owned(), |id| id.to_string());
        vec![account.name.to_string(), account.role.to_string(), of, account.created_at.to_string(), state]
    };
    output::table(&["NAME", "ROLE", "PLATFORM", "CREATED", "STATE"], &all.iter().map(row).collect::<Vec<_>>())
}
