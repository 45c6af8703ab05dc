//! Cuts the input into commands: lines, and literals where a line announces one.

use serde::{Deserialize, Serialize};
use session::{Line, LineBuffer};

use crate::grammar::command::{LiteralMark, literal_mark, tag_of};

/// How much of a command is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderLimits {
    /// Octets of a command's lines and literals together (Dovecot's `imap_max_line_length`).
    pub command: usize,
}

/// What has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Not enough yet.
    Partial,
    /// A whole command, without the end of its last line.
    Command(Vec<u8>),
    /// A line that announces a literal; decide with [`CommandReader::keep_literal`], [`CommandReader::stream_literal`] or [`CommandReader::refuse_literal`].
    Literal(LiteralMark),
    /// More than the limit; it has been thrown away. The tag, where one was seen.
    TooLong(Option<String>),
    /// A refused command has come to its end.
    Refused,
}

/// The input of a session as commands. It never holds more than the command limit and one buffer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommandReader {
    input: LineBuffer,
    limits: ReaderLimits,
    gathered: Vec<u8>,
    state: State,
    /// The tag of a line that turned out too long.
    long_tag: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Reading a line.
    Line,
    /// Reading a literal of the command; octets left.
    Literal(usize),
    /// A literal has been announced and not decided on.
    Undecided(LiteralMark),
    /// A literal goes to the caller; octets left.
    Stream(u64),
    /// The rest of a refused command is thrown away; octets of its literal left.
    Discard(u64),
}

impl CommandReader {
    pub(crate) fn new(limits: ReaderLimits) -> Self {
        Self {
            input: LineBuffer::new(limits.command),
            limits,
            gathered: Vec::new(),
            state: State::Line,
            long_tag: None,
        }
    }

