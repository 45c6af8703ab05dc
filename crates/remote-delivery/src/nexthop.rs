//! The next hop as main.cf, transport tables and queue-manager write it (transport(5)).

use std::net::IpAddr;
use std::path::PathBuf;

use mail_ipc::delivery::TransportKind;

/// Where a transport leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// The mail servers of a domain: MX records, or its own address.
    Domain {
        /// The domain.
        name: String,
        /// Another port than the transport's.
        port: Option<String>,
    },
    /// One host, without MX: `[host]`, or any host of LMTP.
    Host {
        /// Its name.
        name: String,
        /// Another port than the transport's.
        port: Option<String>,
    },
    /// One address: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
    Address {
        /// The address.
        address: IpAddr,
        /// Another port than the transport's.
        port: Option<String>,
    },
    /// A Unix socket of LMTP; a relative path is below queue_directory.
    Unix(PathBuf),
}

/// Reads a next hop.
///
/// # Errors
/// What is wrong with it; the mail is deferred, since a table or parameter has a mistake that somebody will mend.
pub fn parse(text: &str, kind: TransportKind) -> Result<NextHop, String> {
    let wrong = || format!("`{text}' is no next hop; write DOMAIN, [HOST] or [HOST]:PORT");
    let text = match kind {
        TransportKind::Lmtp => match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => return Ok(NextHop::Unix(PathBuf::from(path))),
            Some(("inet", rest)) => rest,
            _ => text,
        },
        _ => text,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or_else(wrong)?;
        let port = match after.strip_prefix(':') {
            Some(port) if is_port(port) => Some(port.to_owned()),
            None if after.is_empty() => None,
            _ => return Err(wrong()),
        };
        let address = inside.strip_prefix("IPv6:").or_else(|| inside.strip_prefix("ipv6:")).unwrap_or(inside);
        return match address.parse() {
            Ok(address) => Ok(NextHop::Address { address, port }),
            Err(_) if is_host(inside) => Ok(NextHop::Host { name: inside.to_owned(), port }),
            Err(_) => Err(wrong()),
        };
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) if is_port(port) => (name, Some(port.to_owned())),
        Some(_) => return Err(wrong()),
        None => (text, None),
    };
    let name = if is_host(name) { name.to_owned() } else { return Err(wrong()) };
    Ok(if kind == TransportKind::Lmtp { NextHop::Host { name, port } } else { NextHop::Domain { name, port } })
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Names that DNS can be asked for: what a hostile MX or table holds beyond that never reaches a resolver. U-labels pass.
fn is_host(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.split('.').all(|label| !label.is_empty() && label.len() <= 63)
        && text.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_read_as_transport_5_says() {
        let port = |p: &str| Some(p.to_owned());
        for (text, kind, hop) in [
            ("info.net", TransportKind::Smtp, NextHop::Domain { name: "info.net".into(), port: None }),
            ("info.net:2525", TransportKind::Smtp, NextHop::Domain { name: "info.net".into(), port: port("2525") }),
            ("[mx.info.net]", TransportKind::Smtp, NextHop::Host { name: "mx.info.net".into(), port: None }),
            (
                "[127.0.0.1]:2525",
                TransportKind::Smtp,
                NextHop::Address { address: [127, 0, 0, 1].into(), port: port("2525") },
            ),
            (
                "[IPv6:::1]",
                TransportKind::Smtp,
                NextHop::Address { address: "::1".parse().expect("an address"), port: None },
            ),
            ("unix:/run/lmtp", TransportKind::Lmtp, NextHop::Unix("/run/lmtp".into())),
            ("inet:host:24", TransportKind::Lmtp, NextHop::Host { name: "host".into(), port: port("24") }),
            ("host", TransportKind::Lmtp, NextHop::Host { name: "host".into(), port: None }),
        ] {
            assert_eq!(parse(text, kind), Ok(hop), "{text}");
        }
        for text in ["", "[", "[x", "[x]y", "a b", "a:b:c", "[x]:", "..", "a..b", "x\r\ny"] {
            parse(text, TransportKind::Smtp).expect_err(text);
        }
    }
}
