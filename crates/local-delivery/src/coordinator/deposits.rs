//! What came by LMTP: stored at once and answered, never queued (`deposit.sock`).

use std::io;
use std::sync::Arc;

use decision::{Event, Ident, Record, Stage};
use mail_daemon::worker::Content;
use mail_ipc::Frame;
use mail_ipc::delivery::{Content as Sent, Fate, Lease, Outcome};
use mail_ipc::deposit::{Request, Response};
use mail_ipc::hello::Role;
use mail_net::ipc::{self, Received};
use mail_net::listen::ACCEPT_PAUSE;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Coordinator, now};
use crate::attempt::{End, Octets, Work};
use crate::content::scan;

/// Kept by every conversation, so that a stop can wait for those that store something.
pub(super) type Busy = mpsc::Sender<()>;

/// Takes conversations until the daemon stops.
pub(super) async fn accept(coordinator: Arc<Coordinator>, listener: UnixListener, busy: Busy) {
    let mut stop = coordinator.context.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (coordinator, busy) = (Arc::clone(&coordinator), busy.clone());
        tokio::spawn(async move {
            // Whoever breaks the conversation knows nothing about what was stored, and says so to its client.
            let _ = coordinator.converse_with_smtpd(stream).await;
            drop(busy);
        });
    }
}

impl Coordinator {
    async fn converse_with_smtpd(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let mut conversation = ipc::accept(stream, &self.context.hello()).await?;
        let may_be = self.context.setup.roles.may_be(Role::Smtpd, conversation.peer.uid);
        if conversation.hello.role != Role::Smtpd || !may_be {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut stop = self.context.stop.clone();
        loop {
            let received = tokio::select! {
                () = stop.requested() => return Ok(()),
                received = conversation.reader.frame() => received?,
            };
            let Some(received) = received else { return Ok(()) };
            let Ok(Frame { id, body: Request::Deposit { lease }, .. }) = received.read::<Request>() else {
                let refusal = Frame::new(received.raw.id(), Response::NotUnderstood);
                return conversation.writer.send(&refusal, &[], &[]).await;
            };
            let content = content_of(&lease, received, &mut conversation.reader).await?;
            let outcomes = self.deposit(*lease, content).await;
            conversation.writer.send(&Frame::new(id, Response::Done { outcomes }), &[], &[]).await?;
        }
    }

    /// Stores a message for all its recipients, side by side, and tells of each.
    async fn deposit(self: &Arc<Self>, lease: Lease, content: Content) -> Vec<Outcome> {
        let running = self.context.now();
        let work = Arc::new(Work {
            scan: scan(&content),
            _counted: Octets::of(&content, &self.octets, None),
            content,
            lease,
            config: mail_config::Config::clone(&running.config),
            tables: self.tables().snapshot(),
            ident: Ident::dovecot(),
            granted: now(),
        });
        let mut attempts = JoinSet::new();
        for at in 0..work.lease.recipients.len() {
            let (coordinator, work) = (Arc::clone(self), Arc::clone(&work));
            attempts.spawn(async move { (at, coordinator.tools.attempt(&work, &work.lease.recipients[at]).await) });
        }
        let mut outcomes = Vec::new();
        while let Some(attempt) = attempts.join_next().await {
            // A recipient whose attempt broke off has no outcome, which smtpd reads as "not now".
            let Ok((at, end)) = attempt else { continue };
            self.tell(&work, &end);
            outcomes.push(end.outcome(&work.lease, work.lease.recipients[at].number, String::new()));
        }
        outcomes.sort_by_key(|outcome| outcome.recipient);
        outcomes
    }

    /// The line of Dovecot's lmtp for what was stored, and the word to imapd.
    fn tell(&self, work: &Work, end: &End) {
        let Some(login) = end.login.as_deref().filter(|_| end.fate == Fate::Delivered) else { return };
        let text = format!("msgid={}: saved mail to INBOX", work.lease.message_id.as_deref().unwrap_or("unspecified"));
        let session = work.lease.id.to_string();
        let event =
            Event::Mailbox { service: "lmtp", user: login, pid: std::process::id(), session: &session, text: &text };
        self.tools.log.record(&Record::new(&work.ident, Stage::Delivery, event));
        // A full channel means that nobody listens; imapd finds the mail by itself.
        let _ = self.announce.try_send(login.to_owned());
    }
}

/// The content that comes with a deposit.
async fn content_of(lease: &Lease, received: Received, reader: &mut ipc::Reader) -> io::Result<Content> {
    match lease.content {
        Sent::Follows(length) => {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            Ok(Content::Memory(reader.content(length).await?))
        }
        Sent::Descriptor { length } => {
            let descriptor = received.descriptors.into_iter().next();
            let descriptor = descriptor.ok_or_else(|| io::Error::other("a deposit came without its descriptor"))?;
            Ok(Content::File { file: descriptor.into(), length })
        }
    }
}
