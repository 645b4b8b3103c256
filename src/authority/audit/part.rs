//! Verifying the log while it is served: a part of it at a time, each from where the one before ended.
//!
//! Every entry is sealed together with the seal of the one before. So the parts are as good as the whole in one go: the first
//! entry of a part is held against the seal that the last one of the part before has in its row, and whoever has edited that
//! since has broken what is behind it. Heads are not looked at, which are worth most where this server is not; but this
//! process knows the last place that it has followed, and so notices a log that was cut off under it.

use std::time::Duration;

use super::{
    Outline, Tree, Verified,
    ended::{AccountSays, Ended, named},
    head::Checked,
    of_checkpoint,
    verify::Walk,
};
use crate::{
    authority::{Authority, Error, feed::Followed},
    domain::{AccountName, Action, AuditQuery, Invalid, Operator, PageLimit},
    store::{Mark, Sealed},
};

/// Entries that are read at once: whoever verifies tokens on this thread waits for no more.
const AT_ONCE: u64 = 500;
/// How long a part may take; then it ends where it is.
const LONGEST: Duration = Duration::from_secs(4);

/// A part of the log that was verified.
#[derive(Debug, Clone)]
pub struct Part {
    /// What was verified of it.
    pub verified: Verified,
    /// The last place of the log.
    pub of: u64,
    /// Behind which place to go on, if there is more.
    pub next: Option<u64>,
}

impl Authority {
    /// Verifies the log behind a place, which is 0 or where the part before has ended: at most so many entries, and where
    /// there are checkpoints, up to one of those. One part at a time, whoever asks.
    ///
    /// # Errors
    /// [`Error::RoleLacking`]; [`Error::Invalid`] if there is no such place; [`Error::Changed`] if it was pruned meanwhile;
    /// [`Error::Busy`], [`Error::Unavailable`]. What is wrong with the log is no error.
    pub async fn verify_audit(&self, by: &Operator, after: u64, most: u64) -> Result<Part, Error> {
        by.may_oversee()?;
        let _turn = self.log_turns.take().await?;
        // Before it is looked where the log ends: what this process has followed is in it.
        let known = self.followed();
        let mut outline = self.outline().await?;
        let start = outline.start().0;
        let part = self.verify_part(&mut outline, &known, after, most.max(1)).await?;
        // What is gone because it was pruned a moment ago is not missing.
        if part.verified.found > 0 && self.outline().await?.start().0 != start {
            return Err(Error::Changed);
        }
        Ok(part)
    }

    async fn outline(&self) -> Result<Outline, Error> {
        let (checkpoints, last) = (self.store.list_checkpoints().await?, self.store.last_mark().await?);
        Ok(Outline::new(self.keyring.clone(), last, checkpoints))
    }

    async fn verify_part(&self, outline: &mut Outline, known: &Followed, after: u64, most: u64) -> Result<Part, Error> {
        let (start, tree) = outline.start();
        let is_first = after <= start.seq;
        let (from, tree) = if is_first { (start, Some(tree)) } else { self.place(outline, after).await? };
        if !is_first {
            outline.odd_checkpoints.clear();
        }
        let last = outline.last.seq;
        let most = from.seq.saturating_add(most);
        let checkpoint = outline.checkpoints.iter().map(|checkpoint| checkpoint.mark.seq).rfind(|seq| (from.seq + 1..=most).contains(seq));
        let through = if most >= last { last } else { checkpoint.unwrap_or(most) };
        let (checked, began) = (Checked::default(), self.clock.boot());
        let mut walk = Walk::new(outline, &checked, (from, tree), |_, _| {});
        let mut is_over = from.seq >= last;
        while walk.last.seq < through && self.clock.boot().saturating_sub(began) < LONGEST {
            let at_once = usize::try_from(AT_ONCE.min(through - walk.last.seq)).unwrap_or(usize::MAX);
            let mut page = self.store.entries_behind(walk.last.seq, at_once).await?;
            // What was committed since it was looked where the log ends is of another time.
            page.retain(|(seq, _)| *seq <= last);
            is_over = page.is_empty();
            if is_over {
                break;
            }
            for (seq, kept) in &page {
                match kept {
                    // Not edited, and not to be proven here: as with any row under a key that this process has not got yet.
                    Ok((_, seal)) if self.keys.lacking().contains(&seal.key) => return Err(self.lacking(seal.key)),
                    Ok((entry, seal)) => {
                        walk.entry(entry, seal);
                        if *seq == known.mark.seq && seal.mac != known.mark.mac && !walk.broken {
                            walk.verified.note(*seq, format!("audit entry {seq} is not the one that this server has followed"));
                        }
                    }
                    Err(name) => {
                        if *seq > walk.last.seq + 1 {
                            walk.missing(walk.last.seq + 1, *seq - 1, "there is a gap");
                            walk.last.seq = *seq - 1;
                        }
                        walk.unreadable(name);
                    }
                }
            }
            let ended = std::mem::take(&mut walk.ended);
            self.hold_against(&mut walk, &ended).await?;
        }
        is_over = is_over || walk.last.seq >= last;
        if is_first {
            let before_first = self.store.count_before_first().await?;
            walk.before_first(before_first);
        }
        let next = (!is_over).then_some(walk.last.seq);
        let is_new = walk.last == Mark::START && self.store.list_platforms().await?.is_empty();
        let (reached, feed) = (walk.last.seq, outline.last.seq);
        let mut verified = if is_over { walk.finish(is_new) } else { walk.so_far() };
        if is_over && known.mark.seq > reached.max(feed) {
            let what = format!(
                "audit entries {} to {} are missing: this server has followed them, so the end was cut off, or the database is an older one",
                reached + 1,
                known.mark.seq
            );
            verified.note(reached + 1, what);
        }
        Ok(Part { verified, of: last, next })
    }

