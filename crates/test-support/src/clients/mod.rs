//! Small blocking clients: a line of text out, lines of text in, in clear or with TLS.

mod imap;
mod line;
mod pop3;
mod smtp;

pub use imap::Imap;
pub use line::{Lines, Security};
pub use pop3::Pop3;
pub use smtp::Smtp;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Whether somebody accepts connections on an address.
#[must_use]
pub fn greets(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(10)).is_ok()
}
