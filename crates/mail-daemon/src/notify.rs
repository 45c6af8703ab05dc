//! Saying `READY=1` to whoever supervises: sd_notify(3), to a path or to an abstract name (`postrider up` uses one, so that no directory is
//! too deep).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends the text to `NOTIFY_SOCKET`; nothing where nobody wants to know.
pub fn notify(text: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match address.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(address),
    };
    // A supervisor that does not listen any more has no use for the news.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
}
