//! Local submission: `sendmail` on `submit.sock`, and files that `postdrop` left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use decision::{Event, Record, Stage};
use mail_intake::LineEnds;
use mail_ipc::Frame;
use mail_ipc::hello::Hello;
use mail_ipc::submit::{Request, Response};
use mail_message::header::Received;
use mail_net::ipc;
use mail_net::listen::ACCEPT_PAUSE;
use mail_route::Origin;
use mail_smtp::Path;
use mail_smtp::server::MailCommand;
use mail_types::{
    Address, Body, Client, DsnOptions, EnhancedStatus, Notify, Octets, Purpose, QueueId, Reply, ReplyCode, Sender,
    Severity,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use admission::origin::may_submit;

use crate::content::{Content, Prepare, Preparing};
use crate::facts::Fetched;
use crate::intake::{Door, HeaderPlan, RouteView, add_copies, now};
use crate::serve::{Busy, is_among_the_last};
use crate::transaction::{Accepted, Transaction};

/// The most recipients of one submission.
const RECIPIENTS_MAX: usize = 100_000;
/// How much content is read at once.
const PIECE: usize = 64 * 1024;

/// Takes connections on `submit.sock`.
pub async fn accept(
    door: Arc<Door>,
    listener: UnixListener,
    hello: Hello,
    mut closed: watch::Receiver<bool>,
    busy: Busy,
) {
    let guests = Guests::default();
    loop {
        let accepted = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        let limit = *door.shared().config.main.smtpd_client_connection_count_limit;
        // Whoever finds no seat hands the message to postdrop.
        let Some(seat) = guests.seat(uid, limit).filter(|_| !is_among_the_last(&stream)) else { continue };
        let (door, hello, closed, busy) = (Arc::clone(&door), hello.clone(), closed.clone(), busy.clone());
        tokio::spawn(async move {
            // A client that breaks the conversation has lost nothing: only Accepted makes a message ours.
            let _ = talk(&door, stream, &hello, closed).await;
            drop((seat, busy));
        });
    }
}

/// The conversations of each user of the machine, so that one user cannot take the descriptors and the memory of all.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<u32, u64>>>);

/// One conversation, counted until it is dropped.
struct Guest(Guests, u32);

impl Guests {
    /// A seat for a conversation; none beyond `limit` (`smtpd_client_connection_count_limit`, 0 for no limit). root has no limit.
    fn seat(&self, uid: u32, limit: u64) -> Option<Guest> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(uid).or_default();
        if uid != 0 && limit > 0 && *count >= limit {
            return None;
        }
        *count += 1;
        Some(Guest(self.clone(), uid))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// Serves one client until it goes, or until the daemon stops and no submission is under way.
async fn talk(
    door: &Arc<Door>,
    stream: UnixStream,
    hello: &Hello,
    mut closed: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut conversation = ipc::accept(stream, hello).await?;
    let uid = conversation.peer.uid;
    loop {
        let received = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return Ok(()),
            received = conversation.reader.frame() => received?,
        };
        let Some(received) = received else { return Ok(()) };
        let Ok(Frame { id, body: Request::Submit { .. }, .. }) = received.read::<Request>() else {
            conversation.writer.send(&Frame::new(received.raw.id(), Response::NotUnderstood), &[], &[]).await?;
            return Ok(());
        };
        let submission = Submission::read(received.read::<Request>(), &mut conversation.reader, uid).await?;
        let response = match submission.take_in(door, Source::Socket(&mut conversation.reader)).await? {
            Ok(id) => Response::Accepted { id },
            Err(reply) => Response::Refused { reply },
        };
        conversation.writer.send(&Frame::new(id, response), &[], &[]).await?;
    }
}

/// Where the content of a submission comes from.
pub enum Source<'a> {
    /// The conversation.
    Socket(&'a mut ipc::Reader),
    /// A file of `maildrop/`, at the beginning of the content.
    File(&'a mut std::fs::File),
}

impl Source<'_> {
    /// Up to so many octets, at least one.
    async fn read(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Socket(reader) => reader.content_chunk(most).await,
            Self::File(file) => {
                let mut piece = vec![0; most];
                let count = std::io::Read::read(file, &mut piece)?;
                piece.truncate(count);
                if count == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) }
            }
        }
    }
}

