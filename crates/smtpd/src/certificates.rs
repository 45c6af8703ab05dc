//! Which certificate a listener needs.

use mail_config::Main;
use mail_daemon::TlsFiles;
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
