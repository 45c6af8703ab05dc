//! Trace fields as Postfix writes them (RFC 5321 section 4.4).

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mail_types::{Address, QueueId, Sender, UnixTime};

/// What TLS negotiated, for `smtpd_tls_received_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsTrace<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// Its strength in bits.
    pub bits: u16,
    /// How keys were exchanged and how the server signed; empty if nobody tells.
    pub exchange: &'a str,
    /// How the client signed; empty if it did not.
    pub client_signature: &'a str,
    /// What the client showed of itself.
    pub certificate: CertificateTrace<'a>,
}

/// A client's certificate in a trace field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateTrace<'a> {
    /// None was asked for.
    NotAsked,
    /// None was shown.
    NotShown,
    /// This one.
    Shown {
        /// The common name of its holder.
        subject: &'a str,
        /// The common name of who issued it.
        issuer: &'a str,
        /// Whether an authority that we trust vouches for it.
        verified: bool,
    },
}

impl TlsTrace<'_> {
    /// The comments of a Received field, each with the line end before it.
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { version, cipher, bits, exchange, client_signature, certificate } = self;
        write!(out, "\r\n\t(using {version} with cipher {cipher} ({bits}/{bits} bits)")?;
        for line in [exchange, client_signature].into_iter().filter(|line| !line.is_empty()) {
            write!(out, "\r\n\t {line}")?;
        }
        match certificate {
            CertificateTrace::NotAsked => out.write_str(")\r\n\t(No client certificate requested)"),
            CertificateTrace::NotShown => out.write_str(")\r\n\t(Client did not present a certificate)"),
            CertificateTrace::Shown { subject, issuer, verified } => {
                let verified = if *verified { "verified OK" } else { "not verified" };
                let (subject, issuer) = (quoted(subject), quoted(issuer));
                write!(out, ")\r\n\t(Client CN \"{subject}\", Issuer \"{issuer}\" ({verified}))")
            }
        }
    }
}

/// A name from a certificate inside the quotation marks of a comment.
fn quoted(text: &str) -> String {
    safe(text).replace('"', "?")
}

/// What a Received field tells. Text from the network is made printable when it is written.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// A message from a connection.
    Network {
        /// HELO or EHLO; the client's name if none came.
        helo: &'a str,
        /// The verified host name, or `unknown`.
        name: &'a str,
        /// The client's address.
        address: IpAddr,
        /// TLS, where it is to be told.
        tls: Option<TlsTrace<'a>>,
        /// The login, where it is to be told (`smtpd_sasl_authenticated_header`).
        login: Option<&'a str>,
        /// `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPSA` ... (RFC 3848).
        protocol: &'a str,
        /// The recipient, if there is exactly one (S15).
        recipient: Option<&'a Address>,
    },
    /// A message from a program on this machine.
    Local {
        /// The uid.
        uid: u32,
    },
}

impl Received<'_> {
    /// The whole field with CRLF line ends. `by` is `myhostname`, `software` `mail_name`.
    #[must_use]
    pub fn field(&self, by: &str, software: &str, id: QueueId, when: UnixTime) -> String {
        let mut out = String::with_capacity(256);
        // Writing into a String cannot fail, here and below.
        let _ = match self {
            Self::Network { helo, name, address, tls, login, .. } => {
                let _ = write!(out, "Received: from {} ({} [{}])", safe(helo), safe(name), literal(*address));
                if let Some(tls) = tls {
                    let _ = tls.write(&mut out);
                }
                if let Some(login) = login {
                    let _ = write!(out, "\r\n\t(Authenticated sender: {})", safe(login));
                }
                write!(out, "\r\n\tby {by} ({software}) with ")
            }
            Self::Local { .. } => write!(out, "Received: by {by} ({software}, "),
        };
        let _ = match self {
            Self::Network { protocol, recipient: Some(recipient), .. } => {
                write!(
                    out,
                    "{protocol} id {id}\r\n\tfor <{}>; {}\r\n",
                    safe_address(&recipient.to_string()),
                    date(when)
                )
            }
            Self::Network { protocol, .. } => write!(out, "{protocol} id {id};\r\n\t{}\r\n", date(when)),
            Self::Local { uid } => write!(out, "from userid {uid})\r\n\tid {id}; {}\r\n", date(when)),
        };
        out
    }
}

/// An address as a trace field holds it: `IPv6:` before IPv6 (RFC 5321 section 4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("IPv6:{v6}"),
    }
}

/// Text from the network inside a field: what is not printable or would change the comment structure becomes `?`.
fn safe(text: &str) -> String {
    text.chars().take(256).map(|c| if (' '..='~').contains(&c) && !"()\\;".contains(c) { c } else { '?' }).collect()
}

