//! DATA and the content that follows (RFC 5321 section 4.1.1.4).

use std::time::Duration;

use mail_types::{Reply, ReplyCode, Severity};
use session::{Close, Moment};

use super::{
    Answer, BareNewline, Dialect, Note, Pending, Phase, Question, Server, Settings, bare_newline_reply, reply,
};
use crate::content::Decoder;

/// How many octets of content a chunk has at most.
const CHUNK: usize = 64 * 1024;
/// The first size of a chunk where the client declared none.
const CHUNK_START: usize = 8 * 1024;

/// Content that is being received.
pub(super) struct Content {
    decoder: Decoder,
    chunk: Vec<u8>,
    size_limit: u64,
    reject_bare_newline: Option<u16>,
    refused: Option<Refused>,
    wire: u64,
    began: Option<Moment>,
}

/// Why the machine refuses content by itself; the rest of it is swallowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    TooBig,
    BareNewline(u16),
}

impl Content {
    fn new(settings: &Settings, declared: Option<u64>) -> Self {
        let start = declared.and_then(|size| usize::try_from(size).ok()).map_or(CHUNK_START, |size| size.min(CHUNK));
        let reject_bare_newline = match settings.bare_newline {
            BareNewline::Reject(code) => Some(code),
            BareNewline::Normalize => None,
        };
        Self {
            decoder: Decoder::new(settings.stray_cr),
            chunk: Vec::with_capacity(start),
            size_limit: settings.size_limit,
            reject_bare_newline,
            refused: None,
            wire: 0,
            began: None,
        }
    }

    pub fn wire_octets(&self) -> u64 {
        self.wire
    }

    /// Decodes what fits into the chunk.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            taken += self.decoder.decode(&bytes[taken..], &mut self.chunk, CHUNK);
            self.judge();
            if self.refused.is_none() || taken == bytes.len() || self.decoder.is_ended() {
                break;
            }
        }
        self.wire += taken as u64;
        taken
    }

    fn judge(&mut self) {
        if self.size_limit > 0 && self.decoder.octets() > self.size_limit {
            self.refused = self.refused.or(Some(Refused::TooBig));
        }
        if let Some(code) = self.reject_bare_newline.filter(|_| self.decoder.saw_bare_lf()) {
            self.refused = self.refused.or(Some(Refused::BareNewline(code)));
        }
        if self.refused.is_some() {
            self.chunk.clear();
        }
    }

    /// The chunk, when it is full or the content has ended.
    pub fn full_chunk(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.began.get_or_insert(now);
        let ready = self.chunk.len() >= CHUNK || (self.decoder.is_ended() && !self.chunk.is_empty());
        ready.then(|| std::mem::take(&mut self.chunk))
    }

    /// Until when more must have come: the timeout after the last octet, and at `smtpd_min_data_rate` where that is asked for.
    pub fn deadline(&self, last: Moment, settings: &Settings) -> Moment {
        let silence = last.after(settings.timeout);
        match self.began.filter(|_| settings.per_request_deadline && settings.min_data_rate > 0) {
            Some(began) => {
                let earned = Duration::from_secs(self.wire / u64::from(settings.min_data_rate));
                silence.min(began.after(settings.timeout).after(earned))
            }
            None => silence,
        }
    }
}

pub(super) fn data(server: &mut Server, arguments: &str) {
    let Some(transaction) = &server.transaction else {
        return server.finish(&reply(503, (5, 5, 1), "Error: need RCPT command"));
    };
    if !arguments.is_empty() {
        return server.finish(&reply(501, (5, 5, 4), "Syntax: DATA"));
    }
    if transaction.recipients == 0 {
        // X02, and L02 for LMTP.
        let code = if server.settings.dialect == Dialect::Lmtp { 503 } else { 554 };
        return server.finish(&reply(code, (5, 5, 1), "Error: no valid recipients"));
    }
    server.ask(Question::Data, Pending::Data);
}

impl Server {
    pub(super) fn begin_content(&mut self) {
        self.say(&Reply::plain(ReplyCode::of(354), "End data with <CR><LF>.<CR><LF>"));
        let declared = self.transaction.as_ref().and_then(|transaction| transaction.size);
        self.enter(Phase::Content(Box::new(Content::new(&self.settings, declared))));
    }

    /// Decodes what waits in the input; true if something changed.
    pub(super) fn read_content(&mut self) -> bool {
        let Phase::Content(content) = &mut self.phase else { return false };
        let unread = self.input.unread();
        let taken = if content.decoder.is_ended() { 0 } else { content.take(unread) };
        self.input.consume(taken);
        if !content.decoder.is_ended() {
            let lost = taken == 0 && self.session.input_ended && self.input.unread().is_empty();
            if lost {
                self.close_silently(Close::Lost);
            }
            return taken > 0 || lost;
        }
        if content.chunk.is_empty() {
            self.end_of_content();
        }
        true
    }

    fn end_of_content(&mut self) {
        let Phase::Content(content) = &self.phase else { return };
        let octets = content.decoder.octets();
        match content.refused {
            None => self.ask(Question::EndOfData { octets }, Pending::EndOfData),
            Some(Refused::TooBig) => {
                // Z01
                let refusal = reply(552, (5, 3, 4), "Error: message file too big");
                self.discard(refusal);
            }
            Some(Refused::BareNewline(code)) => {
                self.note(Note::BareNewline);
                let refusal = bare_newline_reply(code, &self.settings.hostname);
                self.discard(refusal);
            }
        }
    }

    fn discard(&mut self, refusal: Reply) {
        self.note(Note::Refused { command: "DATA", reply: refusal.clone() });
        self.ask(Question::Discard, Pending::Discard(refusal));
    }

    pub(super) fn content_refused(&mut self, refusal: &Reply) {
        let replies = self.end_transaction().map_or(1, |transaction| self.replies_due(transaction.recipients));
        self.finish_all(&vec![refusal.clone(); replies]);
        if refusal.code.get() == 521 {
            self.enter(Phase::Closing(Close::Hangup("bare <LF> received")));
        }
    }

    fn replies_due(&self, recipients: usize) -> usize {
        if self.settings.dialect == Dialect::Lmtp { recipients } else { 1 }
    }

    pub(super) fn content_answered(&mut self, answer: Answer) {
        let recipients = self.end_transaction().map_or(0, |transaction| transaction.recipients);
        match answer {
            Answer::Recipients(mut replies) if self.settings.dialect == Dialect::Lmtp => {
                // L01: exactly one reply per recipient; one that is missing is tried again.
                replies.resize_with(recipients, || reply(451, (4, 3, 0), "Error: no result"));
                self.finish_all(&replies);
            }
            Answer::Done(reply) | Answer::Refuse(reply) => {
                self.finish_all(&vec![reply; self.replies_due(recipients)]);
            }
            other => self.refused_or_hung_up(other),
        }
    }

    fn finish_all(&mut self, replies: &[Reply]) {
        let Some((last, others)) = replies.split_last() else { return };
        others.iter().for_each(|reply| self.say(reply));
        if replies.iter().any(|reply| reply.severity() == Severity::Success) {
            self.tally.message_accepted();
        }
        self.finish(last);
    }
}
