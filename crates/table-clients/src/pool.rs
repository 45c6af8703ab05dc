//! Connections that stay open between questions, to one of several servers.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::connection::{Endpoint, Failure};

/// How long a connection may lie idle.
const IDLE: Duration = Duration::from_secs(60);
/// How long a server that failed is left alone, unless every other one fails too.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// Connections of one table at once.
const CONNECTIONS_MAX: usize = 20;

/// A protocol of questions and answers.
pub(crate) trait Protocol: Send + Sync {
    /// An open connection, after the login if there is one.
    type Line: Send;
    /// A question.
    type Question: Sync + ?Sized;
    /// An answer.
    type Answer: Send;

    /// Opens a connection.
    fn connect(&self, to: &Endpoint) -> impl Future<Output = Result<Self::Line, Failure>> + Send;

    /// Puts a question.
    fn ask(
        &self,
        line: &mut Self::Line,
        question: &Self::Question,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}

/// The connections of one table.
pub(crate) struct Pool<P: Protocol> {
    pub(crate) protocol: P,
    endpoints: Vec<Endpoint>,
    state: Mutex<State<P::Line>>,
    connections: Semaphore,
    patience: Duration,
    /// Whether the servers take turns.
    takes_turns: bool,
}

struct State<L> {
    idle: Vec<(usize, L, Instant)>,
    failed: HashMap<usize, Instant>,
    /// Which server is asked first next time.
    turn: usize,
}

impl<P: Protocol> Pool<P> {
    /// Connections to any of these servers; a question may take `patience` in all.
    pub(crate) fn new(protocol: P, endpoints: Vec<Endpoint>, patience: Duration) -> Self {
        let state = State { idle: Vec::new(), failed: HashMap::new(), turn: 0 };
        let connections = Semaphore::new(CONNECTIONS_MAX);
        Self { protocol, endpoints, state: Mutex::new(state), connections, patience, takes_turns: true }
    }

    /// The same to the first of these servers that answers.
    pub(crate) fn in_order(protocol: P, endpoints: Vec<Endpoint>, patience: Duration) -> Self {
        Self { takes_turns: false, ..Self::new(protocol, endpoints, patience) }
    }

    /// Tries every server with a new connection, and the login where there is one; what is wrong with which.
    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        let mut wrong = Vec::new();
        for endpoint in &self.endpoints {
            let why = match tokio::time::timeout(patience, self.protocol.connect(endpoint)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(failure)) => failure.text(),
                Err(_) => format!("no answer within {} seconds", patience.as_secs()),
            };
            wrong.push(format!("{endpoint}: {why}"));
        }
        wrong
    }

    /// Puts a question to the servers in turn until one answers.
    pub(crate) async fn ask(&self, question: &P::Question) -> Result<P::Answer, String> {
        let asked = tokio::time::timeout(self.patience, self.ask_any(question)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {} seconds", self.patience.as_secs())))
    }

    async fn ask_any(&self, question: &P::Question) -> Result<P::Answer, String> {
        let Ok(_permit) = self.connections.acquire().await else { return Err("closed".to_owned()) };
        let mut last = "no server is named".to_owned();
        for at in self.order() {
            match self.ask_one(at, question).await {
                Ok(answer) => {
                    self.state().failed.remove(&at);
                    return Ok(answer);
                }
                Err(failure) => {
                    if matches!(failure, Failure::Broken(_)) {
                        self.state().failed.insert(at, Instant::now());
                    }
                    last = format!("{}: {}", self.endpoints[at], failure.text());
                }
            }
        }
        Err(last)
    }

    /// Asks one server: over a connection that is open, else over a new one. An open one may have been closed meanwhile, so that is no failure.
    async fn ask_one(&self, at: usize, question: &P::Question) -> Result<P::Answer, Failure> {
        if let Some(mut line) = self.idle(at) {
            match self.protocol.ask(&mut line, question).await {
                Err(Failure::Broken(_)) => {}
                done => {
                    self.put_back(at, line);
                    return done;
                }
            }
        }
        let mut line = self.protocol.connect(&self.endpoints[at]).await?;
        let done = self.protocol.ask(&mut line, question).await;
        if !matches!(done, Err(Failure::Broken(_))) {
            self.put_back(at, line);
        }
        done
    }

    /// The servers, another one first each time if they take turns; those that failed lately last.
    fn order(&self) -> Vec<usize> {
        let mut state = self.state();
        let count = self.endpoints.len();
        state.turn = if self.takes_turns { state.turn.wrapping_add(1) } else { 0 };
        let turn = state.turn;
        let mut order: Vec<usize> = (0..count).map(|at| (at + turn) % count.max(1)).collect();
        order.sort_by_key(|at| state.failed.get(at).is_some_and(|since| since.elapsed() < LEFT_ALONE));
        order
    }

    fn idle(&self, at: usize) -> Option<P::Line> {
        let mut state = self.state();
        state.idle.retain(|(.., since)| since.elapsed() < IDLE);
        let found = state.idle.iter().rposition(|(of, ..)| *of == at)?;
        Some(state.idle.swap_remove(found).1)
    }

    fn put_back(&self, at: usize, line: P::Line) {
        self.state().idle.push((at, line, Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, State<P::Line>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
