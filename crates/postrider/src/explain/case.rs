//! What is asked: a client, what it says, and who it is; or a user of this machine with sendmail.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

/// Where programs of this machine come from.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The client's address; that of a program of this machine is the loopback's.
    pub client: IpAddr,
    /// Its name, verified; none: DNS is asked, or it has none.
    pub name: Option<String>,
    /// What it says in EHLO.
    pub helo: String,
    /// What stands between the angle brackets of MAIL FROM; empty for the null sender.
    pub from: String,
    /// What stands between the angle brackets of each RCPT TO.
    pub to: Vec<String>,
    /// The login, which is supposed to succeed.
    pub auth: Option<String>,
    /// Whether the client uses STARTTLS.
    pub tls: bool,
    /// The listener, by its name in master.cf or its port; none: the one on port 25.
    pub service: Option<String>,
    /// The size that MAIL declares; for a program of this machine the size that it hands in.
    pub size: Option<u64>,
    /// Fields of the message's header, each `NAME: VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// The user of this machine who hands the message in with sendmail; none: a client comes over the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// What the client asks in the place of sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
}

/// A command outside a mail transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// VRFY with its address.
    Vrfy(String),
    /// ETRN with its domain.
    Etrn(String),
}

impl Command {
    /// `VRFY ADDRESS` or `ETRN DOMAIN`.
    ///
    /// # Errors
    /// A sentence.
    pub fn of(text: &str) -> Result<Self, String> {
        let (verb, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        match (verb.to_ascii_uppercase().as_str(), rest.trim()) {
            ("VRFY" | "ETRN", "") => Err(format!("command: {verb} of what?")),
            ("VRFY", address) => Ok(Self::Vrfy(bare(address))),
            ("ETRN", domain) => Ok(Self::Etrn(domain.to_owned())),
            _ => Err(format!("command: `{}' is neither VRFY ADDRESS nor ETRN DOMAIN", super::text::shown(text))),
        }
    }

    /// Its verb, as steps and expectations name it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Vrfy(_) => "VRFY",
            Self::Etrn(_) => "ETRN",
        }
    }

    /// The line as the client sends it.
    #[must_use]
    pub fn line(&self) -> String {
        let (Self::Vrfy(rest) | Self::Etrn(rest)) = self;
        format!("{} {rest}", self.verb())
    }
}

impl Case {
    /// What is wrong with a value of a case: what would leave its command line.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        let mut all: Vec<(&str, &str)> = vec![("helo", &self.helo), ("from", &self.from)];
        let command = self.command.as_ref().map(Command::line);
        let optional = [
            ("name", &self.name),
            ("auth", &self.auth),
            ("service", &self.service),
            ("user", &self.local),
            ("command", &command),
        ];
        all.extend(optional.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        all.extend(self.to.iter().map(|to| ("to", to.as_str())));
        all.extend(self.header.iter().map(|field| ("header", field.as_str())));
        for (field, value) in all {
            if value.contains(['\r', '\n', '\0']) {
                return Err(format!("{field}: `{}' holds an end of line", super::text::shown(value)));
            }
        }
        let is_field = |field: &String| {
            let name = field.split_once(':').map(|(name, _)| name.trim_end());
            name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()))
        };
        if let Some(wrong) = self.header.iter().find(|field| !is_field(field)) {
            return Err(format!("header: `{}' is no field: write NAME: VALUE", super::text::shown(wrong)));
        }
        match (&self.local, &self.command) {
            (Some(_), Some(_)) => Err("command: VRFY and ETRN are for clients, sendmail has none".to_owned()),
            (Some(_), None) if self.auth.is_some() || self.tls || self.service.is_some() || self.name.is_some() => {
                Err("a user of this machine hands mail in without client, login, TLS and port".to_owned())
            }
            (None, _) if self.helo.trim().is_empty() => Err("helo: a client says its name".to_owned()),
            _ => Ok(()),
        }
    }

    /// The header as the client sends it, its end included.
    #[must_use]
    pub fn header_octets(&self) -> Vec<u8> {
        let fields: String = self.header.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{fields}\r\n").into_bytes()
    }
}

/// A path without its angle brackets, if it has them.
#[must_use]
pub fn bare(path: &str) -> String {
    let path = path.trim();
    let inside = path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inside.unwrap_or(path).to_owned()
}

/// The address of a client, also as people write an IPv6 literal.
///
/// # Errors
/// A sentence.
pub fn client(text: &str) -> Result<IpAddr, String> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let inside = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map_or(inside, |_| &inside[5..]);
    let parsed: Result<IpAddr, _> = inside.parse();
    parsed
        .map(|address| address.to_canonical())
        .map_err(|_| format!("client: `{}' is no address", super::text::shown(text)))
}
