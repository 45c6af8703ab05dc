//! The queue as text: the columns of Postfix's mailq with long queue ids.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use mail_ipc::control::{Listed, QueueName};
use mail_types::{Sender, UnixTime};

/// What is printed before the first message.
const HEADING: &str = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n";
/// Reasons stand at the right edge, counted without their parentheses.
const REASON_WIDTH: usize = 76;

/// Writes a listing message by message, so that a long queue needs no memory.
pub struct Listing {
    zone: TimeZone,
    messages: u64,
    octets: u64,
}

impl Listing {
    /// A listing with arrival times in this zone.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, messages: 0, octets: 0 }
    }

    /// One message with its recipients; the heading before the first one.
    #[must_use]
    pub fn message(&mut self, message: &Listed) -> String {
        let mut out = String::from(if self.messages == 0 { HEADING } else { "\n" });
        self.messages += 1;
        self.octets += message.size;
        let name = format!("{}{}", message.id, mark(message.queue));
        let time = self.time(message.arrival);
        let sender = printable(&sender(&message.sender));
        let _ = writeln!(out, "{name:<17} {:>8} {time:>19} {sender}", message.size);
        let mut shown = "";
        for recipient in &message.recipients {
            let reason = recipient.reason.as_deref().unwrap_or_default();
            // Recipients that wait for the same reason stand below one line.
            if reason != shown {
                shown = reason;
                let reason = printable(if reason.is_empty() { "reason unavailable" } else { reason });
                let width = REASON_WIDTH.saturating_sub(reason.chars().count());
                let _ = writeln!(out, "{:width$}({reason})", "");
            }
            let _ = writeln!(out, "{:47}{}", "", printable(&recipient.address.to_string()));
        }
        if message.more_recipients > 0 {
            let _ = writeln!(out, "{:47}... and {} more", "", message.more_recipients);
        }
        out
    }

    /// The last line.
    #[must_use]
    pub fn end(&self) -> String {
        match self.messages {
            0 => "Mail queue is empty\n".to_owned(),
            1 => format!("\n-- {} Kbytes in 1 Request.\n", self.octets / 1024),
            messages => format!("\n-- {} Kbytes in {messages} Requests.\n", self.octets / 1024),
        }
    }

    fn time(&self, time: UnixTime) -> String {
        let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime("%a %b %e %H:%M:%S").to_string(),
            Err(_) => seconds.to_string(),
        }
    }
}

/// The sender as mailq names it.
#[must_use]
pub fn sender(sender: &Sender) -> String {
    match sender {
        Sender::Null => "MAILER-DAEMON".to_owned(),
        Sender::Address(address) => address.to_string(),
    }
}

fn mark(queue: QueueName) -> &'static str {
    match queue {
        QueueName::Active => "*",
        QueueName::Hold => "!",
        QueueName::Incoming | QueueName::Deferred | QueueName::Corrupt => "",
    }
}

/// A remote server wrote the reason: nothing of it may move the terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use mail_ipc::control::ListedRecipient;

    use super::*;

    /// A message as the queue would list it; recipients as (address, reason).
    pub(crate) fn message(
        id: &str,
        queue: QueueName,
        size: u64,
        sender: &str,
        recipients: &[(&str, Option<&str>)],
    ) -> Listed {
        Listed {
            id: id.parse().expect("an id"),
            queue,
            arrival: UnixTime(1_795_359_390_123),
            size,
            sender: if sender.is_empty() { Sender::Null } else { Sender::Address(sender.parse().expect("an address")) },
            recipients: recipients
                .iter()
                .map(|(address, reason)| ListedRecipient {
                    address: address.parse().expect("an address"),
                    reason: reason.map(str::to_owned),
                    status: None,
                    next: None,
                })
                .collect(),
            more_recipients: 0,
        }
    }

    fn listing(messages: &[Listed]) -> String {
        let mut listing = Listing::new(TimeZone::UTC);
        let mut text: String = messages.iter().map(|message| listing.message(message)).collect();
        text.push_str(&listing.end());
        text
    }

    #[test]
    fn an_empty_queue_says_so() {
        assert_eq!(listing(&[]), "Mail queue is empty\n");
    }

    #[test]
    fn the_columns_are_those_of_postfix() {
        let refused = Some("connect to 127.0.0.1[127.0.0.1]:9: Connection refused");
        let suspended = Some("delivery temporarily suspended: connect to 127.0.0.1[127.0.0.1]:9: Connection refused");
        let text = listing(&[
            message("4jXXG63dXnz1SRl2", QueueName::Active, 242, "", &[("a@b.example", None)]),
            message(
                "4jXXG63RFFz1SRl3",
                QueueName::Deferred,
                3_086_017,
                "very-long-sender@a-very-long-domain-name.example",
                &[("c@d.example", suspended), ("a@b.example", suspended)],
            ),
            message(
                "4jXXHB4cMnz1SRmv",
                QueueName::Hold,
                394,
                "root@pf.example",
                &[("q@r.example", refused), ("s@r.example", None)],
            ),
        ]);
        assert_eq!(
            text,
            "\
----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------
4jXXG63dXnz1SRl2*      242 Sun Nov 22 14:56:30 MAILER-DAEMON
                                               a@b.example

4jXXG63RFFz1SRl3   3086017 Sun Nov 22 14:56:30 very-long-sender@a-very-long-domain-name.example
(delivery temporarily suspended: connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               c@d.example
                                               a@b.example

4jXXHB4cMnz1SRmv!      394 Sun Nov 22 14:56:30 root@pf.example
                       (connect to 127.0.0.1[127.0.0.1]:9: Connection refused)
                                               q@r.example
                                                          (reason unavailable)
                                               s@r.example

-- 3014 Kbytes in 3 Requests.
"
        );
    }

    #[test]
    fn one_message_is_one_request() {
        let text = listing(&[message("4jXXG63dXnz1SRl2", QueueName::Incoming, 5000, "a@b", &[])]);
        assert!(text.ends_with("\n\n-- 4 Kbytes in 1 Request.\n"), "{text}");
    }

    #[test]
    fn a_remote_reply_cannot_move_the_cursor() {
        let text = listing(&[message(
            "4jXXG63dXnz1SRl2",
            QueueName::Deferred,
            1,
            "a@b",
            &[("c@d", Some("450 \u{1b}[2J gone\nfaked"))],
        )]);
        assert!(text.contains("(450 ?[2J gone?faked)"), "{text}");
    }
}