    /// Takes what fits; the rest stays with the driver.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        self.input.push(bytes)
    }

    /// Throws all input away (STARTTLS).
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Input that no command has taken: what a hand-over carries. Only between commands.
    pub(crate) fn unread(&self) -> &[u8] {
        self.input.unread()
    }

    /// The announced command so far, without the announcement.
    pub(crate) fn so_far(&self) -> &[u8] {
        let mark = if let State::Undecided(mark) = self.state { mark.length } else { 0 };
        &self.gathered[..self.gathered.len() - mark]
    }

    /// The next thing that has come in whole.
    pub(crate) fn poll(&mut self) -> Input {
        loop {
            match self.state {
                State::Undecided(mark) => return Input::Literal(mark),
                State::Stream(_) => return Input::Partial,
                State::Literal(left) => {
                    if !self.read_literal(left) {
                        return Input::Partial;
                    }
                }
                State::Discard(left) => {
                    if left > 0 && !self.discard(left) {
                        return Input::Partial;
                    }
                    if let Some(input) = self.discard_line() {
                        return input;
                    }
                }
                State::Line => return self.read_line(),
            }
        }
    }

    fn read_line(&mut self) -> Input {
        if self.gathered.is_empty() && self.long_tag.is_none() && self.input.unread().len() > self.limits.command {
            self.long_tag = tag_of(self.input.unread());
        }
        match self.input.line() {
            Line::Partial => Input::Partial,
            Line::TooLong => self.too_long(),
            Line::Complete(line) => {
                self.long_tag = None;
                if self.gathered.len() + line.len() > self.limits.command {
                    self.long_tag = tag_of(&self.gathered);
                    return self.too_long();
                }
                self.gathered.extend_from_slice(&line);
                match literal_mark(&line) {
                    Some(mark) => {
                        self.state = State::Undecided(mark);
                        Input::Literal(mark)
                    }
                    None => Input::Command(std::mem::take(&mut self.gathered)),
                }
            }
        }
    }

    fn too_long(&mut self) -> Input {
        let tag = self.long_tag.take().or_else(|| tag_of(&self.gathered));
        self.gathered = Vec::new();
        Input::TooLong(tag)
    }

    fn read_literal(&mut self, left: usize) -> bool {
        let unread = self.input.unread();
        let taken = unread.len().min(left);
        self.gathered.extend_from_slice(&unread[..taken]);
        self.input.consume(taken);
        self.state = if taken == left { State::Line } else { State::Literal(left - taken) };
        taken == left
    }

    fn discard(&mut self, left: u64) -> bool {
        let taken = self.take(left).map_or(0, |t| t.len() as u64);
        self.state = State::Discard(left - taken);
        taken == left
    }

    /// The rest of a refused line. It may announce another literal: one without waiting is discarded as well, one that waits never comes.
    fn discard_line(&mut self) -> Option<Input> {
        match self.input.line() {
            Line::Partial => Some(Input::Partial),
            Line::TooLong => Some(self.end_discard()),
            Line::Complete(line) => match literal_mark(&line) {
                Some(mark) if !mark.synchronising => {
                    self.state = State::Discard(mark.size);
                    None
                }
                _ => Some(self.end_discard()),
            },
        }
    }

    fn end_discard(&mut self) -> Input {
        self.state = State::Line;
        Input::Refused
    }

    /// The announced literal becomes part of the command. False if it would be longer than the limit: then refuse it.
    pub(crate) fn keep_literal(&mut self) -> bool {
        let State::Undecided(mark) = self.state else { return false };
        let Some(size) =
            usize::try_from(mark.size).ok().filter(|size| self.gathered.len() + size + 2 <= self.limits.command)
        else {
            return false;
        };
        self.gathered.extend_from_slice(b"\r\n");
        self.state = if size == 0 { State::Line } else { State::Literal(size) };
        true
    }

    /// The announced literal is content for the caller, who takes it with [`CommandReader::content`].
    pub(crate) fn stream_literal(&mut self) {
        if let State::Undecided(mark) = self.state {
            self.gathered = Vec::new();
            self.state = State::Stream(mark.size);
        }
    }

    /// The announced literal is not wanted. True if the command is over: the client waits and will not send it. False: it comes all the same,
    /// and [`Input::Refused`] says when it has been thrown away.
    pub(crate) fn refuse_literal(&mut self) -> bool {
        self.gathered = Vec::new();
        match self.state {
            State::Undecided(mark) if !mark.synchronising => {
                self.state = State::Discard(mark.size);
                false
            }
            State::Stream(left) => {
                self.state = State::Discard(left);
                false
            }
            _ => {
                self.state = State::Line;
                true
            }
        }
    }

    /// The next chunk of a streamed literal: none if nothing is here, or the literal is complete.
    pub(crate) fn content(&mut self) -> Option<Vec<u8>> {
        let State::Stream(left) = self.state else { return None };
        let chunk = self.take(left)?;
        self.state = State::Stream(left - chunk.len() as u64);
        Some(chunk)
    }

    /// Whether a streamed literal has been taken whole; then the rest of its line comes from [`CommandReader::poll`] as a command.
    pub(crate) fn content_complete(&mut self) -> bool {
        if self.state == State::Stream(0) {
            self.state = State::Line;
            return true;
        }
        false
    }

    fn take(&mut self, most: u64) -> Option<Vec<u8>> {
        let unread = self.input.unread();
        let taken = usize::try_from(most).map_or(unread.len(), |most| most.min(unread.len()));
        if taken == 0 {
            return None;
        }
        let chunk = unread[..taken].to_vec();
        self.input.consume(taken);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(input: &[u8]) -> CommandReader {
        let mut reader = CommandReader::new(ReaderLimits { command: 100 });
        assert_eq!(reader.push(input), input.len());
        reader
    }

    #[test]
    fn a_literal_is_part_of_its_command() {
        let mut r = reader(b"a login {3}\r\nu\ns {1+}\r\np\r\nb noop\r\n");
        assert!(matches!(r.poll(), Input::Literal(LiteralMark { size: 3, synchronising: true, .. })));
        assert!(r.keep_literal());
        assert!(matches!(r.poll(), Input::Literal(LiteralMark { size: 1, synchronising: false, .. })));
        assert!(r.keep_literal());
        assert_eq!(r.poll(), Input::Command(b"a login {3}\r\nu\ns {1+}\r\np".to_vec()));
        assert_eq!(r.poll(), Input::Command(b"b noop".to_vec()));
        assert_eq!(r.poll(), Input::Partial);
    }

    #[test]
    fn a_refused_literal_is_swallowed_only_where_the_client_does_not_wait() {
        // I05
        let mut r = reader(b"a login {3+}\r\nabc {2+}\r\nxy z\r\nb noop\r\nc x {5}\r\nd noop\r\n");
        r.poll();
        assert!(!r.refuse_literal());
        assert_eq!(r.poll(), Input::Refused);
        assert_eq!(r.poll(), Input::Command(b"b noop".to_vec()));
        r.poll();
        assert!(r.refuse_literal());
        assert_eq!(r.poll(), Input::Command(b"d noop".to_vec()));
    }

    #[test]
    fn a_command_longer_than_the_limit_is_reported_with_its_tag() {
        let mut r = reader(format!("a1 select {}\r\nb noop\r\n", "x".repeat(200)).as_bytes());
        assert_eq!(r.poll(), Input::TooLong(Some("a1".into())));
        assert_eq!(r.poll(), Input::Command(b"b noop".to_vec()));
        let mut r = reader(b"a login {99}\r\n");
        r.poll();
        assert!(!r.keep_literal());
    }

    #[test]
    fn content_is_streamed_and_its_line_goes_on() {
        let mut r = reader(b"a append x {4+}\r\nab");
        r.poll();
        assert_eq!(r.so_far(), b"a append x ");
        r.stream_literal();
        assert_eq!(r.content(), Some(b"ab".to_vec()));
        assert!(!r.content_complete());
        r.push(b"cd\r\nb noop\r\n");
        assert_eq!(r.content(), Some(b"cd".to_vec()));
        assert!(r.content_complete());
        assert_eq!(r.poll(), Input::Command(Vec::new()));
        assert_eq!(r.poll(), Input::Command(b"b noop".to_vec()));
    }

    proptest::proptest! {
        #[test]
        fn input_in_pieces_gives_the_same_commands(input in "[a-c {}0-9+\r\n]{0,80}", cut in 0usize..80) {
            let all = |pieces: &[&[u8]]| {
                let mut reader = CommandReader::new(ReaderLimits { command: 60 });
                let mut seen = Vec::new();
                for piece in pieces {
                    reader.push(piece);
                    loop {
                        match reader.poll() {
                            Input::Partial => break,
                            Input::Literal(mark) => {
                                if !reader.keep_literal() {
                                    reader.refuse_literal();
                                }
                                seen.push(Input::Literal(mark));
                            }
                            other => seen.push(other),
                        }
                    }
                }
                seen
            };
            let cut = cut.min(input.len());
            let (a, b) = input.as_bytes().split_at(cut);
            proptest::prop_assert_eq!(all(&[input.as_bytes()]), all(&[a, b]));
        }
    }
}
