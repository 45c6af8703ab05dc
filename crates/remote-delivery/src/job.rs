//! One lease on its way: which recipients are open, and how their outcomes are told and logged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use decision::{Delivery, Event, Ident, Record, Stage};
use mail_daemon::Log;
use mail_daemon::worker::{Content, Reports};
use mail_ipc::delivery::{Fate, Lease, LeaseRecipient, Outcome, OutcomeKey, TransportKind};
use mail_smtp::client::{Cause, Limits, Message, RcptOutcome};
use mail_types::{Address, Body, Domain, EnhancedStatus, Recipient, Sender, Severity, UnixTime};

/// A lease that is being carried out.
#[derive(Debug)]
pub struct Job {
    /// The lease.
    pub lease: Arc<Lease>,
    /// Its content.
    pub content: Arc<Content>,
    /// The header fields that go before the content: whose alias or forward file led here.
    pub trace: Arc<str>,
    reports: Reports,
    granted: UnixTime,
    /// When the last connection was ready; the third of the `delays`.
    pub connected: Option<UnixTime>,
    /// The recipients still open, by their place in the lease.
    pub open: Vec<usize>,
    /// How many of them, from the first, are in the message that was made last.
    batch: usize,
    /// What the next server is shown, where that is something else.
    pub shown: Option<Shown>,
}

/// A message with other addresses (`smtp_generic_maps`).
#[derive(Debug)]
pub struct Shown {
    /// The envelope sender.
    pub sender: Sender,
    /// The recipients, in the order of the lease.
    pub recipients: Vec<Address>,
    /// The header, its end included.
    pub header: Vec<u8>,
    /// How many octets of content it stands for.
    pub length: u64,
}

/// The fields for a chain, the last expansion first. An address that not every server takes stays out of the header.
fn delivered_to(chain: &[Address]) -> String {
    let shown = chain.iter().rev().filter(|address| !address.needs_smtputf8());
    shown.map(|address| format!("Delivered-To: {address}\r\n")).collect()
}

/// The lease in parts whose recipients have the same chain, since they share one content.
#[must_use]
pub fn by_chain(mut lease: Lease) -> Vec<Lease> {
    let mut parts: Vec<Lease> = Vec::new();
    for recipient in std::mem::take(&mut lease.recipients) {
        match parts.iter_mut().find(|part| part.recipients[0].chain == recipient.chain) {
            Some(part) => part.recipients.push(recipient),
            None => parts.push(Lease { recipients: vec![recipient], ..lease.clone() }),
        }
    }
    parts
}

/// What an attempt ended with for one recipient.
#[derive(Debug, Clone)]
pub struct End {
    /// For the queue.
    pub fate: Fate,
    /// The enhanced status.
    pub status: EnhancedStatus,
    /// In words.
    pub text: String,
    /// `relay=`.
    pub relay: String,
    /// The reply of the remote server.
    pub diagnostic: Option<String>,
    /// The remote server's name.
    pub remote: Option<String>,
}

fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

impl Job {
    /// A job with all recipients open. With `forwarded` (`prepend_delivered_header`) the message shows whose alias or forward file led to
    /// its recipients, which have the same chain: when it comes back to one of these, local delivery sees the loop.
    #[must_use]
    pub fn new(lease: Lease, content: Arc<Content>, reports: Reports, forwarded: bool) -> Self {
        let open = (0..lease.recipients.len()).collect();
        let chain = lease.recipients.first().filter(|_| forwarded).map_or(&[][..], |first| &first.chain);
        let trace = delivered_to(chain).into();
        let lease = Arc::new(lease);
        Self { lease, content, trace, reports, granted: now(), connected: None, open, batch: 0, shown: None }
    }

    /// Octets from a position of the message: trace, header if it is another, then content.
    ///
    /// # Errors
    /// The content cannot be read.
    pub fn read(&self, mut at: u64, most: usize) -> std::io::Result<Vec<u8>> {
        let header = self.shown.as_ref().map_or(&[][..], |shown| &shown.header);
        for part in [self.trace.as_bytes(), header] {
            match usize::try_from(at).ok().and_then(|at| part.get(at..)).filter(|rest| !rest.is_empty()) {
                Some(rest) => return Ok(rest[..rest.len().min(most)].to_vec()),
                None => at -= part.len() as u64,
            }
        }
        self.content.read(at + self.shown.as_ref().map_or(0, |shown| shown.length), most)
    }

    /// The size of the message.
    fn size(&self) -> u64 {
        let content = self.trace.len() as u64 + self.content.length();
        self.shown.as_ref().map_or(content, |shown| content - shown.length + shown.header.len() as u64)
    }

