//! The greeting (RFC 5321 sections 3.1 and 4.3.1).

use mail_types::{Reply, ReplyCode};

use super::{Answer, Phase, Server, reply};

impl Server {
    pub(super) fn connected(&mut self, answer: Answer) {
        let greeting = match answer {
            Answer::Accept => Reply::plain(ReplyCode::of(220), self.settings.banner.clone()),
            // S01: after a refusal in the greeting only QUIT works.
            Answer::Refuse(greeting) => {
                self.session.refused = Some(reply(503, (5, 7, 0), "Error: access denied"));
                greeting
            }
            Answer::Shut(greeting, then) => {
                self.session.refused = Some(then);
                greeting
            }
            Answer::Hangup(reply) => return self.hang_up(&reply, "refused"),
            _ => return self.refused_or_hung_up(answer),
        };
        if !self.session.pipelining && !self.input.unread().is_empty() && !self.note_pipelining("CONNECT") {
            return;
        }
        self.say(&greeting);
        self.enter(Phase::Command);
    }
}
