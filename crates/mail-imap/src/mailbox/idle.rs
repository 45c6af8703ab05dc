//! IDLE (RFC 2177): changes are told at once, until DONE.

use std::sync::Arc;

use session::Moment;

use super::question::{Answer, Question};
use super::{Mailbox, State};
use crate::reader::Input;

impl Mailbox {
    pub(super) fn idle(&mut self, tag: String) {
        self.output.line("+ idling");
        if self.view.is_some() {
            self.tell(Question::Watch);
        }
        self.last_notice = self.last_input;
        self.state = State::Idle { tag, syncing: false, again: false, done: false, expected: false };
        // What happened before the watch began is told now.
        self.changed();
    }

    /// The watched mailbox may have changed; outside IDLE the next command will tell.
    pub(super) fn changed(&mut self) {
        let Some(view) = &self.view else { return };
        let State::Idle { syncing, again, .. } = &mut self.state else { return };
        if *syncing {
            *again = true;
            return;
        }
        *syncing = true;
        let question = Question::Sync { view: Arc::clone(&view.uids), mark: view.mark };
        let id = self.next_id();
        self.output.ask(id, question);
    }

    pub(super) fn idle_synced(&mut self, answer: Answer) {
        let State::Idle { syncing, again, done, .. } = &mut self.state else { return };
        *syncing = false;
        let (again, done) = (std::mem::take(again), *done);
        if !self.apply(answer, true) {
            return;
        }
        if done {
            self.end_idle();
        } else if again {
            self.changed();
        }
    }

    pub(super) fn read_while_idle(&mut self) -> bool {
        let is_done = match self.reader.poll() {
            Input::Partial => return self.end_if_over(),
            Input::Command(line) => line.eq_ignore_ascii_case(b"DONE"),
            _ => false,
        };
        if let State::Idle { done, expected, syncing, .. } = &mut self.state {
            *done = true;
            *expected = is_done;
            if !*syncing {
                self.end_idle();
            }
        }
        true
    }

    fn end_idle(&mut self) {
        if let State::Idle { tag, expected, .. } = std::mem::replace(&mut self.state, State::Ready) {
            if self.view.is_some() {
                self.tell(Question::Unwatch);
            }
            self.finish(tag, if expected { "OK Idle completed." } else { "BAD Expected DONE." }, true);
        }
    }

    pub(super) fn notice_deadline(&self) -> Option<Moment> {
        let idles = matches!(self.state, State::Idle { .. }) && !self.settings.idle_notify.is_zero();
        idles.then(|| self.last_notice.after(self.settings.idle_notify))
    }
}
