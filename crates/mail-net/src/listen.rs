//! TCP listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections the kernel queues before we accept them.
const BACKLOG: i32 = 1024;

/// The pause after a connection that could not be taken: no descriptor is left, or the client is gone.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listener, non-blocking, with SO_REUSEADDR; an IPv6 listener takes IPv6 only, so that `0.0.0.0` and `::` can stand side by side.
///
/// # Errors
/// The system's error with the address in its text: a taken port, a missing right, an address that this machine does not have.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    open(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let first = tcp("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = tcp(address).expect_err("taken");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
