//! `countersign token …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure, Outcome, bulk,
    known::Known,
    output::{self, list, member, member_or_dash},
    platform,
    reach::{Asking, Declined, Reach, query},
};
use crate::{
    authority::{Clock as _, Error, SystemClock},
    domain::{Environment, Permissions, Timestamp, TokenId, TokenName, TokenUse},
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Issues a token; prints its secret this once
    Create(Create),
    /// Lists the tokens of a platform's environment, newest first; or looks for them by what is known of them
    List(List),
    /// Shows a token, and how it was used until the servers last wrote that (flush_interval)
    Show(One),
    /// Ends a token: no server accepts it any more when this returns, or from the moment on that it says
    Revoke(One),
    /// Ends all live tokens that are as said, if they are as many as is expected; root tokens are not among them
    BulkRevoke(bulk::Revoke),
    /// Lists the newest bulk revokes, and how far they are
    BulkRevokes(Asking),
    /// Ends no more tokens by a bulk revoke; what it has ended stays so
    BulkStop(bulk::One),
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
    #[command(flatten)]
    asking: Asking,
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
    #[arg(long, conflicts_with = "Known")]
    name: Option<String>,
    /// Ended ones too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    search: Search,
    /// At most so many of each environment; of all together where they are looked for everywhere
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    asking: Asking,
}

/// What else is said of the tokens that are looked for, wherever they are. Each row then says when it was last used.
#[derive(Debug, Args)]
pub(super) struct Search {
    #[command(flatten)]
    known: Known,
    /// Only those that have ended
    #[arg(long, conflicts_with_all = ["all", "name"])]
    ended: bool,
    /// The oldest first
    #[arg(long, conflicts_with = "name")]
    oldest: bool,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The token's id, in either form
    id: String,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn environment(text: &str) -> Result<Environment, String> {
    Environment::parse(text).ok_or_else(|| "it is sandbox or production".to_owned())
}

fn permissions(text: &str) -> Result<Permissions, String> {
    Permissions::parse(text).ok_or_else(|| "it is one or more of VIEW, TRANSACT, MANAGE, separated by commas".to_owned())
}

/// Reads a token's id.
pub(super) fn parse_id(text: &str) -> Result<TokenId, Failure> {
    TokenId::parse(text).ok_or_else(|| Failure::Refused("that is no token id; see countersign token list".to_owned()))
}

fn unknown(declined: Declined) -> Declined {
    declined.or_missing("there is no such token; see countersign token list")
}

impl TokenCommand {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Show(one) => one.show().await,
            Self::Revoke(one) => one.revoke().await,
            Self::BulkRevoke(revoke) => revoke.run().await,
            Self::BulkRevokes(asking) => bulk::list_all(&asking).await,
            Self::BulkStop(one) => one.stop().await,
        }
    }
}

impl Create {
    async fn run(self) -> Outcome {
        let name = TokenName::parse("--name", &self.name).map_err(Error::from)?;
        let new = json!({
            "platform": platform::parse_id(&self.platform)?.to_string(),
            "environment": self.environment.name(),
            "name": name.as_str(),
            "permissions": self.permissions.iter().map(|permission| permission.name()).collect::<Vec<_>>(),
        });
        let json = self.asking.reach().await?.post("/tokens", Some(new)).await.map_err(platform::unknown)?;
        output::print_once(
            self.asking.output,
            || format!("The secret is shown this once:\n\n{}", output::issued_text(&json)),
            || json.clone(),
        )
    }
}

/// Tokens on a page of the API at the most.
const PAGE: usize = 100;

impl Search {
    /// The parameters that say it; none where nothing is looked for.
    fn parameters(&self) -> Vec<(&'static str, Option<String>)> {
        let known = self.known.members().into_iter().map(|(name, value)| (name, Some(value)));
        known.chain(self.oldest.then(|| ("order", Some("oldest".to_owned())))).collect()
    }
}

impl List {
    async fn run(self) -> Outcome {
        let name = self.name.as_deref().map(|name| TokenName::parse("--name", name)).transpose().map_err(Error::from)?;
        let searched = self.search.parameters();
        let searches = self.search.ended || !searched.is_empty();
        let reach = self.asking.reach().await?;
        let (mut tokens, mut more) = (Vec::new(), false);
        for scope in self.scopes(&reach, searches).await? {
            let (platform, environment) = scope.unzip();
            let (mut left, mut cursor) = (self.limit, None);
            while left > 0 {
                let status = if self.search.ended {
                    "revoked"
                } else if self.all {
                    "all"
                } else {
                    "active"
                };
                let parameters = [
                    ("platform", platform.clone()),
                    ("environment", environment.map(|environment| environment.name().to_owned())),
                    ("name", name.as_ref().map(|name| name.as_str().to_owned())),
                    ("status", Some(status.to_owned())),
                    ("limit", Some(left.min(PAGE).to_string())),
                    ("cursor", cursor.clone()),
                ];
                let page = reach.get(&query("/tokens", &[&parameters[..], &searched].concat())).await.map_err(platform::unknown)?;
                let found = list(&page, "tokens");
                left = left.saturating_sub(found.len());
                tokens.extend_from_slice(found);
                let next = page["nextCursor"].as_str().map(str::to_owned);
                // A page without a token would be followed by itself, but where so many were looked at in vain.
                cursor = next.filter(|next| !found.is_empty() || searches && Some(next) != cursor.as_ref());
                if cursor.is_none() {
                    break;
                }
            }
            more |= cursor.is_some();
        }
        let text = || {
            if tokens.is_empty() {
                return match searches {
                    true => "No token is like that.".to_owned(),
                    false => "There is no such token. Issue one: countersign token create --help".to_owned(),
                };
            }
            let used = |token: &Value| if searches { Some(member_or_dash(token, "lastUsedAt")) } else { None };
            let rows: Vec<_> = tokens.iter().map(|token| row(token).into_iter().chain(used(token)).collect()).collect();
            let headings = ["ID", "ENVIRONMENT", "NAME", "PERMISSIONS", "STATUS", "CREATED", "LAST USED"];
            let rest = if more { "\n\nThere are more: raise --limit." } else { "" };
            format!("{}{rest}", output::table(&headings[..if searches { 7 } else { 6 }], &rows))
        };
        output::print(self.asking.output, text, || json!({ "tokens": tokens, "more": more }))
    }

