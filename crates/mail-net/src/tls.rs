//! TLS: the server's certificate, which reloads, and the client's levels of trust.
//!
//! TLS 1.2 and 1.3 with ring, safe defaults of rustls; no renegotiation, no compression, no NULL or anonymous suites (T02, T03).

use std::fmt;
use std::io;
use std::sync::{Arc, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DistinguishedName, HandshakeKind, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};
use webpki::{EndEntityCert, KeyUsage};

use crate::stream::{BoxedPlain, Seen, Stream};
pub use certificate::Peer;
pub use trust::{Check, Digest, NamePattern, Roots, Trust};
use trust::{Checked, Ears, Heard, Welcome};

mod certificate;
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
pub struct Identity(Arc<Serving>);

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
        Ok(Self(Arc::new(Serving::new(chain, key, None)?)))
    }
}

/// Says which certificate a client is shown, by the name that it asks for; none refuses the handshake.
type Choice = Arc<dyn Fn(Option<&str>) -> Option<Identity> + Send + Sync>;

/// How a server asks its clients for certificates, and whom it trusts (`smtpd_tls_ask_ccert` and its sisters). A client may show none.
#[derive(Debug, Clone)]
pub struct AskClients {
    /// The authorities.
    pub roots: Roots,
    /// Those among them that clients are told of, so that they can choose.
    pub hints: Roots,
    /// The most certificates between a client's and its authority.
    pub depth: usize,
    /// How fingerprints are made.
    pub digest: Digest,
}

/// A server's certificate chain and key. Clones share it; [`ServerTls::replace`] changes it for all new connections.
#[derive(Clone)]
pub struct ServerTls(Shown);

#[derive(Clone)]
enum Shown {
    One(Arc<RwLock<Arc<Serving>>>),
    Chosen(Choice),
}

/// What new connections are served with.
struct Serving {
    config: Arc<ServerConfig>,
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    clients: Option<(AskClients, Arc<[DistinguishedName]>)>,
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
        Self::asking(chain, key, None)
    }

    /// The same for a server that asks its clients for certificates.
    ///
    /// # Errors
    /// As [`ServerTls::from_pem`].
    pub fn asking(chain: &[u8], key: &[u8], clients: Option<AskClients>) -> Result<Self, TlsError> {
        Ok(Self(Shown::One(Arc::new(RwLock::new(Arc::new(Serving::new(chain, key, clients)?))))))
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
        if let Shown::One(shared) = &self.0 {
            let mut shown = shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let clients = shown.clients.as_ref().map(|(clients, _)| clients.clone());
            *shown = Arc::new(Serving::new(chain, key, clients)?);
        }
        Ok(())
    }

    /// Does the handshake as the server.
    ///
    /// # Errors
    /// A failed handshake, or a stream that already has TLS.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let plain = stream.into_plain().ok_or_else(twice)?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), plain).await?;
        let serving = self.serving(start.client_hello().server_name())?;
        let signer = serving.key.key.choose_scheme(start.client_hello().signature_schemes());
        let scheme = signer.map(|signer| signer.scheme());
        let ears = Ears::default();
        let config = serving.for_connection(&ears).map_err(io::Error::other)?;
        let tls = start.into_stream(config).await?;
        let heard = std::mem::take(&mut *ears.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let seen = serving.seen(tls.get_ref().1, scheme, &heard);
        Ok(Stream::TlsServer(Box::new(tls), Box::new(seen)))
    }

    /// What a client is served with that asks for this name.
    fn serving(&self, name: Option<&str>) -> io::Result<Arc<Serving>> {
        match &self.0 {
            Shown::One(shared) => Ok(Arc::clone(&shared.read().unwrap_or_else(std::sync::PoisonError::into_inner))),
            Shown::Chosen(choose) => {
                let Identity(serving) = choose(name).ok_or_else(|| io::Error::other("no certificate for this name"))?;
                Ok(serving)
            }
        }
    }

    /// The server's side on a blocking stream, for programs without an event loop; it asks for no certificate. The handshake comes with the
    /// first use.
    ///
    /// # Errors
    /// The cryptographic library has no memory or randomness, or there is no certificate for a client that asks for no name.
    pub fn blocking<S>(&self, stream: S) -> io::Result<impl io::Read + io::Write + Send + use<S>>
    where
        S: io::Read + io::Write + Send,
    {
        let config = Arc::clone(&self.serving(None)?.config);
        Ok(StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, stream))
    }
}

