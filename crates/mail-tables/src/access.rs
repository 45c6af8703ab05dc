//! access(5): what the value of an access table asks for, and the keys for addresses of clients.

use std::net::IpAddr;

use mail_config::main_cf::kinds::{Context, Kind};
use mail_config::main_cf::lists::{Restrictions, Rule};
use mail_types::{EnhancedStatus, ReplyCode};

use crate::address::Key;

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
    /// `FILTER`: the transport and next hop of a content filter, as written.
    Filter(String),
    /// `REDIRECT`: the message goes to this address instead, as written.
    Redirect(String),
    /// `BCC`: a copy goes to this address, as written.
    Bcc(String),
    /// `PREPEND`: this field is put before the header, as written.
    Prepend(String),
    /// `WARN`: a line in the log.
    Warn(String),
    /// `INFO`: a line in the log.
    Info(String),
    /// Further restrictions.
    Restrictions(Vec<Rule>),
    /// What is no action, or names a table: `451 4.3.5 Server configuration error`.
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
            "FILTER" => Self::Filter(text.to_owned()),
            "REDIRECT" => Self::Redirect(text.to_owned()),
            "BCC" => Self::Bcc(text.to_owned()),
            "PREPEND" => Self::Prepend(text.to_owned()),
            "" => Self::Unbuilt(value.to_owned()),
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

/// Tables must stand in main.cf, where they are opened before the first client comes.
fn restrictions(value: &str) -> Action {
    if value.contains(':') {
        return Action::Unbuilt(value.to_owned());
    }
    let mut context =
        Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
    match Restrictions::parse(value, &mut context) {
        Ok(rules) if !rules.is_empty() => Action::Restrictions(rules),
        _ => Action::Unbuilt(value.to_owned()),
    }
}

/// An address and its prefixes: `192.0.2.1`, `192.0.2`, `192.0`, `192`; `2001:db8::1`, `2001:db8`, `2001`.
#[must_use]
pub fn address_keys(address: IpAddr) -> Vec<Key> {
    let address = address.to_canonical();
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
            ("FILTER smtp:x", Action::Filter("smtp:x".into())),
            ("prepend X-A: b", Action::Prepend("X-A: b".into())),
            ("Redirect a@b.org", Action::Redirect("a@b.org".into())),
            ("BCC a@b.org", Action::Bcc("a@b.org".into())),
            ("check_client_access hash:/x", Action::Unbuilt("check_client_access hash:/x".into())),
        ];
        for (value, wanted) in cases {
            assert_eq!(Action::parse(value), wanted, "{value}");
        }
        let Action::Restrictions(rules) = Action::parse("permit_mynetworks, reject") else { panic!("restrictions") };
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn an_address_is_asked_before_its_networks() {
        let texts = |address: &str| -> Vec<String> {
            address_keys(address.parse().expect("address")).into_iter().map(|key| key.text).collect()
        };
        assert_eq!(texts("192.0.2.1"), ["192.0.2.1", "192.0.2", "192.0", "192"]);
        assert_eq!(texts("::ffff:192.0.2.1"), texts("192.0.2.1"));
        assert_eq!(texts("2001:db8::1"), ["2001:db8::1", "2001:db8", "2001"]);
    }

    proptest::proptest! {
        #[test]
        fn no_value_breaks_an_action(value in "([A-Z_]{1,6}|[0-9]{1,4}|[ ,:{}/.é]){0,6}") {
            let _ = Action::parse(&value);
        }
    }
}
