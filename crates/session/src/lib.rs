//! Protocol machines without I/O.
//!
//! A [`Machine`] knows the order, syntax, limits and reply texts of a protocol and nothing else: no socket, no file, no clock.
//! Bytes go in with [`Machine::receive`], [`Machine::next`] says what to do, questions of policy go out as [`Step::Ask`] and come
//! back with [`Machine::answer`]. The driver that moves the bytes is in `mail-net`; [`transcript::Player`] drives a machine in a test.
//!
//! Owned here: the trait, [`LineBuffer`] (input with limits), the transcript player. Not here: any protocol.

mod buffer;
pub mod transcript;

pub use buffer::{Line, LineBuffer};

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the driver's monotonic clock, in milliseconds from an arbitrary beginning. A value, so that a state can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment and a span later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Numbers the questions of one machine, so that an answer finds its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// What the driver must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<Question> {
    /// Gather these bytes for the peer; flushed at [`Step::Wait`], before TLS starts, at the close, or when many have gathered.
    Send(Vec<u8>),
    /// Ask the outside; the answer comes back through [`Machine::answer`] with the same number.
    Ask(AskId, Question),
    /// A bounded chunk of content; taken before the machine is asked again, which is the back-pressure.
    Give(Vec<u8>),
    /// Flush, throw away all input that was not consumed, hand over to TLS, then call [`Machine::tls_started`].
    StartTls,
    /// Flush and close the connection.
    Close(Close),
    /// Nothing to do before input, an answer, an event or the deadline.
    Wait,
}

/// Why a machine ends its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// The peer said goodbye.
    Quit,
    /// The peer was silent for too long.
    Timeout,
    /// The peer closed its side or the connection broke.
    Lost,
    /// We end it: too many errors, not mail, shutting down. The text is for the log.
    Hangup(&'static str),
    /// The connection goes on in another process (after login); the driver gives back stream and unread input.
    HandOver,
}

/// A protocol machine. Driver's duty: call [`Machine::next`] until it says [`Step::Wait`] or [`Step::Close`] after every change.
pub trait Machine {
    /// What it asks the outside.
    type Question;
    /// What comes back.
    type Answer;
    /// What may happen without being asked: shutdown, new mail.
    type Event;

    /// Takes input; returns how many of the bytes were taken. Fewer than offered means: offer the rest again after [`Machine::next`] has been
    /// run to [`Step::Wait`]. Taking none at all then means the machine waits for an answer first.
    fn receive(&mut self, bytes: &[u8]) -> usize;
    /// The peer closed its sending side.
    fn end_of_input(&mut self);
    /// TLS is up after [`Step::StartTls`]; a failed handshake closes the connection without this call.
    fn tls_started(&mut self);
    /// The answer to a question. A streamed answer may come in several calls with the same number.
    fn answer(&mut self, id: AskId, answer: Self::Answer);
    /// Something happened outside.
    fn event(&mut self, event: Self::Event);
    /// When [`Machine::next`] must be called again at the latest, if nothing else happens.
    fn deadline(&self) -> Option<Moment>;
    /// What to do next. `now` is the driver's clock.
    fn next(&mut self, now: Moment) -> Step<Self::Question>;
}
