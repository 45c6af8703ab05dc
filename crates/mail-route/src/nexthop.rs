//! `[host]:port`, `domain`, `unix:path`: the next hop of SMTP and LMTP transports.

use std::fmt;
use std::net::IpAddr;

/// Where a transport connects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// A domain whose mail exchangers are looked up, and the port if one is written.
    Domain {
        /// The domain.
        name: String,
        /// A number, or a name of /etc/services.
        port: Option<String>,
    },
    /// A host or address, without MX lookup.
    Host {
        /// The name or address.
        name: String,
        /// A number, or a name of /etc/services.
        port: Option<String>,
    },
    /// A socket of the file system.
    Unix(String),
}

impl NextHop {
    /// Reads what a transport table, `relayhost` and the like hold; nothing if it names nobody that could be looked up. U-labels pass.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.to_owned()));
        }
        let text = text.strip_prefix("inet:").unwrap_or(text);
        let port = |text: &str| match text.strip_prefix(':') {
            Some(port) if is_port(port) => Some(Some(port.to_owned())),
            Some(_) => None,
            None => text.is_empty().then_some(None),
        };
        if let Some(inside) = text.strip_prefix('[') {
            let (name, rest) = inside.split_once(']')?;
            // RFC 5321 writes IPv6 addresses with a tag.
            let tagged = name.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
            let name = if tagged.is_some() { &name[5..] } else { name };
            return (name.parse::<IpAddr>().is_ok() || is_host(name))
                .then_some(())
                .and(port(rest))
                .map(|port| Self::Host { name: name.to_owned(), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) if is_port(port) => (name, Some(port.to_owned())),
            Some(_) => return None,
            None => (text, None),
        };
        is_host(name).then(|| Self::Domain { name: name.to_owned(), port })
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Names that DNS can be asked for: what a table holds beyond that never reaches a resolver.
fn is_host(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.split('.').all(|label| !label.is_empty() && label.len() <= 63)
        && text.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::Unix(path) => return write!(f, "unix:{path}"),
            Self::Domain { name, port } => {
                f.write_str(name)?;
                port
            }
            Self::Host { name, port } => {
                write!(f, "[{name}]")?;
                port
            }
        };
        port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_read_as_postfix_writes_them() {
        let domain =
            |name: &str, port: Option<&str>| NextHop::Domain { name: name.into(), port: port.map(str::to_owned) };
        let host = |name: &str, port: Option<&str>| NextHop::Host { name: name.into(), port: port.map(str::to_owned) };
        let cases = [
            ("example.org", Some(domain("example.org", None))),
            ("example.org:2525", Some(domain("example.org", Some("2525")))),
            ("[127.0.0.1]:2525", Some(host("127.0.0.1", Some("2525")))),
            ("[mail.example.org]", Some(host("mail.example.org", None))),
            ("[IPv6:::1]:submission", Some(host("::1", Some("submission")))),
            ("[::1]", Some(host("::1", None))),
            ("inet:localhost:24", Some(domain("localhost", Some("24")))),
            ("unix:private/dovecot-lmtp", Some(NextHop::Unix("private/dovecot-lmtp".into()))),
            ("", None),
            ("[]", None),
            ("[x", None),
            ("[x]y", None),
            ("x:", None),
            ("unix:", None),
            ("a b", None),
            ("a:b:c", None),
            ("[x]:", None),
            ("[a b]", None),
            ("..", None),
            ("a..b", None),
            ("x\r\ny", None),
            ("bücher.example", Some(domain("bücher.example", None))),
        ];
        for (text, wanted) in cases {
            assert_eq!(NextHop::parse(text), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written_again(text in "(\\[?[a-z:.1]{1,9}\\]?(:[0-9]{1,4})?|unix:/[a-z]{1,5})") {
            if let Some(hop) = NextHop::parse(&text) {
                proptest::prop_assert_eq!(NextHop::parse(&hop.to_string()), Some(hop));
            }
        }
    }
}
