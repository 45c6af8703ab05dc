//! FETCH: one job for all messages, data in bounded chunks.

use std::collections::HashMap;

use mail_imap::grammar::fetch::{BodySection, FetchItem, Section, SectionText};
use mail_imap::grammar::sequence::Ranges;
use mail_imap::response::without_nul;
use mail_imap::{Answer, Messages, Refusal, ResponseCode};
use mail_message::mime::{Envelope, Located, SectionPart};
use mail_store::{FlagChange, FlagMode, Flags as StoreFlags, Mailbox, StoreError};

use super::message::{Reading, Unreadable};
use super::{Counts, Jobs, Sink, flags_of, parallel};
use crate::cache::Cached;
use crate::imap_text::{write_envelope, write_structure};
use crate::local_time::local;

/// Data goes to the client in pieces of this size.
const CHUNK: usize = 32 * 1024;
/// So many messages are looked at ahead of the client.
const READ_AHEAD: usize = 512;

/// A section that does not exist is empty, as in Dovecot.
const NOWHERE: &[u8] = b"\"\"";

/// A FETCH under way.
struct Fetch<'j> {
    items: &'j [FetchItem],
    recent: &'j Ranges,
    /// UIDs that became `\Seen` by it, rising.
    seen: Vec<u32>,
    out: Vec<u8>,
    counts: Counts,
    new_entries: Vec<(u32, Vec<u8>)>,
    /// Entries read ahead.
    ahead: HashMap<u32, Cached>,
}

impl Jobs {
    pub(super) fn fetch(
        &mut self,
        messages: &Messages,
        items: &[FetchItem],
        set_seen: bool,
        recent: &Ranges,
        sink: Sink,
    ) -> Result<Answer, Refusal> {
        let seen = if set_seen { self.set_seen(messages)? } else { Vec::new() };
        let mut fetch = Fetch {
            items,
            recent,
            seen,
            out: Vec::new(),
            counts: Counts::default(),
            new_entries: Vec::new(),
            ahead: HashMap::new(),
        };
        let (mut missing, mut failed) = (false, None);
        let wanted: Vec<(u32, u32)> = messages.iter().collect();
        for (at, &(number, uid)) in wanted.iter().enumerate() {
            let mailbox = self.mailbox()?;
            if at % READ_AHEAD == 0 {
                fetch.read_ahead(&**mailbox, &wanted[at..wanted.len().min(at + READ_AHEAD)]);
            }
            match fetch.message(&**mailbox, number, uid, sink) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Unreadable::Gone) => missing = true,
                // A bad message is left out and logged; the others stay usable.
                Err(Unreadable::Error(error)) => failed = Some(self.refusal(&error, &format!("message {uid}"))),
            }
            if fetch.new_entries.len() >= READ_AHEAD {
                self.keep(&mut fetch.new_entries);
            }
        }
        self.keep(&mut fetch.new_entries);
        sink(std::mem::take(&mut fetch.out));
        self.counts.add(fetch.counts);
        let mailbox = self.mailbox()?;
        let seen = fetch
            .seen
            .iter()
            .filter_map(|&uid| mailbox.position(uid).map(|at| (uid, flags_of(&**mailbox, &mailbox.messages()[at]))));
        match failed {
            Some(refusal) => Err(Refusal::new(ResponseCode::ServerBug, refusal.text)),
            None => Ok(Answer::Fetched { seen: seen.collect(), missing }),
        }
    }

    /// Sets `\Seen` on all of them that lack it, at once and durably; gives their UIDs.
    fn set_seen(&mut self, messages: &Messages) -> Result<Vec<u32>, Refusal> {
        let mailbox = self.mailbox()?;
        let unseen = |uid: &u32| {
            mailbox.position(*uid).is_some_and(|at| !mailbox.messages()[at].flags.contains(StoreFlags::SEEN))
        };
        let uids: Vec<u32> = messages.iter().map(|(_, uid)| uid).filter(unseen).collect();
        if uids.is_empty() {
            return Ok(uids);
        }
        let change = FlagChange { mode: FlagMode::Add, flags: StoreFlags::SEEN, keywords: Vec::new() };
        let stored = mailbox.store(&uids, &change);
        self.touched = true;
        match stored {
            // Who may not write may still read.
            Err(StoreError::ReadOnly) => Ok(Vec::new()),
            stored => stored.map_err(|error| self.refusal(&error, &"FETCH")),
        }
    }

    /// The cache may lose anything at any time, so an error of it is none.
    fn keep(&mut self, entries: &mut Vec<(u32, Vec<u8>)>) {
        if let Some(mailbox) = self.open.as_mut().filter(|_| !entries.is_empty()) {
            let _ = mailbox.put_cached(entries);
            entries.clear();
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.headers += other.headers;
        self.header_octets += other.header_octets;
        self.bodies += other.bodies;
        self.body_octets += other.body_octets;
    }
}

