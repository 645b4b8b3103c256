//! The JSON of the operator API, which is also what commands print.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    authority::{
        AccountListed, Copied, Difference, Figures, Found, Issued, KeyListed, Node, Reason, Receipt, Retired, Retirement, Standing,
        audit::{HeadKey, Part, Proof, Pruned},
        filter,
    },
    config::Shown,
    domain::{
        BulkRevoke, Need, Operation, Operations, OperatorToken, Platform, Proven, RecordedEntry, Timestamp, Token, UseSource, UseSources,
    },
};

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

pub(crate) fn platform(platform: &Platform) -> Value {
    json!({
        "id": platform.id.to_string(),
        "name": platform.name.as_str(),
        "createdAt": platform.created_at.to_string(),
        "disabledAt": text(platform.disabled_at),
    })
}

/// Whether a credential is proven, and as whom, or why not.
pub(crate) fn checked(checked: Result<Proven, Reason>) -> Value {
    let proven = checked.ok();
    json!({
        "verified": proven.is_some(),
        "reason": checked.err().map(Reason::name),
        "token": proven.map(|proven| proven.client_id.token.to_string()),
        "platform": proven.map(|proven| proven.scope.platform.to_string()),
        "environment": proven.map(|proven| proven.scope.environment.name()),
        "permissions": proven.map(|proven| proven.permissions.iter().map(|permission| permission.name()).collect::<Vec<_>>()),
    })
}

/// A platform and its root tokens as they are made. Others rely on exactly these members.
pub(crate) fn made(platform: &Platform, roots: &[Issued]) -> Value {
    let without_name = |root: &Issued| {
        let mut json = issued(root);
        json.as_object_mut().map(|members| members.remove("name"));
        json
    };
    json!({
        "platform": { "id": platform.id.to_string(), "name": platform.name.as_str(), "createdAt": platform.created_at.to_string() },
        "tokens": roots.iter().map(without_name).collect::<Vec<_>>(),
    })
}

pub(crate) const fn status(token: &Token) -> &'static str {
    if token.revoked_at.is_some() { "REVOKED" } else { "ACTIVE" }
}

fn permissions(token: &Token) -> Vec<&'static str> {
    token.permissions.iter().map(|permission| permission.name()).collect()
}

pub(crate) fn token(token: &Token) -> Value {
    json!({
        "id": token.id.to_string(),
        "name": token.name.as_str(),
        "platform": token.scope.platform.to_string(),
        "environment": token.scope.environment.name(),
        "permissions": permissions(token),
        "clientId": token.client_id().to_string(),
        "issuerType": token.issuer.name(),
        "revocable": token.revocable,
        "status": status(token),
        "createdAt": token.created_at().to_string(),
        "updatedAt": token.updated_at().to_string(),
        "revokedAt": text(token.revoked_at),
    })
}

pub(crate) fn bulk(bulk: &BulkRevoke) -> Value {
    json!({
        "id": bulk.id.to_string(),
        "operator": bulk.operator,
        "filter": filter(&bulk.search),
        "expectedCount": bulk.expected,
        "endedCount": bulk.ended,
        "status": bulk.state.name().to_uppercase(),
        "createdAt": bulk.created_at.to_string(),
        "overAt": text(bulk.state.over_at()),
    })
}

/// A token that was looked for.
pub(crate) fn found(found: &Found) -> Value {
    let mut json = token(&found.token);
    json["lastUsedAt"] = text(found.last_used_at).into();
    json
}

/// A new token with its secret, which is shown this once.
pub(crate) fn issued(issued: &Issued) -> Value {
    json!({
        "environment": issued.token.scope.environment.name(),
        "id": issued.token.id.to_string(),
        "name": issued.token.name.as_str(),
        "clientId": issued.token.client_id().to_string(),
        "clientSecret": issued.secret.as_ref().map(|secret| secret.expose()),
        "permissions": permissions(&issued.token),
    })
}

/// A length of time, in milliseconds that are not too few.
fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

pub(crate) fn receipt(receipt: &Receipt) -> Value {
    json!({
        "seq": receipt.seq,
        "effectiveAt": receipt.effective_at.to_string(),
        "boundMillis": millis(receipt.bound),
        "unheard": receipt.unheard,
    })
}

pub(crate) fn operation(operation: &Operation) -> Value {
    let Operation { method, path, id, need: needed, because } = operation;
    json!({ "method": method, "path": path, "operationId": id, "needs": need(*needed), "because": because })
}

/// The permissions as a list; null where nobody may.
pub(crate) fn need(need: Need) -> Value {
    match need {
        Need::Permissions(set) => json!(set.iter().map(|permission| permission.name()).collect::<Vec<_>>()),
        Need::Unknown => Value::Null,
    }
}

/// What loading operations changes, or, where there is a receipt, has changed.
pub(crate) fn difference(operations: &Operations, difference: &Difference, loaded: Option<&Receipt>) -> Value {
    let all = |operations: &[Operation]| operations.iter().map(operation).collect::<Vec<_>>();
    let changed = difference.changed.iter().map(|(before, after)| json!({ "before": operation(before), "after": operation(after) }));
    json!({
        "loaded": loaded.is_some(),
        "receipt": loaded.map(receipt),
        "operations": operations.all().len(),
        "added": all(&difference.added),
        "removed": all(&difference.removed),
        "changed": changed.collect::<Vec<_>>(),
    })
}

