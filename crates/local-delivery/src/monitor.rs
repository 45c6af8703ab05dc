//! The monitor's service: it forks deliverers on the coordinator's word and makes each the user it is for.
//!
//! The coordinator has read mail, so its word is not trusted beyond this: never root, for mailbox users only uids that dovecot.conf allows,
//! and an additional group only for the configured mail spool. Where users may share a uid, a deliverer keeps one mailbox.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use mail_daemon::monitor::{Desk, Service};
use mail_ipc::frame::{Frame, Raw};
use mail_posix::become_user::{Confinement, Identity, become_user};
use mail_posix::fork::{Child, Ended};
use mail_posix::landlock::{Connections, Rules};
use mail_posix::sandbox::Sandbox;
use mail_posix::seccomp::Calls;
use serde::{Deserialize, Serialize};

use crate::deliverer;
use crate::job::Owner;
use crate::room::{Mailbox, Room};

/// SIGKILL.
const KILL: i32 = 9;

/// From the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Can deliverers be other users?
    Rights,
    /// A deliverer for this owner; its end of their conversation is the frame's descriptor.
    Start {
        /// Who it is.
        owner: Owner,
        /// The one mailbox that it reaches; none where its user alone says what it reaches.
        #[serde(default)]
        mailbox: Option<Mailbox>,
        /// It runs the owner's programs, among which set-uid ones keep their meaning (a forwarder calls `sendmail`).
        #[serde(default)]
        programs: bool,
        /// What the coordinator calls it.
        #[serde(default)]
        number: u64,
    },
    /// This deliverer does not answer any more: end it, so that nothing is delivered that was reported otherwise.
    End {
        /// Which.
        number: u64,
    },
}

/// From the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Whether deliverers can be other users.
    Rights {
        /// We are root.
        root: bool,
    },
    /// A deliverer was not started; its socket is closed.
    Refused {
        /// Why.
        text: String,
    },
}

/// The service.
#[derive(Debug, Default)]
pub struct Deliverers {
    /// With what the coordinator calls them.
    children: Vec<(u64, Child)>,
}

impl Service for Deliverers {
    fn frame(&mut self, desk: &mut Desk, raw: Raw, descriptors: Vec<OwnedFd>) {
        let answer = match raw.read::<Request>(&[]).map(|frame| frame.body) {
            Ok(Request::Rights) => Some(Answer::Rights { root: is_root() }),
            Ok(Request::Start { owner, mailbox, programs, number }) => {
                let started = start(desk, owner, mailbox, programs, descriptors);
                let started = started.map(|child| self.children.push((number, child)));
                started.err().map(|error| Answer::Refused { text: error.to_string() })
            }
            Ok(Request::End { number }) => {
                for (_, child) in self.children.iter().filter(|(known, _)| *known == number) {
                    // It may have ended meanwhile.
                    let _ = child.signal(KILL);
                }
                None
            }
            Err(error) => Some(Answer::Refused { text: error.to_string() }),
        };
        if let Some(answer) = answer {
            // A coordinator that takes nothing will be gone soon, and the monitor with it.
            let _ = desk.front.send(&Frame::new(raw.id(), answer), &[]);
        }
    }

    fn ready(&mut self, _desk: &mut Desk, _token: u64) {}

    fn child_ended(&mut self, _desk: &mut Desk, pid: u32, _ended: Ended) {
        self.children.retain(|(_, child)| child.pid() != pid);
    }

    fn reloaded(&mut self, _desk: &mut Desk) {}

    fn stop(&mut self, _desk: &mut Desk) {
        // Deliverers end when the coordinator, having finished, closes their sockets.
    }

    fn busy(&self) -> bool {
        !self.children.is_empty()
    }
}

fn start(
    desk: &Desk,
    owner: Owner,
    mailbox: Option<Mailbox>,
    programs: bool,
    descriptors: Vec<OwnedFd>,
) -> io::Result<Child> {
    let socket = descriptors.into_iter().next().ok_or_else(|| io::Error::other("a deliverer needs a socket"))?;
    let identity = identity(desk, owner)?;
    if mailbox.is_none() && matches!(owner, Owner::Virtual { .. } | Owner::MailUser { .. }) {
        return Err(io::Error::other("a deliverer of users who may share a uid needs a mailbox"));
    }
    let monitor = std::process::id();
    let confinement = if programs { Confinement::RUNS_COMMANDS } else { Confinement::FULL };
    let groups = match owner {
        Owner::MailUser { .. } => desk.running.config.dovecot.lmtp.mail_access_groups.value.clone(),
        _ => Vec::new(),
    };
    let became = identity.map(|identity| (identity, groups));
    desk.fork(&[socket.as_fd()], || run(owner, became, mailbox, confinement, monitor, &socket))
}

