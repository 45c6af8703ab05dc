//! Files of Postfix's queue, which `postrider adopt` takes over.

use postfix_queue::{LIMITS, Outgoing, Wait, log, read};

use crate::Target;

pub const QUEUE: Target = Target {
    name: "postfix_queue",
    run: queue,
    tokens: &["p\x0f              0", "M\x00", "X\x00", "E\x00", "R\x03a@b", "D\x03a@b", "N\x01x", "L\x7f", "S\x00"],
    cost: 1,
};

pub const LOG: Target = Target {
    name: "postfix_log",
    run: logs,
    tokens: &["\n\n", "recipient=", "<a@b>: no\n", "offset=9", "notify_flags=6", "status=4.4.1", "reason=", "="],
    cost: 1,
};

/// A message that is understood is written, and read again it has the same sender, recipients and content.
fn queue(input: &[u8]) {
    let Ok(file) = read(input, &LIMITS) else { return };
    assert!(file.content.len() <= input.len());
    let Ok(imported) = file.envelope() else { return };
    let outgoing = Outgoing { envelope: &imported.envelope, done: &[], content: &file.content, wait: Wait::Unwatched };
    let (written, offsets) = outgoing.write();
    let again = read(&written, &LIMITS).expect("what was written is read");
    let envelope = again.envelope().expect("what was understood is understood").envelope;
    assert_eq!(envelope.sender, imported.envelope.sender);
    let addresses = |envelope: &mail_types::Envelope| -> Vec<String> {
        envelope.recipients.iter().map(|to| to.address.to_string()).collect()
    };
    assert_eq!(addresses(&envelope), addresses(&imported.envelope));
    assert_eq!(offsets.len(), envelope.recipients.len());
    assert_eq!(again.content, lines(&file.content));
}

/// The content with LF at the end of each line.
fn lines(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in content.split_inclusive(|&octet| octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line);
        out.extend_from_slice(text);
        out.push(b'\n');
    }
    out
}

fn logs(input: &[u8]) {
    let entries = log::parse(input);
    assert_eq!(log::parse(log::text(&entries).as_bytes()).len(), entries.len());
}