impl Fetch<'_> {
    /// Makes the missing envelopes and structures of the next messages, several at a time. What cannot be read is met again in its turn.
    fn read_ahead(&mut self, mailbox: &dyn Mailbox, next: &[(u32, u32)]) {
        self.ahead.clear();
        let structure = self.items.iter().any(|item| matches!(item, FetchItem::Body | FetchItem::BodyStructure));
        if !structure && !self.items.contains(&FetchItem::Envelope) {
            return;
        }
        let make = |&(_, uid): &(u32, u32)| {
            let known = mailbox.cached(uid).and_then(|octets| Cached::read(&octets));
            match known.filter(|entry| entry.has(structure)) {
                Some(entry) => Some((uid, entry, false)),
                None => Some((uid, make_entry(&mut Reading::new(mailbox, uid), structure).ok()?, true)),
            }
        };
        for (uid, entry, new) in parallel::map(next, make).into_iter().flatten() {
            if new {
                self.new_entries.push((uid, entry.write()));
            }
            self.ahead.insert(uid, entry);
        }
    }

    /// One message; false when nobody listens any more. The response line begins only when all of it is known to be there.
    fn message(&mut self, mailbox: &dyn Mailbox, number: u32, uid: u32, sink: Sink) -> Result<bool, Unreadable> {
        let at = mailbox.position(uid).ok_or(Unreadable::Gone)?;
        let start = self.out.len();
        self.out.extend_from_slice(format!("* {number} FETCH (").as_bytes());
        let mut reading = Reading::new(mailbox, uid);
        let mut cached = None;
        let mut first = true;
        let told = self.items.contains(&FetchItem::Flags);
        let seen_now = self.seen.binary_search(&uid).is_ok();
        let items = self.items.iter().chain((seen_now && !told).then_some(&FetchItem::Flags));
        for item in items {
            if !std::mem::take(&mut first) {
                self.out.push(b' ');
            }
            self.out.extend_from_slice(format!("{item} ").as_bytes());
            if let Err(error) = self.item(mailbox, at, item, &mut reading, &mut cached) {
                self.out.truncate(start);
                return Err(error);
            }
        }
        self.out.extend_from_slice(b")\r\n");
        Ok(self.flush(sink))
    }

    fn item(
        &mut self,
        mailbox: &dyn Mailbox,
        at: usize,
        item: &FetchItem,
        reading: &mut Reading,
        cached: &mut Option<Cached>,
    ) -> Result<(), Unreadable> {
        let uid = reading.uid;
        match item {
            FetchItem::Uid => self.out.extend_from_slice(uid.to_string().as_bytes()),
            FetchItem::Flags => {
                flags_of(mailbox, &mailbox.messages()[at]).write(self.recent.contains(uid), &mut self.out)
            }
            FetchItem::InternalDate => {
                let date = local(mailbox.facts(uid)?.internal_date);
                self.out.extend_from_slice(date.to_string().as_bytes());
            }
            FetchItem::Rfc822Size => self.out.extend_from_slice(mailbox.facts(uid)?.size.to_string().as_bytes()),
            FetchItem::Envelope => {
                let entry = self.entry(reading, cached, false)?;
                self.out.extend_from_slice(&entry.envelope);
            }
            FetchItem::Body => {
                let entry = self.entry(reading, cached, true)?;
                self.out.extend_from_slice(&entry.body);
            }
            FetchItem::BodyStructure => {
                let entry = self.entry(reading, cached, true)?;
                self.out.extend_from_slice(&entry.structure);
            }
            FetchItem::Rfc822 => self.section(reading, &plain(SectionText::All))?,
            FetchItem::Rfc822Header => self.section(reading, &plain(SectionText::Header))?,
            FetchItem::Rfc822Text => self.section(reading, &plain(SectionText::Text))?,
            FetchItem::Section(section) => self.section(reading, section)?,
        }
        Ok(())
    }

    /// Envelope and structure; the structure is made only where it is wanted.
    fn entry<'c>(
        &mut self,
        reading: &mut Reading,
        held: &'c mut Option<Cached>,
        structure: bool,
    ) -> Result<&'c Cached, Unreadable> {
        let held_or_ahead = held.take().or_else(|| self.ahead.remove(&reading.uid));
        let entry = match held_or_ahead.filter(|entry| entry.has(structure)) {
            Some(entry) => entry,
            None => make_entry(reading, structure)?,
        };
        Ok(held.insert(entry))
    }

    fn section(&mut self, reading: &mut Reading, wanted: &BodySection) -> Result<(), Unreadable> {
        let Section { part, text } = &wanted.section;
        let whole = part.is_empty() && *text == SectionText::All;
        let header_only =
            part.is_empty() && matches!(text, SectionText::Header | SectionText::Fields(_) | SectionText::FieldsNot(_));
        if whole {
            let octets = reading.whole()?;
            self.counts.bodies += 1;
            self.counts.body_octets += octets.len() as u64;
            write_partial(octets, wanted, &mut self.out);
        } else if header_only {
            let header = reading.header()?;
            self.counts.headers += 1;
            self.counts.header_octets += header.len() as u64;
            match mail_message::mime::Part::parse(header).locate(header, &[], section_part(text)) {
                Located::At(range) => write_partial(&header[range], wanted, &mut self.out),
                Located::Made(octets) => write_partial(&octets, wanted, &mut self.out),
                Located::Nowhere => self.out.extend_from_slice(NOWHERE),
            }
        } else {
            let (message, structure) = reading.structure()?;
            self.counts.bodies += 1;
            match structure.locate(message, part, section_part(text)) {
                Located::At(range) => {
                    self.counts.body_octets += range.len() as u64;
                    write_partial(&message[range], wanted, &mut self.out);
                }
                Located::Made(octets) => write_partial(&octets, wanted, &mut self.out),
                Located::Nowhere => self.out.extend_from_slice(NOWHERE),
            }
        }
        Ok(())
    }

    /// Sends what has gathered; the driver takes it in bounded chunks, and a slow client makes this wait.
    fn flush(&mut self, sink: Sink) -> bool {
        while self.out.len() >= CHUNK {
            let rest = self.out.split_off(self.out.len().min(2 * CHUNK));
            if !sink(std::mem::replace(&mut self.out, rest)) {
                return false;
            }
        }
        true
    }
}

