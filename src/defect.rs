//! Defects on purpose, so that the proof can be seen to fail; and a pause where it would be hit by chance only, which
//! correct code must stand. Only in builds with the feature `defects`, which no release has: elsewhere there is neither,
//! and the compiler knows it.

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The clock of leases stands still, as one does that does not count suspend.
    Clock,
    /// The feed is read, and what it says is not applied.
    Feed,
    /// A late reader of the database brings an ended token back.
    Join,
    /// A receipt says less than a process may take that goes on without the database.
    Bound,
    /// The database answers a commit before it is on the disk.
    Sync,
    /// Whether a token has ended shows in how long it takes to refuse it.
    Timing,
}

impl Defect {
    /// Whether this process has it.
    #[cfg(feature = "defects")]
    pub(crate) fn is_seeded(self) -> bool {
        static SEEDED: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| told("DEFECT"));
        let name = match self {
            Self::Clock => "clock",
            Self::Feed => "feed",
            Self::Join => "join",
            Self::Bound => "bound",
            Self::Sync => "sync",
            Self::Timing => "timing",
        };
        SEEDED.as_deref() == Some(name)
    }

    #[cfg(not(feature = "defects"))]
    #[inline(always)]
    pub(crate) const fn is_seeded(self) -> bool {
        false
    }
}

/// Between the read of a token's row and its insert into the index: time for an end to overtake it.
#[cfg(feature = "defects")]
pub(crate) async fn pause_behind_read() {
    static MILLIS: std::sync::LazyLock<Option<u64>> = std::sync::LazyLock::new(|| told("PAUSE")?.parse().ok());
    if let Some(millis) = *MILLIS {
        tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
    }
}

#[cfg(not(feature = "defects"))]
#[inline(always)]
pub(crate) async fn pause_behind_read() {}

#[cfg(feature = "defects")]
fn told(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "not a setting: no release reads it")]
    std::env::var(name).ok()
}
