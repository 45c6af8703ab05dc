//! The ports that master.cf opens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::{Master, Service, ServiceType};
use crate::main_cf::kinds::{Interfaces, IpVersions};
use crate::main_cf::{Main, RawMain, Reader};
use crate::report::{Level, Report};

/// How a session on a port begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerMode {
    /// In clear, with STARTTLS where it is offered.
    Plain,
    /// With TLS from the first octet (`smtpd_tls_wrappermode = yes`).
    Tls,
}

/// A port on which smtpd listens, with main.cf as this service sees it.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The line of master.cf.
    pub service: Service,
    /// main.cf with the overrides of the line (of the `smtpd pass` service where postscreen stands in the line).
    pub main: Arc<Main>,
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// How sessions begin.
    pub mode: ListenerMode,
    /// How many sessions are served at once: a written maxproc, else `postrider_session_limit`.
    pub sessions: u64,
}

impl Listener {
    /// Whether only this machine can reach the port.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }
}

/// Every smtpd listener; mistakes in overrides and addresses are reported.
pub(crate) fn listeners(master: &Master, raw: &Arc<RawMain>, reports: &mut Vec<Report>) -> Vec<Listener> {
    let mut found = Vec::new();
    for service in master.services.iter().filter(|s| s.kind == ServiceType::Inet) {
        let behind = match service.command.as_str() {
            "smtpd" => service,
            "postscreen" => {
                let message = format!("`{}' runs postscreen, which is not built", service.name);
                let hint = "the port is served with the options of `smtpd pass'".to_owned();
                reports.push(Report::new(Level::Warning, service.source.clone(), message, hint));
                master.service("smtpd", ServiceType::Pass).unwrap_or(service)
            }
            _ => continue,
        };
        let main = Arc::new(service_main(raw, behind, reports));
        match addresses(&service.name, &main, raw) {
            Ok(addresses) => found.push(Listener {
                service: service.clone(),
                addresses,
                mode: if *main.smtpd_tls_wrappermode { ListenerMode::Tls } else { ListenerMode::Plain },
                sessions: sessions(service, &main),
                main,
            }),
            Err((message, hint)) => reports.push(Report::new(Level::Error, service.source.clone(), message, hint)),
        }
    }
    found
}

fn sessions(service: &Service, main: &Main) -> u64 {
    match service.maxproc {
        // Zero is Postfix's word for no limit; ours is the widest one.
        Some(0) | None => *main.postrider_session_limit,
        Some(written) if service.command == "smtpd" => u64::from(written),
        // postscreen is one process for all connections, so its limit says nothing about sessions.
        Some(_) => *main.postrider_session_limit,
    }
}

/// main.cf with the overrides of one service.
pub(crate) fn service_main(raw: &Arc<RawMain>, service: &Service, reports: &mut Vec<Report>) -> Main {
    let mut own = RawMain::clone(raw);
    for entry in &service.overrides {
        own.entries.insert(entry.name.clone(), entry.clone());
    }
    let own = Arc::new(own);
    let mut reader = Reader::new(&own);
    let main = Main::read(&mut reader);
    // What is wrong in main.cf itself is reported once, by whoever reads it without overrides.
    let from_here = |report: &Report| service.overrides.iter().any(|entry| entry.source == report.source);
    reports.extend(reader.into_reports().into_iter().filter(from_here));
    main
}

/// The socket addresses of `host:port` or `port`.
fn addresses(name: &str, main: &Main, raw: &RawMain) -> Result<Vec<SocketAddr>, (String, String)> {
    let name = raw.expand(name).map_err(|error| (error.0, String::new()))?;
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) => (host.trim_start_matches('[').trim_end_matches(']'), port),
        None => ("", name.as_str()),
    };
    let number = port_number(port, main)
        .ok_or_else(|| (format!("`{port}' is no port"), "write a number or a name of /etc/services".to_owned()))?;
    let versions = main.inet_protocols.value;
    let ips = match (host, &main.inet_interfaces.value) {
        ("", Interfaces::All) => wildcard(versions, raw.machine.has_ipv6()),
        ("", Interfaces::LoopbackOnly) => resolve("localhost")?,
        ("", Interfaces::Named(names)) => {
            names.iter().map(|name| resolve(name)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
        }
        (host, _) => resolve(host)?,
    };
    let wanted = |ip: &IpAddr| if ip.is_ipv4() { versions.v4 } else { versions.v6 };
    let mut found: Vec<SocketAddr> = Vec::new();
    for ip in ips.into_iter().filter(wanted) {
        let address = SocketAddr::new(ip, number);
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err((format!("`{name}' has no address that inet_protocols allows"), String::new()));
    }
    Ok(found)
}

fn wildcard(versions: IpVersions, has_ipv6: bool) -> Vec<IpAddr> {
    let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if versions.v6 && (has_ipv6 || !versions.v4) { vec![v4, v6] } else { vec![v4] }
}

/// The addresses of a host that a configuration names for listening.
fn resolve(host: &str) -> Result<Vec<IpAddr>, (String, String)> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let found = (host, 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect::<Vec<_>>());
    found.map_err(|error| (format!("`{host}' has no address: {error}"), "write an address".to_owned()))
}

/// A port by number, by `known_tcp_ports`, or by /etc/services.
pub(crate) fn port_number(port: &str, main: &Main) -> Option<u16> {
    if let Ok(number) = port.parse() {
        return Some(number);
    }
    known_ports(&main.known_tcp_ports).get(port).copied().or_else(|| system_port(port))
}

/// `lmtp=24, smtps=submissions=465`: several names may stand before one number.
fn known_ports(words: &[String]) -> BTreeMap<String, u16> {
    let mut ports = BTreeMap::new();
    for word in words {
        let Some((names, number)) = word.rsplit_once('=') else { continue };
        if let Ok(number) = number.trim().parse() {
            ports.extend(names.split('=').map(|name| (name.trim().to_owned(), number)));
        }
    }
    ports
}

/// The number of a TCP port that the machine's /etc/services names.
#[must_use]
pub fn system_port(name: &str) -> Option<u16> {
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut fields = line.split_ascii_whitespace();
        let (first, port) = (fields.next()?, fields.next()?.strip_suffix("/tcp")?);
        (first == name || fields.any(|alias| alias == name)).then(|| port.parse().ok()).flatten()
    })
}
