//! The inbox as a POP3 session sees it. Everything here blocks and runs on the pool of mailbox jobs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;

use mail_pop3::content::Top;
use mail_pop3::mailbox::Message;
use mail_store::{Access, Account, CrlfReader, FlagChange, FlagMode, Flags, Mailbox, MailboxName, StoreError};

use crate::settings::Settings;
use crate::uidl;

/// A piece of content on its way to the client.
const CHUNK: usize = 32 * 1024;
/// Pieces that one job reads: a short message in one, a long one without holding a thread while a slow client takes it.
const BATCH: usize = 8;
/// A message of so many octets is read in one piece.
const SHORT: u64 = 64 * 1024;
/// So many messages, or octets, are read ahead of a client that takes one message after the other.
const AHEAD_MESSAGES: usize = 32;
const AHEAD_OCTETS: usize = 128 * 1024;
/// So much of a header is searched for `X-UIDL`.
const HEADER_MAX: u64 = 64 * 1024;

/// Why a session cannot begin.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It may work later.
    Temporary(String),
    /// A person must change something.
    Permanent(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        if error.is_temporary() { Self::Temporary(error.to_string()) } else { Self::Permanent(error.to_string()) }
    }
}

/// The open inbox, with the UIDs behind the message numbers of the session (P02c).
pub(crate) struct Inbox {
    mailbox: Box<dyn Mailbox>,
    uids: Vec<u32>,
    /// Messages that were retrieved whole and had not been seen.
    seen: Vec<u32>,
    /// Messages that had been seen before, and no longer count as such.
    unseen: Vec<u32>,
}

impl Inbox {
    /// Opens the inbox and lists it.
    ///
    /// What of its files is no message, or cannot be read, is left out and told to `notice`: the others stay usable.
    pub(crate) fn open(
        account: &dyn Account,
        settings: &Settings,
        notice: impl Fn(String),
    ) -> Result<(Self, Vec<Message>), OpenError> {
        let format = settings.uidl.as_ref().map_err(|text| OpenError::Permanent(text.clone()))?;
        let mut mailbox = account.open(&MailboxName::inbox(), Access::ReadWrite)?;
        mailbox.sync()?;
        let hidden = settings.deleted_flag.as_ref().map(|(name, _)| Hidden::of(name, mailbox.keywords()));
        let (mut uids, mut messages, mut to_keep) = (Vec::new(), Vec::new(), Vec::new());
        for message in mailbox.messages() {
            if hidden.as_ref().is_some_and(|hidden| hidden.matches(message)) {
                continue;
            }
            match list(&*mailbox, message.uid, format, settings.reuse_xuidl) {
                Ok(Listed { size, uidl, kept }) => {
                    if settings.save_uidl && !kept {
                        to_keep.push((message.uid, uidl.clone()));
                    }
                    uids.push(message.uid);
                    messages.push(Message { size, uidl });
                }
                // Somebody else removed it while we looked.
                Err(StoreError::Expunged) => {}
                Err(StoreError::Unreadable(what)) => notice(format!("message {} is left out: {what}", message.uid)),
                Err(error) => return Err(error.into()),
            }
        }
        if !to_keep.is_empty() {
            mailbox.keep_uidls(&to_keep)?;
        }
        if settings.rename_duplicates {
            uidl::rename_duplicates(&mut messages);
        }
        Ok((Self { mailbox, uids, seen: Vec::new(), unseen: Vec::new() }, messages))
    }

    /// Opens a message for RETR, or for TOP with so many lines.
    pub(crate) fn content(&self, index: usize, lines: Option<u32>, settings: &Settings) -> Result<Content, StoreError> {
        let uid = self.uids[index];
        let file = self.mailbox.open_message(uid)?;
        let reader = file.into_reader().map_err(|error| StoreError::Io(format!("message {uid}"), error))?;
        Ok(Content { uid, reader, top: lines.map(Top::new), workarounds: Workarounds::of(settings) })
    }

    /// A message was retrieved whole.
    pub(crate) fn retrieved(&mut self, index: usize) {
        let uid = self.uids[index];
        let at = self.mailbox.position(uid);
        self.unseen.retain(|other| *other != uid);
        if at.is_some_and(|at| !self.mailbox.messages()[at].flags.contains(Flags::SEEN)) && !self.seen.contains(&uid) {
            self.seen.push(uid);
        }
    }

