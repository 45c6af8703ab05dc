//! A connection leaves the front: to the owner's session process, or with a refusal.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use mail_net::Stream;
use mail_types::Octets;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};

use super::login::Client;
use super::relay::relay;
use crate::login_log::Attempts;
use crate::service::{Protocol, Resume};
use crate::wire::{FrontReply, HandOver, Refusal};

/// More unread input than this does not fit into a hand-over: it goes through a relay.
const UNREAD_MAX: usize = 16 * 1024;
/// How long a refusal may take to be written.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection after a good login.
pub(super) struct Leaving<P> {
    client: Arc<Client<P>>,
    attempts: Attempts,
    resume: Resume,
}

impl<P: Protocol> Leaving<P> {
    pub(super) fn new(client: Arc<Client<P>>, attempts: Attempts, resume: Resume) -> Self {
        Self { client, attempts, resume }
    }

    /// Gives the connection to the owner's session process.
    pub(super) async fn go(self, stream: Stream, token: String) {
        match stream {
            Stream::Tcp(stream) if self.resume.unread.len() <= UNREAD_MAX => self.pass(stream, token).await,
            stream => self.relay(stream, token).await,
        }
    }

    fn connection(&self, tls: bool, local_name: Option<&str>, unread: Octets) -> HandOver {
        HandOver {
            session: self.client.session.clone(),
            peer: self.client.peer,
            local: self.client.local,
            local_name: local_name.map(str::to_owned),
            tls,
            secured: tls || self.client.local_peer,
            tag: self.resume.tag.clone(),
            enabled: self.resume.enabled.clone(),
            unread,
        }
    }

    /// Passes the socket itself.
    async fn pass(self, stream: TcpStream, token: String) {
        let Ok(stream) = stream.into_std() else { return };
        let unread = Octets::new(self.resume.unread.clone());
        if let Some(refusal) = self.ask(token, self.connection(false, None, unread), stream.as_fd()).await
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            self.refuse(Stream::Tcp(stream), &refusal).await;
        }
    }

    /// Keeps the socket, passes one end of a pair, and relays.
    async fn relay(self, client: Stream, token: String) {
        let Ok((ours, theirs)) = pair() else { return };
        let connection = self.connection(client.tls().is_some(), client.server_name(), Octets::default());
        let refusal = self.ask(token, connection, theirs.as_fd()).await;
        drop(theirs);
        match refusal {
            Some(refusal) => self.refuse(client, &refusal).await,
            None => {
                let unread = self.resume.unread;
                // The session's end is logged by its process.
                let _ = relay(client, ours, &unread).await;
            }
        }
    }

    /// Asks the monitor for a session; the refusal, if it is one.
    async fn ask(&self, token: String, connection: HandOver, stream: BorrowedFd<'_>) -> Option<Refusal> {
        let (client, attempts, tls) = (Arc::clone(&self.client), self.attempts.clone(), connection.tls);
        // Logged while the reply is taken, so that the lines of the session come after it.
        let log = move |reply: &io::Result<FrontReply>| match refusal_of(reply) {
            Ok(pid) => client.log("Login", &attempts, Some(pid), tls),
            Err(refusal) => client.log(&words(&refusal), &attempts, None, tls),
        };
        let reply = self.client.shared.monitor.start(token, connection, stream, Box::new(log)).await;
        refusal_of(&reply).err()
    }

    async fn refuse(self, mut stream: Stream, refusal: &Refusal) {
        let text = self.client.current.protocol.refusal(refusal, &self.resume);
        let goodbye = async {
            let _ = stream.write_all(&text).await;
            let _ = stream.shutdown().await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// The session process, or why there is none.
fn refusal_of(reply: &io::Result<FrontReply>) -> Result<u32, Refusal> {
    match reply {
        Ok(FrontReply::Started { pid, .. }) => Ok(*pid),
        Ok(FrontReply::Refused { refusal, .. }) => Err(*refusal),
        Ok(_) | Err(_) => Err(Refusal::Temporary),
    }
}

/// A refusal in the log's words, which are Dovecot's where it has them.
fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::TooMany { limit } => {
            format!("Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})")
        }
        Refusal::Temporary => "Internal login failure".to_owned(),
        Refusal::Forbidden => "Login refused (see the monitor's lines)".to_owned(),
        Refusal::ShuttingDown => "Disconnected: Shutting down".to_owned(),
    }
}
