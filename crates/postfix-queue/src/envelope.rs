//! What a queue file means in our types.

use std::fmt;
use std::net::IpAddr;

use mail_types::{
    Address, Body, Client, Domain, DsnOptions, Envelope, Notify, Octets, Purpose, Recipient, Ret, Sender, UnixTime,
};

use crate::message::{self, QueueFile, State};

/// What only Postfix can carry out: the message stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A content filter or inspector, with its transport.
    Filter(String),
    /// VERP, with its delimiters.
    Verp(String),
    /// A trace of a kind that nobody here knows, with its flags.
    Trace(String),
    /// An attribute of this name that nobody here knows.
    Attribute(String),
    /// Flags of the size record that nobody here knows.
    Flags(u64),
    /// An address that is none, as it stands.
    Address(String),
    /// ORCPT, ENVID or an original recipient that is not UTF-8.
    Text(&'static str),
    /// A record that every file has is missing; which.
    Missing(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(transport) => write!(f, "is for the content filter {transport}"),
            Self::Verp(delimiters) => write!(f, "asks for VERP ({delimiters})"),
            Self::Trace(flags) => write!(f, "is traced in an unknown way (trace_flags={flags})"),
            Self::Attribute(name) => write!(f, "has the unknown attribute {name}"),
            Self::Flags(flags) => write!(f, "has unknown flags ({flags}) in its first record"),
            Self::Address(text) => write!(f, "has the address {text:?}, which is none"),
            Self::Text(what) => write!(f, "has {what} that is not UTF-8"),
            Self::Missing(what) => write!(f, "has no {what}"),
        }
    }
}

impl std::error::Error for Refused {}

/// A message of Postfix's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its envelope, with the recipients that are still to be delivered.
    pub envelope: Envelope,
    /// Recipients that Postfix has seen to, by the offsets of their records; log files may still name them.
    pub done: Vec<(u64, Recipient)>,
    /// The sender was warned of the delay.
    pub warned: bool,
}

/// Attributes without a meaning for what happens to the message from now on.
const WITHOUT_EFFECT: &[&str] = &[
    "log_ident",
    "rewrite_context",
    "log_client_port",
    "log_message_origin",
    "client_name",
    "reverse_client_name",
    "forward_client_name",
    "client_address",
    "client_port",
    "client_address_type",
    "helo_name",
    "protocol_name",
    "server_address",
    "server_port",
    "sasl_sender",
    "policy_context",
    "dsn_status",
    "etrn_domain",
    "instance",
    "stress",
];
/// Attributes with a meaning.
const WITH_EFFECT: &[&str] = &[
    "encoding",
    "log_client_name",
    "log_client_address",
    "log_helo_name",
    "log_protocol_name",
    "sasl_method",
    "sasl_username",
    "trace_flags",
];
/// What `trace_flags` says for each purpose but that of plain mail.
pub(crate) const TRACE_FLAGS: [(Purpose, &str); 3] =
    [(Purpose::Probe, "256"), (Purpose::Verify, "512"), (Purpose::Trace, "1024")];
/// The bits of SMTPUTF8 that Postfix 3.7 has: requested, in the header, in the sender, in a recipient.
const SMTPUTF8_KNOWN: u64 = 0xf;

