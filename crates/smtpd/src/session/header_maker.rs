//! The stored header of a message, made from what the session knows.

use std::net::IpAddr;
use std::sync::Arc;

use mail_message::header::{Received, TlsTrace};
use mail_net::TlsInfo;
use mail_types::{Address, QueueId, Sender};

use super::Session;
use crate::intake::HeaderPlan;
use crate::transaction::Transaction;

/// Everything that the stored header is made of, apart from the session that goes on.
pub(super) struct HeaderMaker {
    main: Arc<mail_config::Main>,
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
}

impl HeaderMaker {
    pub fn of(session: &Session, transaction: &Transaction) -> Self {
        let main = &session.port.main;
        let helo = session.greeting.helo.clone().unwrap_or_else(|| session.log.name.clone());
        Self {
            ours: session.is_ours(),
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
            main: Arc::clone(main),
        }
    }

    pub fn make(&self, content: &[u8]) -> Result<mail_intake::Prepared, mail_intake::HeaderError> {
        let tls = self.tls.as_ref();
        let received = Received::Network {
            helo: &self.helo,
            name: &self.name,
            address: self.address,
            tls: tls.map(|tls| TlsTrace { version: tls.version, cipher: &tls.cipher, bits: tls.bits }),
            login: self.login.as_deref(),
            protocol: &self.protocol,
            recipient: self.recipient.as_ref(),
        };
        let plan = HeaderPlan { main: &self.main, ours: self.ours, full_name: None };
        plan.prepare(self.id, self.arrival, &self.sender, received, content)
    }
}
