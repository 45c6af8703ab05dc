//! The mailbox as one session sees it: message numbers, and what the client has been told.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::question::{Changes, Messages, Opened};
use crate::grammar::flags::Flags;
use crate::grammar::search::Resolve;
use crate::grammar::sequence::{Ranges, SequenceSet};
use crate::mailbox_name::MailboxName;
use crate::response::write_fetch_flags;

/// A selected mailbox. Its numbers change only when the client is told (I10).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct View {
    pub(super) name: MailboxName,
    pub(super) read_only: bool,
    /// UIDs in the order of message numbers.
    pub(super) uids: Arc<Vec<u32>>,
    pub(super) recent: Arc<Ranges>,
    pub(super) keywords: Vec<Arc<str>>,
    pub(super) mark: u64,
    /// Flags that the client knows already because its own command set them.
    known: HashMap<u32, Flags>,
    /// Gone, but the client may not hear of it yet.
    hidden: Vec<u32>,
}

impl View {
    pub(super) fn new(name: MailboxName, opened: &Opened, read_only: bool) -> Self {
        Self {
            name,
            read_only,
            uids: Arc::new(opened.uids.clone()),
            recent: Arc::new(Ranges::of_numbers(&opened.recent)),
            keywords: opened.keywords.clone(),
            mark: opened.mark,
            known: HashMap::new(),
            hidden: Vec::new(),
        }
    }

    pub(super) fn exists(&self) -> u32 {
        u32::try_from(self.uids.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn number_of(&self, uid: u32) -> Option<u32> {
        self.uids.binary_search(&uid).ok().and_then(|at| u32::try_from(at + 1).ok())
    }

    /// The messages of a set; none where message numbers are not in the mailbox. Unknown UIDs are ignored (I16).
    pub(super) fn messages(&self, set: &SequenceSet, uid: bool) -> Option<Messages> {
        let numbers = if uid { self.numbers_of(&self.resolve_uids(set)) } else { self.resolve_numbers(set)? };
        Some(Messages { view: Arc::clone(&self.uids), numbers })
    }

    fn resolve_numbers(&self, set: &SequenceSet) -> Option<Ranges> {
        let numbers = set.resolve(self.exists());
        let inside =
            numbers.first().is_some_and(|first| first > 0) && numbers.last().is_some_and(|last| last <= self.exists());
        inside.then_some(numbers)
    }

    fn resolve_uids(&self, set: &SequenceSet) -> Ranges {
        set.resolve(self.uids.last().copied().unwrap_or(0))
    }

    /// Message numbers of the UIDs that are here; logarithmic in the mailbox for each range.
    fn numbers_of(&self, uids: &Ranges) -> Ranges {
        let before = |uid: u32| self.uids.partition_point(|&u| u < uid);
        let up_to = |uid: u32| self.uids.partition_point(|&u| u <= uid);
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        uids.as_slice()
            .iter()
            .map(|&(a, b)| (number(before(a)) + 1, number(up_to(b))))
            .filter(|(a, b)| a <= b)
            .collect()
    }

    /// The client has been told these flags, or asked not to be told (`.SILENT`).
    pub(super) fn knows(&mut self, flags: impl IntoIterator<Item = (u32, Flags)>) {
        self.known.extend(flags);
    }

    /// Writes what the client must hear, and changes the view accordingly.
    pub(super) fn apply(&mut self, changes: Changes, expunges: bool, uid_shown: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.mark = changes.mark;
        if let Some(keywords) = changes.keywords.filter(|k| *k != self.keywords) {
            self.keywords = keywords;
            out.extend_from_slice(self.flags_lines().as_bytes());
        }
        self.write_flags(changes.flags, uid_shown, &mut out);
        // An answer names all that is gone, or nothing if nothing changed since.
        if !changes.vanished.is_empty() {
            self.hidden = changes.vanished;
        }
        if expunges {
            self.write_expunges(&mut out);
        }
        self.write_arrivals(changes.appeared, &changes.recent, &mut out);
        out
    }

    fn write_flags(&mut self, flags: Vec<(u32, Flags)>, uid_shown: bool, out: &mut Vec<u8>) {
        let known = std::mem::take(&mut self.known);
        for (uid, mut flags) in flags {
            flags.sort();
            let same = known.get(&uid).is_some_and(|k| {
                let mut k = k.clone();
                k.sort();
                k == flags
            });
            if let Some(number) = self.number_of(uid).filter(|_| !same) {
                write_fetch_flags(number, uid_shown.then_some(uid), &flags, self.recent.contains(uid), out);
            }
        }
    }

    /// From the last to the first, so that the numbers in the lines stay simple and the work linear.
    fn write_expunges(&mut self, out: &mut Vec<u8>) {
        if self.hidden.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.hidden);
        gone.sort_unstable();
        gone.dedup();
        for uid in gone.iter().rev() {
            if let Some(number) = self.number_of(*uid) {
                out.extend_from_slice(format!("* {number} EXPUNGE\r\n").as_bytes());
            }
        }
        Arc::make_mut(&mut self.uids).retain(|uid| gone.binary_search(uid).is_err());
        let kept: Vec<u32> = self.recent_uids().filter(|uid| gone.binary_search(uid).is_err()).collect();
        self.recent = Arc::new(Ranges::of_numbers(&kept));
    }

    /// EXISTS before a message is mentioned (I11).
    fn write_arrivals(&mut self, appeared: Vec<u32>, recent: &[u32], out: &mut Vec<u8>) {
        let last = self.uids.last().copied().unwrap_or(0);
        let new: Vec<u32> = appeared.into_iter().filter(|&uid| uid > last).collect();
        if new.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.uids).extend_from_slice(&new);
        let all = self.recent.as_slice().iter().copied().chain(recent.iter().map(|&uid| (uid, uid)));
        self.recent = Arc::new(all.collect());
        out.extend_from_slice(format!("* {} EXISTS\r\n* {} RECENT\r\n", self.exists(), self.recent_count()).as_bytes());
    }

