//! The content of a message, and its way into the queue.

use admission::origin::{Peer, Unsaid, is_ours};
use mail_policy::Stage;
use mail_smtp::server::Answer;
use mail_types::{Address, Client, Octets, QueueId, Reply};

use super::header_maker::HeaderMaker;
use super::{Session, reply};
use crate::content::Content;
use crate::intake::{RouteView, add_copies};
use crate::transaction::{Accepted, Transaction};

impl Session {
    /// DATA: the content may come.
    pub(super) async fn data(&mut self) -> Answer {
        if let Err(refusal) = self.judge(Stage::Data).await {
            return Answer::Refuse(refusal);
        }
        let share = match self.door.share().await {
            Ok(share) => share,
            Err(refusal) => return Answer::Refuse(refusal),
        };
        let Some((transaction, id)) = self.transaction.as_mut().and_then(|transaction| {
            let id = transaction.id?;
            Some((transaction, id))
        }) else {
            return Answer::Refuse(reply(503, (5, 5, 1), "Error: need RCPT command"));
        };
        transaction.content = Some(Content::new(id, share));
        Answer::Accept
    }

    /// A piece of the content.
    pub(super) async fn take(&mut self, chunk: Vec<u8>) {
        let Some(mut transaction) = self.transaction.take() else { return };
        let ours = self.is_ours(&mut transaction).await;
        let prepare = HeaderMaker::of(self, &transaction, ours);
        if let Some(content) = &mut transaction.content {
            content.push(chunk, &prepare, &self.door.queue).await;
        }
        self.transaction = Some(transaction);
    }

    /// The content is complete: the answer follows the sync.
    pub(super) async fn end_of_data(&mut self, octets: u64) -> Answer {
        if let Some(transaction) = &mut self.transaction {
            transaction.octets = Some(octets);
        }
        let done = self.commit().await;
        let answer = match done {
            Ok(id) => reply(250, (2, 0, 0), format!("Ok: queued as {id}")),
            Err(refusal) => refusal,
        };
        self.reset().await;
        Answer::Done(answer)
    }

    async fn commit(&mut self) -> Result<QueueId, Reply> {
        self.judge(Stage::EndOfData).await?;
        let Some(mut transaction) = self.transaction.take() else { return Err(crate::queue::unavailable()) };
        let result = self.hand_over(&mut transaction).await;
        self.transaction = Some(transaction);
        if let Err(refusal) = &result {
            let from = self.transaction.as_ref().map(|transaction| transaction.sender.to_string());
            self.log.refused(Stage::EndOfData, refusal, None, self.about(from.as_deref(), None));
        }
        result
    }

    async fn hand_over(&mut self, transaction: &mut Transaction) -> Result<QueueId, Reply> {
        let original = transaction.sender.clone();
        let mut view = RouteView {
            shared: &self.shared,
            main: &self.port.main,
            tables: &self.tables,
            fetched: &mut self.fetched,
            ident: &self.port.ident,
        };
        let (sender, copies) = self.door.sender(&mut view, &original).await?;
        add_copies(transaction, copies);
        self.carry_out_actions(transaction).await?;
        let ours = self.is_ours(transaction).await;
        let prepare = HeaderMaker::of(self, transaction, ours);
        let client = self.client_record();
        self.door.commit(transaction, sender, client, &prepare, &self.port.cleanup).await
    }

    /// What access tables want done with the recipients: `REDIRECT` replaces them, `BCC` adds some.
    async fn carry_out_actions(&mut self, transaction: &mut Transaction) -> Result<(), Reply> {
        let plain = |address: &Address, to| Accepted { text: address.to_string(), to, notify: None, orcpt: None };
        if let Some(address) = &transaction.actions.redirect {
            transaction.recipients = vec![plain(address, vec![address.clone()])];
            transaction.copies.clear();
        }
        for address in &transaction.actions.bcc {
            let (to, _) = self.expand(address, &address.to_string()).await?;
            transaction.recipients.push(plain(address, to));
        }
        Ok(())
    }

    /// Who handed the message in, for the queue.
    fn client_record(&self) -> Client {
        Client {
            name: self.log.name.clone(),
            address: Some(self.client.ip()),
            helo: self.greeting.helo.as_ref().map(|name| Octets::new(name.clone().into_bytes())),
            protocol: self.protocol(),
            sasl_username: self.greeting.user.clone(),
            sasl_method: self.greeting.method.clone(),
            uid: None,
        }
    }

    /// RFC 3848: ESMTP, ESMTPS, ESMTPA, ESMTPSA.
    pub(super) fn protocol(&self) -> String {
        let mut name = if self.greeting.extended { "ESMTP" } else { "SMTP" }.to_owned();
        if self.greeting.extended && self.greeting.tls.is_some() {
            name.push('S');
        }
        if self.greeting.extended && self.greeting.user.is_some() {
            name.push('A');
        }
        name
    }

    /// Whether headers are completed for this client (`local_header_rewrite_clients`).
    async fn is_ours(&mut self, transaction: &mut Transaction) -> bool {
        if let Some(ours) = transaction.ours {
            return ours;
        }
        let (name, user) = (self.name.shown(), self.greeting.user.as_deref());
        let peer = Peer { name, address: self.client.ip(), user };
        let (config, main, tables) = (&self.shared.config, &self.port.main, &self.tables);
        let said = match is_ours(config, main, tables, peer, &()) {
            Err(Unsaid::Missing(_)) => {
                let asked = self.door.sources.settle(|answers| is_ours(config, main, tables, peer, answers));
                Box::pin(asked).await
            }
            Err(Unsaid::Temporary(why)) => Err(why),
            Ok(ours) => Ok(ours),
        };
        let ours = said.unwrap_or_else(|why| {
            let rule = ("local_header_rewrite_clients", &main.local_header_rewrite_clients.source);
            self.log.warning(&why, Some(rule));
            false
        });
        transaction.ours = Some(ours);
        ours
    }
}
