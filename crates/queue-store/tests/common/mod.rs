//! Messages for the tests of the store.
#![allow(dead_code, missing_docs, clippy::expect_used)]

use std::sync::Arc;

use mail_types::{Address, Body, Client, DsnOptions, Envelope, Purpose, QueueId, Recipient, Sender, UnixTime};
use queue_store::{Accepted, Answer, Content, Fate, Op, Options, Outcome, Place, Store};

pub fn id(serial: u32) -> QueueId {
    QueueId::new(1_790_000_000, serial % 1_000_000, serial).expect("in range")
}

pub fn address(text: &str) -> Address {
    text.parse().expect("address")
}

pub fn envelope(recipients: &[&str], size: usize) -> Arc<Envelope> {
    Arc::new(Envelope {
        sender: Sender::Address(address("sender@example.org")),
        recipients: recipients.iter().map(|text| Recipient::new(address(text))).collect(),
        arrival: UnixTime(1_790_000_000_000),
        size: size as u64,
        body: Body::SevenBit,
        smtputf8: false,
        dsn: DsnOptions::default(),
        message_id: Some("<1@example.org>".to_owned()),
        client: Client::default(),
        purpose: Purpose::Deliver,
    })
}

pub fn accept(serial: u32, recipients: &[&str], content: &[u8]) -> Op {
    let accepted = Accepted {
        id: id(serial),
        at: UnixTime(1_790_000_000_000),
        envelope: envelope(recipients, content.len()),
        place: Place::Segment,
        hold: false,
    };
    Op::Accept { accepted, content: Content::Octets(content.to_vec()), hops: Vec::new() }
}

pub fn outcome(serial: u32, recipient: u32, to: &str, result: Fate) -> Op {
    Op::Outcome(record(serial, recipient, to, result))
}

pub fn record(serial: u32, recipient: u32, to: &str, result: Fate) -> Outcome {
    Outcome {
        id: id(serial),
        at: UnixTime::from_system(std::time::SystemTime::now()),
        recipients: vec![(recipient, address(to))],
        attempt: 1,
        result,
        status: None,
        text: "as it was".to_owned(),
        mta: None,
        report: false,
        via: None,
    }
}

pub fn options() -> Options {
    Options::default()
}

pub fn open(dir: &std::path::Path) -> (Store, queue_store::Recovery) {
    Store::open(dir, options()).expect("open")
}

pub fn done(store: &Store, op: Op) {
    assert_eq!(store.commit(vec![op]), Ok(vec![Answer::Done]));
}

/// Ids with their open recipients' numbers.
pub fn present(store: &Store) -> Vec<(u32, Vec<u32>)> {
    let messages = store.messages(None, usize::MAX).expect("list");
    let open = |id| store.recipients(id, 0, usize::MAX).expect("recipients").into_iter().map(|(n, _)| n).collect();
    messages.into_iter().map(|(id, _)| (id.serial(), open(id))).collect()
}
