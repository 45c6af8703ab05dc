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

/// Sends requests side by side and brings each reply to its request.
pub(super) struct MonitorLine {
    writer: Mutex<Writer>,
    next: AtomicU64,
    waiting: StdMutex<HashMap<u64, oneshot::Sender<FrontReply>>>,
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
                    let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(request);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(frame.body);
                    }
                }
                FrontReply::Line { .. } | FrontReply::Warning { .. } => log(frame.body),
                FrontReply::Drained => {
                    self.drained.send_replace(true);
                }
            }
        }
    }

    /// Asks for a session on a stream, of which the caller keeps its own copy.
    pub(super) async fn start(
        &self,
        token: String,
        connection: HandOver,
        stream: BorrowedFd<'_>,
    ) -> io::Result<FrontReply> {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, sender);
        let message = Frame::new(0, FrontRequest::Start { request, token, connection });
        let sent = self.writer.lock().await.send(&message, &[stream], &[]).await;
        if let Err(error) = sent {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
            return Err(error);
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
