//! SMTP smuggling (CVE-2023-51764): whatever looks like the end of data to somebody else is content to us, and is stored and sent on in a form that
//! ends nowhere else either. Seen at both ends: in the Maildir, and as the octets that the next hop reads.

use test_support::clients::Smtp;
use test_support::harness::{Test, test};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, Door, FRIEND, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // S07, S08, S24, R11
        test("no line end but CRLF ends a message, for any client, here or at the next hop", &[], no_second_message),
    ]
}

/// Everything that some server once took for the end of data, and its neighbours.
pub const ENDS: [&[u8]; 20] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\r.\r\n",
    b"\n\r.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\r\n",
    b"\r\n. \r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n.\x0c\n",
    b"\r\n..\r\n",
    b"\x85.\x85",
    b"\n\n.\n\n",
];

fn no_second_message() -> Result<(), String> {
    let door = door::open()?;
    let john = format!("john@{DOMAIN}");
    for end in ENDS {
        let sessions: [(&str, Smtp, &[&str]); 3] = [
            ("stranger", door.smtp(STRANGER)?, &[&john]),
            ("friend", door.smtp(FRIEND)?, &[&john, "user@outside.example"]),
            ("user", door.submission()?, &[&john, "user@outside.example"]),
        ];
        for (name, smtp, recipients) in sessions {
            send(smtp, recipients, name, end).map_err(|error| format!("{name}, {end:?}: {error}"))?;
        }
    }
    arrived(&door)
}

/// Sends one message with a whole transaction hidden behind `end`; exactly one reply may come for it.
fn send(mut smtp: Smtp, recipients: &[&str], name: &str, end: &[u8]) -> Result<(), String> {
    smtp.command(&format!("MAIL FROM:<mary@{DOMAIN}>"), 2).map_err(wrong)?;
    for recipient in recipients {
        smtp.command(&format!("RCPT TO:<{recipient}>"), 2).map_err(wrong)?;
    }
    smtp.command("DATA", 3).map_err(wrong)?;
    let mut content = format!("Subject: smuggling {name}\r\n\r\nbefore").into_bytes();
    content.extend_from_slice(end);
    content.extend_from_slice(
        format!("MAIL FROM:<evil@{DOMAIN}>\r\nRCPT TO:<john@{DOMAIN}>\r\nDATA\r\nSubject: smuggled\r\n\r\ninside\r\n.\r\nQUIT\r\n")
            .as_bytes(),
    );
    smtp.lines.send(&content).map_err(wrong)?;
    let replies = String::from_utf8_lossy(&smtp.lines.rest(10_000)).into_owned();
    let good = replies.starts_with("250 2.0.0 Ok: queued as ") && replies.lines().count() == 2;
    ensure(good && replies.ends_with("221 2.0.0 Bye\r\n"), || replies)
}

fn arrived(door: &Door) -> Result<(), String> {
    let expected = 3 * ENDS.len();
    let ours = |message: &&String| message.contains("\nSubject: smuggling ");
    let found = test_support::wait_for("the messages", test_support::Patience::default(), || {
        let all = door.system.messages("john");
        (all.iter().filter(ours).count() >= expected).then_some(all)
    });
    let all = found.map_err(|error| format!("{error}\n{}", door.system.logs()))?;
    let messages: Vec<_> = all.iter().filter(ours).collect();
    let smuggled = all.iter().find(|message| {
        let header = message.split("\n\n").next().unwrap_or_default();
        header.contains("Subject: smuggled") || header.contains("evil@")
    });
    ensure(messages.len() == expected && smuggled.is_none(), || format!("{} messages, {smuggled:?}", messages.len()))?;
    ensure(all.iter().all(|message| !message.contains('\r')), || "a carriage return was stored".to_owned())?;
    let sent = 2 * ENDS.len();
    let waited = test_support::wait_for("mail at the next hop", test_support::Patience::default(), || {
        Some(door.next_hop.with(b"Subject: smuggling ")).filter(|contents| contents.len() >= sent)
    });
    let contents = waited.map_err(|error| format!("{error}\n{}", door.system.logs()))?;
    ensure(contents.len() == sent, || format!("{} messages at the next hop", contents.len()))?;
    contents.iter().try_for_each(|content| has_one_reading(content, &messages))
}

/// What went over the wire has CRLF line ends only, no line that is a dot, and is what lies in the Maildir.
fn has_one_reading(wire: &[u8], stored: &[&String]) -> Result<(), String> {
    let text = String::from_utf8_lossy(wire);
    ensure(!text.replace("\r\n", "").contains(['\r', '\n']), || format!("a bare line end was sent: {text:?}"))?;
    ensure(text.split("\r\n").all(|line| line != "."), || format!("a lone dot was sent: {text:?}"))?;
    let lines = text.split("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line));
    let plain = lines.collect::<Vec<_>>().join("\n");
    let body = |message: &str| message.split_once("\n\n").map(|(_, body)| body.to_owned());
    let same = stored.iter().any(|message| body(message) == body(&plain));
    ensure(same, || format!("what was sent on is not what was stored: {plain:?}"))
}
