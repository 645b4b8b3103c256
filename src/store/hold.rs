//! Why nothing may be served from a database, where that is so.

/// The reason, as the database keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It is being filled from another one.
    Copying,
    /// It is whole, and lacks what was revoked since the backup that it came from.
    Restored,
    /// It is a backup.
    Backup,
    /// Another one took its place.
    Moved,
}

impl Hold {
    const ALL: [Self; 4] = [Self::Copying, Self::Restored, Self::Backup, Self::Moved];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Restored => "restored",
            Self::Backup => "backup",
            Self::Moved => "moved",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.name() == name)
    }

    /// Whether nobody may change anything in it either. (Who restores ends what had ended.)
    pub(super) const fn keeps_changes_out(self) -> bool {
        !matches!(self, Self::Restored)
    }

    /// What it means for whoever wants to start on it.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Copying => {
                "this database is a copy that is not whole yet; run the same countersign migrate-store or restore again, which goes on where it was"
            }
            Self::Restored => {
                "this database was restored, and does not know yet which tokens were revoked since the backup; run the same countersign restore again"
            }
            Self::Backup => {
                "this is a backup, in which tokens are live that were revoked since it was made; bring it back with countersign restore"
            }
            Self::Moved => "this database was moved by countersign migrate-store, and another has its place; start on that one",
        }
    }
}
