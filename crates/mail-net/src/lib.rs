//! tokio and rustls: everything that moves bytes.
//!
//! - [`drive`] runs a [`session::Machine`] over a [`Stream`]: the only loop between a protocol and a socket.
//! - [`tls`] holds the server's certificate (which reloads) and the client's levels of trust.
//! - [`listen`] opens TCP listeners.
//! - [`ipc`] carries the conversations of `mail-ipc`: frames, contents and descriptors over Unix sockets.
//!
//! No protocol, no policy, no configuration file is known here.

mod drive;
pub mod ipc;
pub mod listen;
mod stream;
pub mod tls;

pub use drive::{Answers, Driver, Ended, Handler, Unheard};
pub use stream::{Stream, TlsInfo};