/// A submission as it was asked for.
pub struct Submission {
    /// Who submits.
    pub uid: u32,
    /// The sender as typed; none for the submitter's own name.
    pub sender: Option<String>,
    /// The full name for a missing From.
    pub full_name: Option<Octets>,
    /// The recipients as typed.
    pub recipients: Vec<String>,
    /// RET and ENVID.
    pub dsn: DsnOptions,
    /// NOTIFY, for all recipients.
    pub notify: Option<Notify>,
    /// What is done with it.
    pub purpose: Purpose,
    /// Octets of content.
    pub length: u64,
}

fn refusal(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

fn broken(text: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, text)
}

impl Submission {
    /// Reads a submission with all pages of its recipients; the content is left.
    async fn read(
        first: Result<Frame<Request>, mail_ipc::FrameError>,
        reader: &mut ipc::Reader,
        uid: u32,
    ) -> std::io::Result<Self> {
        let Ok(Frame { body: request, .. }) = first else { return Err(broken("not a submission")) };
        let (mut submission, mut more) = Self::of(request, uid).ok_or_else(|| broken("not a submission"))?;
        while more {
            let received = reader.frame().await?.ok_or_else(|| broken("recipients are missing"))?;
            let Ok(Frame { body: Request::Recipients { recipients, more: further }, .. }) = received.read() else {
                return Err(broken("recipients are missing"));
            };
            submission.recipients.extend(recipients);
            more = further;
            if submission.recipients.len() > RECIPIENTS_MAX {
                return Err(broken("too many recipients"));
            }
        }
        Ok(submission)
    }

    /// A submission from its first frame, and whether recipients follow.
    #[must_use]
    pub fn of(request: Request, uid: u32) -> Option<(Self, bool)> {
        match request {
            Request::Submit { sender, full_name, recipients, more_recipients, dsn, notify, purpose, length } => {
                Some((Self { uid, sender, full_name, recipients, dsn, notify, purpose, length }, more_recipients))
            }
            Request::Recipients { .. } => None,
        }
    }

