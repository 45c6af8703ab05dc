//! The way to queue-manager: queue ids, files for long content, the hand-over.

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_ipc::hello::Hello;
use mail_ipc::intake::{Content, Request, Response, Verified};
use mail_ipc::sockets;
use mail_net::ipc::{CallError, Caller};
use mail_types::{Address, EnhancedStatus, Envelope, QueueId, Recipient, Reply, ReplyCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a message waits for a queue-manager that is not there before the client hears 451.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pauses between attempts to reach it.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// So many recipients go into one frame.
const PAGE: usize = 100;

/// What is left of the block of numbers that was granted last.
#[derive(Default)]
struct Block {
    next: u32,
    left: u32,
}

/// The conversation on `queue.sock`, shared by all sessions.
pub struct Queue {
    caller: Caller<Request, Response>,
    block: Mutex<Block>,
}

/// Content that is ready to be handed over.
pub enum Stored {
    /// In memory, at most 64 KiB.
    Memory(Vec<u8>),
    /// In the file that queue-manager opened for the id.
    File,
}

/// `451 4.3.0`: nothing was stored.
#[must_use]
pub fn unavailable() -> Reply {
    Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), "Error: queue file write error")
}

impl Queue {
    /// A conversation with the queue-manager of a state directory; nothing is connected yet.
    #[must_use]
    pub fn new(state: std::path::PathBuf, hello: Hello) -> Self {
        Self { caller: Caller::new(state, sockets::QUEUE, hello), block: Mutex::new(Block::default()) }
    }

    /// A new queue id: the time of now and a number that was never used before.
    ///
    /// # Errors
    /// A 451 if queue-manager cannot be reached.
    pub async fn mint(&self) -> Result<QueueId, Reply> {
        let mut patience = Patience::new();
        let mut block = patience.bounded(self.block.lock()).await?;
        while block.left == 0 {
            match patience.bounded(Box::pin(self.caller.call(&Request::Ids, &[]))).await? {
                Ok(reply) => match reply.message {
                    Response::Ids { first, count } if count > 0 => *block = Block { next: first, left: count },
                    _ => return Err(unavailable()),
                },
                Err(error) => patience.after(error).await?,
            }
        }
        let serial = block.next;
        block.next = block.next.wrapping_add(1);
        block.left -= 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        QueueId::new(now.as_secs(), now.subsec_micros(), serial).map_err(|_| unavailable())
    }

    /// Asks whether mail for an address would be delivered; `recipient` is where it goes after rewriting and virtual aliases. With
    /// [`Verified::Unknown`] a probe is still under way, or could not be sent.
    ///
    /// # Errors
    /// queue-manager cannot be reached within the patience; the text is for the log.
    pub async fn verify(&self, address: Address, recipient: Address, patience: Duration) -> Result<Verified, String> {
        let request = Request::Verify { address, recipient };
        match tokio::time::timeout(patience, self.caller.call(&request, &[])).await {
            Err(_) => Ok(Verified::Unknown),
            Ok(Ok(reply)) => match reply.message {
                Response::Verified { answer } => Ok(answer),
                _ => Err("queue-manager gave another answer".to_owned()),
            },
            Ok(Err(error)) => Err(format!("queue-manager: {error}")),
        }
    }

    /// A file for the content of a message, opened by queue-manager.
    ///
    /// # Errors
    /// A 451.
    pub async fn open_content(&self, id: QueueId) -> Result<File, Reply> {
        let mut patience = Patience::new();
        loop {
            match patience.bounded(self.caller.call(&Request::OpenContent { id }, &[])).await? {
                Ok(mut reply) => {
                    let descriptor = reply.descriptors.pop();
                    return match (reply.message, descriptor) {
                        (Response::Opened { .. }, Some(descriptor)) => Ok(File::from(descriptor)),
                        (Response::Refused { reply, .. }, _) => Err(reply),
                        _ => Err(unavailable()),
                    };
                }
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// Gives up a file that [`Queue::open_content`] opened.
    pub async fn abandon(&self, id: QueueId) {
        // A queue-manager that does not hear it removes the file at its next start.
        let _ = self.caller.notify(0, &Request::Abandon { id }).await;
    }

    /// Hands a message over. After `Ok` it is queue-manager's; a broken connection is mended and the same intake presented again, which is
    /// answered as before.
    ///
    /// # Errors
    /// A temporary reply: nothing was stored.
    pub async fn submit(&self, id: QueueId, mut envelope: Envelope, content: &Stored, hold: bool) -> Result<(), Reply> {
        let rest = if envelope.recipients.len() > PAGE { envelope.recipients.split_off(PAGE) } else { Vec::new() };
        let (place, bytes): (Content, &[u8]) = match content {
            Stored::Memory(bytes) => (Content::Follows(bytes.len() as u64), bytes),
            Stored::File => (Content::File, &[]),
        };
        let envelope = Box::new(envelope);
        let mut requests =
            vec![Request::Submit { id, envelope, more_recipients: !rest.is_empty(), content: place, hold }];
        requests.extend(pages(id, rest));
        let contents: &[&[u8]] = if bytes.is_empty() { &[] } else { &[bytes] };
        let mut patience = Patience::new();
        loop {
            match patience.bounded(self.caller.call_sequence(&requests, contents)).await? {
                Ok(answer) => {
                    return match answer.message {
                        Response::Accepted { .. } => Ok(()),
                        Response::Refused { reply, .. } => Err(reply),
                        _ => Err(unavailable()),
                    };
                }
                Err(error) => patience.after(error).await?,
            }
        }
    }
}

/// How long somebody waits for queue-manager, and how the pauses between attempts grow.
struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { deadline: Instant::now() + PATIENCE, pause: PAUSE }
    }

    /// Waits for something, but not beyond the deadline.
    async fn bounded<T>(&self, what: impl Future<Output = T>) -> Result<T, Reply> {
        tokio::time::timeout_at(self.deadline, what).await.map_err(|_| unavailable())
    }

    /// Waits before the next attempt; an error where another would not help or comes too late.
    async fn after(&mut self, error: CallError) -> Result<(), Reply> {
        let late = Instant::now() + self.pause >= self.deadline;
        if late || matches!(error, CallError::NotUnderstood(_)) {
            return Err(unavailable());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

fn pages(id: QueueId, recipients: Vec<Recipient>) -> Vec<Request> {
    let count = recipients.len().div_ceil(PAGE);
    let page = |(number, recipients): (usize, &[Recipient])| Request::Recipients {
        id,
        recipients: recipients.to_vec(),
        more: number + 1 < count,
    };
    recipients.chunks(PAGE).enumerate().map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_come_in_pages_that_say_whether_more_follow() {
        let id = QueueId::new(1, 1, 1).expect("in range");
        let recipient = Recipient::new("a@b.org".parse().expect("an address"));
        let made = pages(id, vec![recipient; 250]);
        let sizes = made.iter().map(|page| match page {
            Request::Recipients { recipients, more, .. } => (recipients.len(), *more),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [(100, true), (100, true), (50, false)]);
    }
}