    /// Halves of platforms to ask for, one behind the other; or everywhere at once, which only a search does.
    async fn scopes(&self, reach: &Reach, searches: bool) -> Result<Vec<Option<(String, Environment)>>, Failure> {
        let wanted = self.platform.as_deref().map(platform::parse_id).transpose()?;
        if searches && wanted.is_none() && self.environment.is_none() {
            return Ok(vec![None]);
        }
        let platforms = match wanted {
            Some(id) => vec![reach.get(&format!("/platforms/{id}")).await.map_err(platform::unknown)?["platform"].clone()],
            None => list(&reach.get("/platforms").await?, "platforms").to_vec(),
        };
        let ids = platforms.iter().filter_map(|platform| platform["id"].as_str().map(str::to_owned));
        let environments = || Environment::ALL.into_iter().filter(|one| self.environment.is_none_or(|wanted| wanted == *one));
        Ok(ids.flat_map(|id| environments().map(move |environment| Some((id.clone(), environment)))).collect())
    }
}

fn row(token: &Value) -> Vec<String> {
    let of = |name| member(token, name);
    vec![of("id"), of("environment"), of("name"), output::words(token, "permissions", ","), of("status"), of("createdAt")]
}

impl One {
    async fn show(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let json = self.asking.reach().await?.get(&format!("/tokens/{id}")).await.map_err(unknown)?;
        let text = || {
            let counted = |uses: u64| if uses == 1 { "1 use".to_owned() } else { format!("{uses} uses") };
            let (of, uses) = (|name| member(&json, name), uses(&json));
            let rows = [
                ("id", of("id")),
                ("name", of("name")),
                ("platform", of("platform")),
                ("environment", of("environment")),
                ("permissions", output::words(&json, "permissions", ",")),
                ("clientId", of("clientId")),
                ("issued by", of("issuerType")),
                ("status", of("status")),
                ("created", of("createdAt")),
                ("revoked", member_or_dash(&json, "revokedAt")),
                ("last used", member_or_dash(&json, "lastUsedAt")),
                ("last hour", counted(uses.last_hour())),
                ("last 24 h", counted(uses.last_24_hours())),
                ("last 30 d", counted(uses.last_30_days())),
                ("last 365 d", counted(uses.last_365_days())),
            ];
            let from = list(&json, "sources").iter().enumerate().map(|(n, source)| {
                let name = if n == 0 { "used from" } else { "" };
                (name, format!("{}, first {}, last {}", member(source, "address"), member(source, "firstAt"), member(source, "lastAt")))
            });
            rows.into_iter().chain(from).map(|(name, value)| format!("{name:<12} {value}")).collect::<Vec<_>>().join("\n")
        };
        self.asking.print(text, &json)
    }

    async fn revoke(self) -> Outcome {
        let id = parse_id(&self.id)?;
        let mut json = self.asking.reach().await?.post(&format!("/tokens/{id}/revoke"), None).await.map_err(unknown)?;
        // For the sentence alone: others rely on the members of the document.
        let already = json.as_object_mut().and_then(|members| members.remove("already")) == Some(Value::Bool(true));
        let text = || {
            let has = if already { "had ended already" } else { "has ended" };
            format!("{id} {has}, at {}. {}", member(&json, "revokedAt"), output::receipt_text(&json["receipt"]))
        };
        self.asking.print(text, &json)
    }
}

/// How a token was used, as its answer counts it. The answer does not say when it was made: that is now, or, where this machine's
/// clock is behind the server's, when the token was last used.
fn uses(json: &Value) -> TokenUse {
    let moment = |text: &str| Timestamp::parse_rfc3339(text, false);
    let last = json["lastUsedAt"].as_str().and_then(moment);
    let mut uses = TokenUse::as_of(SystemClock.wall().max(last.unwrap_or(Timestamp::from_millis(0))));
    let counts = |name| list(&json["uses"], name).iter().filter_map(|one| Some((one["at"].as_str()?, one["count"].as_u64()?)));
    for (at, count) in counts("minutes") {
        moment(at).into_iter().for_each(|at| uses.add_minute(at, count));
    }
    for (day, count) in counts("days") {
        moment(&format!("{day}T00:00:00Z")).into_iter().for_each(|at| uses.add_day(at, count));
    }
    uses
}
