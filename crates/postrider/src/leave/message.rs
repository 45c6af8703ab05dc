//! One message as files of Postfix: one for each sender that its recipients have (a list with an owner has its own), with the logs that say
//! why they wait and what the sender is still to hear.

use std::io::Read as _;
use std::time::Duration;

use mail_types::{Envelope, Purpose, QueueId, Recipient, Sender, UnixTime};
use postfix_queue::{Outgoing, Wait, log};
use queue_store::{Body, Fate, MessageState, RecipientState, Store};

/// A message of ours with everything that the queue knows of it.
pub struct Whole {
    /// Its state.
    pub state: MessageState,
    /// Its envelope; the recipients are those below.
    pub envelope: Envelope,
    /// The recipients that are not done.
    pub recipients: Vec<(u32, RecipientState)>,
    /// The content.
    pub content: Vec<u8>,
}

impl Whole {
    /// Reads a message; none if it is gone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(store: &Store, id: QueueId) -> Result<Option<Self>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let Some(state) = store.message(id).map_err(|error| text(&error))? else { return Ok(None) };
        let loaded = store.load(id).map_err(|error| text(&error))?;
        let recipients = store.recipients(id, 0, usize::MAX).map_err(|error| text(&error))?;
        let content = match loaded.body {
            Body::Octets(octets) => octets,
            Body::File(file, length) => {
                let mut octets = Vec::new();
                file.take(length).read_to_end(&mut octets).map_err(|error| text(&error))?;
                octets
            }
        };
        Ok(Some(Self { state, envelope: Envelope::clone(&loaded.envelope), recipients, content }))
    }
}

/// A queue file to be, with its logs.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The octets of the file.
    pub file: Vec<u8>,
    /// `defer`, `bounce` and `trace`, as far as there is something to say.
    pub logs: Vec<(&'static str, String)>,
    /// The numbers of its recipients that Postfix delivers.
    pub open: Vec<u32>,
    /// The numbers of those of whom Postfix tells the sender.
    pub told: Vec<u32>,
    /// When the next attempt is due, if one was made.
    pub deferred: Option<UnixTime>,
}

/// What can be handed over, and what cannot.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Split {
    /// The files.
    pub parts: Vec<Part>,
    /// Recipients that only we can go on with, and why.
    pub left: Vec<(u32, String)>,
}

/// Divides a message. `warn_after` is `delay_warning_time`; zero for never.
#[must_use]
pub fn split(whole: &Whole, warn_after: Duration) -> Split {
    let mut split = Split::default();
    let mut groups: Vec<(Sender, Vec<&(u32, RecipientState)>)> = Vec::new();
    for entry in &whole.recipients {
        let (number, state) = entry;
        if let Some(reason) = only_ours(state) {
            split.left.push((*number, format!("{}: {reason}", state.recipient.address)));
            continue;
        }
        let sender = state.owner.clone().unwrap_or_else(|| whole.envelope.sender.clone());
        match groups.iter_mut().find(|(known, _)| *known == sender) {
            Some((_, members)) => members.push(entry),
            None => groups.push((sender, vec![entry])),
        }
    }
    split.parts = groups.into_iter().map(|(sender, members)| part(whole, sender, &members, warn_after)).collect();
    split
}

/// Members of a list that Postfix would expand again, which would reach others twice.
fn only_ours(state: &RecipientState) -> Option<&'static str> {
    if state.report.is_some() {
        return None;
    }
    if state.part.is_some() {
        return Some("it stands for a command or file of a list; start Postrider until it is delivered, or delete it");
    }
    let again = state.chain.contains(&state.recipient.address);
    again.then_some("it is a member of itself, which Postfix would expand again; start Postrider until it is delivered")
}

