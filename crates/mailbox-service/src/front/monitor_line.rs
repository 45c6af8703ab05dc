//! The front's conversation with its monitor.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};

use mail_ipc::frame::Frame;
use mail_net::ipc::{Reader, Writer};
use tokio::sync::{Mutex, oneshot, watch};

use crate::wire::{FrontReply, FrontRequest, HandOver};

/// Sees a reply before anything that follows it is taken.
pub(super) type OnReply = Box<dyn FnOnce(&io::Result<FrontReply>) + Send>;

/// A request that has no reply yet.
struct Waiting {
    reply: oneshot::Sender<FrontReply>,
    on_reply: OnReply,
}

/// Sends requests side by side and brings each reply to its request.
pub(super) struct MonitorLine {
    writer: Mutex<Writer>,
    next: AtomicU64,
    waiting: StdMutex<HashMap<u64, Waiting>>,
    drained: watch::Sender<bool>,
}

impl MonitorLine {
    /// A line on the sending half of the conversation.
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            writer: Mutex::new(writer),
            next: AtomicU64::new(0),
            waiting: StdMutex::default(),
            drained: watch::channel(false).0,
        }
    }

    /// Hands replies out, and lines to `log`, until the monitor is gone.
    pub(super) async fn listen(&self, mut reader: Reader, log: impl Fn(FrontReply)) {
        while let Ok(Some(received)) = reader.frame().await {
            let Ok(frame) = received.read::<FrontReply>() else { return };
            match &frame.body {
                FrontReply::Started { request, .. } | FrontReply::Refused { request, .. } => {
                    if let Some(Waiting { reply, on_reply }) = self.take(*request) {
                        let body = Ok(frame.body);
                        on_reply(&body);
                        let _ = body.map(|body| reply.send(body));
                    }
                }
                FrontReply::Line { .. } | FrontReply::Warning { .. } => log(frame.body),
                FrontReply::Drained => {
                    self.drained.send_replace(true);
                }
            }
        }
    }

    fn take(&self, request: u64) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request)
    }

    /// Asks for a session on a stream, of which the caller keeps its own copy.
    pub(super) async fn start(
        &self,
        token: String,
        connection: HandOver,
        stream: BorrowedFd<'_>,
        on_reply: OnReply,
    ) -> io::Result<FrontReply> {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, receiver) = oneshot::channel();
        let waiting = Waiting { reply, on_reply };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, waiting);
        let message = Frame::new(0, FrontRequest::Start { request, token, connection });
        let sent = self.writer.lock().await.send(&message, &[stream], &[]).await;
        if let Err(error) = sent {
            let error = Err(error);
            if let Some(waiting) = self.take(request) {
                (waiting.on_reply)(&error);
            }
            return error;
        }
        receiver.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits until all sessions are over, after the monitor was stopped.
    pub(super) async fn drained(&self) {
        let _ = self.drained.subscribe().wait_for(|drained| *drained).await;
    }

    /// Says something that is not answered.
    pub(super) async fn tell(&self, request: FrontRequest) {
        let _ = self.writer.lock().await.send(&Frame::new(0, request), &[], &[]).await;
    }
}
