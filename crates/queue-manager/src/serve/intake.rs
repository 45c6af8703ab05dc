//! `queue.sock`: messages come in. The answer follows the sync; submissions of one connection wait side by side.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::SystemTime;

use mail_ipc::Frame;
use mail_ipc::intake::{Content as Announced, INLINE_MAX, Request, Response};
use mail_net::ipc::{Conversation, Reader, Writer};
use mail_posix::points;
use mail_types::{EnhancedStatus, Envelope, QueueId, Reply, ReplyCode, UnixTime};
use queue_store::{Accepted, Answer, Answers, Content, Op, Place, Refusal};
use tokio::sync::mpsc;

use super::Hub;
use crate::core::{Event, NewMessage};

/// The most recipients of one message.
const RECIPIENTS_MAX: usize = 1_000_000;
/// The most serial numbers granted at once.
const BLOCK: u32 = 10_000;

/// What goes back, with a descriptor for [`Response::Opened`].
type Outgoing = (Frame<Response>, Option<std::fs::File>);

/// A submission that was read completely.
struct Submission {
    number: u64,
    id: QueueId,
    envelope: Envelope,
    content: Result<Content, Refusal>,
    hold: bool,
    /// The content came in a file; it goes once the octets are in a segment.
    from_file: bool,
}

/// Serves one connection of smtpd.
pub async fn serve(hub: Arc<Hub>, conversation: Conversation) -> io::Result<()> {
    let Conversation { mut reader, writer, .. } = conversation;
    let (outgoing, answers) = mpsc::unbounded_channel();
    let writing = tokio::spawn(write(writer, answers));
    let read = read(&hub, &mut reader, &outgoing).await;
    drop(outgoing);
    // The answers to what was read still go out, as far as anybody listens.
    let written = writing.await.unwrap_or(Ok(()));
    read.and(written)
}

async fn write(writer: Writer, mut answers: mpsc::UnboundedReceiver<Outgoing>) -> io::Result<()> {
    while let Some((frame, file)) = answers.recv().await {
        match file {
            Some(file) => writer.send(&frame, &[file.as_fd()], &[]).await?,
            None => writer.send(&frame, &[], &[]).await?,
        }
        if matches!(frame.body, Response::Accepted { .. }) {
            points::reached("intake-answered");
        }
    }
    Ok(())
}

async fn read(hub: &Arc<Hub>, reader: &mut Reader, outgoing: &mpsc::UnboundedSender<Outgoing>) -> io::Result<()> {
    while let Some(received) = reader.frame().await? {
        let number = received.raw.id();
        let Ok(frame) = received.read::<Request>() else {
            send(outgoing, number, Response::NotUnderstood);
            continue;
        };
        match frame.body {
            Request::Ids => grant(hub, number, outgoing.clone()),
            Request::OpenContent { id } => open(hub, number, id, outgoing.clone()).await,
            Request::Abandon { id } => abandon(hub, id).await,
            Request::Verify { address, recipient } => {
                let outgoing = outgoing.clone();
                let answer = Box::new(move |answer| send(&outgoing, number, Response::Verified { answer }));
                // A core that has ended answers nothing; the asker's patience ends.
                let _ = hub.events.send(Event::Verify { address, recipient, answer });
            }
            Request::Recipients { .. } => return Err(unexpected("recipients without a submission")),
            Request::Submit { id, mut envelope, more_recipients, content, hold } => {
                more(reader, id, &mut envelope, more_recipients).await?;
                let from_file = content == Announced::File;
                let content = match content {
                    Announced::Follows(length) if length <= INLINE_MAX => {
                        let length = usize::try_from(length).map_err(io::Error::other)?;
                        Ok(Content::Octets(reader.content(length).await?))
                    }
                    Announced::Follows(_) => return Err(unexpected("content that belongs into a file")),
                    Announced::File => complete(hub, id).await,
                };
                let submission = Submission { number, id, envelope: *envelope, content, hold, from_file };
                submit(hub, submission, outgoing.clone());
            }
        }
    }
    Ok(())
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn send(outgoing: &mpsc::UnboundedSender<Outgoing>, number: u64, response: Response) {
    // The connection may be gone; then smtpd presents the same intake again.
    let _ = outgoing.send((Frame::new(number, response), None));
}

/// Further pages of recipients.
async fn more(reader: &mut Reader, id: QueueId, envelope: &mut Envelope, mut more: bool) -> io::Result<()> {
    while more {
        let received = reader.frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match received.read::<Request>().map_err(|error| unexpected(&error.to_string()))?.body {
            Request::Recipients { id: same, recipients, more: next } if same == id => {
                envelope.recipients.extend(recipients);
                more = next;
            }
            _ => return Err(unexpected("something else than recipients")),
        }
        if envelope.recipients.len() > RECIPIENTS_MAX {
            return Err(unexpected("too many recipients"));
        }
    }
    Ok(())
}

fn grant(hub: &Arc<Hub>, number: u64, outgoing: mpsc::UnboundedSender<Outgoing>) {
    hub.store.submit(vec![Op::Grant(BLOCK)], move |answers| {
        // Without an answer smtpd asks again; it has nothing to lose yet.
        if let Ok(answers) = answers
            && let Some(Answer::Granted { first, count }) = answers.first()
        {
            send(&outgoing, number, Response::Ids { first: *first, count: *count });
        }
    });
}

async fn open(hub: &Arc<Hub>, number: u64, id: QueueId, outgoing: mpsc::UnboundedSender<Outgoing>) {
    let store = hub.store.clone();
    let opened = tokio::task::spawn_blocking(move || match store.knows(id) {
        // The file of a message that is here already must not be emptied.
        Ok(true) => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(false) => store.create_content(id),
        Err(error) => Err(io::Error::other(error)),
    });
    match opened.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(file) => drop(outgoing.send((Frame::new(number, Response::Opened { id }), Some(file)))),
        Err(error) => send(&outgoing, number, refused(id, &Refusal::from(&error))),
    }
}

