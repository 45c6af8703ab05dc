//! Drives a machine to its end over any input, and checks that it comes to rest, ends, and says the same however the input is cut.

use std::collections::VecDeque;

use session::{AskId, Close, Machine, Moment, Step};

/// What a session gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What the peer saw.
    pub output: Vec<u8>,
    /// The content that went out to the driver.
    pub given: Vec<u8>,
    /// Why it ended; none if it stopped to wait for an answer that never comes.
    pub close: Option<Close>,
    /// Whether TLS was started.
    pub tls: bool,
}

/// Plays `input`, cut into pieces of at most `piece` octets, then the end of input, then silence. A session must end by then. A question
/// may have several answers, as content has chunks; they are given one at a time, when the machine waits.
///
/// # Panics
/// The machine does not come to rest, or does not end.
pub fn play<M: Machine>(
    mut machine: M,
    input: &[u8],
    piece: usize,
    mut answer: impl FnMut(M::Question) -> Vec<M::Answer>,
) -> (M, Heard) {
    let mut heard = Heard::default();
    let (answers, now) = (VecDeque::new(), Moment(0));
    let mut session = Session { machine: &mut machine, heard: &mut heard, answer: &mut answer, answers, now };
    session.run(input.len());
    for piece in input.chunks(piece.max(1)) {
        if !session.offer(piece, input.len()) {
            break;
        }
    }
    session.end(input.len());
    (machine, heard)
}

struct Session<'a, M: Machine, A> {
    machine: &'a mut M,
    heard: &'a mut Heard,
    answer: &'a mut A,
    /// Answers that were not given yet.
    answers: VecDeque<(AskId, M::Answer)>,
    now: Moment,
}

impl<M: Machine, A: FnMut(M::Question) -> Vec<M::Answer>> Session<'_, M, A> {
    /// Runs the machine until it waits. The work that `octets` of input may cause is bounded.
    fn run(&mut self, octets: usize) {
        for _ in 0..10_000 + 64 * octets {
            match self.machine.next(self.now) {
                Step::Send(bytes) => self.heard.output.extend(bytes),
                Step::Ask(id, question) => {
                    self.answers.extend((self.answer)(question).into_iter().map(|one| (id, one)))
                }
                Step::Give(chunk) => self.heard.given.extend(chunk),
                Step::StartTls => {
                    self.heard.tls = true;
                    self.machine.tls_started();
                }
                Step::Close(close) => {
                    self.heard.close = Some(close);
                    return;
                }
                Step::Wait => match self.answers.pop_front() {
                    Some((id, answer)) => self.machine.answer(id, answer),
                    None => return,
                },
            }
        }
        panic!("the machine does not come to rest");
    }

    /// Offers a piece; false when nothing more will be taken.
    fn offer(&mut self, mut piece: &[u8], octets: usize) -> bool {
        while !piece.is_empty() && self.heard.close.is_none() {
            let taken = self.machine.receive(piece);
            assert!(taken <= piece.len(), "more was taken than offered");
            piece = &piece[taken..];
            let before = self.heard.tls;
            self.run(octets);
            // What was pipelined behind the start of TLS is thrown away by the driver.
            if taken == 0 || self.heard.tls != before {
                return self.heard.tls != before;
            }
        }
        self.heard.close.is_none()
    }

    /// The peer closes, then time passes.
    fn end(&mut self, octets: usize) {
        self.machine.end_of_input();
        for _ in 0..8 {
            if self.heard.close.is_some() {
                return;
            }
            self.run(octets);
            match self.machine.deadline() {
                Some(deadline) => self.now = self.now.max(deadline),
                None => break,
            }
        }
        assert!(self.heard.close.is_some(), "the session neither ends nor waits for anything");
    }
}

/// Lines that end in CRLF, without a CR or LF inside.
///
/// # Panics
/// The text is none.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = text.split_inclusive(|&octet| octet == b'\n').collect();
    let bare = |line: &&[u8]| {
        let line = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("a line has no end: {}", shown(line)));
        assert!(!line.iter().any(|octet| b"\r\n".contains(octet)), "a line holds a line end: {}", shown(line));
    };
    lines.iter().for_each(bare);
    lines.into_iter().map(|line| &line[..line.len() - 2]).collect()
}

/// Octets as a message shows them.
pub fn shown(octets: &[u8]) -> String {
    octets[..octets.len().min(300)].escape_ascii().to_string()
}
