//! What a plan judges.

use std::net::{IpAddr, SocketAddr};

use mail_types::{Address, Reply, Sender};

/// The client's name in DNS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientName {
    /// The verified name: reverse name whose address is the client's; none if there is none.
    pub verified: Option<String>,
    /// The reverse name, verified or not.
    pub reverse: Option<String>,
    /// Whether a lookup failed for now, so that the missing verified name is not certain.
    pub temporary: bool,
    /// The same of the missing reverse name.
    pub reverse_temporary: bool,
}

impl ClientName {
    /// The verified name, or `unknown`.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.verified.as_deref().unwrap_or("unknown")
    }

    /// The reverse name, or `unknown`.
    #[must_use]
    pub fn shown_reverse(&self) -> &str {
        self.reverse.as_deref().unwrap_or("unknown")
    }
}

/// TLS as policy services hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption<'a> {
    /// `TLSv1.3`.
    pub protocol: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// The length of its key.
    pub bits: u32,
}

/// A client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The common name of its holder.
    pub subject: &'a str,
    /// The common name of who issued it.
    pub issuer: &'a str,
    /// Its fingerprint and that of its public key, as `smtpd_tls_fingerprint_digest` says.
    pub fingerprints: [&'a str; 2],
    /// Whether an authority that we trust vouches for it.
    pub trusted: bool,
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
    /// How replies and logs name the sender: as the client wrote it.
    pub sender_text: Option<&'a str>,
    /// RCPT, complete and rewritten.
    pub recipient: Option<&'a Address>,
    /// How replies and logs name the recipient: as the client wrote it.
    pub recipient_text: Option<&'a str>,
    /// The login.
    pub user: Option<&'a str>,
    /// How the login was made.
    pub method: Option<&'a str>,
    /// Whether the session has TLS.
    pub tls: bool,
    /// What TLS it is.
    pub encryption: Option<Encryption<'a>>,
    /// The certificate that the client showed.
    pub certificate: Option<Certificate<'a>>,
    /// The client's port; 0 if nobody knows.
    pub client_port: u16,
    /// Whether the port is part of the client's name (`smtpd_client_port_logging`).
    pub shows_port: bool,
    /// Our address and port of the connection.
    pub server: Option<SocketAddr>,
    /// `SMTP` or `ESMTP`.
    pub protocol: &'a str,
    /// The command, where it is another than its stage says (VRFY).
    pub command: Option<&'a str>,
    /// What tells this transaction from all others (`instance` of policy services).
    pub instance: &'a str,
    /// The queue id, if there is one yet.
    pub queue_id: Option<&'a str>,
    /// SIZE as declared; after the content, its octets.
    pub size: u64,
    /// The domain of ETRN.
    pub etrn: Option<&'a str>,
    /// Whether the client sent commands before their turn.
    pub pipelining: bool,
    /// How many recipients were accepted.
    pub recipients: usize,
    /// A deferral that an earlier stage left, where `smtpd_delay_reject = no`.
    pub deferral: Option<&'a Reply>,
    /// Whether an access table said `DISCARD` in this transaction: nothing is judged any more.
    pub discarded: bool,
    /// Whether one said `HOLD`: saying so again does nothing, and is not logged.
    pub held: bool,
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
            sender_text: None,
            recipient: None,
            recipient_text: None,
            user: None,
            method: None,
            tls: false,
            encryption: None,
            certificate: None,
            client_port: 0,
            shows_port: false,
            server: None,
            protocol: "ESMTP",
            command: None,
            instance: "",
            queue_id: None,
            size: 0,
            etrn: None,
            pipelining: false,
            recipients: 0,
            deferral: None,
            discarded: false,
            held: false,
        }
    }

    /// `name[address]`, as logs and replies name the client; with its port where that is shown.
    #[must_use]
    pub fn peer(&self) -> String {
        let port = if self.shows_port { format!(":{}", self.client_port) } else { String::new() };
        format!("{}[{}]{port}", self.name.shown(), self.client)
    }

    pub(crate) fn recipient_name(&self) -> String {
        let text = self.recipient_text.map(str::to_owned);
        text.or_else(|| self.recipient.map(ToString::to_string)).unwrap_or_default()
    }

    pub(crate) fn sender_name(&self) -> String {
        let text = self.sender_text.map(str::to_owned);
        text.or_else(|| self.sender.map(ToString::to_string)).unwrap_or_default()
    }

    /// The sender, unless it is null.
    pub(crate) fn sender_address(&self) -> Option<&'a Address> {
        self.sender.and_then(Sender::address)
    }
}