    /// The beginning of the content, up to the end of its header if that comes within so many octets.
    ///
    /// # Errors
    /// The content cannot be read.
    pub fn read_header(&self, most: usize) -> std::io::Result<Vec<u8>> {
        let (mut header, mut searched) = (Vec::new(), 0);
        while header.len() < most {
            let piece = self.content.read(header.len() as u64, 64 * 1024)?;
            if piece.is_empty() {
                break;
            }
            header.extend_from_slice(&piece);
            match mail_message::header::Header::find_end(&header, searched) {
                Ok(_) => break,
                Err(next) => searched = next,
            }
        }
        Ok(header)
    }

    /// A recipient as the next server is shown it.
    fn address(&self, at: usize) -> &Address {
        let shown = self.shown.as_ref().and_then(|shown| shown.recipients.get(at));
        shown.unwrap_or(&self.lease.recipients[at].address)
    }

    /// Whether queue-manager still knows of the lease.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.reports.may_begin()
    }

    /// The message for the client machine, with as many of the open recipients as the peer takes.
    ///
    /// # Errors
    /// The content cannot be read.
    pub fn message(&mut self, limits: Limits) -> std::io::Result<Message> {
        self.batch = self.fitting(limits);
        let open = &self.open[..self.batch];
        let recipients = open.iter().map(|&at| recipient(&self.lease.recipients[at], self.address(at))).collect();
        let octets = Octets::of(|at, most| self.read(at, most))?;
        let lease = &self.lease;
        let sender = self.shown.as_ref().map_or(&lease.sender, |shown| &shown.sender);
        let sender_needs = sender.address().is_some_and(Address::needs_smtputf8);
        let address_needs = sender_needs || open.iter().any(|&at| self.address(at).needs_smtputf8());
        Ok(Message {
            sender: sender.clone(),
            recipients,
            size: self.size(),
            body: if octets.eight_bit { Body::EightBitMime } else { Body::SevenBit },
            smtputf8: address_needs || (lease.smtputf8 && octets.eight_bit_header),
            dsn: lease.dsn.clone(),
            verify: lease.purpose.is_verification(),
        })
    }

    /// How many of the open recipients fit into one transaction (M06).
    fn fitting(&self, limits: Limits) -> usize {
        let most = |limit: Option<u64>| limit.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let mut domains: Vec<&Domain> = Vec::new();
        for (count, &at) in self.open.iter().enumerate() {
            let domain = self.address(at).domain();
            if !domains.contains(&domain) {
                domains.push(domain);
            }
            if count == most(limits.rcpt) || domains.len() > most(limits.rcpt_domain) {
                return count;
            }
        }
        self.open.len()
    }

    /// Takes the outcomes of one conversation; temporary ones stay open where `another` host may be better. Gives how the last of these would end.
    pub fn settle(
        &mut self,
        log: &Log,
        ident: &Ident,
        outcomes: Vec<RcptOutcome>,
        peer: &Peer,
        another: bool,
    ) -> Option<End> {
        let mut left = None;
        let mut places = std::mem::take(&mut self.open);
        // Who was not in the message is still to be tried.
        let later = places.split_off(self.batch.min(places.len()));
        for outcome in outcomes {
            let Some(&at) = places.get(outcome.number) else { continue };
            if another && outcome.cause.severity() == Severity::Temporary && may_try_elsewhere(&outcome.cause) {
                self.open.push(at);
                left = Some(peer.end(&outcome));
            } else {
                self.tell(log, ident, at, peer.end(&outcome));
            }
        }
        self.open.extend(later);
        left
    }

    /// Ends all open recipients in the same way.
    pub fn end_all(&mut self, log: &Log, ident: &Ident, end: impl Fn(&LeaseRecipient) -> End) {
        for at in std::mem::take(&mut self.open) {
            let end = end(&self.lease.recipients[at]);
            self.tell(log, ident, at, end);
        }
    }

    fn tell(&self, log: &Log, ident: &Ident, at: usize, end: End) {
        self.log(log, ident, &self.lease.recipients[at], &end);
        self.report(at, end);
    }

    fn report(&self, at: usize, end: End) {
        self.reports.report(Outcome {
            lease: self.lease.lease,
            id: self.lease.id,
            attempt: self.lease.attempt,
            recipient: self.lease.recipients[at].number,
            fate: end.fate,
            status: end.status,
            text: end.text,
            relay: end.relay,
            diagnostic: end.diagnostic,
            remote: end.remote,
        });
    }

    fn log(&self, log: &Log, ident: &Ident, recipient: &LeaseRecipient, end: &End) {
        let (to, done) = (recipient.address.to_string(), now());
        let ready = self.connected.unwrap_or(done);
        let delivery = Delivery {
            to: &to,
            orig_to: recipient.original.as_deref().filter(|original| *original != to),
            relay: &end.relay,
            delay: done.since(self.lease.arrival),
            delays: [
                self.lease.active.since(self.lease.arrival),
                self.granted.since(self.lease.active),
                ready.since(self.granted),
                if self.connected.is_some() { done.since(ready) } else { Duration::ZERO },
            ],
            dsn: end.status,
            status: match end.fate {
                Fate::Deferred { .. } | Fate::Bounced if self.lease.purpose.is_verification() => "undeliverable",
                _ if self.lease.purpose.is_verification() => "deliverable",
                Fate::Deferred { .. } => "deferred",
                Fate::Bounced => "bounced",
                _ => "sent",
            },
            text: &end.text,
        };
        let record = Record::new(ident, Stage::Delivery, Event::Delivery(delivery)).about(self.lease.id);
        let rule = recipient.rule.as_ref().map(|rule| (rule.name.as_str(), &rule.source));
        log.record(&record.by_any(rule));
    }
}