    /// Takes the submission in: envelope, content, queue.
    ///
    /// # Errors
    /// The content broke off: nothing was taken. The inner error is the refusal.
    pub async fn take_in(self, door: &Door, mut source: Source<'_>) -> std::io::Result<Result<QueueId, Reply>> {
        let mut left = self.length;
        let mut intake = self.begin(door).await;
        // What is refused is still read to its end, so that the conversation can go on.
        let mut beginning = true;
        let (mut ends, mut converted) = (LineEnds::default(), Vec::new());
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = match source.read(most).await {
                Ok(piece) => piece,
                Err(error) => {
                    if let Ok(local) = &mut intake {
                        local.discard(door).await;
                    }
                    return Err(error);
                }
            };
            left -= piece.len() as u64;
            let Ok(local) = &mut intake else { continue };
            let piece = if std::mem::take(&mut beginning) { without_from_line(&piece) } else { &piece };
            ends.convert(piece, &mut converted);
            local.push(std::mem::take(&mut converted), door).await;
        }
        let mut local = match intake {
            Ok(local) => local,
            Err(reply) => return Ok(Err(reply)),
        };
        ends.finish(&mut converted);
        local.push(converted, door).await;
        Ok(local.commit(door).await)
    }

    /// Whoever writes to the socket without `sendmail` may not bring line ends into reports and logs either.
    fn has_control_characters(&self) -> bool {
        let texts = self.recipients.iter().chain(&self.sender).chain(&self.dsn.envid);
        texts.into_iter().any(|text| text.chars().any(char::is_control))
    }

    /// Checks who may submit, makes the envelope, and gets a queue id.
    async fn begin(self, door: &Door) -> Result<Local, Reply> {
        let shared = door.shared();
        let main = Arc::clone(&shared.pickup_main);
        let (tables, user) = (shared.tables.snapshot(), user_name(self.uid));
        let allowed = door.sources.settle(|answers| may_submit(&main, &tables, self.uid, &user, answers)).await;
        let allowed = allowed.map_err(|why| {
            door.log.warning(&shared.pickup, &why);
            refusal(451, (4, 3, 0), format!("nobody can say now whether user {} may submit mail", self.uid))
        })?;
        if !allowed {
            let text = format!("User with id {} is not allowed to submit mail", self.uid);
            return Err(refusal(550, (5, 7, 1), text));
        }
        if self.has_control_characters() {
            return Err(refusal(501, (5, 5, 4), "Control character in the envelope"));
        }
        if self.purpose == Purpose::Probe {
            // What is known of addresses follows from our own questions alone.
            return Err(refusal(501, (5, 5, 4), "Probes are not submitted"));
        }
        if *main.message_size_limit > 0 && self.length > *main.message_size_limit {
            return Err(refusal(552, (5, 3, 4), "Message size exceeds fixed limit"));
        }
        let typed = match &self.sender {
            Some(typed) => typed.clone(),
            None => user_name(self.uid),
        };
        let sender = sender(&typed, &main)?;
        if self.recipients.is_empty() {
            return Err(refusal(554, (5, 5, 1), "no recipients specified"));
        }
        let mail = MailCommand { from: Path::Null, size: None, body: Body::SevenBit, smtputf8: true, dsn: self.dsn };
        let mut transaction = Transaction::new(mail, sender, now());
        transaction.purpose = self.purpose;
        let tables = shared.tables.snapshot();
        let mut fetched = Fetched::default();
        for text in &self.recipients {
            let written = if matches!(text.trim(), "" | "<>") { main.empty_address_recipient.as_str() } else { text };
            let address = mail_route::complete_text(written, &main)
                .map_err(|error| refusal(501, (5, 1, 3), format!("<{text}>: Bad recipient address syntax: {error}")))?;
            let ident = &shared.pickup;
            let mut view = RouteView { shared: &shared, main: &main, tables: &tables, fetched: &mut fetched, ident };
            let (to, copies) = door.recipient(&mut view, &address, text).await?;
            add_copies(&mut transaction, copies);
            let text = text.trim().to_owned();
            transaction.recipients.push(Accepted { text, to, notify: self.notify, orcpt: None });
        }
        let mut view =
            RouteView { shared: &shared, main: &main, tables: &tables, fetched: &mut fetched, ident: &shared.pickup };
        let original = transaction.sender.clone();
        let (rewritten, copies) = door.sender(&mut view, &original).await?;
        add_copies(&mut transaction, copies);
        let id = door.queue.mint().await?;
        transaction.id = Some(id);
        transaction.content = Some(Content::new(id, door.share().await?));
        let event = Event::Pickup { uid: self.uid, from: &typed };
        door.log.record(&Record::new(&shared.pickup, Stage::Sender, event).about(id));
        let full_name = self.full_name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        Ok(Local { transaction, sender: rewritten, uid: self.uid, full_name, shared, id })
    }
}

/// A local submission on its way.
struct Local {
    transaction: Transaction,
    sender: Sender,
    uid: u32,
    full_name: Option<String>,
    shared: Arc<crate::ports::Shared>,
    id: QueueId,
}

/// What the header of a submission is made of.
struct Stamp<'a> {
    door: &'a Door,
    local: &'a Local,
}