impl QueueFile {
    /// The message in our types. `size` is left at the length of the content as it stands, `message_id` is left out.
    ///
    /// # Errors
    /// [`Refused`] names what we would lose.
    pub fn envelope(&self) -> Result<Imported, Refused> {
        self.refuse_what_only_postfix_does()?;
        let arrival = self.arrival.ok_or(Refused::Missing("time of arrival"))?;
        let sender = self.sender.as_deref().ok_or(Refused::Missing("sender"))?;
        let flags = self.size.map_or(0, |size| size.smtputf8);
        let (mut open, mut done) = (Vec::new(), Vec::new());
        for recipient in &self.recipients {
            match recipient.state {
                State::Open => open.push(recipient_of(recipient)?),
                State::Done => done.extend(recipient_of(recipient).ok().map(|to| (recipient.offset, to))),
                State::Cancelled => {}
            }
        }
        if let Some(target) = &self.redirect {
            // The first recipient stands for all, with its DSN parameters.
            open.truncate(1);
            for recipient in &mut open {
                recipient.address = address(target)?;
            }
        }
        let envelope = Envelope {
            sender: if sender.is_empty() { Sender::Null } else { Sender::Address(address(sender)?) },
            recipients: open,
            arrival: UnixTime(arrival.0 * 1000 + u64::from(arrival.1) / 1000),
            size: self.content.len() as u64,
            body: if self.attribute("encoding") == Some(b"8bit") { Body::EightBitMime } else { Body::SevenBit },
            smtputf8: flags & 1 != 0,
            dsn: DsnOptions {
                ret: [None, Some(Ret::Full), Some(Ret::Headers)].get(usize::from(self.ret)).copied().flatten(),
                envid: self.envid.as_deref().map(|text| utf8(text, "an ENVID")).transpose()?,
            },
            message_id: None,
            client: self.client(),
            purpose: self.purpose()?,
        };
        Ok(Imported { envelope, done, warned: self.warn.is_some_and(|time| time < 0) })
    }

    fn refuse_what_only_postfix_does(&self) -> Result<(), Refused> {
        let shown = |text: &[u8]| text.escape_ascii().to_string();
        if let Some(transport) = &self.filter {
            return Err(Refused::Filter(shown(transport)));
        }
        if let Some(delimiters) = &self.verp {
            return Err(Refused::Verp(shown(delimiters)));
        }
        let flags = self.size.map_or(0, |size| size.smtputf8);
        if flags & !SMTPUTF8_KNOWN != 0 {
            return Err(Refused::Flags(flags));
        }
        let known = |name: &str| WITH_EFFECT.contains(&name) || WITHOUT_EFFECT.contains(&name);
        match self.attributes.iter().find(|attribute| !known(&attribute.name)) {
            Some(unknown) => Err(Refused::Attribute(unknown.name.clone())),
            None => Ok(()),
        }
    }

    /// What is wanted of the message: that it is delivered, or that somebody is told what would become of it.
    ///
    /// # Errors
    /// [`Refused::Trace`].
    pub fn purpose(&self) -> Result<Purpose, Refused> {
        match self.attribute("trace_flags") {
            None | Some(b"0") => Ok(Purpose::Deliver),
            Some(flags) => {
                let known = TRACE_FLAGS.iter().find(|(_, known)| known.as_bytes() == flags);
                known.map(|(purpose, _)| *purpose).ok_or_else(|| Refused::Trace(flags.escape_ascii().to_string()))
            }
        }
    }

