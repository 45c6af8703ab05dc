//! TLS: the server's certificate, which reloads, and the client's levels of trust.
//!
//! TLS 1.2 and 1.3 with ring, safe defaults of rustls; no renegotiation, no compression, no NULL or anonymous suites (T02, T03).

use std::fmt;
use std::io;
use std::sync::{Arc, RwLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, TlsConnector};

use crate::stream::{BoxedPlain, Stream};
pub use trust::{Check, Digest, NamePattern, Roots};
use trust::{Checked, Refusal};

mod trust;

/// What our servers speak, in the words of ALPN (RFC 7301) that mail programs use.
const PROTOCOLS: [&str; 6] = ["smtp", "esmtp", "submission", "imap", "pop3", "managesieve"];

/// Why a certificate and key cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// There is no certificate, or it is damaged.
    Certificate(String),
    /// There is no private key, or it is damaged.
    Key(String),
    /// Certificate and key do not belong together, or are of an unknown kind.
    Pair(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(text) => write!(f, "no usable certificate: {text}"),
            Self::Key(text) => write!(f, "no usable private key: {text}"),
            Self::Pair(error) => write!(f, "certificate and key cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// A certificate chain and its key, ready to be shown.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Takes a chain and a key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] says which of the two is wrong.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        server_config(chain, key).map(Self)
    }
}

/// Says which certificate a client is shown, by the name that it asks for; none refuses the handshake.
type Choice = Arc<dyn Fn(Option<&str>) -> Option<Identity> + Send + Sync>;

/// A server's certificate chain and key. Clones share it; [`ServerTls::replace`] changes it for all new connections.
#[derive(Clone)]
pub struct ServerTls(Shown);

#[derive(Clone)]
enum Shown {
    One(Arc<RwLock<Arc<ServerConfig>>>),
    Chosen(Choice),
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Takes a chain and a key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] says which of the two is wrong.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(Shown::One(Arc::new(RwLock::new(server_config(chain, key)?)))))
    }

    /// Shows each client the certificate that `choose` gives for the name it asks for (RFC 6066 section 3), none if it asks for none.
    pub fn chosen(choose: impl Fn(Option<&str>) -> Option<Identity> + Send + Sync + 'static) -> Self {
        Self(Shown::Chosen(Arc::new(choose)))
    }

    /// Changes chain and key, as after a renewal. After an error the old ones stay. Where they are chosen, whoever chooses changes them.
    ///
    /// # Errors
    /// As [`ServerTls::from_pem`].
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let config = server_config(chain, key)?;
        if let Shown::One(shared) = &self.0 {
            *shared.write().unwrap_or_else(std::sync::PoisonError::into_inner) = config;
        }
        Ok(())
    }

    /// Does the handshake as the server.
    ///
    /// # Errors
    /// A failed handshake, or a stream that already has TLS.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let plain = stream.into_plain().ok_or_else(twice)?;
        let tls = match &self.0 {
            Shown::One(shared) => {
                let config = Arc::clone(&shared.read().unwrap_or_else(std::sync::PoisonError::into_inner));
                TlsAcceptor::from(config).accept(plain).await?
            }
            Shown::Chosen(choose) => {
                let hello = LazyConfigAcceptor::new(Acceptor::default(), plain).await?;
                let identity = choose(hello.client_hello().server_name());
                let Identity(config) = identity.ok_or_else(|| io::Error::other("no certificate for this name"))?;
                hello.into_stream(config).await?
            }
        };
        Ok(Stream::TlsServer(Box::new(tls)))
    }

    /// The server's side on a blocking stream, for programs without an event loop. The handshake comes with the first use.
    ///
    /// # Errors
    /// The cryptographic library has no memory or randomness, or there is no certificate for a client that asks for no name.
    pub fn blocking<S>(&self, stream: S) -> io::Result<impl io::Read + io::Write + Send + use<S>>
    where
        S: io::Read + io::Write + Send,
    {
        let config = match &self.0 {
            Shown::One(shared) => Arc::clone(&shared.read().unwrap_or_else(std::sync::PoisonError::into_inner)),
            Shown::Chosen(choose) => choose(None).ok_or_else(|| io::Error::other("no certificate"))?.0,
        };
        Ok(StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, stream))
    }
}

fn twice() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "TLS is already active")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("the file holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    // Who asks for no protocol gets none; who asks for others than ours, as a browser that was led here does, is refused (ALPACA).
    config.alpn_protocols = PROTOCOLS.map(|name| name.as_bytes().to_vec()).to_vec();
    Ok(Arc::new(config))
}

/// How a client trusts a server.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    refusal: Refusal,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Encryption without a check of who is there: the levels `may` and `encrypt` of `smtp_tls_security_level`. The handshake's signature is
    /// still checked, so that the peer at least holds the key of the certificate it shows.
    ///
    /// # Errors
    /// Only if the cryptographic library cannot offer TLS 1.2 and 1.3.
    pub fn unauthenticated() -> Result<Self, TlsError> {
        Self::with(Arc::new(Checked { provider: provider(), check: Check::Any, refusal: Arc::default() }))
    }

    /// Encryption with a check of the peer's certificate; the levels `fingerprint`, `verify` and `secure`.
    ///
    /// # Errors
    /// Only if the cryptographic library cannot offer TLS 1.2 and 1.3.
    pub fn checked(check: Check) -> Result<Self, TlsError> {
        let refusal = Arc::default();
        let verifier = Checked { provider: provider(), check, refusal: Arc::clone(&refusal) };
        Ok(Self { refusal, ..Self::with(Arc::new(verifier))? })
    }

    fn with(verifier: Arc<dyn ServerCertVerifier>) -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), refusal: Arc::default() })
    }

    /// Why the last certificate was refused; none if none was.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Does the handshake as the client; `name` is sent as SNI and, where certificates are checked, compared.
    ///
    /// # Errors
    /// A failed handshake, a name that is none, or a stream that already has TLS.
    pub async fn connect(&self, stream: Stream, name: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let plain: BoxedPlain = stream.into_plain().ok_or_else(twice)?;
        let tls = TlsConnector::from(Arc::clone(&self.config)).connect(name, plain).await?;
        Ok(Stream::TlsClient(Box::new(tls)))
    }
}

