//! The sockets: intake, workers, operators. Each connection is a task; all of them speak to the store and to the core.

mod control;
mod delivery;
mod intake;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, RwLock};

use mail_daemon::state::Roles;
use mail_ipc::hello::{Hello, Role};
use mail_net::ipc::{self, Conversation};
use queue_store::Store;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::core::{Event, Router};

/// What every connection needs.
pub struct Hub {
    /// The queue.
    pub store: Arc<Store>,
    /// The core.
    pub events: Sender<Event>,
    /// The routes of the configuration in force.
    pub router: RwLock<Arc<dyn Router>>,
    /// How we introduce ourselves.
    pub hello: Hello,
    /// Who may be which role.
    pub roles: Roles,
    connections: AtomicU64,
    closing: watch::Sender<bool>,
}

/// Which conversation a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `queue.sock`.
    Intake,
    /// `delivery.sock`.
    Delivery,
    /// `control.sock`.
    Control,
}

impl Hub {
    /// A hub over an open store and a running core.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        events: Sender<Event>,
        router: Arc<dyn Router>,
        hello: Hello,
        roles: Roles,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            events,
            router: RwLock::new(router),
            hello,
            roles,
            connections: AtomicU64::new(1),
            closing: watch::Sender::new(false),
        })
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    fn router(&self) -> Arc<dyn Router> {
        self.router.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Ends all conversations; answers that wait for a sync still go out.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Takes the routes of a new configuration.
    pub fn set_router(&self, router: Arc<dyn Router>) {
        *self.router.write().unwrap_or_else(std::sync::PoisonError::into_inner) = router;
    }
}

/// Accepts connections until the task is dropped.
pub async fn listen(hub: Arc<Hub>, listener: UnixListener, kind: Kind) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                begin(hub.clone(), stream, kind);
            }
            // Out of descriptors: those that end make room.
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection in a task of its own, to its end or [`Hub::close`].
pub fn begin(hub: Arc<Hub>, stream: UnixStream, kind: Kind) {
    let mut closing = hub.closing.subscribe();
    tokio::spawn(async move {
        tokio::select! {
            ended = converse(hub, stream, kind) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, ?kind, "conversation ended");
                }
            }
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
}

/// Serves one connection to its end.
///
/// # Errors
/// The connection broke, or the peer has no business here.
async fn converse(hub: Arc<Hub>, stream: UnixStream, kind: Kind) -> io::Result<()> {
    let conversation = ipc::accept(stream, &hub.hello).await?;
    let (role, uid) = (conversation.hello.role, conversation.peer.uid);
    if !may_speak(kind, role) || (kind != Kind::Control && !hub.roles.may_be(role, uid)) {
        tracing::warn!(?role, uid, ?kind, "turned away");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match kind {
        Kind::Intake => intake::serve(hub, conversation).await,
        Kind::Delivery => delivery::serve(hub, conversation).await,
        Kind::Control => control::serve(hub, conversation).await,
    }
}

/// The sockets' directories and modes let in only our group; among those, each role has its socket, and its user. Anybody may ask on the
/// control socket; what is answered depends on the uid.
fn may_speak(kind: Kind, role: Role) -> bool {
    match kind {
        Kind::Intake => role == Role::Smtpd,
        Kind::Delivery => matches!(role, Role::LocalDelivery | Role::RemoteDelivery),
        Kind::Control => true,
    }
}

/// The privileged are root and the user we run as.
fn is_privileged(conversation: &Conversation) -> bool {
    let uid = conversation.peer.uid;
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}