    /// RSET: what was retrieved does not count as seen; nor, for `all`, what was seen before.
    pub(crate) fn reset(&mut self, all: bool) {
        self.seen.clear();
        if !all {
            return;
        }
        let seen = self.mailbox.messages().iter().filter(|message| message.flags.contains(Flags::SEEN));
        self.unseen = seen.map(|message| message.uid).filter(|uid| self.uids.contains(uid)).collect();
    }

    /// QUIT: removes messages durably, or hides them where the configuration says so.
    pub(crate) fn update(&mut self, deleted: &[usize], settings: &Settings) -> Result<(), StoreError> {
        let uids: Vec<u32> = deleted.iter().map(|index| self.uids[*index]).collect();
        match &settings.deleted_flag {
            Some((name, true)) if !uids.is_empty() => self.mailbox.store(&uids, &Hidden::change(name)).map(drop)?,
            _ if uids.is_empty() => {}
            _ => self.mailbox.expunge(&uids).map(drop)?,
        }
        self.seen.retain(|uid| !uids.contains(uid));
        self.unseen.retain(|uid| !uids.contains(uid));
        Ok(())
    }

    /// The end of a session, however it came: what was retrieved has been seen. Twice does no harm.
    pub(crate) fn close(&mut self, settings: &Settings) -> Result<(), StoreError> {
        if settings.no_flag_updates {
            return Ok(());
        }
        for (mode, uids) in [(FlagMode::Remove, &mut self.unseen), (FlagMode::Add, &mut self.seen)] {
            if !uids.is_empty() {
                self.mailbox
                    .store(&std::mem::take(uids), &FlagChange { mode, flags: Flags::SEEN, keywords: Vec::new() })?;
            }
        }
        Ok(())
    }
}

/// Messages that were read before the client asked for them, in their order.
pub(crate) type Ahead = VecDeque<(usize, Vec<u8>)>;

impl Inbox {
    /// Reads a whole message, unless it is too long for that; and some of those that follow it, where the client takes one after the other.
    pub(crate) fn whole(&self, index: usize, follow: bool, settings: &Settings) -> Result<Option<Ahead>, StoreError> {
        let Some(first) = self.short(index, settings)? else { return Ok(None) };
        let (mut octets, mut read) = (first.len(), Ahead::from([(index, first)]));
        let next = if follow { index + 1..self.uids.len().min(index + AHEAD_MESSAGES) } else { 0..0 };
        for index in next {
            // What cannot be read is met again in its turn.
            let Ok(Some(content)) = self.short(index, settings) else { break };
            octets += content.len();
            read.push_back((index, content));
            if octets >= AHEAD_OCTETS {
                break;
            }
        }
        Ok(Some(read))
    }

    /// A message that is not long.
    fn short(&self, index: usize, settings: &Settings) -> Result<Option<Vec<u8>>, StoreError> {
        let uid = self.uids[index];
        let file = self.mailbox.open_message(uid)?;
        if file.physical() > SHORT {
            return Ok(None);
        }
        let mut content = file.read_stored().map_err(|error| StoreError::Io(format!("message {uid}"), error))?;
        let mut way = Workarounds::of(settings);
        way.apply(&mut content);
        way.end(&mut content);
        Ok(Some(content))
    }
}

/// What `pop3_client_workarounds` asks for.
struct Workarounds {
    /// Watches for the end of the header, where a client must see one.
    header: Option<Top>,
    no_nuls: bool,
}

impl Workarounds {
    fn of(settings: &Settings) -> Self {
        Self { header: settings.end_of_header.then(|| Top::new(0)), no_nuls: settings.no_nuls }
    }

    fn apply(&mut self, chunk: &mut [u8]) {
        if self.no_nuls {
            chunk.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 0x80);
        }
        if let Some(header) = &mut self.header {
            header.take(chunk);
        }
    }

    /// The end of the content: a header without end is given its blank line.
    fn end(&mut self, chunk: &mut Vec<u8>) {
        if self.header.take().is_some_and(|header| !header.is_done()) {
            chunk.extend_from_slice(b"\r\n");
        }
    }
}

