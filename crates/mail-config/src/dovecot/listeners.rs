//! The ports and sockets that dovecot.conf opens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use mail_types::SourceLine;

use super::kinds::Ssl;
use super::parse::{Block, Node, blocks};
use super::settings::Settings;
use crate::report::{Level, Report};

/// A protocol of dovecot.conf that we serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// LMTP.
    Lmtp,
}

/// A port for logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginListener {
    /// What is spoken.
    pub protocol: Protocol,
    /// Its name in the file: `imap`, `imaps`, `pop3`, `pop3s`.
    pub name: String,
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// Whether TLS begins with the first octet.
    pub tls: bool,
    /// The line.
    pub source: SourceLine,
}

/// Where LMTP is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LmtpSocket {
    /// A socket of the file system.
    Unix {
        /// Its absolute path.
        path: PathBuf,
        /// The access mode.
        mode: u32,
        /// The owner; empty for the default.
        user: String,
        /// The group; empty for the default.
        group: String,
        /// The line.
        source: SourceLine,
    },
    /// A port.
    Inet {
        /// The addresses to bind.
        addresses: Vec<SocketAddr>,
        /// The line.
        source: SourceLine,
    },
}

/// What the machine says about addresses.
#[derive(Clone, Copy)]
pub(super) struct Network {
    /// Whether it speaks IPv6; without it `::` opens nothing.
    pub(super) has_ipv6: bool,
    /// The addresses of a name.
    pub(super) look_up: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// The system's answer about a name.
pub(super) fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// A login service, a listener of it, its port, and whether TLS begins at once.
const LOGINS: [(Protocol, &str, &str, u16, bool); 4] = [
    (Protocol::Imap, "imap-login", "imap", 143, false),
    (Protocol::Imap, "imap-login", "imaps", 993, true),
    (Protocol::Pop3, "pop3-login", "pop3", 110, false),
    (Protocol::Pop3, "pop3-login", "pop3s", 995, true),
];

/// The ports for logins: Dovecot's own four as far as the file does not change them, and what it adds.
pub(super) fn logins(
    nodes: &[Node],
    settings: &Settings,
    network: Network,
    reports: &mut Vec<Report>,
) -> Vec<LoginListener> {
    let mut found = Vec::new();
    for (protocol, word) in [(Protocol::Imap, "imap"), (Protocol::Pop3, "pop3")] {
        if !settings.protocols.iter().any(|name| name == word) {
            continue;
        }
        let service = format!("{word}-login");
        let known = LOGINS.iter().filter(|(of, ..)| *of == protocol);
        let mut names: Vec<(String, u16, bool)> =
            known.map(|(_, _, name, port, tls)| ((*name).to_owned(), *port, *tls)).collect();
        for block in inet_blocks(nodes, &service) {
            if !names.iter().any(|(name, ..)| *name == block.name) {
                names.push((block.name.clone(), 0, false));
            }
        }
        for (name, port, tls) in names {
            let blocks: Vec<&Block> = inet_blocks(nodes, &service).filter(|block| block.name == name).collect();
            let ssl = get(&blocks, "ssl").map_or(tls, |(value, _)| matches!(value, "yes" | "y"));
            // Without TLS at all, Dovecot leaves the ports out that begin with it.
            if ssl && *settings.ssl == Ssl::No {
                continue;
            }
            let source = blocks.last().map_or_else(SourceLine::built_in, |block| block.source.clone());
            let addresses = addresses(&blocks, port, (&settings.listen, network), &source, reports);
            if !addresses.is_empty() {
                found.push(LoginListener { protocol, name, addresses, tls: ssl, source });
            }
        }
    }
    found
}

/// The sockets and ports of `service lmtp`.
pub(super) fn lmtp(
    nodes: &[Node],
    settings: &Settings,
    network: Network,
    reports: &mut Vec<Report>,
) -> Vec<LmtpSocket> {
    if !settings.protocols.iter().any(|name| name == "lmtp") {
        return Vec::new();
    }
    let services = || blocks(nodes, "service").filter(|block| block.name == "lmtp");
    let unix: Vec<&Block> = services().flat_map(|service| service.blocks("unix_listener")).collect();
    let mut found: Vec<LmtpSocket> = unix.iter().filter_map(|block| unix_socket(block, settings, reports)).collect();
    if !unix.iter().any(|block| block.name == "lmtp") {
        let path = Path::new(settings.base_dir.as_str()).join("lmtp");
        let (user, group, source) = (String::new(), String::new(), SourceLine::built_in());
        found.push(LmtpSocket::Unix { path, mode: 0o666, user, group, source });
    }
    for block in services().flat_map(|service| service.blocks("inet_listener")) {
        let addresses = addresses(&[block], 0, (&settings.listen, network), &block.source, reports);
        if !addresses.is_empty() {
            found.push(LmtpSocket::Inet { addresses, source: block.source.clone() });
        }
    }
    found
}

fn unix_socket(block: &Block, settings: &Settings, reports: &mut Vec<Report>) -> Option<LmtpSocket> {
    let text = |key| block.get(key).map_or(String::new(), |(value, _)| value.to_owned());
    let mode = match block.get("mode") {
        None => 0o666,
        Some((written, source)) => match u32::from_str_radix(written.trim_start_matches("0o"), 8) {
            Ok(mode) if mode <= 0o777 => mode,
            _ => {
                let message = format!("mode: `{written}' is no access mode");
                reports.push(Report::new(Level::Error, source.clone(), message, "write it in octal, such as `0600'"));
                0
            }
        },
    };
    let path = Path::new(settings.base_dir.as_str()).join(&block.name);
    let (user, group, source) = (text("user"), text("group"), block.source.clone());
    // Mode 0 is how Dovecot switches a listener off.
    (mode != 0).then_some(LmtpSocket::Unix { path, mode, user, group, source })
}

fn inet_blocks<'a>(nodes: &'a [Node], service: &'a str) -> impl Iterator<Item = &'a Block> {
    blocks(nodes, "service").filter(move |block| block.name == service).flat_map(|block| block.blocks("inet_listener"))
}

fn get<'a>(blocks: &[&'a Block], key: &str) -> Option<(&'a str, &'a SourceLine)> {
    blocks.iter().rev().find_map(|block| block.get(key))
}

