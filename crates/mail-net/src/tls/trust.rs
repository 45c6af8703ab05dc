//! Who is trusted: what a client wants of a server's certificate (TLS levels `fingerprint`, `verify`, `secure`; RFC 7817, 8314 section 4.1), and what
//! a server makes of a client's.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use sha2::Digest as _;
use webpki::{EndEntityCert, KeyUsage};

use super::certificate;

/// How far the other side of a connection with TLS is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// It showed no certificate.
    Anonymous,
    /// No authority that is trusted vouches for its certificate.
    Untrusted,
    /// One does.
    Trusted,
    /// Its certificate is the one that was asked for.
    Verified,
}

impl std::fmt::Display for Trust {
    /// The word of the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Untrusted => "Untrusted",
            Self::Trusted => "Trusted",
            Self::Verified => "Verified",
        })
    }
}

/// What a verifier heard in a handshake, which the connection does not tell afterwards.
#[derive(Debug, Default, Clone)]
pub(super) struct Heard {
    /// Why the certificate was refused: a failed handshake alone does not tell it.
    pub refusal: Option<String>,
    /// How far the server is trusted.
    pub trust: Option<Trust>,
    /// How the other side signed.
    pub scheme: Option<SignatureScheme>,
}

/// Where a verifier leaves it.
pub(super) type Ears = Arc<Mutex<Heard>>;

/// Changes what was heard.
fn note(ears: &Ears, change: impl FnOnce(&mut Heard)) {
    change(&mut ears.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The digest of a fingerprint (`smtp_tls_fingerprint_digest`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// `md5`
    Md5,
    /// `sha1`
    Sha1,
    /// `sha256`
    Sha256,
    /// `sha512`
    Sha512,
}

impl Digest {
    /// The digest of a name; none if it is unknown.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "md5" => Some(Self::Md5),
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The digest of some octets.
    #[must_use]
    pub fn of(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5::Md5::digest(octets).to_vec(),
            Self::Sha1 => sha1::Sha1::digest(octets).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(octets).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(octets).to_vec(),
        }
    }
}

/// A name that a certificate may bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This name; `*.example.org` in a certificate stands for one label.
    Host(String),
    /// Any name below this domain (`dot-nexthop`, `.example.org`).
    Below(String),
}

impl NamePattern {
    /// Whether a name of a certificate (dNSName) is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Host(host) if name.eq_ignore_ascii_case(host) => true,
            Self::Host(host) => match (name.strip_prefix("*."), host.split_once('.')) {
                (Some(parent), Some((label, rest))) => !label.is_empty() && parent.eq_ignore_ascii_case(rest),
                _ => false,
            },
            Self::Below(domain) => {
                let name = name.to_ascii_lowercase();
                name.strip_suffix(&domain.to_ascii_lowercase())
                    .is_some_and(|head| head.len() > 1 && head.ends_with('.'))
            }
        }
    }
}

/// Certificates of authorities that are trusted.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Default for Roots {
    /// Nobody is trusted.
    fn default() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }
}

impl Roots {
    /// Those of a text in PEM; what cannot be read is left out, so that one odd certificate does not take the others away.
    #[must_use]
    pub fn from_pem(text: &[u8]) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(text).filter_map(Result::ok));
        Self(Arc::new(store))
    }

    /// The names of those who are trusted.
    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        self.0.subjects()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them vouches for a certificate, with at most so many others in between.
    pub(super) fn vouch(
        &self,
        provider: &CryptoProvider,
        leaf: &EndEntityCert<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        most: usize,
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let algorithms = provider.signature_verification_algorithms.all;
        let path = leaf.verify_for_usage(algorithms, &self.0.roots, others, now, usage, None, None)?;
        if path.intermediate_certificates().count() > most {
            return Err(webpki::Error::MaximumPathDepthExceeded);
        }
        Ok(())
    }
}

/// What is asked of a certificate.
#[derive(Debug, Clone)]
pub enum Check {
    /// Nothing: `may` and `encrypt`. With authorities it is told whether they vouch for it.
    Any(Roots),
    /// That it, or its public key, has one of these fingerprints: `fingerprint`.
    Fingerprints {
        /// How they were made.
        digest: Digest,
        /// The fingerprints.
        prints: Vec<Vec<u8>>,
    },
    /// That a trusted authority vouches for one of these names: `verify`, `secure`.
    Names {
        /// The authorities.
        roots: Roots,
        /// The names.
        names: Vec<NamePattern>,
    },
}

/// Checks the certificate as asked, and always the handshake's signature, so that the peer at least holds the key of the certificate it shows.
#[derive(Debug)]
pub(super) struct Checked {
    pub provider: Arc<CryptoProvider>,
    pub check: Check,
    pub ears: Ears,
}

/// Certificates between a server's and its authority; more than this rustls does not follow.
const ANY_DEPTH: usize = usize::MAX;

