//! One type for the streams that sessions run over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection to a peer: TCP or Unix, in clear or with TLS on either side.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear.
    Tcp(TcpStream),
    /// A Unix socket, or one half of a socket pair.
    Unix(UnixStream),
    /// TLS with us as the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<BoxedPlain>>),
    /// TLS with us as the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<BoxedPlain>>),
}

/// The stream below TLS.
#[derive(Debug)]
pub enum BoxedPlain {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// What was negotiated, as the Received header and the log name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The strength in bits.
    pub bits: u16,
}

impl Stream {
    /// What TLS negotiated; none in clear.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        let common: &rustls::CommonState = match self {
            Self::Tcp(_) | Self::Unix(_) => return None,
            Self::TlsServer(tls) => tls.get_ref().1,
            Self::TlsClient(tls) => tls.get_ref().1,
        };
        let version = match common.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = format!("{:?}", common.negotiated_cipher_suite()?.suite());
        let cipher = suite.replacen("TLS13_", "TLS_", 1);
        let bits = if cipher.contains("AES_128") { 128 } else { 256 };
        Some(TlsInfo { version, cipher, bits })
    }

    /// The name that the client asked for in the handshake (RFC 6066 section 3), where we are the server.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::TlsServer(tls) => tls.get_ref().1.server_name(),
            Self::Tcp(_) | Self::Unix(_) | Self::TlsClient(_) => None,
        }
    }

    /// The stream below TLS, or itself, for a new layer; none if TLS is already there.
    #[must_use]
    pub fn into_plain(self) -> Option<BoxedPlain> {
        match self {
            Self::Tcp(tcp) => Some(BoxedPlain::Tcp(tcp)),
            Self::Unix(unix) => Some(BoxedPlain::Unix(unix)),
            Self::TlsServer(_) | Self::TlsClient(_) => None,
        }
    }
}

impl From<BoxedPlain> for Stream {
    fn from(plain: BoxedPlain) -> Self {
        match plain {
            BoxedPlain::Tcp(tcp) => Self::Tcp(tcp),
            BoxedPlain::Unix(unix) => Self::Unix(unix),
        }
    }
}

macro_rules! each {
    ($self:ident, $inner:ident => $body:expr, $($variant:path),+) => {
        match $self.get_mut() { $($variant($inner) => $body),+ }
    };
}

macro_rules! forward {
    ($type:ty, $($variant:path),+) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                each!(self, inner => Pin::new(inner).poll_read(cx, buf), $($variant),+)
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                each!(self, inner => Pin::new(inner).poll_write(cx, buf), $($variant),+)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, inner => Pin::new(inner).poll_flush(cx), $($variant),+)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, inner => Pin::new(inner).poll_shutdown(cx), $($variant),+)
            }
        }
    };
}

forward!(Stream, Self::Tcp, Self::Unix, Self::TlsServer, Self::TlsClient);
forward!(BoxedPlain, Self::Tcp, Self::Unix);