fn plain(text: SectionText) -> BodySection {
    BodySection { section: Section { part: Vec::new(), text }, peek: false, partial: None }
}

fn section_part(text: &SectionText) -> SectionPart<'_> {
    match text {
        SectionText::All => SectionPart::All,
        SectionText::Header => SectionPart::Header,
        SectionText::Fields(names) => SectionPart::Fields(names),
        SectionText::FieldsNot(names) => SectionPart::FieldsNot(names),
        SectionText::Text => SectionPart::Text,
        SectionText::Mime => SectionPart::Mime,
    }
}

fn make_entry(reading: &mut Reading, structure: bool) -> Result<Cached, Unreadable> {
    let mut entry = Cached::default();
    if structure {
        let (message, part) = reading.structure()?;
        write_structure(message, part, false, &mut entry.body);
        write_structure(message, part, true, &mut entry.structure);
    }
    write_envelope(&Envelope::parse(reading.header()?), &mut entry.envelope);
    Ok(entry)
}

/// A literal of the octets, or of the part of them that is wanted. The origin may lie behind the end: then it is empty.
fn write_partial(octets: &[u8], wanted: &BodySection, out: &mut Vec<u8>) {
    let slice = match wanted.partial {
        None => octets,
        Some((origin, count)) => {
            let start = usize::try_from(origin).unwrap_or(usize::MAX).min(octets.len());
            &octets[start..start.saturating_add(count.get() as usize).min(octets.len())]
        }
    };
    out.reserve(slice.len() + 32);
    if slice.is_empty() {
        out.extend_from_slice(b"\"\"");
        return;
    }
    out.extend_from_slice(format!("{{{}}}\r\n", slice.len()).as_bytes());
    if slice.contains(&0) {
        out.extend(slice.iter().map(|&b| without_nul(b)));
    } else {
        out.extend_from_slice(slice);
    }
}
