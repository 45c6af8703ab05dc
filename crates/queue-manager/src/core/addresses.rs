//! Address verification: what is known of addresses, and the probes that find it out.
//!
//! A probe is a message of its own with [`Purpose::Probe`]: durable like all mail, attempted once, never delivered. Its recipient remembers
//! the address that was asked about as its original, so that a probe that outlives a restart still answers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mail_ipc::control::Response;
use mail_ipc::intake::Verified;
use mail_types::{Address, Body, Client, DsnOptions, Envelope, Purpose, Recipient, UnixTime};
use queue_store::addresses::{Addresses, Deliverability, Standing};
use queue_store::index::Key;
use queue_store::{Accepted, Answers, Content, Op, Place};

use super::{Core, Event, NewMessage};

/// A probe that has not ended after so long is taken for lost: the next question sends another.
const LOST: Duration = Duration::from_secs(1000);
/// So many may wait for one probe; more hear at once that nobody can tell.
const WAITING_MAX: usize = 1000;

/// Who asks, and is answered once.
pub type Asker = Box<dyn FnOnce(Verified) + Send>;

/// What is known, and what is being found out.
pub(super) struct Probes {
    pub known: Addresses,
    /// Where that is kept, until it is opened: most systems never ask.
    pub state: Option<PathBuf>,
    under_way: HashMap<String, Probe>,
    /// Those that wait for serial numbers, as in the first moments of a run: address, recipient, asker.
    later: Vec<(String, Address, Option<Asker>)>,
    /// When what is believed no more was last removed, and where that goes on.
    cleaned: UnixTime,
    cursor: Option<Key>,
}

struct Probe {
    since: UnixTime,
    waiting: Vec<Asker>,
}

/// What the store answered to a probe.
pub struct Probed {
    address: String,
    message: NewMessage,
    answers: Answers,
}

impl Probes {
    pub fn new(now: UnixTime) -> Self {
        Self {
            known: Addresses::in_memory(),
            state: None,
            under_way: HashMap::new(),
            later: Vec::new(),
            cleaned: now,
            cursor: None,
        }
    }
}

impl Core {
    /// Opens what is known of addresses, if nobody has asked before.
    fn open_addresses(&mut self) {
        let Some(state) = self.probes.state.take() else { return };
        let (known, trouble) = Addresses::open(&state);
        self.probes.known = known;
        if let Some(error) = trouble {
            self.warn(&format!("what is known of addresses is kept in memory: {error}"));
        }
    }

    pub(super) fn ask_about(&mut self, address: &Address, recipient: Address, asker: Asker) {
        self.open_addresses();
        let now = (self.now)();
        let name = name_of(address);
        let times = &self.settings.verification;
        let known = self.probes.known.get(&name).filter(|standing| !times.is_expired(standing, now));
        let due = known.as_ref().is_none_or(|standing| times.is_due(standing, now));
        match known {
            Some(standing) => {
                asker(verified(&standing));
                if due {
                    self.probe(name, recipient, None, now);
                }
            }
            None => self.probe(name, recipient, Some(asker), now),
        }
    }

    /// What is believed of an address now; nobody is asked.
    pub(super) fn known_of(&mut self, address: &Address) -> Response {
        self.open_addresses();
        let now = (self.now)();
        let times = &self.settings.verification;
        let known = self.probes.known.get(&name_of(address)).filter(|standing| !times.is_expired(standing, now));
        Response::Verified { answer: known.as_ref().map(verified), at: known.map(|standing| standing.at) }
    }

