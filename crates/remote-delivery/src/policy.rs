//! What main.cf says about a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mail_config::{Config, Main};
use mail_ipc::delivery::TransportKind;
use mail_smtp::client::{Settings, Starttls, Timeouts};
use mail_smtp::server::Dialect;

/// Name servers that main.cf names.
///
/// # Errors
/// An entry is no address.
pub fn dns_servers(main: &Main) -> io::Result<Vec<SocketAddr>> {
    let wrong = |text: &str| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("postrider_dns_servers: `{text}' is no address"))
    };
    let read = |text: &str| {
        text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53))).map_err(|_| wrong(text))
    };
    main.postrider_dns_servers.iter().map(|text| read(text.as_ref())).collect()
}

/// The settings of the client machine.
#[must_use]
pub fn settings(main: &Main, kind: TransportKind, starttls: Starttls) -> Settings {
    let lmtp = kind == TransportKind::Lmtp;
    let pick = |smtp: &Duration, other: &Duration| if lmtp { *other } else { *smtp };
    Settings {
        dialect: if lmtp { Dialect::Lmtp } else { Dialect::Smtp },
        helo_name: if lmtp { main.lmtp_lhlo_name.to_string() } else { main.smtp_helo_name.to_string() },
        starttls,
        credentials: None,
        line_length_limit: usize::try_from(*main.smtp_line_length_limit).unwrap_or(usize::MAX),
        skip_5xx_greeting: *main.smtp_skip_5xx_greeting,
        own_name: None,
        skip_quit_response: *main.smtp_skip_quit_response,
        discard_ehlo_keywords: discarded(main, lmtp),
        timeouts: Timeouts {
            helo: pick(&main.smtp_helo_timeout, &main.lmtp_lhlo_timeout),
            starttls: pick(&main.smtp_starttls_timeout, &main.lmtp_starttls_timeout),
            mail: pick(&main.smtp_mail_timeout, &main.lmtp_mail_timeout),
            rcpt: pick(&main.smtp_rcpt_timeout, &main.lmtp_rcpt_timeout),
            data_init: pick(&main.smtp_data_init_timeout, &main.lmtp_data_init_timeout),
            data_xfer: pick(&main.smtp_data_xfer_timeout, &main.lmtp_data_xfer_timeout),
            data_done: pick(&main.smtp_data_done_timeout, &main.lmtp_data_done_timeout),
            rset: *main.smtp_rset_timeout,
            quit: *main.smtp_quit_timeout,
        },
    }
}

fn discarded(main: &Main, lmtp: bool) -> Vec<String> {
    let list = if lmtp { &main.lmtp_discard_lhlo_keywords } else { &main.smtp_discard_ehlo_keywords };
    list.iter().map(|word| AsRef::<str>::as_ref(word).to_uppercase()).collect()
}

/// Whether a connection to this address and port would lead back to a listener of our own smtpd.
#[must_use]
pub fn is_ours(config: &Config, address: IpAddr, port: u16) -> bool {
    let wildcard = |own: IpAddr| {
        own.is_unspecified()
            && (address.is_loopback() || config.main.raw().machine.interfaces.iter().any(|net| net.addr() == address))
    };
    let own = config.listeners().iter().flat_map(|listener| &listener.addresses).filter(|own| own.port() == port);
    own.into_iter().any(|own| own.ip() == address || wildcard(own.ip())) || is_proxied(&config.main, address)
}

fn is_proxied(main: &Main, address: IpAddr) -> bool {
    main.proxy_interfaces.iter().any(|text| AsRef::<str>::as_ref(text).parse() == Ok(address))
}

/// The port that a name or number means.
///
/// # Errors
/// There is no such service.
pub fn port(config: &Config, name: &str) -> Result<u16, String> {
    name.parse()
        .ok()
        .filter(|port| *port > 0)
        .or_else(|| config.port(name))
        .ok_or_else(|| format!("unknown service `{name}'"))
}
