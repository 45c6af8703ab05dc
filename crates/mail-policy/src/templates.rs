//! Texts in which `$name` stands for what the session knows: replies of DNS lists, the footer of refusals.
//!
//! What a client or a name server says is never read as a name again, and goes through `smtpd_expansion_filter`.

use mail_config::Main;
use mail_config::expand::{Scope, expand};
use mail_types::{EnhancedStatus, Reply, ReplyCode, Severity};

use crate::evaluate::Run;
use crate::input::Input;
use crate::replies::Subject;

/// Values by name, those outside the filter as `_`.
struct Names<'a> {
    values: Vec<(&'a str, String)>,
    filter: &'a str,
}

impl Scope for Names<'_> {
    fn raw(&self, name: &str) -> Option<String> {
        let (_, value) = self.values.iter().find(|(known, _)| *known == name)?;
        let filtered = value.chars().map(|c| if self.filter.contains(c) { c } else { '_' });
        // A dollar that the filter lets pass is no name.
        Some(filtered.collect::<String>().replace('$', "$$"))
    }

    fn undefined(&self, _: &str) {}
}

/// What a session is, by the names of postconf(5).
fn session(input: &Input<'_>) -> Vec<(&'static str, String)> {
    let (sender, recipient) =
        (input.sender.map(|_| input.sender_name()), input.recipient.map(|_| input.recipient_name()));
    let mut values = vec![
        ("client", input.peer()),
        ("client_address", input.client.to_string()),
        ("client_name", input.name.shown().to_owned()),
        ("reverse_client_name", input.name.shown_reverse().to_owned()),
        ("client_port", if input.client_port == 0 { "unknown".to_owned() } else { input.client_port.to_string() }),
        ("helo_name", input.helo.unwrap_or_default().to_owned()),
    ];
    if let Some(server) = input.server {
        values.push(("server_address", server.ip().to_string()));
        values.push(("server_port", server.port().to_string()));
    }
    values.extend(address(["sender", "sender_name", "sender_domain"], sender));
    values.extend(address(["recipient", "recipient_name", "recipient_domain"], recipient));
    values
}

/// An address, its local part and its domain.
fn address(names: [&'static str; 3], address: Option<String>) -> Vec<(&'static str, String)> {
    let Some(address) = address else { return names.map(|name| (name, String::new())).into() };
    let null = || "<>".to_owned();
    let (local, domain) = address.rsplit_once('@').unwrap_or((&address, ""));
    let local = if address.is_empty() { null() } else { local.to_owned() };
    let domain = domain.to_owned();
    let whole = if address.is_empty() { null() } else { address };
    names.into_iter().zip([whole, local, domain]).collect()
}

/// The reply of a DNS list as its template says; none if the template cannot be used.
pub(crate) fn dns_list(run: &Run<'_>, template: &str, zone: &str, subject: &Subject, reason: &str) -> Option<Reply> {
    let main = &run.plan.main;
    let mut values = session(run.input);
    values.extend([
        ("rbl_code", main.maps_rbl_reject_code.to_string()),
        ("rbl_domain", zone.split('=').next().unwrap_or_default().to_owned()),
        ("rbl_reason", reason.to_owned()),
        ("rbl_txt", reason.to_owned()),
        ("rbl_what", subject.name.clone()),
        ("rbl_class", subject.class.to_owned()),
    ]);
    let text = expand(template, &Names { values, filter: &main.smtpd_expansion_filter }).ok()?;
    let (code, text) = text.split_once(' ')?;
    let code: ReplyCode = code.parse::<u16>().ok().and_then(|code| code.try_into().ok())?;
    if code.severity() == Severity::Success || code.get() < 400 {
        return None;
    }
    let (status, text) = split_status(text);
    let status = subject.fitting(status.unwrap_or(EnhancedStatus::of(4, 7, 1)));
    let text = if text.is_empty() { "Service unavailable" } else { text };
    Some(Reply::new(code, status.with_severity(code.severity()), text))
}

/// `5.7.1 text` in its parts.
pub(crate) fn split_status(text: &str) -> (Option<EnhancedStatus>, &str) {
    let (word, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
    match word.parse() {
        Ok(status) => (Some(status), rest.trim_start()),
        Err(_) => (None, text),
    }
}

/// Adds a footer to a refusal: `smtpd_reject_footer`, or what `smtpd_reject_footer_maps` says. `\c` at its beginning continues the last line, `\n`
/// begins a new one; `localtime` is the time as it is shown.
#[must_use]
pub fn with_footer(reply: Reply, footer: &str, input: &Input<'_>, main: &Main, localtime: &str) -> Reply {
    let mut values = session(input);
    values.push(("localtime", localtime.to_owned()));
    let Ok(text) = expand(footer, &Names { values, filter: &main.smtpd_expansion_filter }) else { return reply };
    let (continued, text) = match text.strip_prefix("\\c") {
        Some(rest) => (true, rest.to_owned()),
        None => (false, text),
    };
    let text = text.replace("\\n", "\n");
    let between = if continued { "" } else { "\n" };
    Reply { text: format!("{}{between}{text}", reply.text), ..reply }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ClientName;

    #[test]
    fn what_a_client_says_is_no_name_of_ours() {
        let names = Names { values: vec![("helo_name", "$x {y}".to_owned())], filter: "$x" };
        assert_eq!(expand("[$helo_name] ${helo_name?yes}", &names).expect("expands"), "[$x____] yes");
    }

    #[test]
    fn the_null_sender_has_a_name() {
        let name = ClientName::default();
        let sender = mail_types::Sender::Null;
        let input = Input { sender: Some(&sender), ..Input::new([192, 0, 2, 1].into(), &name) };
        let values = session(&input);
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!((value("sender"), value("sender_domain"), value("recipient")), (Some("<>"), Some(""), Some("")));
    }
}
