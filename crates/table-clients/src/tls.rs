//! TLS towards database servers.

use mail_net::tls::{Check, ClientTls, NamePattern, Roots};

use crate::connection::{Connection, Failure};

/// What is asked of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// No TLS.
    Never,
    /// TLS where the server has it.
    Offered,
    /// TLS, whoever answers.
    Required,
    /// TLS, and a certificate from an authority in this file for the name of the host.
    Verified { authorities: String },
}

impl Trust {
    /// Does the handshake on a connection to a host.
    pub(crate) async fn handshake(&self, connection: Connection, host: &str) -> Result<Connection, Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(format!("TLS: {error}"));
        let client = match self {
            Self::Verified { authorities } => {
                let pem = std::fs::read(authorities).map_err(|error| broken(&format!("{authorities}: {error}")))?;
                let names = vec![NamePattern::Host(host.to_owned())];
                ClientTls::checked(Check::Names { roots: Roots::from_pem(&pem), names })
            }
            _ => ClientTls::unauthenticated(),
        };
        let client = client.map_err(|error| broken(&error))?;
        let stream = connection.into_stream().ok_or_else(|| broken(&"the server spoke too early"))?;
        let tls = client.connect(stream, host).await.map_err(|error| broken(&error))?;
        Ok(Connection::new(tls))
    }
}
