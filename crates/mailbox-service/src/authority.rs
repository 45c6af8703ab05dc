//! The monitor's conversation with authd: redeems login tokens, without an event loop.

use std::io;
use std::path::PathBuf;

use mail_daemon::monitor::Watch;
use mail_ipc::auth::{Login, Request, Response};
use mail_ipc::hello::{Hello, Role, Versions};
use mail_ipc::sockets::AUTH;

use crate::link::Link;

/// What became of a token.
#[derive(Debug)]
pub(crate) enum Redeemed {
    /// Who logged in.
    Login(Box<Login>),
    /// authd does not know the token.
    Unknown,
    /// authd does not understand.
    NotUnderstood,
}

/// A connection to authd, made when it is needed.
#[derive(Debug)]
pub(crate) struct Authority {
    state: PathBuf,
    instance: String,
    link: Option<Link>,
    greeted: bool,
    watched: Watched,
}

/// How the monitor watches the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    No,
    Input,
    InputAndRoom,
}

impl Authority {
    /// authd below a state directory.
    pub(crate) fn new(state: PathBuf, instance: String) -> Self {
        Self { state, instance, link: None, greeted: false, watched: Watched::No }
    }

    /// Has the monitor come back under `token` when authd has said something, or when a request that waits can be sent.
    ///
    /// # Errors
    /// The link cannot be watched.
    pub(crate) fn watch(&mut self, watch: &Watch, token: u64) -> io::Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let wanted = if link.wants_to_write() { Watched::InputAndRoom } else { Watched::Input };
        if self.watched == Watched::No {
            watch.add(link, token)?;
            self.watched = Watched::Input;
        }
        if self.watched != wanted {
            watch.for_room(link, token, wanted == Watched::InputAndRoom)?;
            self.watched = wanted;
        }
        Ok(())
    }

    /// Asks who a token is. The answer comes through [`Authority::answers`] under the same number.
    ///
    /// # Errors
    /// authd cannot be reached. All numbers that are open are then lost.
    pub(crate) fn redeem(&mut self, number: u64, token: String) -> io::Result<()> {
        let sent = self.open().and_then(|link| link.send_numbered(number, &Request::Redeem { token }, Vec::new()));
        if sent.is_err() {
            self.close();
        }
        sent
    }

    fn open(&mut self) -> io::Result<&mut Link> {
        if self.link.is_none() {
            let path = self.state.join(AUTH.directory).join(AUTH.name);
            let mut link = Link::new(mail_posix::sockets::connect(&path)?)?;
            link.send(&Hello::new(Role::Monitor, self.instance.clone()), Vec::new())?;
            (self.greeted, self.watched) = (false, Watched::No);
            self.link = Some(link);
        }
        self.link.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends the conversation; the next token opens another.
    pub(crate) fn close(&mut self) {
        self.link = None;
    }

    /// Takes what authd has sent.
    ///
    /// # Errors
    /// The conversation broke and was closed. All numbers that are open are lost.
    pub(crate) fn answers(&mut self) -> io::Result<Vec<(u64, Redeemed)>> {
        let result = self.take();
        if result.is_err() {
            self.close();
        }
        result
    }

    fn take(&mut self) -> io::Result<Vec<(u64, Redeemed)>> {
        let mut answers = Vec::new();
        let Some(link) = self.link.as_mut() else { return Ok(answers) };
        link.flush()?;
        let open = link.fill()?;
        while let Some(received) = link.frame()? {
            if !self.greeted {
                let hello = received.read::<Hello>(&[]).map_err(io::Error::other)?.body;
                if Versions::OURS.common(hello.versions).is_none() {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                self.greeted = true;
                continue;
            }
            let frame = received.read::<Response>(&[]).map_err(io::Error::other)?;
            let redeemed = match frame.body {
                Response::Login { login } => Redeemed::Login(Box::new(login)),
                Response::Unknown => Redeemed::Unknown,
                _ => Redeemed::NotUnderstood,
            };
            answers.push((frame.id, redeemed));
        }
        if !open && answers.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answers)
    }
}