    fn client(&self) -> Client {
        let text = |name: &str| self.attribute(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let address: Option<IpAddr> = text("log_client_address").and_then(|text| text.parse().ok());
        let local = address.is_none();
        let or = |value: Option<String>, local_name: &str| {
            value.unwrap_or_else(|| if local { local_name } else { "unknown" }.to_owned())
        };
        Client {
            name: or(text("log_client_name"), "localhost"),
            address,
            helo: self.attribute("log_helo_name").map(Octets::new),
            protocol: or(text("log_protocol_name"), "local"),
            sasl_username: text("sasl_username"),
            sasl_method: text("sasl_method"),
            uid: None,
        }
    }
}

fn recipient_of(written: &message::Recipient) -> Result<Recipient, Refused> {
    let original = written.original.as_deref().filter(|original| *original != written.address && !original.is_empty());
    let to = Recipient {
        address: address(&written.address)?,
        original: original.map(|text| utf8(text, "an original recipient")).transpose()?,
        orcpt: written.orcpt.as_deref().map(|text| utf8(text, "an ORCPT")).transpose()?,
        notify: notify(written.notify),
    };
    Ok(to)
}

/// NOTIFY from the bits of a file; none for 0.
pub(crate) fn notify(bits: u8) -> Option<Notify> {
    match bits {
        0 => None,
        1 => Some(Notify::NEVER),
        _ => Some(Notify { success: bits & 2 != 0, failure: bits & 4 != 0, delay: bits & 8 != 0 }),
    }
}

/// NOTIFY as the bits of a file.
pub(crate) fn notify_bits(notify: Option<Notify>) -> u8 {
    match notify {
        None => 0,
        Some(Notify::NEVER) => 1,
        Some(on) => u8::from(on.success) << 1 | u8::from(on.failure) << 2 | u8::from(on.delay) << 3,
    }
}

/// An address in its internal form: the local part is all before the last `@`.
fn address(octets: &[u8]) -> Result<Address, Refused> {
    let refused = || Refused::Address(octets.escape_ascii().to_string());
    let text = std::str::from_utf8(octets).map_err(|_| refused())?;
    let (local, domain) = text.rsplit_once('@').ok_or_else(refused)?;
    Domain::new(domain).and_then(|domain| Address::new(local, domain)).map_err(|_| refused())
}

fn utf8(octets: &[u8], what: &'static str) -> Result<String, Refused> {
    String::from_utf8(octets.to_vec()).map_err(|_| Refused::Text(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Attribute;
    use crate::read::{LIMITS, read};

    fn sample() -> QueueFile {
        read(include_bytes!("../samples/deferred"), &LIMITS).expect("good")
    }

    #[test]
    fn everything_that_the_client_said_is_kept() {
        let Imported { envelope, done, warned } = sample().envelope().expect("good");
        assert_eq!(envelope.sender.to_string(), "a@pf.example");
        assert_eq!((envelope.body, envelope.smtputf8), (Body::EightBitMime, true));
        assert_eq!(envelope.dsn, DsnOptions { ret: Some(Ret::Headers), envid: Some("ab+c".to_owned()) });
        let both = Notify { success: true, failure: true, delay: false };
        let first = &envelope.recipients[0];
        assert_eq!((first.notify, first.orcpt.as_deref()), (Some(both), Some("rfc822;B+x@pf.example")));
        assert_eq!(envelope.recipients[1].address.to_string(), "\"odd one\"@pf.example");
        assert_eq!((envelope.recipients[1].notify, &envelope.recipients[1].original), (Some(Notify::NEVER), &None));
        let client = &envelope.client;
        assert_eq!((client.name.as_str(), client.protocol.as_str()), ("localhost", "ESMTP"));
        assert_eq!(client.address, Some("127.0.0.1".parse().expect("an address")));
        assert!(done.is_empty() && !warned);
        assert_eq!(envelope.arrival.seconds(), 1_795_381_896);
    }

    #[test]
    fn what_only_postfix_does_is_refused_by_name() {
        let with = |change: fn(&mut QueueFile)| {
            let mut file = sample();
            change(&mut file);
            file.envelope().expect_err("refused").to_string()
        };
        let attribute = |name: &str, value: &[u8]| Attribute { name: name.to_owned(), value: value.to_vec() };
        assert_eq!(
            with(|f| f.filter = Some(b"smtp:[::1]:10024".to_vec())),
            "is for the content filter smtp:[::1]:10024"
        );
        assert_eq!(with(|f| f.verp = Some(b"+=".to_vec())), "asks for VERP (+=)");
        assert_eq!(with(|f| f.recipients[0].address = b"bare".to_vec()), "has the address \"bare\", which is none");
        assert_eq!(with(|f| f.sender = None), "has no sender");
        let mut probe = sample();
        probe.attributes.push(attribute("trace_flags", b"512"));
        assert_eq!(probe.envelope().expect("good").envelope.purpose, Purpose::Verify);
        probe.attributes.push(attribute("trace_flags", b"8192"));
        assert_eq!(probe.envelope(), Err(Refused::Trace("8192".to_owned())));
        let mut later = sample();
        later.attributes.push(attribute("sendopts", b"1"));
        assert_eq!(later.envelope(), Err(Refused::Attribute("sendopts".to_owned())));
    }

    #[test]
    fn a_redirect_takes_the_place_of_all_recipients() {
        let mut file = sample();
        file.redirect = Some(b"boss@pf.example".to_vec());
        let recipients = file.envelope().expect("good").envelope.recipients;
        assert_eq!(recipients.iter().map(|to| to.address.to_string()).collect::<Vec<_>>(), ["boss@pf.example"]);
    }

    #[test]
    fn a_warning_that_was_sent_is_remembered() {
        let mut file = sample();
        file.warn = Some(-1);
        assert!(file.envelope().expect("good").warned);
    }
}