impl Drop for Job {
    /// Recipients that are still open were never begun in vain: queue-manager grants them again, or is told to.
    fn drop(&mut self) {
        for at in std::mem::take(&mut self.open) {
            let recipient = self.lease.recipients[at].number;
            let key = OutcomeKey { id: self.lease.id, recipient, attempt: self.lease.attempt };
            if !self.reports.may_begin() {
                self.reports.abandon(key);
                continue;
            }
            let (status, text) = (EnhancedStatus::of(4, 3, 0), "delivery was interrupted".to_owned());
            let fate = Fate::Deferred { dead: false };
            self.report(at, End { fate, status, text, relay: "none".to_owned(), diagnostic: None, remote: None });
        }
    }
}

/// Another host is tried after a refusal for now, never after the final dot: then the message may have been taken already.
fn may_try_elsewhere(cause: &Cause) -> bool {
    use mail_smtp::client::Stage as At;
    !matches!(
        cause,
        Cause::Lost(At::EndOfData)
            | Cause::TimedOut(At::EndOfData)
            | Cause::Garbage { stage: At::EndOfData, .. }
            | Cause::Aborted
    )
}

fn recipient(leased: &LeaseRecipient, address: &Address) -> Recipient {
    Recipient {
        address: address.clone(),
        original: leased.original.clone(),
        orcpt: leased.orcpt.clone(),
        notify: leased.notify,
    }
}

/// Whom a conversation was with.
#[derive(Debug, Clone)]
pub struct Peer {
    /// `name[address]`.
    pub label: String,
    /// `name[address]:port`, or the path of a socket.
    pub relay: String,
    /// The name alone.
    pub name: String,
}

impl Peer {
    fn end(&self, outcome: &RcptOutcome) -> End {
        let fate = match outcome.cause.severity() {
            Severity::Success => Fate::Relayed { dsn: outcome.dsn_passed_on },
            Severity::Temporary => Fate::Deferred { dead: false },
            Severity::Permanent => Fate::Bounced,
        };
        let reply = if let Cause::Reply { reply, .. } = &outcome.cause { Some(reply.to_string()) } else { None };
        End {
            fate,
            status: outcome.cause.status(),
            text: outcome.cause.describe(&self.label),
            relay: self.relay.clone(),
            remote: reply.as_ref().map(|_| self.name.clone()),
            diagnostic: reply,
        }
    }
}

/// Which octets outside ASCII there are.
struct Octets {
    eight_bit: bool,
    eight_bit_header: bool,
}

impl Octets {
    fn of(read: impl Fn(u64, usize) -> std::io::Result<Vec<u8>>) -> std::io::Result<Self> {
        let (mut at, mut header_ended, mut last) = (0, false, [0u8; 2]);
        let mut octets = Self { eight_bit: false, eight_bit_header: false };
        loop {
            let piece = read(at, 64 * 1024)?;
            if piece.is_empty() || octets.eight_bit && header_ended {
                return Ok(octets);
            }
            at += piece.len() as u64;
            for byte in piece {
                octets.eight_bit |= byte > 127;
                octets.eight_bit_header |= byte > 127 && !header_ended;
                // An empty line: LF after LF, or after CR LF.
                header_ended |= byte == b'\n' && last[1] == b'\n';
                if byte != b'\r' {
                    last = [last[1], byte];
                }
            }
        }
    }
}

/// The ident of a kind of transport.
#[must_use]
pub fn ident(syslog_name: &str, kind: TransportKind) -> Ident {
    Ident::postfix(syslog_name, if kind == TransportKind::Lmtp { "lmtp" } else { "smtp" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_found_where_they_are() {
        for (text, eight_bit, header) in [
            ("Subject: a\r\n\r\nbody\r\n", false, false),
            ("Subject: \u{e9}\r\n\r\nbody\r\n", true, true),
            ("Subject: a\r\n\r\n\u{e9}\r\n", true, false),
            ("Subject: a\n\n\u{e9}\n", true, false),
        ] {
            let content = Content::Memory(text.as_bytes().to_vec());
            let octets = Octets::of(|at, most| content.read(at, most)).expect("in memory");
            assert_eq!((octets.eight_bit, octets.eight_bit_header), (eight_bit, header), "{text:?}");
        }
    }
}
