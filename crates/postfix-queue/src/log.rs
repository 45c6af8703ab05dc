//! The files of `defer/`, `bounce/` and `trace/`: why recipients wait, were returned, or what is to be confirmed. Entries of `name=value`
//! lines between empty lines; before Postfix 2.1 one line `<recipient>: reason`.

use mail_types::Notify;

use crate::envelope::{notify, notify_bits};

/// The most entries of a file; a message may have been attempted often.
const ENTRIES_MAX: usize = 1_000_000;

/// What a log file says about one recipient. Addresses are in their external form, with quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The recipient.
    pub recipient: String,
    /// What the client wrote, if that is something else.
    pub original: Option<String>,
    /// Where the recipient's record is in the queue file; 0 if unknown.
    pub offset: u64,
    /// ORCPT.
    pub orcpt: Option<String>,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// The enhanced status, such as `4.4.1`.
    pub status: String,
    /// `delayed`, `failed`, `delivered`, `relayed`, `expanded`.
    pub action: String,
    /// The other server's reply.
    pub diagnostic: Option<String>,
    /// The other server.
    pub mta: Option<String>,
    /// The reason in words.
    pub reason: String,
}

/// Reads a log file; what is no line of one is left out, as Postfix does.
#[must_use]
pub fn parse(file: &[u8]) -> Vec<Entry> {
    let text = String::from_utf8_lossy(file);
    let mut entries = Vec::new();
    let mut entry: Option<Entry> = None;
    for line in text.split('\n') {
        if line.is_empty() {
            entries.extend(entry.take());
            if entries.len() >= ENTRIES_MAX {
                break;
            }
            continue;
        }
        take(entry.get_or_insert_default(), &printable(line));
    }
    entries.extend(entry);
    entries.retain(|entry| !entry.recipient.is_empty());
    entries
}

fn take(entry: &mut Entry, line: &str) {
    if let Some((recipient, reason)) = line.strip_prefix('<').and_then(|rest| rest.split_once(">: ")) {
        recipient.clone_into(&mut entry.recipient);
        reason.trim_start().clone_into(&mut entry.reason);
        return;
    }
    let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else { return };
    let some = || Some(value.to_owned());
    match name {
        "recipient" => value.clone_into(&mut entry.recipient),
        "original_recipient" => entry.original = some(),
        "offset" => entry.offset = value.parse().unwrap_or(0),
        "dsn_orig_rcpt" => entry.orcpt = some(),
        "notify_flags" => entry.notify = value.parse().ok().filter(|bits| *bits < 16).and_then(notify),
        "status" => value.clone_into(&mut entry.status),
        "action" => value.clone_into(&mut entry.action),
        "diag_text" => entry.diagnostic = some(),
        "mta_mname" => entry.mta = some(),
        "reason" => value.clone_into(&mut entry.reason),
        _ => {}
    }
}

/// Writes a log file.
#[must_use]
pub fn text(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        out.push('\n');
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                out.push_str(&format!("{name}={}\n", printable(value)));
            }
        };
        line("recipient", &entry.recipient);
        line("original_recipient", entry.original.as_deref().unwrap_or_default());
        if entry.offset > 0 {
            line("offset", &entry.offset.to_string());
        }
        line("dsn_orig_rcpt", entry.orcpt.as_deref().unwrap_or_default());
        if entry.notify.is_some() {
            line("notify_flags", &notify_bits(entry.notify).to_string());
        }
        line("status", &entry.status);
        line("action", &entry.action);
        if let Some(diagnostic) = &entry.diagnostic {
            line("diag_type", "smtp");
            line("diag_text", diagnostic);
        }
        if let Some(mta) = &entry.mta {
            line("mta_type", "dns");
            line("mta_mname", mta);
        }
        line("reason", &entry.reason);
        out.push('\n');
    }
    out
}

/// One line without control characters: an entry ends with an empty line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_postfix_says_why_each_recipient_waits() {
        let entries = parse(include_bytes!("../samples/defer-log"));
        let shown: Vec<_> = entries.iter().map(|e| (e.recipient.as_str(), e.offset, e.status.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("b@pf.example", 710, "4.4.1"),
                ("jürgen@pf.example", 884, "4.4.1"),
                ("\"odd one\"@pf.example", 803, "4.4.1")
            ]
        );
        assert_eq!(entries[0].reason, "connect to 127.0.0.1[127.0.0.1]:1: Connection refused");
        assert_eq!(entries[0].notify, Some(Notify { success: true, failure: true, delay: false }));
        assert_eq!(parse(text(&entries).as_bytes()), entries);
    }

    #[test]
    fn an_old_log_and_a_garbled_one_are_read_as_far_as_they_go() {
        let entries = parse(b"\n<a@b>: host c said: no\n\n\ngarbage\n\nrecipient=d@e\nreason=x");
        let shown: Vec<_> = entries.iter().map(|e| (e.recipient.as_str(), e.reason.as_str())).collect();
        assert_eq!(shown, [("a@b", "host c said: no"), ("d@e", "x")]);
    }

    #[test]
    fn a_reason_with_line_ends_stays_in_its_entry() {
        let entry = Entry { recipient: "a@b".into(), reason: "one\n\nrecipient=c@d".into(), ..Entry::default() };
        assert_eq!(parse(text(&[entry]).as_bytes()).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes: Vec<u8>) {
            let entries = parse(&bytes);
            proptest::prop_assert_eq!(parse(text(&entries).as_bytes()).len(), entries.len());
        }
    }
}