fn twice() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "TLS is already active")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Serving {
    fn new(chain: &[u8], key: &[u8], clients: Option<AskClients>) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(TlsError::Certificate("the file holds none".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
        let provider = provider();
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Pair)?);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key))));
        // Who asks for no protocol gets none; who asks for others than ours, as a browser that was led here does, is refused (ALPACA).
        config.alpn_protocols = PROTOCOLS.map(|name| name.as_bytes().to_vec()).to_vec();
        let clients = clients.map(|clients| {
            let hints = clients.hints.subjects().into();
            (clients, hints)
        });
        Ok(Self { config: Arc::new(config), key, provider, clients })
    }

    /// The configuration of one connection. Where clients are asked, each has ears of its own: how a client signed is told to its verifier only.
    fn for_connection(&self, ears: &Ears) -> Result<Arc<ServerConfig>, rustls::Error> {
        let Some((_, hints)) = &self.clients else { return Ok(Arc::clone(&self.config)) };
        let welcome =
            Welcome { provider: Arc::clone(&self.provider), hints: Arc::clone(hints), ears: Arc::clone(ears) };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(welcome))
            .with_cert_resolver(Arc::clone(&self.config.cert_resolver));
        config.alpn_protocols.clone_from(&self.config.alpn_protocols);
        config.session_storage = Arc::clone(&self.config.session_storage);
        config.ticketer = Arc::clone(&self.config.ticketer);
        Ok(Arc::new(config))
    }

    /// What a handshake showed.
    fn seen(&self, connection: &ServerConnection, scheme: Option<SignatureScheme>, heard: &Heard) -> Seen {
        let peer = self.clients.as_ref().and_then(|(clients, _)| self.peer(connection, clients));
        let trust = match &peer {
            None => Trust::Anonymous,
            Some(Peer { trust: Ok(()), .. }) => Trust::Trusted,
            Some(Peer { trust: Err(_), .. }) => Trust::Untrusted,
        };
        let signed = connection.handshake_kind() != Some(HandshakeKind::Resumed);
        let signature = |whose, scheme: Option<SignatureScheme>, leaf: Option<&CertificateDer<'_>>| {
            let (scheme, leaf) = (scheme.filter(|_| signed)?, leaf?);
            Some(certificate::signature(whose, scheme, leaf))
        };
        let client = connection.peer_certificates().and_then(|chain| chain.first());
        Seen {
            server_signature: signature("server", scheme, self.key.cert.first()),
            client_signature: signature("client", heard.scheme, client),
            trust,
            asked: self.clients.is_some(),
            peer,
        }
    }

    /// The client by its certificate. A resumed session shows the one that it began with, which is judged again.
    fn peer(&self, connection: &ServerConnection, clients: &AskClients) -> Option<Peer> {
        let (leaf, others) = connection.peer_certificates()?.split_first()?;
        let parsed = EndEntityCert::try_from(leaf).ok()?;
        let vouched = clients.roots.vouch(
            &self.provider,
            &parsed,
            others,
            KeyUsage::client_auth(),
            clients.depth,
            UnixTime::now(),
        );
        Peer::of(leaf, clients.digest, vouched.map_err(|error| certificate::refusal(&parsed, &error)))
    }
}

/// How a client trusts a server; for one connection after the other.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    ears: Ears,
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
        Self::checked(Check::Any(Roots::default()))
    }

    /// Encryption with a check of the peer's certificate; the levels `fingerprint`, `verify` and `secure`.
    ///
    /// # Errors
    /// Only if the cryptographic library cannot offer TLS 1.2 and 1.3.
    pub fn checked(check: Check) -> Result<Self, TlsError> {
        let ears = Ears::default();
        let verifier = Checked { provider: provider(), check, ears: Arc::clone(&ears) };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), ears })
    }

    fn heard(&self) -> Heard {
        self.ears.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Why the last certificate was refused; none if none was.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.heard().refusal
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
        let heard = self.heard();
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let signature = heard.scheme.zip(leaf).map(|(scheme, leaf)| certificate::signature("server", scheme, leaf));
        let trust = heard.trust.unwrap_or(Trust::Untrusted);
        let seen = Seen { server_signature: signature, client_signature: None, trust, asked: false, peer: None };
        Ok(Stream::TlsClient(Box::new(tls), Box::new(seen)))
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

    /// A client that shows a certificate.
    fn showing(pair: &SelfSigned) -> ClientTls {
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
        let ears = Ears::default();
        let verifier = Checked { provider: provider(), check: Check::Any(Roots::default()), ears: Arc::clone(&ears) };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)
            .expect("a pair");
        ClientTls { config: Arc::new(config), ears }
    }

    #[tokio::test]
    async fn clients_are_asked_for_certificates_and_judged_by_them() {
        let pair = self_signed("mail.example.org").expect("made");
        let (known, stranger) = (self_signed("a.example").expect("made"), self_signed("b.example").expect("made"));
        let roots = Roots::from_pem(known.certificate.as_bytes());
        let ask = AskClients { roots: roots.clone(), hints: roots, depth: 9, digest: Digest::Sha256 };
        let asking = ServerTls::asking(pair.certificate.as_bytes(), pair.key.as_bytes(), Some(ask)).expect("a pair");
        let silent = ServerTls::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("a pair");
        let none = ClientTls::unauthenticated().expect("made");
        let seen = async |server: &ServerTls, client: &ClientTls| {
            let (near, far) = UnixStream::pair().expect("a pair");
            let (_, far) =
                tokio::join!(client.connect(Stream::Unix(near), "mail.example.org"), server.accept(Stream::Unix(far)));
            far.expect("a handshake").tls().expect("TLS")
        };
        let tls = seen(&asking, &showing(&known)).await;
        assert_eq!((tls.trust, tls.asked), (Trust::Trusted, true));
        let peer = tls.peer.expect("a certificate");
        let print = Digest::Sha256.of(&der(&known.certificate).expect("PEM"));
        assert_eq!(
            peer.fingerprint.replace(':', "").to_lowercase(),
            print.iter().map(|octet| format!("{octet:02x}")).collect::<String>()
        );
        assert_ne!(peer.fingerprint, peer.key_fingerprint);
        assert_eq!(tls.client_signature, "client-signature ECDSA (prime256v1) client-digest SHA256");
        assert_eq!(tls.exchange, "key-exchange X25519 server-signature ECDSA (prime256v1) server-digest SHA256");
        let tls = seen(&asking, &showing(&stranger)).await;
        assert_eq!(tls.peer.expect("a certificate").trust, Err("self-signed certificate".to_owned()));
        assert_eq!(tls.trust, Trust::Untrusted);
        for (server, client, asked) in [(&asking, &none, true), (&silent, &showing(&known), false)] {
            let tls = seen(server, client).await;
            assert_eq!((tls.trust, tls.asked, tls.peer), (Trust::Anonymous, asked, None));
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
