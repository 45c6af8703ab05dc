//! What the running queue-manager knows of addresses (`reject_unverified_sender`, `reject_unverified_recipient`). It is asked for what it
//! remembers; no probe is sent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mail_config::Config;
use mail_ipc::control::{Request, Response};
use mail_ipc::intake::Verified;
use mail_ipc::sockets::CONTROL;
use mail_policy::VerifiedFact;
use mail_types::{Address, UnixTime};

use crate::conversation::Conversation;

/// From whom an answer is that nobody gave.
pub const SUPPOSED: &str = "supposed";

/// The way to queue-manager. Answers are remembered: a case that is evaluated again asks once.
pub struct Verification {
    state: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    manager: Manager,
    remembered: HashMap<String, Option<(Verified, UnixTime)>>,
}

#[derive(Default)]
enum Manager {
    #[default]
    Untried,
    Talking(Box<Conversation>),
    Away,
}

impl Verification {
    /// The queue-manager of a configuration; nothing is asked yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { state: config.state_dir(), inner: Mutex::default() }
    }

    /// What is known of an address, and who says so; `otherwise` where nothing is.
    pub fn ask(&self, address: &Address, otherwise: &VerifiedFact) -> (VerifiedFact, String) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = address.to_string().to_lowercase();
        let known = match inner.remembered.get(&key) {
            Some(known) => known.clone(),
            None => {
                let known = inner.manager.ask(&self.state, address);
                inner.remembered.insert(key, known.clone());
                known
            }
        };
        let fact = match known {
            None | Some((Verified::Unknown, _)) => return (otherwise.clone(), SUPPOSED.to_owned()),
            Some((Verified::Deliverable, at)) => (VerifiedFact::Deliverable, at),
            Some((Verified::Undeliverable { text }, at)) => (VerifiedFact::Undeliverable(text), at),
            Some((Verified::Deferred { text }, at)) => (VerifiedFact::Deferred(text), at),
        };
        (fact.0, format!("queue-manager, found out {}", when(fact.1)))
    }
}

fn when(at: UnixTime) -> String {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap_or_default());
    time.map_or_else(|_| "at a time that is none".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

impl Manager {
    /// What it knows; nothing where it is away, does not talk to the caller, or knows nothing.
    fn ask(&mut self, state: &std::path::Path, address: &Address) -> Option<(Verified, UnixTime)> {
        if matches!(self, Self::Untried) {
            *self = Conversation::open(state, CONTROL).map_or(Self::Away, |open| Self::Talking(Box::new(open)));
        }
        let Self::Talking(conversation) = self else { return None };
        match conversation.ask::<Response>(&Request::Verified { address: address.clone() }) {
            Ok((Response::Verified { answer, at }, _)) => answer.zip(at),
            Ok(_) => None,
            Err(_) => {
                *self = Self::Away;
                None
            }
        }
    }
}
