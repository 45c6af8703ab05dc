//! The system that most stories share: two accounts, and a next hop of the tests' own that keeps every octet it is sent.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use test_support::clients::{Security, Smtp};
use test_support::{Builder, System};

use crate::smtp::next_hop::NextHop;

/// The domain of the shared system.
pub const DOMAIN: &str = "hostile.example";
/// A client that is not in `mynetworks` of the shared system.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// A client that is.
pub const FRIEND: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The running system and the next hop behind it.
pub struct Door {
    /// The system. Only [`FRIEND`] is in its `mynetworks`; mail for outside goes to the next hop.
    pub system: System,
    /// Where its mail for outside arrives.
    pub next_hop: NextHop,
}

static DOOR: Mutex<Option<Arc<Door>>> = Mutex::new(None);

/// The shared system; the first who asks starts it.
///
/// # Errors
/// It does not start.
pub fn open() -> Result<Arc<Door>, String> {
    let mut door = DOOR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(door) = &*door {
        return Ok(Arc::clone(door));
    }
    let next_hop = NextHop::start().map_err(|error| error.to_string())?;
    let relay = next_hop.address();
    let lines = format!(
        "mynetworks = {FRIEND}/32\nrelayhost = [{}]:{}\nsmtpd_error_sleep_time = 0\nsmtpd_client_connection_count_limit = 0",
        relay.ip(),
        relay.port()
    );
    // Failed logins wait for nothing here: the brake has its own tests.
    let logins = "auth_mechanisms = plain login\nauth_failure_delay = 0\nlogin_trusted_networks = 127.0.0.0/8";
    let system = Builder::new(DOMAIN).main_cf(&lines).dovecot(logins).start()?;
    let opened = Arc::new(Door { system, next_hop });
    *door = Some(Arc::clone(&opened));
    Ok(opened)
}

/// Stops the shared system.
pub fn close() {
    drop(DOOR.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Door {
    /// A session on port 25 as a client of this address, after EHLO.
    ///
    /// # Errors
    /// The server refused.
    pub fn smtp(&self, client: Ipv4Addr) -> Result<Smtp, String> {
        let address = self.system.ports.at(self.system.ports.smtp);
        Smtp::connect_from(client, address, Security::Clear).map_err(|error| error.to_string())
    }

    /// A session on the submission port with TLS, logged in as `mary`.
    ///
    /// # Errors
    /// The server refused.
    pub fn submission(&self) -> Result<Smtp, String> {
        let address = self.system.ports.at(self.system.ports.submission);
        let logged_in = Smtp::connect_from(STRANGER, address, Security::Clear).and_then(|mut smtp| {
            smtp.start_tls()?;
            smtp.login("mary", "secret")?;
            Ok(smtp)
        });
        logged_in.map_err(|error| error.to_string())
    }
}
