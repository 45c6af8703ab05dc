//! The queue of steps that a machine has decided on and the driver has not taken.

use std::collections::VecDeque;

use session::{AskId, Close, Step};

/// Steps in their order.
#[derive(Debug)]
pub(crate) struct Output<Question> {
    steps: VecDeque<Step<Question>>,
}

impl<Question> Default for Output<Question> {
    fn default() -> Self {
        Self { steps: VecDeque::new() }
    }
}

impl<Question> Output<Question> {
    pub(crate) fn pop(&mut self) -> Option<Step<Question>> {
        self.steps.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A line of ours; CRLF is added.
    pub(crate) fn line(&mut self, line: &str) {
        self.data(clean(line));
    }

    /// Response data with its line ends.
    pub(crate) fn data(&mut self, bytes: Vec<u8>) {
        match self.steps.back_mut() {
            Some(Step::Send(gathered)) if gathered.len() + bytes.len() <= 16 * 1024 => {
                gathered.extend_from_slice(&bytes)
            }
            _ => self.steps.push_back(Step::Send(bytes)),
        }
    }

    /// `tag OK text` and its kin.
    pub(crate) fn tagged(&mut self, tag: &str, text: &str) {
        self.line(&format!("{tag} {text}"));
    }

    pub(crate) fn ask(&mut self, id: AskId, question: Question) {
        self.steps.push_back(Step::Ask(id, question));
    }

    pub(crate) fn give(&mut self, chunk: Vec<u8>) {
        self.steps.push_back(Step::Give(chunk));
    }

    pub(crate) fn start_tls(&mut self) {
        self.steps.push_back(Step::StartTls);
    }

    pub(crate) fn close(&mut self, close: Close) {
        self.steps.push_back(Step::Close(close));
    }
}

/// One line, never 8-bit and never two lines (I29).
fn clean(line: &str) -> Vec<u8> {
    line.bytes().map(|b| if (0x20..0x7f).contains(&b) { b } else { b'?' }).chain(*b"\r\n").collect()
}