fn part(whole: &Whole, sender: Sender, members: &[&(u32, RecipientState)], warn_after: Duration) -> Part {
    type Members<'a> = Vec<&'a &'a (u32, RecipientState)>;
    let (told, open): (Members<'_>, Members<'_>) = members.iter().partition(|(_, state)| state.report.is_some());
    let recipients = |of: &[&&(u32, RecipientState)]| -> Vec<Recipient> {
        of.iter().map(|(_, state)| state.recipient.clone()).collect()
    };
    // The report of the first attempt is sent once.
    let traced = open.iter().any(|(_, state)| state.traced);
    let purpose = match whole.envelope.purpose {
        Purpose::Trace if traced => Purpose::Deliver,
        purpose => purpose,
    };
    let envelope = Envelope { sender, recipients: recipients(&open), purpose, ..whole.envelope.clone() };
    let done = recipients(&told);
    let arrival = envelope.arrival;
    let warned = open.iter().any(|(_, state)| state.warned);
    let wait = match (warned, warn_after.is_zero()) {
        (true, _) => Wait::Warned,
        (false, true) => Wait::Unwatched,
        (false, false) => Wait::WarnAt(arrival.after(warn_after)),
    };
    let (file, offsets) = Outgoing { envelope: &envelope, done: &done, content: &whole.content, wait }.write();
    let mut logs: [(&'static str, Vec<log::Entry>); 3] = [("defer", vec![]), ("bounce", vec![]), ("trace", vec![])];
    for ((_, state), offset) in open.iter().chain(&told).zip(&offsets) {
        let (log, action) = match state.report {
            None if state.last.is_none() => continue,
            None => (0, "delayed"),
            Some(Fate::Bounced) => (1, "failed"),
            Some(Fate::Relayed) => (2, "relayed"),
            Some(_) => (2, "delivered"),
        };
        logs[log].1.push(entry(state, *offset, action));
    }
    let attempted = open.iter().filter(|(_, state)| state.attempts > 0).map(|(_, state)| state.next);
    Part {
        file,
        logs: logs.into_iter().filter(|(_, e)| !e.is_empty()).map(|(name, e)| (name, log::text(&e))).collect(),
        deferred: attempted.min(),
        open: open.iter().map(|(number, _)| *number).collect(),
        told: told.iter().map(|(number, _)| *number).collect(),
    }
}

fn entry(state: &RecipientState, offset: u64, action: &str) -> log::Entry {
    let Recipient { address, original, orcpt, notify } = &state.recipient;
    let last = state.last.as_ref();
    let mta = last.and_then(|last| last.mta.clone()).unwrap_or_default();
    let default = if state.report.is_some_and(|fate| fate != Fate::Bounced) { "2.0.0" } else { "4.0.0" };
    log::Entry {
        recipient: address.to_string(),
        original: original.clone(),
        offset,
        orcpt: orcpt.clone(),
        notify: *notify,
        status: last.and_then(|last| last.status).map_or_else(|| default.to_owned(), |status| status.to_string()),
        action: action.to_owned(),
        diagnostic: mta.diagnostic,
        mta: mta.name,
        reason: last.map(|last| last.text.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use mail_types::{Body as BodyType, Client, DsnOptions};
    use postfix_queue::{LIMITS, State, read};
    use queue_store::{LastReply, Location, Place};

    use super::*;

    fn whole(recipients: Vec<RecipientState>) -> Whole {
        let envelope = Envelope {
            sender: Sender::Address("from@a.example".parse().expect("an address")),
            recipients: vec![],
            arrival: UnixTime(1_000_000),
            size: 3,
            body: BodyType::SevenBit,
            smtputf8: false,
            dsn: DsnOptions::default(),
            message_id: None,
            client: Client::default(),
            purpose: Purpose::Deliver,
        };
        let location = Location { segment: 1, offset: 0, meta: 0, content: 0 };
        let state = MessageState {
            location,
            place: Place::Segment,
            sender: envelope.sender.clone(),
            arrival: envelope.arrival,
            size: 3,
            open: 1,
            next: 1,
            hold: false,
            corrupt: false,
            deferred: false,
            purpose: Purpose::Deliver,
        };
        Whole { state, envelope, recipients: (0..).zip(recipients).collect(), content: b"x\r\n".to_vec() }
    }

    fn to(address: &str) -> RecipientState {
        RecipientState::new(Recipient::new(address.parse().expect("an address")), UnixTime(2_000_000))
    }

    fn said(text: &str) -> Option<LastReply> {
        Some(LastReply { status: "4.4.1".parse().ok(), text: text.to_owned(), mta: None, at: UnixTime(0) })
    }

    #[test]
    fn each_sender_gets_a_file_and_each_reason_a_line() {
        let waiting = RecipientState { attempts: 2, last: said("refused"), ..to("b@c.example") };
        let listed = RecipientState {
            owner: Some(Sender::Address("owner-list@a.example".parse().expect("an address"))),
            chain: vec!["list@a.example".parse().expect("an address")],
            ..to("d@e.example")
        };
        let split = split(&whole(vec![waiting, listed]), Duration::from_secs(3600));
        assert_eq!(split.left, []);
        let senders: Vec<String> = split
            .parts
            .iter()
            .map(|part| read(&part.file, &LIMITS).expect("good").envelope().expect("good").envelope.sender.to_string())
            .collect();
        assert_eq!(senders, ["from@a.example", "owner-list@a.example"]);
        let [first, second] = &split.parts[..] else { panic!("two parts") };
        assert_eq!((first.deferred, second.deferred), (Some(UnixTime(2_000_000)), None));
        assert_eq!(read(&first.file, &LIMITS).expect("good").warn, Some(4600));
        assert_eq!(log::parse(first.logs[0].1.as_bytes())[0].reason, "refused");
        assert!(second.logs.is_empty());
    }

    #[test]
    fn what_the_sender_is_still_to_hear_goes_into_postfixs_logs() {
        let bounced = RecipientState {
            report: Some(Fate::Bounced),
            attempts: 1,
            last: said("no such user"),
            ..to("b@c.example")
        };
        let split = split(&whole(vec![to("x@y.example"), bounced]), Duration::ZERO);
        let part = &split.parts[0];
        assert_eq!((&part.open[..], &part.told[..]), (&[0][..], &[1][..]));
        assert_eq!(part.logs[0].0, "bounce");
        let entries = log::parse(part.logs[0].1.as_bytes());
        assert_eq!((entries[0].action.as_str(), entries[0].reason.as_str()), ("failed", "no such user"));
        let recipients = read(&part.file, &LIMITS).expect("good").recipients;
        assert_eq!(recipients.iter().map(|to| to.state).collect::<Vec<_>>(), [State::Open, State::Done]);
        assert_eq!(recipients[1].offset, entries[0].offset);
    }

    #[test]
    fn what_postfix_would_expand_again_stays() {
        let own = RecipientState { chain: vec!["b@c.example".parse().expect("an address")], ..to("b@c.example") };
        let command = RecipientState { part: Some(1), ..to("list@c.example") };
        let split = split(&whole(vec![own, command]), Duration::ZERO);
        assert!(split.parts.is_empty());
        assert_eq!(split.left.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
    }
}
