//! Limits per client: how many connections it holds, how often it comes (what anvil(8) counts for Postfix).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mail_config::Main;
use mail_types::SourceLine;

/// What is counted per unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Connections.
    Connections,
    /// MAIL commands.
    Messages,
    /// RCPT commands.
    Recipients,
    /// AUTH commands.
    Logins,
    /// TLS handshakes that resume no session.
    TlsSessions,
}

impl Rate {
    /// The parameter that limits the rate, with the line that states it.
    #[must_use]
    pub fn rule(self, main: &Main) -> (&'static str, &SourceLine) {
        match self {
            Self::Connections => {
                ("smtpd_client_connection_rate_limit", &main.smtpd_client_connection_rate_limit.source)
            }
            Self::Messages => ("smtpd_client_message_rate_limit", &main.smtpd_client_message_rate_limit.source),
            Self::Recipients => ("smtpd_client_recipient_rate_limit", &main.smtpd_client_recipient_rate_limit.source),
            Self::Logins => ("smtpd_client_auth_rate_limit", &main.smtpd_client_auth_rate_limit.source),
            Self::TlsSessions => {
                ("smtpd_client_new_tls_session_rate_limit", &main.smtpd_client_new_tls_session_rate_limit.source)
            }
        }
    }

    /// What is counted, in Postfix's words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Connections => "Connection",
            Self::Messages => "Message delivery request",
            Self::Recipients => "Recipient address",
            Self::Logins => "AUTH command",
            Self::TlsSessions => "New TLS session",
        }
    }
}

/// The counts of one client.
struct Counts {
    open: u64,
    since: Instant,
    rates: [u64; 5],
}

/// The counts of all clients of a daemon; clients that hold nothing and were not seen for a unit of time are forgotten.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<IpAddr, Counts>>>);

/// A connection that is counted until it is dropped.
pub struct Held {
    clients: Clients,
    client: IpAddr,
    /// How many connections the client holds, this one included.
    pub open: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = all.get_mut(&self.client) {
            counts.open = counts.open.saturating_sub(1);
            if counts.open == 0 && counts.rates == [0; 5] {
                all.remove(&self.client);
            }
        }
    }
}

/// The network that one client is counted by: an address, for IPv6 its /64.
fn counted(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
        v4 => v4,
    }
}

impl Clients {
    /// Counts a connection.
    #[must_use]
    pub fn connect(&self, client: IpAddr) -> Held {
        let client = counted(client);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(client).or_insert(Counts { open: 0, since: Instant::now(), rates: [0; 5] });
        counts.open += 1;
        Held { clients: self.clone(), client, open: counts.open }
    }

    /// Counts an event and says how many came in the current unit of time. Called only where a limit is set.
    #[must_use]
    pub fn count(&self, client: IpAddr, rate: Rate, unit: Duration, now: Instant) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > 10_000 {
            all.retain(|_, counts| counts.open > 0 || now.duration_since(counts.since) < unit);
        }
        let counts = all.entry(counted(client)).or_insert(Counts { open: 0, since: now, rates: [0; 5] });
        if now.duration_since(counts.since) >= unit {
            counts.since = now;
            counts.rates = [0; 5];
        }
        counts.rates[rate as usize] += 1;
        counts.rates[rate as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_until_they_end() {
        let clients = Clients::default();
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        let first = clients.connect(address);
        let second = clients.connect("::ffff:192.0.2.1".parse().expect("an address"));
        assert_eq!((first.open, second.open), (1, 2));
        drop(first);
        assert_eq!(clients.connect(address).open, 2);
        drop(second);
        assert!(clients.0.lock().expect("sound").is_empty());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_client() {
        let clients = Clients::default();
        let _first = clients.connect("2001:db8::1".parse().expect("an address"));
        assert_eq!(clients.connect("2001:db8::2".parse().expect("an address")).open, 2);
        assert_eq!(clients.connect("2001:db8:0:1::2".parse().expect("an address")).open, 1);
    }

    #[test]
    fn rates_begin_again_with_each_unit_of_time() {
        let (clients, unit, now) = (Clients::default(), Duration::from_secs(60), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(clients.count(address, Rate::Messages, unit, now), 1);
        assert_eq!(clients.count(address, Rate::Messages, unit, now), 2);
        assert_eq!(clients.count(address, Rate::Recipients, unit, now), 1);
        assert_eq!(clients.count(address, Rate::Messages, unit, now + unit), 1);
    }
}