impl Stamp<'_> {
    async fn make(&self, content: &[u8]) -> Result<mail_intake::Prepared, Reply> {
        let Local { shared, uid, id, full_name, sender, transaction } = self.local;
        let main = shared.pickup_main.as_ref();
        let mut fetched = Fetched::default();
        let tables = shared.tables.snapshot();
        let mut view = RouteView { shared, main, tables: &tables, fetched: &mut fetched, ident: &shared.pickup };
        let rewrites = self.door.rewrites(&mut view, Some(Origin::Ours), content).await?;
        let plan = HeaderPlan { main, adds: true, rewrites: &rewrites, full_name: full_name.as_deref() };
        let received = Received::Local { uid: *uid };
        plan.prepare(Some(*id), transaction.arrival, sender, received, content)
    }
}

impl Prepare for Stamp<'_> {
    fn prepare<'a>(&'a self, content: &'a [u8]) -> Preparing<'a> {
        Box::pin(self.make(content))
    }
}

impl Local {
    async fn push(&mut self, piece: Vec<u8>, door: &Door) {
        let Some(mut content) = self.transaction.content.take() else { return };
        let stamp = Stamp { door, local: self };
        content.push(piece, &stamp, &door.queue).await;
        self.transaction.content = Some(content);
    }

    async fn discard(&mut self, door: &Door) {
        if let Some(mut content) = self.transaction.content.take() {
            content.discard(&door.queue).await;
        }
    }

    async fn commit(mut self, door: &Door) -> Result<QueueId, Reply> {
        let client = Client {
            name: "localhost".to_owned(),
            protocol: "local".to_owned(),
            uid: Some(self.uid),
            ..Client::default()
        };
        let nothing = Transaction::new(self.transaction.mail.clone(), Sender::Null, self.transaction.arrival);
        let mut transaction = std::mem::replace(&mut self.transaction, nothing);
        let stamp = Stamp { door, local: &self };
        door.commit(&mut transaction, self.sender.clone(), client, &stamp, &self.shared.cleanup).await
    }
}

/// The sender as typed: empty is the null sender.
fn sender(typed: &str, main: &mail_config::Main) -> Result<Sender, Reply> {
    if typed.is_empty() {
        return Ok(Sender::Null);
    }
    let address: Result<Address, _> = mail_route::complete_text(typed, main);
    address
        .map(Sender::Address)
        .map_err(|error| refusal(501, (5, 1, 7), format!("<{typed}>: Bad sender address syntax: {error}")))
}

/// The login name of a user; its number where it has none.
fn user_name(uid: u32) -> String {
    let user = mail_posix::users::by_uid(uid).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// Content without the `From ` line that mailboxes and old programs put first.
fn without_from_line(content: &[u8]) -> &[u8] {
    let from = content.starts_with(b"From ") || content.starts_with(b">From ");
    match content.iter().position(|&b| b == b'\n') {
        Some(end) if from => &content[end + 1..],
        _ => content,
    }
}

/// Whether a refusal is for ever.
#[must_use]
pub fn is_final(reply: &Reply) -> bool {
    reply.severity() == Severity::Permanent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_so_many_conversations_and_leaves_the_others_theirs() {
        let guests = Guests::default();
        let (first, second) = (guests.seat(1000, 2), guests.seat(1000, 2));
        assert!(first.is_some() && second.is_some() && guests.seat(1000, 2).is_none());
        assert!(guests.seat(1001, 2).is_some() && guests.seat(1000, 0).is_some());
        let _root = [guests.seat(0, 1), guests.seat(0, 1)].map(|seat| seat.expect("root has no limit"));
        drop(first);
        assert!(guests.seat(1000, 2).is_some());
    }

    #[test]
    fn the_line_of_a_mailbox_is_no_header() {
        assert_eq!(without_from_line(b"From john Sun\nTo: x\n"), b"To: x\n");
        assert_eq!(without_from_line(b"From: john\n"), b"From: john\n");
        assert_eq!(without_from_line(b"From john"), b"From john");
    }
}
