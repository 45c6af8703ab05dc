//! FETCH: one job for all messages, data in bounded chunks, large messages straight from their files.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use mail_imap::grammar::fetch::{BodySection, FetchItem, Section, SectionText};
use mail_imap::grammar::sequence::Ranges;
use mail_imap::response::without_nul;
use mail_imap::{Answer, Messages, Refusal, ResponseCode};
use mail_message::mime::{Envelope, Located, SectionPart};
use mail_store::{FlagChange, FlagMode, Flags as StoreFlags, Mailbox, StoreError};

use super::message::{Kept, Reading, Unreadable};
use super::{Counts, Jobs, Sink, flags_of, parallel};
use crate::cache::{self, Cached, Wanted};
use crate::imap_text::{write_envelope, write_structure};
use crate::local_time::local;

/// Data goes to the client in pieces of this size.
const CHUNK: usize = 32 * 1024;
/// The response to one message is complete before it goes out, up to here: an error can then still be told in a line of its own.
const WHOLE_MAX: usize = 1024 * 1024;
/// So many messages are looked at ahead of the client.
const READ_AHEAD: usize = 512;
/// So many octets of envelopes and structures are held for it.
const READ_AHEAD_OCTETS: usize = 32 * 1024 * 1024;

/// A section that does not exist is empty, as in Dovecot.
const NOWHERE: &[u8] = b"\"\"";

