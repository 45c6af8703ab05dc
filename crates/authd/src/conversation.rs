//! What both sockets have in common: who may connect, and replies that go out one at a time.

use std::collections::HashSet;

use mail_ipc::Frame;
use mail_ipc::hello::Role;
use mail_net::ipc::{Conversation, Writer};
use mail_posix::users;
use serde::Serialize;
use tokio::sync::mpsc;

/// So many replies wait for a slow client before its requests are no longer read.
const REPLIES: usize = 256;

/// The uids that may connect to a socket.
#[derive(Debug, Clone)]
pub(crate) struct Guests {
    uids: HashSet<u32>,
    /// Who may redeem tokens: the monitors, which run as root; without rights, ourselves.
    monitors: HashSet<u32>,
}

impl Guests {
    /// Root, ourselves, and (where roles have users of their own) the users of these roles.
    pub(crate) fn of(roles: &[&str], privileged: bool) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let found = roles.iter().filter_map(|name| users::by_name(name).ok().flatten()).map(|user| user.uid);
        let uids = found.chain([0, own]).collect();
        let monitors = if privileged { [0].into() } else { [0, own].into() };
        Self { uids, monitors }
    }

    /// Nobody, for tests.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self { uids: HashSet::new(), monitors: HashSet::new() }
    }

    /// Whether the other side may talk here at all.
    pub(crate) fn admits(&self, conversation: &Conversation) -> bool {
        self.uids.contains(&conversation.peer.uid)
    }

    /// Whether the other side is a monitor, which may learn who a token is.
    pub(crate) fn is_monitor(&self, conversation: &Conversation) -> bool {
        conversation.hello.role == Role::Monitor && self.monitors.contains(&conversation.peer.uid)
    }
}

/// Where replies go; clones serve requests side by side.
#[derive(Debug)]
pub(crate) struct Replies<T>(mpsc::Sender<Frame<T>>);

impl<T> Clone for Replies<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Serialize + Send + Sync + 'static> Replies<T> {
    /// Starts the task that writes.
    pub(crate) fn start(writer: Writer) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Frame<T>>(REPLIES);
        tokio::spawn(async move {
            while let Some(reply) = waiting.recv().await {
                if writer.send(&reply, &[], &[]).await.is_err() {
                    return;
                }
            }
        });
        Self(sender)
    }

    /// Replies to a request. A client that has gone gets nothing.
    pub(crate) async fn send(&self, id: u64, reply: T) {
        let _ = self.0.send(Frame::new(id, reply)).await;
    }
}

/// A name for a peer in the log.
pub(crate) fn describe(conversation: &Conversation) -> String {
    let Conversation { hello, peer, .. } = conversation;
    format!("{} (uid {})", hello.instance, peer.uid)
}