impl ClientTls {
    /// The same on a blocking stream, for programs without an event loop. The handshake comes with the first use.
    ///
    /// # Errors
    /// A name that is none.
    pub fn blocking<S>(&self, stream: S, name: &str) -> io::Result<impl io::Read + io::Write + Send + use<S>>
    where
        S: io::Read + io::Write + Send,
    {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(client, stream))
    }
}

/// The octets of the first certificate of a text in PEM, as fingerprints are made of them.
///
/// # Errors
/// There is none.
pub fn der(pem: &str) -> io::Result<Vec<u8>> {
    let found = CertificateDer::from_pem_slice(pem.as_bytes());
    found
        .map(|certificate| certificate.to_vec())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// A certificate that its holder signed, with its key, both in PEM.
pub struct SelfSigned {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Makes a self-signed certificate for a host name, as a fresh installation needs one.
///
/// # Errors
/// A name that no certificate can hold, or a failing source of randomness.
pub fn self_signed(host: &str) -> io::Result<SelfSigned> {
    let made =
        rcgen::generate_simple_self_signed(vec![host.to_owned(), "localhost".to_owned()]).map_err(io::Error::other)?;
    Ok(SelfSigned { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn both_sides_agree_and_a_renewed_certificate_is_used() {
        let first = self_signed("mail.example.org").expect("made");
        let server = ServerTls::from_pem(first.certificate.as_bytes(), first.key.as_bytes()).expect("a pair");
        let roots = Roots::from_pem(first.certificate.as_bytes());
        let name = NamePattern::Host("mail.example.org".to_owned());
        let client = ClientTls::checked(Check::Names { roots, names: vec![name] }).expect("made");
        let talk = async |client: &ClientTls| {
            let (near, far) = UnixStream::pair().expect("a pair");
            let (near, far) =
                tokio::join!(client.connect(Stream::Unix(near), "mail.example.org"), server.accept(Stream::Unix(far)));
            let (mut near, mut far) = (near?, far?);
            near.write_all(b"hello").await?;
            near.flush().await?;
            let mut heard = [0; 5];
            far.read_exact(&mut heard).await?;
            assert_eq!(&heard, b"hello");
            assert_eq!(far.tls().expect("TLS").version, "TLSv1.3");
            io::Result::Ok(())
        };
        talk(&client).await.expect("trusted");
        let second = self_signed("mail.example.org").expect("made");
        server.replace(second.certificate.as_bytes(), second.key.as_bytes()).expect("a pair");
        talk(&client).await.expect_err("the old root does not know the new certificate");
        talk(&ClientTls::unauthenticated().expect("made")).await.expect("not checked");
    }

    #[tokio::test]
    async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
        let names = ["one.example", "two.example"];
        let pairs = names.map(|name| self_signed(name).expect("made"));
        let identities = pairs
            .each_ref()
            .map(|pair| Identity::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("a pair"));
        let server = ServerTls::chosen(move |name| {
            names.iter().position(|known| Some(*known) == name).map(|place| identities[place].clone())
        });
        for (pair, name) in pairs.iter().zip(names) {
            let pattern = NamePattern::Host(name.to_owned());
            let roots = Roots::from_pem(pair.certificate.as_bytes());
            let client = ClientTls::checked(Check::Names { roots, names: vec![pattern] }).expect("made");
            for (asked, welcome) in [(name, true), ("three.example", false)] {
                let (near, far) = UnixStream::pair().expect("a pair");
                let (near, far) =
                    tokio::join!(client.connect(Stream::Unix(near), asked), server.accept(Stream::Unix(far)));
                assert_eq!((near.is_ok(), far.is_ok()), (welcome, welcome), "{asked}");
                assert_eq!(far.ok().as_ref().and_then(Stream::server_name), welcome.then_some(name));
            }
        }
    }

    #[tokio::test]
    async fn a_client_of_another_protocol_is_refused() {
        let pair = self_signed("mail.example.org").expect("made");
        let server = ServerTls::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("a pair");
        for (asked, welcome) in
            [(vec![], true), (vec!["imap"], true), (vec!["http/1.1", "smtp"], true), (vec!["h2", "http/1.1"], false)]
        {
            let mut client = ClientTls::unauthenticated().expect("made");
            Arc::make_mut(&mut client.config).alpn_protocols =
                asked.iter().map(|name| name.as_bytes().to_vec()).collect();
            let (near, far) = UnixStream::pair().expect("a pair");
            let (_, accepted) =
                tokio::join!(client.connect(Stream::Unix(near), "mail.example.org"), server.accept(Stream::Unix(far)));
            assert_eq!(accepted.is_ok(), welcome, "{asked:?}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, two) = (self_signed("a.example").expect("made"), self_signed("b.example").expect("made"));
        assert!(matches!(ServerTls::from_pem(one.certificate.as_bytes(), two.key.as_bytes()), Err(TlsError::Pair(_))));
        assert!(matches!(ServerTls::from_pem(b"", one.key.as_bytes()), Err(TlsError::Certificate(_))));
        assert!(matches!(ServerTls::from_pem(one.certificate.as_bytes(), b"x"), Err(TlsError::Key(_))));
    }
}
