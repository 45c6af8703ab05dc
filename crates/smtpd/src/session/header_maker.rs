//! The stored header of a message, made from what the session knows.

use std::net::IpAddr;
use std::sync::Arc;

use admission::origin::header_origin;
use mail_message::header::{CertificateTrace, Received, TlsTrace};
use mail_net::TlsInfo;
use mail_policy::Actions;
use mail_tables::Snapshot;
use mail_types::{Address, QueueId, Reply, Sender};

use super::Session;
use crate::content::{Prepare, Preparing};
use crate::facts::Fetched;
use crate::intake::{Door, HeaderPlan, RouteView};
use crate::ports::{Port, Shared};
use crate::transaction::Transaction;

/// Everything that the stored header is made of, apart from the session that goes on.
pub(super) struct HeaderMaker {
    door: Arc<Door>,
    shared: Arc<Shared>,
    port: Arc<Port>,
    tables: Arc<Snapshot>,
    ours: bool,
    helo: String,
    name: String,
    address: IpAddr,
    tls: Option<TlsInfo>,
    login: Option<String>,
    protocol: String,
    recipient: Option<Address>,
    id: Option<QueueId>,
    arrival: mail_types::UnixTime,
    sender: Sender,
    prepend: Vec<String>,
}

impl HeaderMaker {
    pub fn of(session: &Session, transaction: &Transaction, ours: bool) -> Self {
        let main = &session.port.main;
        let helo = session.greeting.helo.clone().unwrap_or_else(|| session.log.name.clone());
        Self {
            door: Arc::clone(&session.door),
            shared: Arc::clone(&session.shared),
            port: Arc::clone(&session.port),
            tables: Arc::clone(&session.tables),
            ours,
            helo,
            name: session.log.name.clone(),
            address: session.client.ip(),
            tls: session.greeting.tls.clone().filter(|_| *main.smtpd_tls_received_header),
            login: session.greeting.user.clone().filter(|_| *main.smtpd_sasl_authenticated_header),
            protocol: session.protocol(),
            recipient: transaction.only_recipient().cloned(),
            id: transaction.id,
            arrival: transaction.arrival,
            sender: transaction.sender.clone(),
            prepend: transaction.actions.prepend.clone(),
        }
    }

    async fn make(&self, content: &[u8]) -> Result<mail_intake::Prepared, Reply> {
        let main = &self.port.main;
        let mut fetched = Fetched::default();
        let (tables, ident) = (&self.tables, &self.port.ident);
        let mut view = RouteView { shared: &self.shared, main, tables, fetched: &mut fetched, ident };
        let origin = header_origin(self.ours, main);
        let rewrites = self.door.rewrites(&mut view, origin, content).await?;
        let (sender, _) = self.door.sender(&mut view, &self.sender).await?;
        let tls = self.tls.as_ref();
        let received = Received::Network {
            helo: &self.helo,
            name: &self.name,
            address: self.address,
            tls: tls.map(tls_trace),
            login: self.login.as_deref(),
            protocol: &self.protocol,
            recipient: self.recipient.as_ref(),
        };
        let adds = origin.is_some() || *main.always_add_missing_headers;
        let plan = HeaderPlan { main, adds, rewrites: &rewrites, full_name: None };
        let mut prepared = plan.prepare(self.id, self.arrival, &sender, received, content)?;
        prepared.header.splice(..0, Actions::prepended(&self.prepend));
        Ok(prepared)
    }
}

/// TLS as the Received field tells it.
fn tls_trace(tls: &TlsInfo) -> TlsTrace<'_> {
    TlsTrace {
        version: tls.version,
        cipher: &tls.cipher,
        bits: tls.bits,
        exchange: &tls.exchange,
        client_signature: &tls.client_signature,
        certificate: match &tls.peer {
            Some(peer) => {
                CertificateTrace::Shown { subject: &peer.subject, issuer: &peer.issuer, verified: peer.trust.is_ok() }
            }
            None if tls.asked => CertificateTrace::NotShown,
            None => CertificateTrace::NotAsked,
        },
    }
}

impl Prepare for HeaderMaker {
    fn prepare<'a>(&'a self, content: &'a [u8]) -> Preparing<'a> {
        Box::pin(self.make(content))
    }
}
