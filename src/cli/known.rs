//! What is known of tokens that somebody looks for, as flags.

use clap::Args;

use crate::{
    authority::{Clock as _, SystemClock},
    domain::{Permission, Timestamp},
};

/// All that is given must hold.
#[derive(Debug, Args)]
pub(super) struct Known {
    /// Only with this in the name, whatever the case of letters a to z
    #[arg(long)]
    name_part: Option<String>,
    /// Only with this permission: VIEW, TRANSACT or MANAGE
    #[arg(long, value_parser = permission)]
    permission: Option<Permission>,
    /// Only those that were never used
    #[arg(long, conflicts_with_all = ["unused_for", "used_since"])]
    never_used: bool,
    /// Only those that were not used for so long, or never: 90d, 12h
    #[arg(long, value_parser = span, conflicts_with = "used_since")]
    unused_for: Option<i64>,
    /// Only those that were used at this moment or later, such as 2027-01-31T00:00:00Z
    #[arg(long, value_parser = lower)]
    used_since: Option<Timestamp>,
    /// Only those that were created at this moment or later
    #[arg(long, value_parser = lower)]
    created_since: Option<Timestamp>,
    /// Only those that were created at this moment or earlier
    #[arg(long, value_parser = upper)]
    created_until: Option<Timestamp>,
}

impl Known {
    /// What is given, by the names that the operator API has for it.
    pub(super) fn members(&self) -> Vec<(&'static str, String)> {
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let unused = self.unused_for.map(|span| SystemClock.wall().plus_millis(-span));
        let all = [
            ("namePart", self.name_part.clone()),
            ("permission", self.permission.map(|permission| permission.name().to_owned())),
            ("neverUsed", self.never_used.then(|| "true".to_owned())),
            ("usedBefore", text(unused)),
            ("usedSince", text(self.used_since)),
            ("createdSince", text(self.created_since)),
            ("createdUntil", text(self.created_until)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn permission(text: &str) -> Result<Permission, String> {
    Permission::parse(text).ok_or_else(|| "it is VIEW, TRANSACT or MANAGE".to_owned())
}

/// Milliseconds of a span of time.
fn span(text: &str) -> Result<i64, String> {
    let wrong = || "it is a whole number of days, hours or minutes, such as 90d, 12h or 30m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let length: i64 = match unit {
        "d" => 24 * 60 * 60 * 1000,
        "h" => 60 * 60 * 1000,
        "m" => 60 * 1000,
        _ => return Err(wrong()),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u32>().ok().filter(|_| plain).ok_or_else(wrong)?;
    Ok(length * i64::from(number))
}

fn moment(text: &str, lower: bool) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text, lower).ok_or_else(|| "it is a moment such as 2027-01-31T00:00:00Z".to_owned())
}

fn lower(text: &str) -> Result<Timestamp, String> {
    moment(text, true)
}

fn upper(text: &str) -> Result<Timestamp, String> {
    moment(text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        assert_eq!((span("90d"), span("12h"), span("0m")), (Ok(7_776_000_000), Ok(43_200_000), Ok(0)));
        assert!(span("4294967295d").is_ok());
        for odd in ["", "d", "90", "1w", "-1d", "+1d", " 1d", "1.5h", "99999999999d", "1é", "é"] {
            assert!(span(odd).is_err(), "{odd}");
        }
    }
}