pub(crate) fn entry(recorded: &RecordedEntry) -> Value {
    let entry = &recorded.entry;
    json!({
        "seq": recorded.seq,
        "at": entry.at.to_string(),
        "action": entry.action.name(),
        "actor": entry.actor.to_string(),
        "platform": entry.platform.map(|id| id.to_string()),
        "environment": entry.scope.map(|scope| scope.environment.name()),
        "token": entry.token.map(|id| id.to_string()),
        "requestId": entry.request.id,
        "source": entry.request.source,
        "node": recorded.node,
        "detail": serde_json::from_str::<Value>(&entry.detail).unwrap_or_default(),
    })
}

/// Where a token was used from.
pub(crate) fn sources(sources: &UseSources) -> Value {
    let source = |source: &UseSource| {
        json!({
            "address": source.address.to_string(),
            "firstAt": source.first_at.to_string(),
            "lastAt": source.last_at.to_string(),
        })
    };
    sources.iter().map(source).collect()
}

pub(crate) const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Invited(_) => "invited",
        Standing::Active => "active",
        Standing::Disabled => "disabled",
        Standing::Broken => "broken",
    }
}

pub(crate) fn operator(listed: &AccountListed) -> Value {
    let AccountListed { account, standing: how } = listed;
    let invited_until = match how {
        Standing::Invited(until) => Some(until.to_string()),
        _ => None,
    };
    json!({
        "id": account.id.0.to_string(),
        "name": account.name.as_str(),
        "role": account.role.name(),
        "platform": account.platform.map(|id| id.to_string()),
        "status": standing(*how),
        "createdAt": account.created_at.to_string(),
        "disabledAt": text(account.disabled_at),
        "invitedUntil": invited_until,
    })
}

pub(crate) fn operator_token(token: &OperatorToken) -> Value {
    json!({
        "id": token.id.0.to_string(),
        "name": token.name.as_str(),
        "createdAt": token.created_at.to_string(),
        "expiresAt": text(token.expires_at),
        "revokedAt": text(token.revoked_at),
    })
}

/// The processes that answer from memory, the last place of the feed, and how the one that answers does; a command is none.
pub(crate) fn nodes(last: u64, nodes: &[Node], figures: &Figures) -> Value {
    let node = |node: &Node| {
        json!({
            "id": node.id,
            "here": node.is_here,
            "followed": node.followed,
            "behind": node.followed.map(|followed| last.saturating_sub(followed)),
            "leaseMillis": millis(node.lease),
            "staleMillis": millis(node.stale),
            "seenAt": node.seen_at.to_string(),
            "suspected": node.suspected,
        })
    };
    let server = figures.lease_holds.map(|lease_holds| {
        json!({
            "followed": figures.followed,
            "leaseHolds": lease_holds,
            "stale": figures.stale,
            "liveTokens": figures.live_tokens,
            "journalFailing": figures.journal_failing,
            "integrityFailures": figures.tampered,
            "keysLacking": figures.keys_lacking,
        })
    });
    json!({ "last": last, "nodes": nodes.iter().map(node).collect::<Vec<_>>(), "server": server })
}

/// A key, and what lives by it.
pub(crate) fn key(key: &KeyListed) -> Value {
    json!({
        "id": key.id,
        "state": key.state,
        "createdAt": key.created,
        "retiredAt": text(key.retired_at),
        "liveTokens": key.sealing.tokens,
        "platforms": key.sealing.platforms,
        "operations": key.sealing.operations,
    })
}

/// What retiring a key would end, or has.
pub(crate) fn retirement(plan: &Retirement, retired: Option<&Retired>) -> Value {
    let platforms = plan.platforms.iter().map(|(id, tokens)| json!({ "id": id.to_string(), "liveTokens": tokens }));
    let done = |retired: &Retired| json!({ "endedCount": retired.ended, "leftCount": retired.left, "receipt": receipt(&retired.receipt) });
    json!({
        "key": plan.key,
        "seq": plan.seq,
        "count": plan.count,
        "platforms": platforms.collect::<Vec<_>>(),
        "tokens": plan.first.iter().map(token).collect::<Vec<_>>(),
        "retired": retired.map(done),
    })
}

/// What was copied.
pub(crate) fn copied(copied: &Copied) -> Value {
    let table = |(table, rows, written): &(&str, u64, u64)| json!({ "table": table, "rows": rows, "written": written });
    json!({
        "finished": copied.unfinished.is_none(),
        "rows": copied.rows(),
        "written": copied.written(),
        "seq": copied.seq,
        "edited": copied.edited,
        "editedRows": copied.named,
        "tables": copied.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

pub(crate) fn setting(shown: &Shown) -> Value {
    json!({
        "name": shown.name,
        "value": shown.told(),
        "default": shown.default,
        "origin": shown.origin.kind(),
        "from": shown.origin.which(),
        "about": shown.help,
    })
}

/// The public keys with which heads and proofs are checked.
pub(crate) fn head_keys(keys: &[HeadKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| json!({ "keyId": key.id, "pem": key.pem() })).collect::<Vec<_>>() })
}

/// That an entry is in the log.
pub(crate) fn proof(proof: &Proof) -> Value {
    json!({ "entry": proof.entry, "path": proof.path, "head": proof.head })
}

/// What was removed of the audit log.
pub(crate) fn pruned(pruned: &Pruned) -> Value {
    json!({ "entries": pruned.entries, "through": pruned.through })
}

/// A part of the audit log that was verified, with the members that the whole has as a command prints it.
pub(crate) fn part(part: &Part) -> Value {
    let Part { verified, of, next } = part;
    json!({
        "intact": verified.found == 0,
        "entries": verified.entries,
        "first": verified.first,
        "last": verified.last,
        "of": of,
        "more": next.is_some(),
        "nextAfter": next,
        "checkpoints": verified.checkpoints,
        "problems": verified.problems.iter().map(|problem| json!({ "seq": problem.seq, "what": problem.what })).collect::<Vec<_>>(),
        "found": verified.found,
    })
}
