//! What tables said that must be waited for. The core never waits: a route that lacks an answer is [`crate::destination::Target::Asked`], a task fetches the
//! answer, and [`Event::Answered`] has the core find the route again.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mail_daemon::lookups::Lookups;
use mail_route::Facts;
use mail_tables::{Query, Remote, RemoteAnswer};
use tokio::sync::{Semaphore, mpsc};

use crate::core::Event;

/// How long an answer counts: long enough to find the routes that wait for it, which may need several.
const BELIEVED: Duration = Duration::from_secs(30);
/// The most answers remembered; beyond it all are forgotten.
const ANSWERS_MAX: usize = 10_000;
/// Questions under way at once.
const ASKED_AT_ONCE: usize = 64;

/// The answers so far, and the questions that are on their way.
#[derive(Debug)]
pub struct Asked {
    state: Mutex<State>,
    questions: mpsc::UnboundedSender<Query>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Query, (RemoteAnswer, Instant)>,
    under_way: HashSet<Query>,
}

impl Asked {
    /// Nothing is known yet; the questions come out of the receiver, for [`fetch`].
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Query>) {
        let (questions, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { state: Mutex::default(), questions }), receiver)
    }

    /// Has a question asked, once.
    pub fn ask(&self, query: Query) {
        if self.state().under_way.insert(query.clone()) {
            // The task ends only with the daemon.
            let _ = self.questions.send(query);
        }
    }

    /// Takes an answer.
    pub fn answered(&self, query: Query, answer: RemoteAnswer) {
        let mut state = self.state();
        state.under_way.remove(&query);
        if state.answers.len() >= ANSWERS_MAX {
            state.answers.clear();
        }
        state.answers.insert(query, (answer, Instant::now()));
    }

    /// Nothing is believed any more, as after a reload.
    pub fn forget(&self) {
        self.state().answers.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remote for Asked {
    fn answer(&self, query: &Query) -> Option<RemoteAnswer> {
        let state = self.state();
        let (answer, since) = state.answers.get(query)?;
        (since.elapsed() < BELIEVED).then(|| answer.clone())
    }
}

impl Facts for Asked {
    fn mailbox(&self, _: &str) -> Option<RemoteAnswer> {
        None
    }

    fn remote(&self) -> &dyn Remote {
        self
    }
}

/// Fetches answers until the daemon ends.
pub async fn fetch(
    asked: Arc<Asked>,
    mut questions: mpsc::UnboundedReceiver<Query>,
    lookups: Lookups,
    events: Sender<Event>,
) {
    let (lookups, slots) = (Arc::new(lookups), Arc::new(Semaphore::new(ASKED_AT_ONCE)));
    while let Some(query) = questions.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (asked, lookups, events) = (Arc::clone(&asked), Arc::clone(&lookups), events.clone());
        tokio::spawn(async move {
            let answer = lookups.table(&query).await;
            drop(slot);
            asked.answered(query, answer);
            let _ = events.send(Event::Answered);
        });
    }
}
