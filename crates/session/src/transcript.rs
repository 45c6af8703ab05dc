//! Plays a written dialogue against a machine: `C:` lines go in, `S:` lines must come out.
//!
//! ```text
//! C: MAIL FROM:<root@info.net>
//! S: 250 2.1.0 Ok
//! ```
//! `C:` lines get CRLF; `c:` lines are sent as they are, with `\r`, `\n`, `\0`, `\t`, `\\` and `\xNN` as escapes. `S:` compares a whole line; a
//! trailing `...` compares its beginning only. `T:` stands for the start of TLS, `X:` for the close, `#` for a comment.
//! Questions are answered by the closure that the test gives.

use crate::{AskId, Machine, Moment, Step};

/// What a machine did since the last `C:` line.
struct Heard {
    text: Vec<u8>,
    tls: bool,
    closed: bool,
}

/// Drives one machine through a transcript.
pub struct Player<M: Machine, A> {
    /// The machine, open to the test between two pieces of a transcript.
    pub machine: M,
    answer: A,
    heard: Heard,
    /// All content that the machine gave out.
    pub given: Vec<u8>,
    /// The clock that the machine sees; a test moves it.
    pub now: Moment,
}

impl<M: Machine, A: FnMut(M::Question) -> Option<M::Answer>> Player<M, A> {
    /// A player; `answer` gives the outside's answer to each question, or none to leave it open.
    pub fn new(machine: M, answer: A) -> Self {
        let heard = Heard { text: Vec::new(), tls: false, closed: false };
        let mut player = Self { machine, answer, heard, given: Vec::new(), now: Moment(0) };
        player.run();
        player
    }

    /// Runs the machine until it waits.
    pub fn run(&mut self) {
        loop {
            match self.machine.next(self.now) {
                Step::Send(bytes) => self.heard.text.extend(bytes),
                Step::Ask(id, question) => self.ask(id, question),
                Step::Give(chunk) => self.given.extend(chunk),
                Step::StartTls => {
                    self.heard.tls = true;
                    self.machine.tls_started();
                }
                Step::Close(_) => {
                    self.heard.closed = true;
                    return;
                }
                Step::Wait => return,
            }
        }
    }

    fn ask(&mut self, id: AskId, question: M::Question) {
        if let Some(answer) = (self.answer)(question) {
            self.machine.answer(id, answer);
        }
    }

    /// Offers bytes until the machine has taken all of them, or takes no more.
    pub fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.heard.closed {
            let taken = self.machine.receive(bytes);
            bytes = &bytes[taken..];
            self.run();
            if taken == 0 {
                return;
            }
        }
    }

    /// Plays a transcript.
    ///
    /// # Panics
    /// Where the machine says anything else than the transcript, naming the line.
    pub fn play(&mut self, transcript: &str) {
        for (number, line) in transcript.lines().enumerate() {
            let line = line.trim_start();
            let number = number + 1;
            match line.split_at_checked(2) {
                Some(("C:", text)) => self.send(format!("{}\r\n", text.strip_prefix(' ').unwrap_or(text)).as_bytes()),
                Some(("c:", text)) => self.send(&unescape(text.strip_prefix(' ').unwrap_or(text))),
                Some(("S:", text)) => self.expect(number, text.strip_prefix(' ').unwrap_or(text)),
                Some(("T:", _)) => assert!(std::mem::take(&mut self.heard.tls), "line {number}: TLS was not started"),
                Some(("X:", _)) => assert!(self.heard.closed, "line {number}: the connection was not closed"),
                _ => assert!(line.is_empty() || line.starts_with('#'), "line {number}: not a transcript line: {line}"),
            }
        }
        let rest = String::from_utf8_lossy(&self.heard.text).into_owned();
        assert!(rest.is_empty(), "the machine said more than the transcript: {rest:?}");
    }

    fn expect(&mut self, number: usize, expected: &str) {
        let end = self.heard.text.windows(2).position(|w| w == b"\r\n");
        let end = end.unwrap_or_else(|| panic!("line {number}: expected {expected:?}, the machine said nothing"));
        let said: Vec<u8> = self.heard.text.drain(..end + 2).collect();
        let said = String::from_utf8_lossy(&said[..end]).into_owned();
        let same = match expected.strip_suffix("...") {
            Some(beginning) => said.starts_with(beginning),
            None => said == expected,
        };
        assert!(same, "line {number}: expected {expected:?}, the machine said {said:?}");
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'x') => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok()).unwrap_or(b'?')
            }
            Some(other) => other,
            None => b'\\',
        });
    }
    bytes
}
