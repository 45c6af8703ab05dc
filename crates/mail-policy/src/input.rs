//! What a plan judges.

use std::net::IpAddr;

use mail_types::{Address, Reply, Sender};

/// The client's name in DNS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientName {
    /// The verified name: reverse name whose address is the client's; none if there is none.
    pub verified: Option<String>,
    /// The reverse name, verified or not.
    pub reverse: Option<String>,
    /// Whether a lookup failed for now, so that "none" is not certain.
    pub temporary: bool,
}

/// Client, session and command. What has not come yet is none.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Its name.
    pub name: &'a ClientName,
    /// HELO or EHLO.
    pub helo: Option<&'a str>,
    /// MAIL, complete and rewritten.
    pub sender: Option<&'a Sender>,
    /// RCPT, complete and rewritten.
    pub recipient: Option<&'a Address>,
    /// How replies and logs name the recipient: as the client wrote it.
    pub recipient_text: Option<&'a str>,
    /// The login.
    pub user: Option<&'a str>,
    /// Whether the session has TLS.
    pub tls: bool,
    /// Whether the client sent commands before their turn.
    pub pipelining: bool,
    /// How many recipients were accepted.
    pub recipients: usize,
    /// A deferral that an earlier stage left, where `smtpd_delay_reject = no`.
    pub deferral: Option<&'a Reply>,
}

impl<'a> Input<'a> {
    /// A client of which nothing is known yet.
    #[must_use]
    pub fn new(client: IpAddr, name: &'a ClientName) -> Self {
        Self {
            client,
            name,
            helo: None,
            sender: None,
            recipient: None,
            recipient_text: None,
            user: None,
            tls: false,
            pipelining: false,
            recipients: 0,
            deferral: None,
        }
    }

    /// `name[address]`, as logs and replies name the client.
    #[must_use]
    pub fn peer(&self) -> String {
        format!("{}[{}]", self.name.verified.as_deref().unwrap_or("unknown"), self.client)
    }

    pub(crate) fn recipient_name(&self) -> String {
        let text = self.recipient_text.map(str::to_owned);
        text.or_else(|| self.recipient.map(ToString::to_string)).unwrap_or_default()
    }

    pub(crate) fn sender_name(&self) -> String {
        self.sender.map(ToString::to_string).unwrap_or_default()
    }
}