/// An address inside a field: it may be written in UTF-8 (RFC 6531 section 3.7.3).
fn safe_address(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() || "()\\;".contains(c) { '?' } else { c }).collect()
}

/// A date and time of RFC 5322 section 3.3 in the machine's time zone, such as `Sun, 22 Nov 2026 15:00:00 +0000 (UTC)`.
#[must_use]
pub fn date(when: UnixTime) -> String {
    date_in(when, TimeZone::system())
}

fn date_in(when: UnixTime, zone: TimeZone) -> String {
    let seconds = i64::try_from(when.seconds()).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(zone).strftime("%a, %-d %b %Y %H:%M:%S %z (%Z)").to_string()
}

/// The Return-Path field of final delivery (S16).
#[must_use]
pub fn return_path(sender: &Sender) -> String {
    format!("Return-Path: <{sender}>\r\n")
}

/// The Delivered-To field, which also stops loops.
#[must_use]
pub fn delivered_to(recipient: &Address) -> String {
    format!("Delivered-To: {recipient}\r\n")
}

/// The X-Original-To field (`enable_original_recipient`): what the client wrote.
#[must_use]
pub fn x_original_to(original: &str) -> String {
    format!("X-Original-To: {}\r\n", safe_address(original))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> QueueId {
        QueueId::new(1_795_359_600, 123_456, 7).expect("in range")
    }

    fn at() -> UnixTime {
        UnixTime(1_795_359_600_000)
    }

    #[test]
    fn dates_are_those_of_the_standard() {
        assert_eq!(date_in(at(), TimeZone::UTC), "Sun, 22 Nov 2026 15:00:00 +0000 (UTC)");
        assert_eq!(date_in(UnixTime(86_400_000 * 3), TimeZone::UTC), "Sun, 4 Jan 1970 00:00:00 +0000 (UTC)");
    }

    #[test]
    fn received_reads_as_in_postfix() {
        // S15
        let recipient: Address = "john@info.net".parse().expect("an address");
        let received = Received::Network {
            helo: "client.example",
            name: "unknown",
            address: [192, 0, 2, 1].into(),
            tls: Some(TlsTrace {
                version: "TLSv1.3",
                cipher: "TLS_AES_256_GCM_SHA384",
                bits: 256,
                exchange: "key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256",
                client_signature: "client-signature ED25519",
                certificate: CertificateTrace::Shown { subject: "a\r\n(b)", issuer: "A \"CA\"", verified: true },
            }),
            login: Some("john"),
            protocol: "ESMTPSA",
            recipient: Some(&recipient),
        };
        let field = received.field("server.info.net", "Postrider", id(), at());
        let expected = format!(
            "Received: from client.example (unknown [192.0.2.1])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\
             \r\n\t key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256\r\n\t client-signature ED25519)\
             \r\n\t(Client CN \"a???b?\", Issuer \"A ?CA?\" (verified OK))\r\n\t(Authenticated sender: john)\r\n\tby server.info.net (Postrider) with ESMTPSA id {}\r\n\tfor <john@info.net>; {}\r\n",
            id(),
            date(at())
        );
        assert_eq!(field, expected);
        let local = Received::Local { uid: 1000 }.field("server.info.net", "Postrider", id(), at());
        let expected =
            format!("Received: by server.info.net (Postrider, from userid 1000)\r\n\tid {}; {}\r\n", id(), date(at()));
        assert_eq!(local, expected);
    }

    #[test]
    fn no_helo_forges_a_field() {
        let received = Received::Network {
            helo: "x) by evil (\r\nX-Forged: yes",
            name: "unknown",
            address: "2001:db8::1".parse().expect("an address"),
            tls: None,
            login: None,
            protocol: "ESMTP",
            recipient: None,
        };
        let field = received.field("server.info.net", "Postrider", id(), at());
        assert!(
            field.starts_with("Received: from x? by evil ???X-Forged: yes (unknown [IPv6:2001:db8::1])\r\n\tby "),
            "{field}"
        );
        assert_eq!(super::super::Header::scan(field.as_bytes()).fields().len(), 1);
    }

    // S16
    #[test]
    fn fields_of_final_delivery_are_lines_of_their_own() {
        let address: Address = "\"a b\"@info.net".parse().expect("an address");
        assert_eq!(return_path(&Sender::Null), "Return-Path: <>\r\n");
        assert_eq!(delivered_to(&address), "Delivered-To: \"a b\"@info.net\r\n");
        assert_eq!(x_original_to("a\r\nb"), "X-Original-To: a??b\r\n");
    }
}
