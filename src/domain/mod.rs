//! The words of Countersign as types: pure, without I/O, clock, JSON, SQL or HTTP.
//!
//! Whatever a parser here lets through is valid everywhere below; nothing below checks again.

mod audit;
mod bulk;
mod caller;
mod credential;
mod invalid;
mod key_source;
mod loss;
mod operation;
mod operations;
mod operator;
mod permission;
mod platform;
mod query;
mod search;
mod source;
mod target;
mod time;
mod token;
mod usage;

pub use audit::{Action, Actor, AuditEntry, AuditQuery, HeadSink, RecordedEntry, RequestInfo};
pub use bulk::{BulkId, BulkRevoke, BulkState};
pub use caller::{Caller, Forbidden, MayManage, MayRead, Operator, Owner, Proven, RoleLacking};
pub use credential::{ClientId, ClientSecret, ClientTag, Presented, SecretBody, SecretDigest};
pub use invalid::{Invalid, Problem};
pub use key_source::KeySource;
pub use loss::OnDatabaseLoss;
pub use operation::{Described, Need, Operation, Rule};
pub use operations::{NoOperation, Operations};
pub use operator::{Account, AccountId, AccountName, OperatorSecret, OperatorToken, OperatorTokenId, Password, PresentedOperator, Role};
pub use permission::{Permission, Permissions};
pub use platform::{Environment, Platform, PlatformId, Scope};
pub use query::{Liveness, Order, PageLimit, TokenFilter, TokenQuery};
pub use search::{LastUse, TokenSearch, name_part};
pub use source::{UseSource, UseSources};
pub use target::{Ambiguous, Target};
pub use time::Timestamp;
pub use token::{Issuer, NewToken, Token, TokenId, TokenName};
pub use usage::{TokenUse, Use};