/// The addresses of a listener: its own, else the global `listen`; port 0 switches it off.
fn addresses(
    blocks: &[&Block],
    default_port: u16,
    (listen, network): (&[String], Network),
    source: &SourceLine,
    reports: &mut Vec<Report>,
) -> Vec<SocketAddr> {
    let port = match get(blocks, "port").map(|(value, source)| (value.parse::<u16>(), value, source)) {
        None => default_port,
        Some((Ok(port), ..)) => port,
        Some((Err(_), written, source)) => {
            let message = format!("port: `{written}' is no port");
            reports.push(Report::new(Level::Error, source.clone(), message, "write a number up to 65535"));
            0
        }
    };
    if port == 0 {
        return Vec::new();
    }
    // 2.4 calls the setting of the block `listen` too.
    let own = get(blocks, "address").or_else(|| get(blocks, "listen"));
    let words: Vec<&str> = match own {
        Some((value, _)) => value.split([' ', ',']).filter(|word| !word.is_empty()).collect(),
        None => listen
            .iter()
            .map(String::as_str)
            .filter(|word| network.has_ipv6 || !matches!(*word, "::" | "[::]"))
            .collect(),
    };
    let mut found = Vec::new();
    for word in words {
        match hosts(word, network) {
            Ok(hosts) => found.extend(hosts.into_iter().map(|ip| SocketAddr::new(ip, port))),
            Err(error) => {
                let message = format!("`{word}' has no address: {error}");
                reports.push(Report::new(Level::Error, source.clone(), message, "write an address"));
            }
        }
    }
    found
}

fn hosts(word: &str, network: Network) -> io::Result<Vec<IpAddr>> {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    match bare {
        "*" => Ok(vec![Ipv4Addr::UNSPECIFIED.into()]),
        "::" => Ok(vec![Ipv6Addr::UNSPECIFIED.into()]),
        _ => match bare.parse() {
            Ok(ip) => Ok(vec![ip]),
            Err(_) => (network.look_up)(bare),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn blocks_give_addresses_and_ports() {
        let text = "protocols = imap pop3\nlisten = 127.0.0.1\nservice imap-login {\n inet_listener imap {\n  port = 1143\n }\n inet_listener imaps {\n  port = 1993\n  ssl = yes\n  address = 127.0.0.2, ::1\n }\n}\nservice pop3-login {\n inet_listener pop3 {\n  port = 0\n }\n}\n";
        let (dovecot, reports) = read(text);
        assert!(reports.is_empty(), "{reports:?}");
        let shown: Vec<_> = dovecot.logins.iter().map(|l| format!("{} {:?} {}", l.name, l.addresses, l.tls)).collect();
        let wanted =
            ["imap [127.0.0.1:1143] false", "imaps [127.0.0.2:1993, [::1]:1993] true", "pop3s [127.0.0.1:995] true"];
        assert_eq!(shown, wanted);
        assert!(dovecot.lmtp_sockets.is_empty());
    }

    #[test]
    fn without_tls_the_tls_ports_stay_closed() {
        let (dovecot, _) = read("protocols = imap\nssl = no\n");
        assert_eq!(dovecot.logins.len(), 1);
        assert_eq!(dovecot.logins[0].name, "imap");
    }

    #[test]
    fn lmtp_sockets_are_absolute() {
        let text = "protocols = lmtp\nservice lmtp {\n unix_listener /var/spool/postfix/private/dovecot-lmtp {\n  mode = 0600\n  user = postfix\n }\n inet_listener x {\n  address = 127.0.0.1\n  port = 2400\n }\n}\n";
        let (dovecot, _) = read(text);
        let LmtpSocket::Unix { path, mode, user, .. } = &dovecot.lmtp_sockets[0] else { panic!("a unix socket") };
        assert_eq!(
            (path.to_str(), *mode, user.as_str()),
            (Some("/var/spool/postfix/private/dovecot-lmtp"), 0o600, "postfix")
        );
        assert_eq!(dovecot.lmtp_sockets.len(), 3);
    }
}