    /// Sends a probe, unless one is under way.
    fn probe(&mut self, name: String, recipient: Address, asker: Option<Asker>, now: UnixTime) {
        if let Some(probe) = self.probes.under_way.get_mut(&name).filter(|probe| now.since(probe.since) < LOST) {
            match asker {
                Some(asker) if probe.waiting.len() >= WAITING_MAX => asker(Verified::Unknown),
                asker => probe.waiting.extend(asker),
            }
            return;
        }
        if self.probes.under_way.len() + self.probes.later.len() >= self.settings.verification.pending_limit {
            asker.into_iter().for_each(|asker| asker(Verified::Unknown));
            return;
        }
        let Some(id) = self.mint() else { return self.probes.later.push((name, recipient, asker)) };
        let content = format!("Subject: probe\r\nTo: {name}\r\n\r\n").into_bytes();
        let sender = self.settings.verification.sender.clone();
        let hop = self.route(Purpose::Probe, &sender, &recipient).hop();
        let envelope = Arc::new(Envelope {
            sender,
            smtputf8: recipient.needs_smtputf8(),
            recipients: vec![Recipient { original: Some(name.clone()), ..Recipient::new(recipient) }],
            arrival: now,
            size: content.len() as u64,
            body: Body::SevenBit,
            dsn: DsnOptions::default(),
            message_id: None,
            client: Client { name: "localhost".to_owned(), protocol: "local".to_owned(), ..Client::default() },
            purpose: Purpose::Probe,
        });
        let message = NewMessage { id, envelope: envelope.clone(), hops: vec![hop.clone()], at: now, hold: false };
        let accepted = Accepted { id, at: now, envelope, place: Place::Segment, hold: false };
        let op = Op::Accept { accepted, content: Content::Octets(content), hops: vec![hop] };
        let probe = Probe { since: now, waiting: asker.into_iter().collect() };
        // Who waited for a probe that was lost has given up long ago.
        self.probes.under_way.insert(name.clone(), probe);
        let events = self.to_self.clone();
        self.store.submit(vec![op], move |answers| {
            let _ = events.send(Event::Probed(Probed { address: name, message, answers }));
        });
    }

    /// Sends the probes that waited for serial numbers.
    pub(super) fn probe_what_waited(&mut self) {
        let now = (self.now)();
        for (name, recipient, asker) in std::mem::take(&mut self.probes.later) {
            self.probe(name, recipient, asker, now);
        }
    }

    pub(super) fn probed(&mut self, probed: Probed) {
        match probed.answers {
            Ok(_) => self.accepted(probed.message),
            Err(refusal) => {
                self.warn(&format!("{}: no probe could be sent: {refusal}", probed.address));
                self.answer(&probed.address, &Verified::Unknown);
            }
        }
    }

    /// A probe has ended. One that failed takes nothing back that is still believed: as long as some succeed the address is good.
    pub(super) fn found_out(&mut self, name: &str, standing: Standing) {
        self.open_addresses();
        self.answer(name, &verified(&standing));
        let times = &self.settings.verification;
        let good = |known: Standing| known.is == Deliverability::Deliverable && !times.is_expired(&known, standing.at);
        let kept = if standing.is == Deliverability::Deliverable {
            self.probes.known.put(name, &standing)
        } else if self.probes.known.get(name).is_some_and(good) {
            Ok(())
        } else if times.negative_cache {
            self.probes.known.put(name, &standing)
        } else {
            self.probes.known.remove(name)
        };
        self.noticed(kept);
    }

    fn answer(&mut self, name: &str, answer: &Verified) {
        let waiting = self.probes.under_way.remove(name).map(|probe| probe.waiting);
        waiting.into_iter().flatten().for_each(|asker| asker(answer.clone()));
    }

    /// Removes what is believed no more, and probes that were lost: one step at a time.
    pub(super) fn clean_addresses(&mut self, now: UnixTime) {
        let times = &self.settings.verification;
        let soon = self.probes.cursor.is_none() && now.since(self.probes.cleaned) < times.cleanup_interval;
        // What nobody has asked about stays as it is: it cannot grow.
        if soon || self.probes.state.is_some() {
            return;
        }
        self.probes.cleaned = now;
        self.probes.under_way.retain(|_, probe| now.since(probe.since) < LOST);
        let from = self.probes.cursor.take();
        match self.probes.known.clean(from, |standing| times.is_expired(standing, now)) {
            Ok(next) => self.probes.cursor = next,
            Err(error) => self.noticed(Err(error)),
        }
    }

    /// A cache that fails is replaced by one in memory: what it held is found out again.
    fn noticed(&mut self, done: Result<(), queue_store::IndexError>) {
        if let Err(error) = done {
            self.warn(&format!("what is known of addresses is kept in memory until the next start: {error}"));
            self.probes.known = Addresses::in_memory();
            self.probes.cursor = None;
        }
    }
}

/// The name under which an address is remembered: its domain in lower case.
fn name_of(address: &Address) -> String {
    let text = address.to_string();
    match text.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => text,
    }
}

fn verified(standing: &Standing) -> Verified {
    let text = standing.text.clone();
    match standing.is {
        Deliverability::Deliverable => Verified::Deliverable,
        Deliverability::Undeliverable => Verified::Undeliverable { text },
        Deliverability::Deferred => Verified::Deferred { text },
    }
}