/// A message on its way to the client.
pub(crate) struct Content {
    uid: u32,
    reader: CrlfReader<File>,
    top: Option<Top>,
    workarounds: Workarounds,
}

/// What one job read.
pub(crate) struct Batch {
    /// Pieces in their order.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// Nothing follows.
    pub(crate) last: bool,
}

impl Content {
    /// Reads some pieces.
    pub(crate) fn read(&mut self) -> Result<Batch, StoreError> {
        let mut chunks = Vec::new();
        while chunks.len() < BATCH {
            let mut chunk = vec![0; CHUNK];
            let read = self.reader.read(&mut chunk);
            let count = read.map_err(|error| StoreError::Io(format!("message {}", self.uid), error))?;
            chunk.truncate(count);
            if let Some(top) = &mut self.top {
                chunk.truncate(top.take(&chunk));
            }
            self.workarounds.apply(&mut chunk);
            if count == 0 {
                self.workarounds.end(&mut chunk);
            }
            if !chunk.is_empty() {
                chunk.shrink_to_fit();
                chunks.push(chunk);
            }
            if count == 0 || self.top.as_ref().is_some_and(Top::is_done) {
                return Ok(Batch { chunks, last: true });
            }
        }
        Ok(Batch { chunks, last: false })
    }
}

/// What is known of a message before its session begins.
struct Listed {
    size: u64,
    uidl: String,
    /// The UIDL needs no keeping: the uidlist has it.
    kept: bool,
}

/// The UIDL is the uidlist's, else the message's own field where that counts, else made by the format (as Dovecot).
fn list(mailbox: &dyn Mailbox, uid: u32, format: &uidl::Format, reuse_xuidl: bool) -> Result<Listed, StoreError> {
    let size = mailbox.facts(uid)?.size;
    if let Some(uidl) = mailbox.own_uidl(uid)? {
        return Ok(Listed { size, uidl, kept: true });
    }
    if reuse_xuidl && let Some(uidl) = x_uidl(mailbox, uid)? {
        return Ok(Listed { size, uidl, kept: false });
    }
    let file_name = mailbox.file_name(uid)?;
    let facts = uidl::Facts { uid, uid_validity: mailbox.uid_validity(), file_name: &file_name };
    Ok(Listed { size, uidl: format.write(facts), kept: false })
}

/// The `X-UIDL` field of a message, if it has a usable one.
fn x_uidl(mailbox: &dyn Mailbox, uid: u32) -> Result<Option<String>, StoreError> {
    let failed = |error| StoreError::Io(format!("message {uid}"), error);
    let reader = mailbox.open_message(uid)?.into_reader().map_err(failed)?;
    let mut header = Vec::new();
    reader.take(HEADER_MAX).read_to_end(&mut header).map_err(failed)?;
    Ok(uidl::from_header(&header))
}

/// The flag of `pop3_deleted_flag`.
enum Hidden {
    System(Flags),
    Keyword(Option<usize>),
}

impl Hidden {
    fn system(name: &str) -> Option<Flags> {
        Some(match name.to_ascii_lowercase().as_str() {
            "\\deleted" => Flags::DELETED,
            "\\flagged" => Flags::FLAGGED,
            "\\answered" => Flags::ANSWERED,
            "\\draft" => Flags::DRAFT,
            "\\seen" => Flags::SEEN,
            _ => return None,
        })
    }

    fn of(name: &str, keywords: &[String]) -> Self {
        let keyword = || keywords.iter().position(|keyword| keyword.eq_ignore_ascii_case(name));
        Self::system(name).map_or_else(|| Self::Keyword(keyword()), Self::System)
    }

    fn matches(&self, message: &mail_store::Message) -> bool {
        match self {
            Self::System(flags) => message.flags.contains(*flags),
            Self::Keyword(at) => at.is_some_and(|at| message.keywords >> at & 1 == 1),
        }
    }

    fn change(name: &str) -> FlagChange {
        let flags = Self::system(name);
        let keywords = if flags.is_none() { vec![name.to_owned()] } else { Vec::new() };
        FlagChange { mode: FlagMode::Add, flags: flags.unwrap_or(Flags::NONE), keywords }
    }
}
