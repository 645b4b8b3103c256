//! Refusals, counted: a flood of them is one audit entry a minute, not one each.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Why a credential or a call was refused. For the log, the metrics and the audit log; the wire tells none apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No credential, two, another scheme, or nothing that could be ours.
    Malformed,
    /// A clientId that we never made, or whose token is gone.
    UnknownClient,
    /// The secret is another one.
    WrongSecret,
    /// The token has ended.
    Revoked,
    /// The platform is disabled.
    PlatformDisabled,
    /// The row is not as it was sealed.
    Tampered,
    /// Proven, but without the permission.
    Forbidden,
    /// Somebody who tried to sign in as an operator.
    SignIn,
    /// A program without a token of an operator, or with one that is nobody's.
    OperatorToken,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::UnknownClient,
        Self::WrongSecret,
        Self::Revoked,
        Self::PlatformDisabled,
        Self::Tampered,
        Self::Forbidden,
        Self::SignIn,
        Self::OperatorToken,
    ];

    /// The name, as metrics and the audit log write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownClient => "unknown_client",
            Self::WrongSecret => "wrong_secret",
            Self::Revoked => "revoked",
            Self::PlatformDisabled => "platform_disabled",
            Self::Tampered => "tampered",
            Self::Forbidden => "forbidden",
            Self::SignIn => "sign_in",
            Self::OperatorToken => "operator_token",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each reason applied: since start, and since the last audit entry.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    totals: [AtomicU64; Reason::ALL.len()],
    recorded: [AtomicU64; Reason::ALL.len()],
}

impl Denials {
    /// Counts one.
    pub(crate) fn note(&self, reason: Reason) {
        self.totals[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts since start.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.totals[reason as usize].load(Ordering::Relaxed)))
    }

    /// Counts since this was last called, those of zero left out.
    pub(crate) fn take(&self) -> Vec<(Reason, u64)> {
        self.totals()
            .map(|(reason, total)| (reason, total - self.recorded[reason as usize].swap(total, Ordering::Relaxed)))
            .filter(|(_, since)| *since > 0)
            .collect()
    }
}
