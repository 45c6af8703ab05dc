//! What both machines have of a conversation: lines in, steps out, numbers for questions, and the clock of a client's silence.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session::{AskId, Close, LineBuffer, Moment, Step};

/// A conversation with a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Dialogue<Question> {
    pub(crate) input: LineBuffer,
    pub(crate) input_ended: bool,
    #[serde(skip)]
    steps: VecDeque<Step<Question>>,
    next_id: u64,
    heard: bool,
    /// On the driver's clock, which ends with its process.
    #[serde(skip)]
    last_heard: Option<Moment>,
    /// How long a silent client is kept.
    patience: Duration,
}

impl<Question> Dialogue<Question> {
    /// A conversation that we open with `first`, in lines of at most `line_max` octets.
    pub(crate) fn new(line_max: usize, patience: Duration, first: Vec<u8>) -> Self {
        Self {
            input: LineBuffer::new(line_max),
            input_ended: false,
            steps: VecDeque::from([Step::Send(first)]),
            next_id: 0,
            heard: true,
            last_heard: None,
            patience,
        }
    }

    /// Says something.
    pub(crate) fn send(&mut self, bytes: Vec<u8>) {
        self.steps.push_back(Step::Send(bytes));
    }

    /// Ends the connection when all has been said.
    pub(crate) fn close(&mut self, close: Close) {
        self.steps.push_back(Step::Close(close));
    }

    /// Asks the outside.
    pub(crate) fn ask(&mut self, question: Question) -> AskId {
        self.next_id += 1;
        let id = AskId(self.next_id);
        self.steps.push_back(Step::Ask(id, question));
        id
    }

    /// The number of the last question.
    #[cfg(test)]
    pub(crate) fn last_asked(&self) -> AskId {
        AskId(self.next_id)
    }

    /// The next thing to do, if something is left.
    pub(crate) fn step(&mut self) -> Option<Step<Question>> {
        self.steps.pop_front()
    }

    /// The client is there: it said something, or we have just worked for it.
    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    /// Whether the client has been silent for too long. To be asked at every turn.
    pub(crate) fn is_silent(&mut self, now: Moment) -> bool {
        let last = *self.last_heard.get_or_insert(now);
        if std::mem::take(&mut self.heard) {
            self.last_heard = Some(now);
            return false;
        }
        now >= last.after(self.patience)
    }

    /// When the client will have been silent for too long.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.last_heard.map(|last| last.after(self.patience))
    }
}