impl Checked {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Trust, (CertificateError, String)> {
        let refused = |error, why: &str| (error, format!("Server certificate not {why}"));
        let parsed = EndEntityCert::try_from(leaf)
            .map_err(|_| refused(CertificateError::BadEncoding, "verified: it cannot be read"));
        let vouch = |roots: &Roots, leaf: &EndEntityCert<'_>| {
            roots.vouch(&self.provider, leaf, others, KeyUsage::server_auth(), ANY_DEPTH, now)
        };
        match &self.check {
            Check::Any(roots) if roots.count() == 0 => Ok(Trust::Untrusted),
            Check::Any(roots) => {
                let trusted = parsed.is_ok_and(|leaf| vouch(roots, &leaf).is_ok());
                Ok(if trusted { Trust::Trusted } else { Trust::Untrusted })
            }
            Check::Fingerprints { digest, prints } => {
                let key = parsed?.subject_public_key_info();
                let known = [digest.of(leaf), digest.of(&key)].iter().any(|print| prints.contains(print));
                let error = CertificateError::ApplicationVerificationFailure;
                if known { Ok(Trust::Verified) } else { Err(refused(error, "verified: unknown fingerprint")) }
            }
            Check::Names { roots, names } => {
                let leaf = parsed?;
                vouch(roots, &leaf).map_err(|error| {
                    let why = certificate::refusal(&leaf, &error);
                    refused(CertificateError::UnknownIssuer, &format!("trusted: {why}"))
                })?;
                let named = leaf.valid_dns_names().any(|name| names.iter().any(|pattern| pattern.matches(name)));
                let error = CertificateError::NotValidForName;
                if named { Ok(Trust::Verified) } else { Err(refused(error, "verified: it has another name")) }
            }
        }
    }
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(end_entity, intermediates, now) {
            Ok(trust) => {
                note(&self.ears, |heard| heard.trust = Some(trust));
                Ok(ServerCertVerified::assertion())
            }
            Err((error, why)) => {
                note(&self.ears, |heard| heard.refusal = Some(why));
                Err(Error::InvalidCertificate(error))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        note(&self.ears, |heard| heard.scheme = Some(dss.scheme));
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes every certificate of a client, or none; who it is is judged afterwards. The handshake's signature is always checked.
#[derive(Debug)]
pub(super) struct Welcome {
    pub provider: Arc<CryptoProvider>,
    /// The names of the authorities that the client is told of.
    pub hints: Arc<[DistinguishedName]>,
    pub ears: Ears,
}

impl ClientCertVerifier for Welcome {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        note(&self.ears, |heard| heard.scheme = Some(dss.scheme));
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ClientTls, ServerTls, self_signed};
    use crate::{Stream, tls};
    use tokio::net::UnixStream;

    #[test]
    fn names_match_exactly_by_one_label_or_below_a_domain() {
        let host = NamePattern::Host("mx.example.org".to_owned());
        let below = NamePattern::Below("example.org".to_owned());
        for (name, exact, under) in [
            ("mx.example.org", true, true),
            ("MX.Example.ORG", true, true),
            ("*.example.org", true, true),
            ("*.org", false, false),
            ("example.org", false, false),
            ("a.mx.example.org", false, true),
            ("*.mx.example.org", false, true),
            ("evilexample.org", false, false),
            (".example.org", false, false),
        ] {
            assert_eq!((host.matches(name), below.matches(name)), (exact, under), "{name}");
        }
    }

    async fn try_with(server: &tls::SelfSigned, check: Check) -> Result<(), String> {
        let accepting = ServerTls::from_pem(server.certificate.as_bytes(), server.key.as_bytes()).expect("a pair");
        let client = ClientTls::checked(check).expect("made");
        let (near, far) = UnixStream::pair().expect("a pair");
        let connect = client.connect(Stream::Unix(near), "mx.example.org");
        let (near, _far) = tokio::join!(connect, accepting.accept(Stream::Unix(far)));
        near.map(drop).map_err(|_| client.refusal().expect("a reason"))
    }

    #[tokio::test]
    async fn a_certificate_is_checked_where_that_is_asked() {
        // T03
        let server = self_signed("mx.example.org").expect("made");
        let other = self_signed("mx.example.org").expect("made");
        let roots = |of: &tls::SelfSigned| Roots::from_pem(of.certificate.as_bytes());
        let names = |name: &str| vec![NamePattern::Host(name.to_owned())];
        let leaf = CertificateDer::from_pem_slice(server.certificate.as_bytes()).expect("PEM");
        let print = |digest: Digest| Check::Fingerprints { digest, prints: vec![digest.of(&leaf)] };
        assert_eq!(try_with(&server, Check::Any(Roots::default())).await, Ok(()));
        let good = Check::Names { roots: roots(&server), names: names("mx.example.org") };
        assert_eq!(try_with(&server, good).await, Ok(()));
        for digest in [Digest::Md5, Digest::Sha1, Digest::Sha256, Digest::Sha512] {
            assert_eq!(try_with(&server, print(digest)).await, Ok(()));
        }
        let key = EndEntityCert::try_from(&leaf).expect("readable").subject_public_key_info();
        let by_key = Check::Fingerprints { digest: Digest::Sha256, prints: vec![Digest::Sha256.of(&key)] };
        assert_eq!(try_with(&server, by_key).await, Ok(()));
        for (check, why) in [
            (Check::Names { roots: roots(&other), names: names("mx.example.org") }, "not trusted"),
            (Check::Names { roots: Roots::default(), names: names("mx.example.org") }, "not trusted"),
            (Check::Names { roots: roots(&server), names: names("mx.example.net") }, "another name"),
            (Check::Names { roots: roots(&server), names: Vec::new() }, "another name"),
            (Check::Fingerprints { digest: Digest::Sha256, prints: vec![vec![0; 32]] }, "unknown fingerprint"),
        ] {
            let refused = try_with(&server, check).await.expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
