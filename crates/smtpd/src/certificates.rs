//! Which certificate a listener needs, and what it wants of its clients'.

use std::path::Path;

use mail_config::Main;
use mail_daemon::TlsFiles;
use mail_net::tls::{AskClients, Digest};
use mail_smtp::server::Tls;

use crate::settings::tls_level;

/// The certificate of a listener; none if it needs none.
#[must_use]
pub fn tls_files(main: &Main) -> Option<TlsFiles> {
    if tls_level(main) == Tls::Off && !*main.smtpd_tls_wrappermode {
        return None;
    }
    if let Some(chain) = main.smtpd_tls_chain_files.first() {
        return Some(TlsFiles { certificate: Some(chain.into()), key: None });
    }
    let (certificate, key) = match &main.smtpd_tls_cert_file.value {
        Some(certificate) => (Some(certificate.clone()), main.smtpd_tls_key_file.value.clone()),
        None => (main.smtpd_tls_eccert_file.value.clone(), main.smtpd_tls_eckey_file.value.clone()),
    };
    Some(TlsFiles { certificate, key })
}

/// Whether clients must show a certificate that an authority vouches for. As with Postfix that needs required TLS.
#[must_use]
pub fn needs_certificate(main: &Main) -> bool {
    *main.smtpd_tls_req_ccert && (tls_level(main) == Tls::Encrypt || *main.smtpd_tls_wrappermode)
}

/// How a listener asks its clients for certificates; none if it does not. What is wrong is told to `warn`.
#[must_use]
pub fn ask_clients(main: &Main, warn: &mut dyn FnMut(&str)) -> Option<AskClients> {
    if *main.smtpd_tls_req_ccert && !needs_certificate(main) {
        warn("Can't require client certs unless TLS is required");
    }
    if !*main.smtpd_tls_ask_ccert && !needs_certificate(main) {
        return None;
    }
    let name = main.smtpd_tls_fingerprint_digest.as_str();
    let Some(digest) = Digest::named(name) else {
        // Fail closed: without fingerprints no certificate gives rights.
        warn(&format!("smtpd_tls_fingerprint_digest: unknown digest `{name}'; no client certificate counts"));
        return None;
    };
    let (file, directory) = (main.smtpd_tls_CAfile.as_deref(), main.smtpd_tls_CApath.as_deref());
    let mut read = |file: Option<&Path>, directory: Option<&Path>, own: bool| {
        let (roots, wrong) = mail_daemon::authorities(file, directory, own);
        wrong.iter().for_each(|text| warn(text));
        roots
    };
    let roots = read(file, directory, *main.tls_append_default_CA);
    Some(AskClients {
        roots,
        hints: read(file, None, false),
        depth: usize::try_from(*main.smtpd_tls_ccert_verifydepth).unwrap_or(usize::MAX),
        digest,
    })
}
