//! access(5): what the value of an access table asks for, and the order of keys for clients.

use std::net::IpAddr;

use mail_config::main_cf::kinds::{Context, Kind};
use mail_config::main_cf::lists::{Restrictions, Rule, TableRef};
use mail_types::{EnhancedStatus, ReplyCode};

use crate::address::{Key, domain_keys};
use crate::set::Snapshot;
use crate::table::{Answer, Found, Query, Remote, Scope};

/// What a table asks for. Texts are empty where the table gives none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `OK`, `RELAY` or digits: permitted.
    Ok,
    /// `DUNNO`: as if nothing had been found.
    Dunno,
    /// `REJECT`, or a written 5xx; without a code, `access_map_reject_code`.
    Reject(Refusal),
    /// `DEFER`, or a written 4xx; without a code, `access_map_defer_code`.
    Defer(Refusal),
    /// `DEFER_IF_REJECT`.
    DeferIfReject(Refusal),
    /// `DEFER_IF_PERMIT`.
    DeferIfPermit(Refusal),
    /// `HOLD`: the message is accepted and waits for the operator.
    Hold(String),
    /// `DISCARD`: the message is accepted and thrown away.
    Discard(String),
    /// `WARN`: a line in the log.
    Warn(String),
    /// `INFO`: a line in the log.
    Info(String),
    /// Further restrictions.
    Restrictions(Vec<Rule>),
    /// An action that is not built: `451 4.3.5 Server configuration error`.
    Unbuilt(String),
}

/// What a refusal says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The code, if the table gives one.
    pub code: Option<ReplyCode>,
    /// The enhanced status, if the table gives one.
    pub status: Option<EnhancedStatus>,
    /// The text.
    pub text: String,
}

impl Action {
    /// Reads the value of an access table.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        let value = value.trim();
        let (word, text) = match value.split_once(|c: char| c.is_ascii_whitespace()) {
            Some((word, text)) => (word, text.trim()),
            None => (value, ""),
        };
        if word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit()) && matches!(word.as_bytes()[0], b'4' | b'5') {
            let code = word.parse::<u16>().ok().and_then(|code| ReplyCode::try_from(code).ok());
            let refusal = Refusal { code, ..Refusal::read(text) };
            return if word.starts_with('4') { Self::Defer(refusal) } else { Self::Reject(refusal) };
        }
        // pop-before-smtp tables hold numbers of all kinds.
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Ok;
        }
        match word.to_ascii_uppercase().as_str() {
            "OK" | "RELAY" => Self::Ok,
            "DUNNO" => Self::Dunno,
            "REJECT" => Self::Reject(Refusal::read(text)),
            "DEFER" => Self::Defer(Refusal::read(text)),
            "DEFER_IF_REJECT" => Self::DeferIfReject(Refusal::read(text)),
            "DEFER_IF_PERMIT" => Self::DeferIfPermit(Refusal::read(text)),
            "HOLD" => Self::Hold(text.to_owned()),
            "DISCARD" => Self::Discard(text.to_owned()),
            "WARN" => Self::Warn(text.to_owned()),
            "INFO" => Self::Info(text.to_owned()),
            "FILTER" | "PREPEND" | "REDIRECT" | "BCC" | "" => Self::Unbuilt(value.to_owned()),
            _ => restrictions(value),
        }
    }
}

impl Refusal {
    /// `5.7.1 text` or `text`.
    fn read(text: &str) -> Self {
        let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
        match word.parse() {
            Ok(status) => Self { code: None, status: Some(status), text: rest.trim().to_owned() },
            Err(_) => Self { code: None, status: None, text: text.to_owned() },
        }
    }
}

fn restrictions(value: &str) -> Action {
    let mut context =
        Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
    match Restrictions::parse(value, &mut context) {
        Ok(rules) if !rules.is_empty() => Action::Restrictions(rules),
        _ => Action::Unbuilt(value.to_owned()),
    }
}

/// What an access table says about somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An action.
    Action {
        /// What it asks for.
        action: Action,
        /// The value and its line.
        found: Found,
        /// Whether the key was a network in a `hash:` table: honoured for refusals everywhere, for OK only in
        /// `smtpd_client_restrictions` (Postfix ignores such keys).
        network_key: bool,
    },
    /// The table does not know.
    NotFound,
    /// The table cannot say now.
    Temporary(String),
    /// Another process must be asked first.
    Missing(Query),
}

/// Asks an access table for keys in order, as `check_sender_access` and its relatives do.
#[must_use]
pub fn check(table: &TableRef, keys: &[Key], snapshot: &Snapshot, remote: &dyn Remote) -> Verdict {
    for key in keys {
        match snapshot.get(table, &key.text, key.scope, remote) {
            Answer::NotFound => {}
            Answer::Found(found) => {
                return Verdict::Action { action: Action::parse(&found.value), found, network_key: false };
            }
            Answer::Temporary(why) => return Verdict::Temporary(why),
            Answer::Missing(query) => return Verdict::Missing(query),
        }
    }
    Verdict::NotFound
}