    fn recent_uids(&self) -> impl Iterator<Item = u32> + '_ {
        let inside = self.numbers_of(&self.recent);
        let uids: Vec<u32> = inside.numbers().filter_map(|n| self.uids.get(n as usize - 1).copied()).collect();
        uids.into_iter()
    }

    pub(super) fn recent_count(&self) -> u64 {
        self.numbers_of(&self.recent).count()
    }

    /// The FLAGS and PERMANENTFLAGS lines.
    pub(super) fn flags_lines(&self) -> String {
        let keywords: String = self.keywords.iter().map(|k| format!(" {k}")).collect();
        let flags = format!("\\Answered \\Flagged \\Deleted \\Seen \\Draft{keywords}");
        let permanent = match self.read_only {
            true => "* OK [PERMANENTFLAGS ()] Read-only mailbox.".to_owned(),
            false => format!("* OK [PERMANENTFLAGS ({flags} \\*)] Flags permitted."),
        };
        format!("* FLAGS ({flags})\r\n{permanent}\r\n")
    }
}

impl Resolve for View {
    fn messages(&self, set: &SequenceSet) -> Option<Ranges> {
        let numbers = self.resolve_numbers(set)?;
        Some(numbers.as_slice().iter().map(|&(a, b)| (self.uids[a as usize - 1], self.uids[b as usize - 1])).collect())
    }

    fn uids(&self, set: &SequenceSet) -> Ranges {
        self.resolve_uids(set)
    }

    fn recent(&self) -> Ranges {
        (*self.recent).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(uids: &[u32], recent: &[u32]) -> View {
        let opened = Opened { uids: uids.to_vec(), recent: recent.to_vec(), ..Opened::default() };
        View::new(MailboxName::inbox(), &opened, false)
    }

    fn said(view: &mut View, changes: Changes, expunges: bool) -> String {
        String::from_utf8(view.apply(changes, expunges, false)).expect("ASCII")
    }

    #[test]
    fn expunges_wait_until_they_may_be_told() {
        // I10
        let mut v = view(&[3, 5, 9], &[9]);
        let changes = Changes { vanished: vec![3, 9], appeared: vec![10], recent: vec![10], ..Changes::default() };
        assert_eq!(said(&mut v, changes, false), "* 4 EXISTS\r\n* 2 RECENT\r\n");
        assert_eq!(v.number_of(5), Some(2));
        let again = Changes { vanished: vec![3, 9], ..Changes::default() };
        assert_eq!(said(&mut v, again, true), "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n");
        assert_eq!((v.number_of(5), v.number_of(10), v.recent_count()), (Some(1), Some(2), 1));
    }

    #[test]
    fn a_client_is_not_told_what_it_set_itself() {
        // I18
        let seen = Flags { system: crate::grammar::flags::SystemFlags::SEEN, keywords: Vec::new() };
        let mut v = view(&[3, 5], &[]);
        v.knows([(3, seen.clone())]);
        let changes = || Changes { flags: vec![(3, seen.clone()), (5, seen.clone())], ..Changes::default() };
        assert_eq!(said(&mut v, changes(), true), "* 2 FETCH (FLAGS (\\Seen))\r\n");
        assert_eq!(said(&mut v, changes(), true).lines().count(), 2);
    }

    #[test]
    fn uids_that_are_unknown_are_ignored_and_numbers_that_are_unknown_are_an_error() {
        // I16
        let v = view(&[3, 5, 9], &[]);
        let set = |text: &str| crate::grammar::sequence::sequence_set(text.as_bytes()).expect("set").1;
        let numbers = |text: &str, uid| v.messages(&set(text), uid).map(|m| m.numbers.to_string());
        assert_eq!(numbers("1:4,7,9:*", true).as_deref(), Some("1,3"));
        assert_eq!(numbers("100:*", true).as_deref(), Some("3"));
        assert_eq!(numbers("4", true).as_deref(), Some(""));
        assert_eq!(numbers("2:*", false).as_deref(), Some("2:3"));
        assert_eq!(numbers("2:4", false), None);
        assert_eq!(view(&[], &[]).messages(&set("*"), false).map(|m| m.numbers.is_empty()), None);
        assert_eq!(view(&[], &[]).messages(&set("1:*"), true).map(|m| m.numbers.is_empty()), Some(true));
    }
}