    /// What is known of the place behind which a part begins.
    async fn place(&self, outline: &Outline, after: u64) -> Result<(Mark, Option<Tree>), Error> {
        let checkpoint = outline.checkpoints.iter().find(|checkpoint| checkpoint.mark.seq == after);
        if let Some((mark, tree)) = checkpoint.and_then(of_checkpoint) {
            return Ok((mark, Some(tree)));
        }
        match self.store.entries_behind(after - 1, 1).await?.pop() {
            Some((seq, kept)) if seq == after => {
                // Of one that cannot be read, the part before has told; the next one is told too.
                Ok((Mark { seq, mac: kept.map_or([0; 32], |(_, seal)| seal.mac) }, None))
            }
            _ => Err(Invalid::one("after", "place", "must be 0, or the place of an entry, such as the last one of the part before").into()),
        }
    }

    /// Holds what lives against what the log says has ended.
    async fn hold_against<P: FnMut(u64, u64)>(&self, walk: &mut Walk<'_, P>, ended: &Ended) -> Result<(), Error> {
        if !ended.tokens.is_empty() {
            let live = self.store.unended_among(ended.tokens.keys().copied().collect()).await?;
            walk.note(live.into_iter().filter_map(|id| ended.live_token(id)));
        }
        for (&id, &seq) in &ended.platforms {
            let is_enabled = self.store.find_platform(id).await?.is_some_and(|record| record.platform.disabled_at.is_none());
            let enabling = AuditQuery { platform: Some(id), action: Some(Action::PlatformEnable), ..AuditQuery::default() };
            if is_enabled && self.store.list_audit(enabling).await?.0.first().is_none_or(|enabled| enabled.seq < seq) {
                walk.note(ended.enabled_platform(id));
            }
        }
        for (name, says) in &ended.accounts {
            let Some(record) = self.store.find_account(AccountName::stored(name)).await? else { continue };
            // What is behind this part may have changed it again.
            let differs = if says.differs(&record).is_some() { self.last_said(name, *says).await?.differs(&record) } else { None };
            walk.note(differs);
        }
        for id in ended.operator_tokens.keys() {
            let found = self.store.find_operator_token(*id).await?;
            walk.note(found.and_then(|(record, _)| ended.held_against(&Sealed::OperatorToken(record))));
        }
        for id in ended.bulks.keys() {
            let found = self.store.find_bulk(*id).await?;
            walk.note(found.and_then(|record| ended.held_against(&Sealed::Bulk(Box::new(record)))));
        }
        Ok(())
    }

    /// What the log says of an account with all that is behind what was known of it.
    async fn last_said(&self, name: &str, mut says: AccountSays) -> Result<AccountSays, Error> {
        let (since, mut before_seq, mut behind) = (says.since(), None, Vec::new());
        loop {
            let query = AuditQuery { action: Some(Action::OperatorChange), before_seq, limit: PageLimit::LARGEST, ..AuditQuery::default() };
            let (page, more) = self.store.list_audit(query).await?;
            before_seq = page.last().map(|entry| entry.seq);
            behind.extend(page.into_iter().take_while(|entry| entry.seq > since).map(|entry| (entry.seq, named(&entry))));
            if !more || before_seq.is_none_or(|seq| seq <= since) {
                break;
            }
        }
        let of_them = behind.into_iter().rev().filter(|(_, (of, _))| of.as_deref() == Some(name));
        of_them.for_each(|(seq, (_, detail))| says.note(seq, &detail));
        Ok(says)
    }
}