/// `check_client_access`: the host name and its parents, then the address and its octet prefixes, at last keys that are
/// networks. `name` is the verified name, or `unknown`.
#[must_use]
pub fn check_client(
    table: &TableRef,
    name: &str,
    address: IpAddr,
    parents: bool,
    snapshot: &Snapshot,
    remote: &dyn Remote,
) -> Verdict {
    let address = address.to_canonical();
    let mut keys = if name.is_empty() { Vec::new() } else { domain_keys(name, parents, Scope::Full) };
    keys.extend(address_keys(address));
    match check(table, &keys, snapshot, remote) {
        Verdict::NotFound => {}
        verdict => return verdict,
    }
    match snapshot.table(table).and_then(|table| table.get_network(address)) {
        Some(found) => Verdict::Action { action: Action::parse(&found.value), found, network_key: true },
        None => Verdict::NotFound,
    }
}

/// An address and its prefixes: `192.0.2.1`, `192.0.2`, `192.0`, `192`; `2001:db8::1`, `2001:db8`, `2001`.
fn address_keys(address: IpAddr) -> Vec<Key> {
    let text = address.to_string();
    let separator = if address.is_ipv4() { '.' } else { ':' };
    let mut keys = vec![Key::full(text.as_str())];
    let mut rest = text.as_str();
    while let Some((prefix, _)) = rest.rsplit_once(separator) {
        let prefix = prefix.trim_end_matches(':');
        if !prefix.is_empty() {
            keys.push(Key::partial(prefix));
        }
        rest = prefix;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Remote;
    use mail_config::main_cf::lists::TableKind;

    #[test]
    fn values_are_read_as_access_5_describes_them() {
        let refusal = |code: Option<u16>, status: Option<&str>, text: &str| Refusal {
            code: code.map(|c| ReplyCode::try_from(c).expect("code")),
            status: status.map(|s| s.parse().expect("status")),
            text: text.to_owned(),
        };
        let cases = [
            ("OK", Action::Ok),
            ("relay", Action::Ok),
            ("1234567", Action::Ok),
            ("dunno whatever", Action::Dunno),
            ("REJECT", Action::Reject(refusal(None, None, ""))),
            ("REJECT 5.7.2 go away", Action::Reject(refusal(None, Some("5.7.2"), "go away"))),
            ("550 5.1.1 no such user", Action::Reject(refusal(Some(550), Some("5.1.1"), "no such user"))),
            ("450 wait", Action::Defer(refusal(Some(450), None, "wait"))),
            ("554", Action::Reject(refusal(Some(554), None, ""))),
            ("DEFER_IF_PERMIT later", Action::DeferIfPermit(refusal(None, None, "later"))),
            ("HOLD look", Action::Hold("look".into())),
            ("FILTER smtp:x", Action::Unbuilt("FILTER smtp:x".into())),
            ("prepend X-A: b", Action::Unbuilt("prepend X-A: b".into())),
        ];
        for (value, wanted) in cases {
            assert_eq!(Action::parse(value), wanted, "{value}");
        }
        let Action::Restrictions(rules) = Action::parse("permit_mynetworks, reject") else { panic!("restrictions") };
        assert_eq!(rules.len(), 2);
    }

    fn hash() -> TableRef {
        TableRef { kind: TableKind::Hash, name: "/etc/postfix/access".into(), proxy: false }
    }

    fn client(text: &str, name: &str, address: &str) -> (Option<Action>, bool) {
        let snapshot = Snapshot::of_texts(&[(&hash(), text)], &[]);
        let remote: &dyn Remote = &();
        match check_client(&hash(), name, address.parse().expect("address"), true, &snapshot, remote) {
            Verdict::Action { action, network_key, .. } => (Some(action), network_key),
            _ => (None, false),
        }
    }

    // The user's page, row 7.
    #[test]
    fn a_host_goes_before_its_network_in_an_access_table() {
        let text = "192.168.2.0/24 OK\n192.168.2.10 REJECT\n";
        assert_eq!(client(text, "unknown", "192.168.2.10"), (Some(Action::Reject(Refusal::default())), false));
        assert_eq!(client(text, "unknown", "192.168.2.9"), (Some(Action::Ok), true));
        assert_eq!(client(text, "unknown", "192.168.3.9"), (None, false));
        assert_eq!(client(text, "unknown", "::ffff:192.168.2.9"), (Some(Action::Ok), true));
    }

    #[test]
    fn names_are_asked_before_addresses_and_parents_after_children() {
        let text = "example.org OK\nbad.example.org REJECT\n10 REJECT\n2001:db8 REJECT\n";
        assert_eq!(client(text, "a.example.org", "10.1.1.1").0, Some(Action::Ok));
        assert_eq!(client(text, "bad.example.org", "192.0.2.1").0, Some(Action::Reject(Refusal::default())));
        assert_eq!(client(text, "unknown", "10.1.1.1").0, Some(Action::Reject(Refusal::default())));
        assert_eq!(client(text, "unknown", "2001:db8::1").0, Some(Action::Reject(Refusal::default())));
    }

    proptest::proptest! {
        #[test]
        fn no_value_breaks_an_action(value in "([A-Z_]{1,6}|[0-9]{1,4}|[ ,:{}/.é]){0,6}") {
            let _ = Action::parse(&value);
        }
    }
}