async fn abandon(hub: &Arc<Hub>, id: QueueId) {
    let store = hub.store.clone();
    let known = move || if store.knows(id).unwrap_or(true) { Ok(()) } else { store.abandon_content(id) };
    // What cannot be removed now is removed at the next start.
    let _ = tokio::task::spawn_blocking(known).await;
}

async fn complete(hub: &Arc<Hub>, id: QueueId) -> Result<Content, Refusal> {
    let store = hub.store.clone();
    let taken = tokio::task::spawn_blocking(move || {
        // Presented again after the answer was lost: the file is gone, the answer is the same.
        if store.knows(id).unwrap_or(false) { Ok(Content::Octets(Vec::new())) } else { store.complete_content(id) }
    });
    let taken = taken.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    taken.map_err(|error| Refusal::from(&error))
}

fn submit(hub: &Arc<Hub>, submission: Submission, outgoing: mpsc::UnboundedSender<Outgoing>) {
    let Submission { number, id, mut envelope, content, hold, from_file } = submission;
    let content = match content {
        Ok(content) if !envelope.recipients.is_empty() => content,
        Ok(_) => return send(&outgoing, number, refused(id, &Refusal::Failed("no recipients".to_owned()))),
        Err(refusal) => return send(&outgoing, number, refused(id, &refusal)),
    };
    envelope.size = content.length();
    let router = hub.router();
    let hops: Vec<_> = envelope.recipients.iter().map(|to| router.route(&envelope.sender, &to.address).hop()).collect();
    let at = UnixTime::from_system(SystemTime::now());
    let envelope = Arc::new(envelope);
    let copied = from_file && matches!(content, Content::Octets(_));
    let accepted = Accepted { id, at, envelope: envelope.clone(), place: Place::Segment, hold };
    let message = NewMessage { id, envelope, hops: hops.clone(), at, hold };
    let events = hub.events.clone();
    let store = Arc::downgrade(&hub.store);
    hub.store.submit(vec![Op::Accept { accepted, content, hops }], move |answers: Answers| {
        let response = match &answers {
            Ok(_) => Response::Accepted { id },
            Err(refusal) => refused(id, refusal),
        };
        send(&outgoing, number, response);
        if answers.as_ref().is_ok_and(|answers| answers.first() == Some(&Answer::Done)) {
            // The core may have ended; the next start finds the message.
            let _ = events.send(Event::Accepted(message));
        }
        if copied
            && answers.is_ok()
            && let Some(store) = store.upgrade()
        {
            // What cannot be removed now is removed at the next start.
            let _ = store.abandon_content(id);
        }
    });
}

/// The reply that smtpd passes on: always a temporary one.
fn refused(id: QueueId, refusal: &Refusal) -> Response {
    let reply = match refusal {
        Refusal::NoSpace => Reply::new(ReplyCode::of(452), EnhancedStatus::of(4, 3, 1), "Insufficient system storage"),
        Refusal::Failed(_) => {
            Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), "Error: queue file write error")
        }
        Refusal::Closed => {
            Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 2), "Error: the queue is being restarted")
        }
    };
    tracing::debug!(%id, %refusal, "refused");
    Response::Refused { id, reply }
}
