//! The queue as JSON objects, one per line, with the members of postqueue(1) -j.

use mail_ipc::control::{Listed, QueueName};
use serde::Serialize;

use super::listing::sender;

#[derive(Serialize)]
struct Object<'a> {
    queue_name: &'static str,
    queue_id: String,
    arrival_time: u64,
    message_size: u64,
    forced_expire: bool,
    sender: String,
    recipients: Vec<Recipient<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_recipients: u32,
}

#[derive(Serialize)]
struct Recipient<'a> {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// One message as one line, with the newline. `dsn`, `next_attempt` and `more_recipients` are ours; readers ignore what they do not know.
#[must_use]
pub fn message(message: &Listed) -> String {
    let object = Object {
        queue_name: queue_name(message.queue),
        queue_id: message.id.to_string(),
        arrival_time: message.arrival.seconds(),
        message_size: message.size,
        forced_expire: false,
        sender: sender(&message.sender),
        recipients: message
            .recipients
            .iter()
            .map(|recipient| Recipient {
                address: recipient.address.to_string(),
                delay_reason: recipient.reason.as_deref(),
                dsn: recipient.status.map(|status| status.to_string()),
                next_attempt: recipient.next.map(mail_types::UnixTime::seconds),
            })
            .collect(),
        more_recipients: message.more_recipients,
    };
    spaced(&object) + "\n"
}

/// The queue's name as Postfix's directories are called.
#[must_use]
pub fn queue_name(queue: QueueName) -> &'static str {
    match queue {
        QueueName::Incoming => "incoming",
        QueueName::Active => "active",
        QueueName::Deferred => "deferred",
        QueueName::Hold => "hold",
        QueueName::Corrupt => "corrupt",
    }
}

/// JSON with a space after each comma and colon, as Postfix writes it: scripts with grep and sed rely on that.
fn spaced(object: &Object<'_>) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Spaced);
    // Strings and numbers into memory: nothing can fail.
    object.serialize(&mut serializer).expect("an object of strings and numbers serialises");
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::message as listed;
    use super::*;

    #[test]
    fn the_line_is_the_one_that_postfix_prints() {
        let one = listed(
            "4jXXHB4jB9z1SRnc",
            QueueName::Deferred,
            256,
            "alice@pf.example",
            &[("name@other.example", Some("mail \"transport\" unavailable")), ("x@remote.example", None)],
        );
        assert_eq!(
            message(&one),
            "{\"queue_name\": \"deferred\", \"queue_id\": \"4jXXHB4jB9z1SRnc\", \"arrival_time\": 1795359390, \
             \"message_size\": 256, \"forced_expire\": false, \"sender\": \"alice@pf.example\", \"recipients\": \
             [{\"address\": \"name@other.example\", \"delay_reason\": \"mail \\\"transport\\\" unavailable\"}, \
             {\"address\": \"x@remote.example\"}]}\n"
        );
    }

    #[test]
    fn a_bounce_comes_from_mailer_daemon() {
        let one = listed("4jXXHB4jB9z1SRnc", QueueName::Hold, 1, "", &[]);
        assert!(message(&one).contains("\"queue_name\": \"hold\"") && message(&one).contains("\"MAILER-DAEMON\""));
    }
}
