//! The audit log up to a place, in short.

use super::{Mark, Seal};

/// What stands for all entries up to a place: whoever reads the log may begin behind it.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    /// The last of these entries.
    pub(crate) mark: Mark,
    /// The peaks of the tree over their lines.
    pub(crate) peaks: Vec<u8>,
    /// Whether they are gone.
    pub(crate) pruned: bool,
    /// The proof.
    pub(crate) seal: Seal,
}