/// The deliverer's life, in the child.
fn run(
    owner: Owner,
    identity: Option<(Identity, Vec<String>)>,
    mailbox: Option<Mailbox>,
    confinement: Confinement,
    monitor: u32,
    socket: &OwnedFd,
) -> u8 {
    let confined = match identity {
        Some((identity, groups)) => confirmed(owner, identity)
            .and_then(|identity| identity.with_named_groups(&groups))
            .and_then(|identity| confine(&identity, mailbox, confinement)),
        None => confine(&Identity::current(), mailbox, confinement),
    };
    // Becoming a user resets the parent-death signal.
    let ran = confined.and_then(|room| {
        mail_posix::fork::die_with_parent(monitor)?;
        let stream = UnixStream::from(socket.try_clone()?);
        stream.set_nonblocking(false)?;
        deliverer::run(stream, room)
    });
    match ran {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("local-delivery: deliverer: {error}");
            mail_daemon::EX_OSERR
        }
    }
}

/// Becomes the recipient and gives up what a deliverer has no use for: programs, sockets, connections, signals, and all files but those of its mailbox.
/// Without a mailbox, which files are the recipient's, their modes say. What the kernel lacks, the coordinator has said already.
///
/// Who may gain rights by running programs runs programs, and keeps what those need.
fn confine(identity: &Identity, mailbox: Option<Mailbox>, confinement: Confinement) -> io::Result<Option<Room>> {
    become_user(identity, confinement).map_err(|error| io::Error::other(error.to_string()))?;
    if !confinement.no_new_privs {
        return Ok(None);
    }
    // Made before the sandbox: what lies above the mailbox is closed afterwards.
    let room = mailbox.map(Room::prepare);
    let everything = || vec![PathBuf::from("/")];
    let (read, write, append) = match &room {
        None => (everything(), everything(), Vec::new()),
        Some(room) => (Vec::new(), room.writable(), room.shared()),
    };
    let rules = Rules { read, write, append, connect: Connections::Ports(Vec::new()) };
    mail_posix::sandbox::enter(&Sandbox { rules, calls: &[Calls::Basic, Calls::Files] })?;
    Ok(room)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whom the child becomes; none without rights.
fn identity(desk: &Desk, owner: Owner) -> io::Result<Option<Identity>> {
    if !is_root() {
        return Ok(None);
    }
    let config = &desk.running.config;
    let refused = |text: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, text.to_owned()));
    match owner {
        Owner::Caller => refused("a deliverer that is root"),
        Owner::User { uid: 0, .. }
        | Owner::Uid { uid: 0 }
        | Owner::Virtual { uid: 0, .. }
        | Owner::MailUser { uid: 0, .. } => refused("mail is never delivered as root"),
        // The child finds the group.
        Owner::Uid { uid } => Ok(Some(Identity::ids(uid, uid))),
        Owner::Virtual { uid, gid } => {
            if config.main.virtual_uid_maps.is_empty() || u64::from(uid) < *config.main.virtual_minimum_uid || gid == 0
            {
                return refused(&format!("uid {uid} with gid {gid} cannot own a mailbox of virtual_mailbox_maps"));
            }
            Ok(Some(Identity::ids(uid, gid)))
        }
        Owner::User { uid, gid, spool } => {
            let identity = Identity::ids(uid, gid);
            let group = if spool { spool_group(&config.main.mail_spool_directory)? } else { None };
            Ok(Some(group.map_or(identity.clone(), |group| identity.with_group(group))))
        }
        Owner::MailUser { uid, gid } => {
            let settings = &config.dovecot.settings;
            let (first, last) = (*settings.first_valid_uid, *settings.last_valid_uid);
            if u64::from(uid) < first || (last != 0 && u64::from(uid) > last) {
                return refused(&format!("uid {uid} is not between first_valid_uid {first} and last_valid_uid {last}"));
            }
            let (first, last) = (*settings.first_valid_gid, *settings.last_valid_gid);
            if gid == 0 || u64::from(gid) < first || (last != 0 && u64::from(gid) > last) {
                return refused(&format!("gid {gid} is not between first_valid_gid {first} and last_valid_gid {last}"));
            }
            Ok(Some(Identity::ids(uid, gid)))
        }
    }
}

/// Holds a user of the machine against the passwd database: a coordinator that was taken over gets nobody's uid with a group of its choice
/// (`shadow`, `disk`). In the child, because the databases run foreign code.
fn confirmed(owner: Owner, identity: Identity) -> io::Result<Identity> {
    let (Owner::User { uid, .. } | Owner::Uid { uid }) = owner else { return Ok(identity) };
    let user = mail_posix::users::by_uid(uid)?;
    match (owner, user) {
        (Owner::User { gid, .. }, Some(user)) if user.gid == gid && identity.gid == gid => Ok(identity),
        (Owner::Uid { .. }, Some(user)) if user.gid != 0 => Ok(Identity::ids(uid, user.gid)),
        _ => Err(io::Error::other(format!("uid {uid} is no user of the machine, or not with this group"))),
    }
}

/// The group of a mail spool that only its group may write to, as Debian's `/var/mail` is.
fn spool_group(spool: &str) -> io::Result<Option<u32>> {
    let metadata = std::fs::metadata(spool)?;
    let mode = metadata.mode();
    Ok((mode & 0o002 == 0 && mode & 0o020 != 0).then(|| metadata.gid()))
}