/// A FETCH under way.
struct Fetch<'j> {
    items: &'j [FetchItem],
    /// The items with their names as they stand in responses.
    named: Vec<(&'j FetchItem, String)>,
    recent: &'j Ranges,
    /// UIDs that became `\Seen` by it, rising.
    seen: Vec<u32>,
    out: Vec<u8>,
    /// The beginning of the response to the message at hand is out already.
    begun: bool,
    /// Nobody listens any more.
    unheard: bool,
    kept: Kept,
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
            named: items.iter().map(|item| (item, format!("{item} "))).collect(),
            recent,
            seen,
            out: Vec::new(),
            begun: false,
            unheard: false,
            kept: std::mem::take(&mut self.kept),
            counts: Counts::default(),
            new_entries: Vec::new(),
            ahead: HashMap::new(),
        };
        let (mut missing, mut failed) = (false, None);
        let wanted: Vec<(u32, u32)> = messages.iter().collect();
        let mut looked_at = 0;
        for (at, &(number, uid)) in wanted.iter().enumerate() {
            let mailbox = self.mailbox()?;
            if at == looked_at {
                looked_at += fetch.read_ahead(&**mailbox, &wanted[at..wanted.len().min(at + READ_AHEAD)]);
            }
            match fetch.message(&**mailbox, number, uid, sink) {
                Ok(()) if fetch.unheard => break,
                Ok(()) => {}
                // In the middle of a literal nothing can be said any more.
                Err(unreadable) if fetch.begun => {
                    if let Unreadable::Error(error) = unreadable {
                        let _ = self.refusal(&error, &format!("message {uid}"));
                    }
                    return Ok(Answer::Broken);
                }
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
        self.kept = fetch.kept;
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
    /// Makes the missing envelopes and structures of the next messages, several at a time; gives how many messages were looked at. What cannot
    /// be read is met again in its turn.
    fn read_ahead(&mut self, mailbox: &dyn Mailbox, next: &[(u32, u32)]) -> usize {
        self.ahead.clear();
        let wanted = wanted(self.items);
        if wanted == Wanted::default() && !self.items.contains(&FetchItem::Envelope) {
            return next.len();
        }
        let held = AtomicUsize::new(0);
        let look_at = |&(_, uid): &(u32, u32)| {
            if held.load(Ordering::Relaxed) > READ_AHEAD_OCTETS {
                return Looked::Later;
            }
            let Some((entry, new)) = look(mailbox, uid, wanted) else { return Looked::Unreadable };
            held.fetch_add(entry.octets(), Ordering::Relaxed);
            Looked::At(uid, entry, new)
        };
        let looked = parallel::map(next, look_at);
        // The first is always among them.
        let count = looked.iter().take_while(|looked| !matches!(looked, Looked::Later)).count();
        for looked in looked.into_iter().take(count) {
            let Looked::At(uid, entry, new) = looked else { continue };
            if new {
                self.new_entries.push((uid, entry.write()));
            }
            self.ahead.insert(uid, entry);
        }
        count
    }

    /// One message. Up to a bounded size its response goes out only when all of it is known to be there.
    fn message(&mut self, mailbox: &dyn Mailbox, number: u32, uid: u32, sink: Sink) -> Result<(), Unreadable> {
        let at = mailbox.position(uid).ok_or(Unreadable::Gone)?;
        let start = self.out.len();
        self.begun = false;
        self.out.extend_from_slice(b"* ");
        push_number(u64::from(number), &mut self.out);
        self.out.extend_from_slice(b" FETCH (");
        let mut reading = Reading::resumed(mailbox, uid, &mut self.kept);
        let mut cached = None;
        let told = self.items.contains(&FetchItem::Flags);
        let seen_now = self.seen.binary_search(&uid).is_ok();
        let flags = (seen_now && !told).then(|| (&FetchItem::Flags, "FLAGS ".to_owned()));
        let named = std::mem::take(&mut self.named);
        let done = self.items_of(mailbox, at, named.iter().chain(&flags), &mut reading, &mut cached, sink);
        self.named = named;
        if let Err(error) = done {
            if !self.begun {
                self.out.truncate(start);
            }
            return Err(error);
        }
        reading.keep(&mut self.kept);
        self.out.extend_from_slice(b")\r\n");
        self.flush(sink);
        Ok(())
    }

    fn items_of<'i>(
        &mut self,
        mailbox: &dyn Mailbox,
        at: usize,
        items: impl Iterator<Item = &'i (&'i FetchItem, String)>,
        reading: &mut Reading,
        cached: &mut Option<Cached>,
        sink: Sink,
    ) -> Result<(), Unreadable> {
        for (place, (item, name)) in items.enumerate() {
            if place > 0 {
                self.out.push(b' ');
            }
            self.out.extend_from_slice(name.as_bytes());
            self.item(mailbox, at, item, reading, cached, sink)?;
            self.flush_if_large(sink);
            if self.unheard {
                break;
            }
        }
        Ok(())
    }

    fn item(
        &mut self,
        mailbox: &dyn Mailbox,
        at: usize,
        item: &FetchItem,
        reading: &mut Reading,
        cached: &mut Option<Cached>,
        sink: Sink,
    ) -> Result<(), Unreadable> {
        let uid = reading.uid;
        match item {
            FetchItem::Uid => push_number(u64::from(uid), &mut self.out),
            FetchItem::Flags => {
                flags_of(mailbox, &mailbox.messages()[at]).write(self.recent.contains(uid), &mut self.out)
            }
            FetchItem::InternalDate => {
                let date = local(mailbox.facts(uid)?.internal_date);
                self.out.extend_from_slice(date.to_string().as_bytes());
            }
            FetchItem::Rfc822Size => push_number(mailbox.facts(uid)?.size, &mut self.out),
            FetchItem::Envelope => {
                let entry = self.entry(reading, cached, Wanted::default())?;
                self.out.extend_from_slice(&entry.envelope);
            }
            FetchItem::Body => {
                let entry = self.entry(reading, cached, STRUCTURE)?;
                self.out.extend_from_slice(&entry.body);
            }
            FetchItem::BodyStructure => {
                let entry = self.entry(reading, cached, STRUCTURE)?;
                self.out.extend_from_slice(&entry.structure);
            }
            FetchItem::Rfc822 => self.section(reading, &plain(SectionText::All), sink)?,
            FetchItem::Rfc822Header => self.section(reading, &plain(SectionText::Header), sink)?,
            FetchItem::Rfc822Text => self.section(reading, &plain(SectionText::Text), sink)?,
            FetchItem::Section(section) if keeps_fields(section) => self.kept_fields(reading, section, cached, sink)?,
            FetchItem::Section(section) => self.section(reading, section, sink)?,
        }
        Ok(())
    }

    /// Envelope, structure and fields; the latter are made only where they are wanted.
    fn entry<'c>(
        &mut self,
        reading: &mut Reading,
        held: &'c mut Option<Cached>,
        wanted: Wanted,
    ) -> Result<&'c Cached, Unreadable> {
        let held_or_ahead = held.take().or_else(|| self.ahead.remove(&reading.uid));
        let entry = match held_or_ahead {
            Some(entry) if entry.has(wanted) => entry,
            other => make_entry(reading, wanted, other)?,
        };
        Ok(held.insert(entry))
    }

    /// Header fields that the cache keeps.
    fn kept_fields(
        &mut self,
        reading: &mut Reading,
        section: &BodySection,
        cached: &mut Option<Cached>,
        sink: Sink,
    ) -> Result<(), Unreadable> {
        let entry = self.entry(reading, cached, FIELDS)?;
        if entry.fields.is_empty() {
            // Too long to be kept.
            return self.section(reading, section, sink);
        }
        let chosen = section_part(&section.section.text).choose(&entry.fields);
        self.counts.headers += 1;
        self.counts.header_octets += chosen.len() as u64;
        write_partial(&chosen, section, &mut self.out);
        Ok(())
    }

    fn section(&mut self, reading: &mut Reading, wanted: &BodySection, sink: Sink) -> Result<(), Unreadable> {
        let Section { part, text } = &wanted.section;
        if part.is_empty() && *text == SectionText::All {
            self.counts.bodies += 1;
            let size = reading.size()?;
            return self.write_range(reading, 0..size, wanted, sink);
        }
        let of_header = matches!(text, SectionText::Header | SectionText::Fields(_) | SectionText::FieldsNot(_));
        if part.is_empty() && of_header {
            let header = reading.header()?;
            self.counts.headers += 1;
            self.counts.header_octets += header.len() as u64;
            write_partial(&section_part(text).choose(header), wanted, &mut self.out);
            return Ok(());
        }
        self.counts.bodies += 1;
        match reading.structure()?.locate(part, section_part(text)) {
            Located::At(range) => self.write_range(reading, range.start as u64..range.end as u64, wanted, sink)?,
            Located::Among(header) => {
                let chosen = section_part(text).choose(&reading.octets(header)?);
                write_partial(&chosen, wanted, &mut self.out);
            }
            Located::Nowhere => self.out.extend_from_slice(NOWHERE),
        }
        Ok(())
    }

    /// Writes the wanted part of a range of the message as a literal.
    fn write_range(
        &mut self,
        reading: &mut Reading,
        range: Range<u64>,
        wanted: &BodySection,
        sink: Sink,
    ) -> Result<(), Unreadable> {
        let range = portion(range, wanted);
        let size = range.end - range.start;
        self.counts.body_octets += size;
        if size == 0 {
            self.out.extend_from_slice(NOWHERE);
            return Ok(());
        }
        self.out.extend_from_slice(format!("{{{size}}}\r\n").as_bytes());
        reading.copy(range, &mut |piece| {
            push_without_nul(piece, &mut self.out);
            self.flush_if_large(sink);
            !self.unheard
        })?;
        Ok(())
    }

    /// Sends the beginning of a large response.
    fn flush_if_large(&mut self, sink: Sink) {
        if self.out.len() >= WHOLE_MAX {
            self.begun = true;
            self.flush(sink);
        }
    }

    /// Sends what has gathered in bounded chunks; a slow client makes this wait.
    fn flush(&mut self, sink: Sink) {
        if self.out.len() < CHUNK {
            return;
        }
        let out = std::mem::take(&mut self.out);
        if out.len() <= 2 * CHUNK {
            self.unheard |= !sink(out);
            return;
        }
        for piece in out.chunks(2 * CHUNK) {
            self.unheard |= !sink(piece.to_vec());
            if self.unheard {
                return;
            }
        }
    }
}

