//! The tree of hashes over the lines of the audit log (RFC 6962, RFC 9162): its root is of one log only, and that a line is in
//! that log is shown by as few hashes as the tree is high.
//!
//! The leaf of a line is `SHA-256(0x00 ‖ line)`, a node `SHA-256(0x01 ‖ left ‖ right)`, and the left half of a tree is the
//! greatest power of two that is smaller than it. Only the roots of the whole halves, the *peaks*, are kept.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// A hash of the tree.
pub(super) type Hash = [u8; 32];

/// The tree of so many leaves, by its peaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    /// One for each binary digit of the size that is 1, the greatest first.
    peaks: Vec<Hash>,
}

/// The leaf of a line.
pub(super) fn leaf(line: &str) -> Hash {
    Sha256::new().chain_update([0]).chain_update(line).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

impl Tree {
    /// The tree with these peaks, behind one another; `None` if they are not as many as the size says.
    pub(crate) fn of_peaks(size: u64, peaks: &[u8]) -> Option<Self> {
        let (peaks, rest) = peaks.as_chunks::<32>();
        (rest.is_empty() && peaks.len() == size.count_ones() as usize).then(|| Self { size, peaks: peaks.to_vec() })
    }

    /// The peaks behind one another.
    pub(crate) fn peaks(&self) -> Vec<u8> {
        self.peaks.concat()
    }

    /// Adds a leaf.
    pub(super) fn append(&mut self, leaf: Hash) {
        // A carry of binary addition: two peaks of one height become one of the next.
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                top = node(&left, &top);
            }
        }
        self.peaks.push(top);
        self.size += 1;
    }

    /// The hash of the whole tree.
    pub(super) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| node(left, &right))
    }

    /// The peaks as trees of their own, each with the leaves that it stands for.
    fn parts(&self) -> impl Iterator<Item = (Range<u64>, &Hash)> {
        let heights = (0..u64::BITS).rev().filter(|height| self.size >> height & 1 == 1);
        let mut start = 0;
        heights.zip(&self.peaks).map(move |(height, peak)| {
            let part = start..start + (1 << height);
            start = part.end;
            (part, peak)
        })
    }
}

/// Which hashes show that a leaf is in a tree: each is the root of these leaves. From the leaf upwards.
fn siblings(leaf: u64, leaves: Range<u64>) -> Vec<Range<u64>> {
    let (mut siblings, mut within) = (Vec::new(), leaves);
    while within.end - within.start > 1 {
        let middle = within.start + (1 << (within.end - within.start - 1).ilog2());
        let (inside, beside) =
            if leaf < middle { (within.start..middle, middle..within.end) } else { (middle..within.end, within.start..middle) };
        siblings.push(beside);
        within = inside;
    }
    siblings.reverse();
    siblings
}

/// The path of a leaf while it is gathered from the leaves, as they come.
pub(super) struct Path {
    siblings: Vec<(Range<u64>, Tree)>,
}

impl Path {
    /// Of a leaf, numbered from 0, in the tree of `size` leaves, of which those in `known` are there already and are not
    /// given any more. The leaf itself must not be one of those.
    pub(super) fn new(leaf: u64, size: u64, known: &Tree) -> Self {
        let siblings = siblings(leaf, 0..size).into_iter().map(|range| {
            // A sibling's leaves hang on whole peaks: whatever holds both a part of it and more would hold the leaf.
            let parts = known.parts().filter(|(part, _)| range.start <= part.start && part.end <= range.end);
            let tree = parts.fold(Tree::default(), |mut tree, (part, peak)| {
                tree.size += part.end - part.start;
                tree.peaks.push(*peak);
                tree
            });
            (range, tree)
        });
        Self { siblings: siblings.collect() }
    }

    /// Takes the next leaf.
    pub(super) fn take(&mut self, number: u64, leaf: Hash) {
        if let Some((_, tree)) = self.siblings.iter_mut().find(|(range, _)| range.contains(&number)) {
            tree.append(leaf);
        }
    }

    /// The hashes, from the leaf upwards; `None` if leaves are missing.
    pub(super) fn finish(self) -> Option<Vec<Hash>> {
        self.siblings.into_iter().map(|(range, tree)| (tree.size == range.end - range.start).then(|| tree.root())).collect()
    }
}

/// The root of the tree of `size` leaves that has this leaf, numbered from 0, as its path says.
pub(super) fn root_by_path(number: u64, size: u64, leaf: Hash, path: &[Hash]) -> Option<Hash> {
    let siblings = siblings(number, 0..size);
    (number < size && siblings.len() == path.len()).then(|| {
        siblings
            .iter()
            .zip(path)
            .fold(leaf, |hash, (range, beside)| if range.start > number { node(&hash, beside) } else { node(beside, &hash) })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word (RFC 9162, 2.1.1).
    fn root_of(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node(&root_of(&leaves[..half]), &root_of(&leaves[half..]))
            }
        }
    }

    /// The same of a path (2.1.3.1).
    fn path_of(number: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (mut path, beside) = if number < half {
            (path_of(number, &leaves[..half]), root_of(&leaves[half..]))
        } else {
            (path_of(number - half, &leaves[half..]), root_of(&leaves[..half]))
        };
        path.push(beside);
        path
    }

    fn leaves(size: usize) -> Vec<Hash> {
        (0..size).map(|n| leaf(&n.to_string())).collect()
    }

    fn tree(leaves: &[Hash]) -> Tree {
        leaves.iter().fold(Tree::default(), |mut tree, leaf| {
            tree.append(*leaf);
            tree
        })
    }

    /// The vectors that implementations of RFC 6962 share.
    #[test]
    fn known_roots() {
        let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(Tree::default().root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(leaf("")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }

    proptest! {
        #[test]
        fn it_is_what_is_defined(size in 0_usize..200, cut in 0_usize..200, number in 0_usize..200, gone in 0_usize..200) {
            let leaves = leaves(size);
            let whole = tree(&leaves);
            prop_assert_eq!((whole.root(), whole.size), (root_of(&leaves), size as u64));
            // Going on from peaks that were kept.
            let cut = cut.min(size);
            let kept = Tree::of_peaks(cut as u64, &tree(&leaves[..cut]).peaks()).unwrap();
            let mut goes_on = kept;
            leaves[cut..].iter().for_each(|leaf| goes_on.append(*leaf));
            prop_assert_eq!(&goes_on, &whole);
            if number < size {
                // With the leaves from some place on, and the peaks of those before.
                let gone = gone.min(number);
                let mut path = Path::new(number as u64, size as u64, &tree(&leaves[..gone]));
                (gone..size).for_each(|n| path.take(n as u64, leaves[n]));
                let path = path.finish().unwrap();
                prop_assert_eq!(&path, &path_of(number, &leaves));
                let root = |n: usize, leaf: Hash, path: &[Hash]| root_by_path(n as u64, size as u64, leaf, path);
                prop_assert_eq!(root(number, leaves[number], &path), Some(whole.root()));
                prop_assert_ne!(root(number, leaf("another"), &path), Some(whole.root()));
                if let Some((_, shorter)) = path.split_last() {
                    prop_assert_eq!(root(number, leaves[number], shorter), None);
                    prop_assert_ne!(root((number + 1) % size, leaves[number], &path), Some(whole.root()));
                }
            }
        }
    }

    #[test]
    fn peaks_that_do_not_fit() {
        assert_eq!(Tree::of_peaks(3, &[0; 32]), None);
        assert_eq!(Tree::of_peaks(2, &[0; 31]), None);
        assert_eq!(Tree::of_peaks(0, &[]), Some(Tree::default()));
    }
}
