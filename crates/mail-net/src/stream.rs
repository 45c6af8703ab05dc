//! One type for the streams that sessions run over.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::{Peer, Trust};

/// A connection to a peer: TCP or Unix, in clear or with TLS on either side.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear.
    Tcp(TcpStream),
    /// A Unix socket, or one half of a socket pair.
    Unix(UnixStream),
    /// TLS with us as the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<BoxedPlain>>, Box<Seen>),
    /// TLS with us as the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<BoxedPlain>>, Box<Seen>),
}

/// What only the handshake showed.
#[derive(Debug)]
pub struct Seen {
    pub(crate) server_signature: Option<String>,
    pub(crate) client_signature: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) asked: bool,
    pub(crate) peer: Option<Peer>,
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
    /// The cipher suite by OpenSSL's name, such as `TLS_AES_256_GCM_SHA384` or `ECDHE-RSA-AES256-GCM-SHA384`.
    pub cipher: String,
    /// The strength in bits.
    pub bits: u16,
    /// `key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256`; empty before TLS 1.3, where the cipher says it.
    pub exchange: String,
    /// `client-signature RSA-PSS (2048 bits) client-digest SHA256`; empty where the client did not sign.
    pub client_signature: String,
    /// How far the other side is known.
    pub trust: Trust,
    /// Whether we asked the client for a certificate.
    pub asked: bool,
    /// The client's certificate.
    pub peer: Option<Peer>,
    /// Whether an earlier session goes on.
    pub resumed: bool,
}

impl fmt::Display for TlsInfo {
    /// `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 ...`, as log lines have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher, bits, exchange, client_signature, .. } = self;
        write!(f, "{version} with cipher {cipher} ({bits}/{bits} bits)")?;
        let details = [exchange, client_signature].into_iter().filter(|text| !text.is_empty());
        details.into_iter().try_for_each(|text| write!(f, " {text}"))
    }
}

impl Stream {
    /// What TLS negotiated; none in clear.
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo> {
        let (common, seen): (&rustls::CommonState, &Seen) = match self {
            Self::Tcp(_) | Self::Unix(_) => return None,
            Self::TlsServer(tls, seen) => (tls.get_ref().1, seen),
            Self::TlsClient(tls, seen) => (tls.get_ref().1, seen),
        };
        let suite = format!("{:?}", common.negotiated_cipher_suite()?.suite());
        let bits = if suite.contains("AES_128") { 128 } else { 256 };
        let (version, cipher, exchange, client_signature) = match common.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => {
                let group = common.negotiated_key_exchange_group().map(|group| key_exchange(group.name()));
                let parts: Vec<&str> = group.as_deref().into_iter().chain(seen.server_signature.as_deref()).collect();
                let client = seen.client_signature.clone().unwrap_or_default();
                ("TLSv1.3", suite.replacen("TLS13_", "TLS_", 1), parts.join(" "), client)
            }
            _ => ("TLSv1.2", openssl_name(&suite), String::new(), String::new()),
        };
        let (trust, asked, peer) = (seen.trust, seen.asked, seen.peer.clone());
        let resumed = common.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Some(TlsInfo { version, cipher, bits, exchange, client_signature, trust, asked, peer, resumed })
    }

    /// The name that the client asked for in the handshake (RFC 6066 section 3), where we are the server.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::TlsServer(tls, _) => tls.get_ref().1.server_name(),
            Self::Tcp(_) | Self::Unix(_) | Self::TlsClient(..) => None,
        }
    }

    /// The stream below TLS, or itself, for a new layer; none if TLS is already there.
    #[must_use]
    pub fn into_plain(self) -> Option<BoxedPlain> {
        match self {
            Self::Tcp(tcp) => Some(BoxedPlain::Tcp(tcp)),
            Self::Unix(unix) => Some(BoxedPlain::Unix(unix)),
            Self::TlsServer(..) | Self::TlsClient(..) => None,
        }
    }
}

/// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384` in OpenSSL's words.
fn openssl_name(suite: &str) -> String {
    let name = suite.trim_start_matches("TLS_").replace("_WITH_", "-").replace("AES_", "AES").replace('_', "-");
    match name.strip_suffix("-SHA256") {
        Some(short) if short.ends_with("POLY1305") => short.to_owned(),
        _ => name,
    }
}

/// A group as Postfix's lines name it.
fn key_exchange(group: rustls::NamedGroup) -> String {
    match group {
        rustls::NamedGroup::secp256r1 => "key-exchange ECDHE (prime256v1)".to_owned(),
        rustls::NamedGroup::secp384r1 => "key-exchange ECDHE (secp384r1)".to_owned(),
        rustls::NamedGroup::secp521r1 => "key-exchange ECDHE (secp521r1)".to_owned(),
        other => format!("key-exchange {other:?}"),
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
        match $self.get_mut() { $($variant($inner, ..) => $body),+ }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers_and_groups_have_the_names_that_logs_know() {
        for (suite, name) in [
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
        ] {
            assert_eq!(openssl_name(suite), name);
        }
        assert_eq!(key_exchange(rustls::NamedGroup::X25519), "key-exchange X25519");
        assert_eq!(key_exchange(rustls::NamedGroup::secp256r1), "key-exchange ECDHE (prime256v1)");
    }
}