/// What became of a message that was to be looked at ahead.
enum Looked {
    /// The entry of a UID, and whether the cache lacks it.
    At(u32, Cached, bool),
    /// Its file cannot be read.
    Unreadable,
    /// There was no room for it.
    Later,
}

/// The entry of a message, from the cache as far as it is there; and whether the cache lacks something of it.
fn look(mailbox: &dyn Mailbox, uid: u32, wanted: Wanted) -> Option<(Cached, bool)> {
    let known = mailbox.cached(uid).and_then(|octets| Cached::read(&octets));
    match known {
        Some(entry) if entry.has(wanted) => Some((entry, false)),
        known => {
            let entry = make_entry(&mut Reading::new(mailbox, uid), wanted, known.clone()).ok()?;
            let new = known.as_ref() != Some(&entry);
            Some((entry, new))
        }
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

const STRUCTURE: Wanted = Wanted { structure: true, fields: false };
const FIELDS: Wanted = Wanted { structure: false, fields: true };

/// What the items want of the cache.
fn wanted(items: &[FetchItem]) -> Wanted {
    Wanted {
        structure: items.iter().any(|item| matches!(item, FetchItem::Body | FetchItem::BodyStructure)),
        fields: items.iter().any(|item| matches!(item, FetchItem::Section(section) if keeps_fields(section))),
    }
}

/// Whether a section is nothing but header fields that the cache keeps.
fn keeps_fields(section: &BodySection) -> bool {
    let Section { part, text } = &section.section;
    part.is_empty() && matches!(text, SectionText::Fields(names) if cache::keeps(names))
}

/// Makes what is wanted, beside what is known.
fn make_entry(reading: &mut Reading, wanted: Wanted, known: Option<Cached>) -> Result<Cached, Unreadable> {
    let mut entry = known.unwrap_or_default();
    if wanted.structure && entry.structure.is_empty() {
        let part = reading.structure()?;
        write_structure(part, false, &mut entry.body);
        write_structure(part, true, &mut entry.structure);
    }
    if wanted.fields && entry.fields.is_empty() {
        entry.fields = cache::fields_of(reading.header()?);
    }
    if entry.envelope.is_empty() {
        write_envelope(&Envelope::parse(reading.header()?), &mut entry.envelope);
    }
    Ok(entry)
}

/// Writes a number in decimal digits.
fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

/// The portion of a range that is wanted. Its origin may lie behind the end, and its end behind the largest number: then it is empty, or shorter.
fn portion(range: Range<u64>, wanted: &BodySection) -> Range<u64> {
    let Some((origin, count)) = wanted.partial else { return range };
    let start = range.start.saturating_add(origin).min(range.end);
    start..start.saturating_add(u64::from(count.get())).min(range.end)
}

/// A literal of the octets, or of the portion of them that is wanted.
fn write_partial(octets: &[u8], wanted: &BodySection, out: &mut Vec<u8>) {
    let Range { start, end } = portion(0..octets.len() as u64, wanted);
    let at = |offset: u64| usize::try_from(offset).unwrap_or(octets.len());
    let slice = &octets[at(start)..at(end)];
    if slice.is_empty() {
        out.extend_from_slice(NOWHERE);
        return;
    }
    out.extend_from_slice(format!("{{{}}}\r\n", slice.len()).as_bytes());
    push_without_nul(slice, out);
}

fn push_without_nul(octets: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(0, octets).is_some() {
        out.extend(octets.iter().map(|&b| without_nul(b)));
    } else {
        out.extend_from_slice(octets);
    }
}
