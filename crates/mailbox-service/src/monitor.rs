//! The monitor's part: redeems tokens, makes session processes, passes connections to them, reaps them.
//!
//! One thread, one poll. It reads frames of the front, of session processes and of authd, never an octet of a client. The front may be under
//! a client's control and a session process under its owner's: of either only the few fields of [`crate::wire`] are believed, and neither can
//! name a user.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mail_ipc::auth::Login;
use mail_posix::Child;
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Redeemed};
use crate::link::{Link, Received};
use crate::registry::{Place, ProcessId, Registry};
use crate::service::Protocol;
use crate::session;
use crate::wire::{FrontReply, FrontRequest, HandOver, Owner, Refusal, SessionOrder, SessionReport};

/// How long authd may take to redeem a token.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(30);
/// Connections that wait for authd at one time.
const PENDING_MAX: usize = 1024;
/// Lines that wait for a front.
const LINES_MAX: usize = 1024;
/// How long a process may live on after its conversation.
const LEAVING_PATIENCE: Duration = Duration::from_secs(3);

/// What the configuration says to the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The state directory, where authd's socket is.
    pub state: PathBuf,
    /// The instance's name.
    pub instance: String,
    /// The most sessions of a user from one address (`mail_max_userip_connections`; 0 is no limit).
    pub sessions_per_user_and_address: u32,
    /// The lowest uid that mail is read as (`first_valid_uid`).
    pub first_uid: u32,
    /// The highest (`last_valid_uid`; 0 is no limit).
    pub last_uid: u32,
    /// The lowest gid (`first_valid_gid`).
    pub first_gid: u32,
    /// The highest (`last_valid_gid`; 0 is no limit).
    pub last_gid: u32,
}

/// A connection that waits for authd.
struct Pending {
    request: u64,
    connection: HandOver,
    stream: OwnedFd,
    since: Instant,
}

/// A session process as the monitor holds it.
struct Process {
    child: Child,
    link: Link,
}

/// A session process that has ended its conversation.
struct Leaving {
    child: Child,
    sessions: usize,
    killed_at: Instant,
}

/// The monitor's part of the service.
pub struct Monitor<P> {
    protocol: P,
    rules: Rules,
    registry: Registry,
    front: Option<Link>,
    processes: HashMap<ProcessId, Process>,
    leaving: Vec<Leaving>,
    authority: Authority,
    pending: BTreeMap<u64, Pending>,
    next_number: u64,
    /// Lines for the log that wait for a front.
    lines: VecDeque<FrontReply>,
    draining: bool,
}

impl<P> std::fmt::Debug for Monitor<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl<P: Protocol> Monitor<P> {
    /// A monitor without a front.
    #[must_use]
    pub fn new(protocol: P, rules: Rules) -> Self {
        let authority = Authority::new(rules.state.clone(), rules.instance.clone());
        Self {
            protocol,
            rules,
            registry: Registry::default(),
            front: None,
            processes: HashMap::new(),
            leaving: Vec::new(),
            authority,
            pending: BTreeMap::new(),
            next_number: 0,
            lines: VecDeque::new(),
            draining: false,
        }
    }

    /// Who is logged in.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A front was started; an earlier one is gone, and with it the connections that it relayed.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn front_started(&mut self, socket: UnixStream) -> io::Result<()> {
        self.front = Some(Link::new(socket)?);
        self.pending.clear();
        Ok(())
    }

    /// The configuration was read again: it holds for what comes.
    pub fn reconfigure(&mut self, protocol: P, rules: Rules) {
        self.protocol = protocol;
        self.rules = rules;
    }

    /// The service ends: sessions say goodbye, no new ones begin.
    pub fn drain(&mut self) {
        self.draining = true;
        let processes: Vec<ProcessId> = self.processes.keys().copied().collect();
        for process in processes {
            self.order(process, &SessionOrder::Shutdown, Vec::new());
        }
    }

    /// Whether no session process is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.leaving.is_empty()
    }

    /// Waits at most so long for something to do, and does it. `wake` are further descriptors that end the wait when readable.
    ///
    /// # Errors
    /// The system cannot poll.
    pub fn turn(&mut self, wake: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        let ready = self.wait(wake, timeout)?;
        if ready.front {
            self.hear_front();
        }
        if ready.authority {
            self.hear_authority();
        }
        for process in ready.processes {
            self.hear_process(process);
        }
        self.give_up_waiting();
        self.reap();
        Ok(())
    }

    fn wait(&self, wake: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<Ready> {
        let watching = !self.pending.is_empty() || !self.leaving.is_empty();
        let timeout = if watching { timeout.min(Duration::from_secs(1)) } else { timeout };
        let timeout = rustix::event::Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut who = Vec::new();
        let mut poll: Vec<PollFd<'_>> = wake.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let mut add = |source, fd, write| {
            let write = if write { PollFlags::OUT } else { PollFlags::empty() };
            poll.push(PollFd::from_borrowed_fd(fd, PollFlags::IN | write));
            who.push(source);
        };
        if let Some(front) = &self.front {
            add(Source::Front, front.as_fd(), front.wants_to_write());
        }
        if let Some((fd, write)) = self.authority.descriptor() {
            add(Source::Authority, fd, write);
        }
        for (id, process) in &self.processes {
            add(Source::Process(*id), process.link.as_fd(), process.link.wants_to_write());
        }
        for leaving in &self.leaving {
            add(Source::Leaving, leaving.child.as_fd(), false);
        }
        match rustix::event::poll(&mut poll, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = Ready::default();
        for (fd, source) in poll[wake.len()..].iter().zip(who) {
            if fd.revents().is_empty() {
                continue;
            }
            match source {
                Source::Front => ready.front = true,
                Source::Authority => ready.authority = true,
                Source::Process(id) => ready.processes.push(id),
                Source::Leaving => {}
            }
        }
        Ok(ready)
    }

    fn hear_front(&mut self) {
        let Some(front) = self.front.as_mut() else { return };
        let mut heard = Vec::new();
        let open = read_all(front, &mut heard);
        for received in heard {
            match received.raw.read::<FrontRequest>(&[]) {
                Ok(frame) => self.front_asks(frame.body, received.descriptors),
                Err(error) => self.warn(&format!("the front is not understood: {error}")),
            }
        }
        if !open {
            self.front = None;
        }
    }

    fn front_asks(&mut self, asked: FrontRequest, descriptors: Vec<OwnedFd>) {
        match asked {
            FrontRequest::Start { request, token, connection } => {
                let Some(stream) = descriptors.into_iter().next() else {
                    return self.refuse(request, Refusal::Temporary);
                };
                if self.draining {
                    return self.refuse(request, Refusal::ShuttingDown);
                }
                self.redeem(token, Pending { request, connection, stream, since: Instant::now() });
            }
            FrontRequest::Announce { user, mailbox } => {
                if let Some(process) = self.registry.process_of(&user) {
                    self.order(process, &SessionOrder::Announce { mailbox }, Vec::new());
                }
            }
        }
    }

    fn redeem(&mut self, token: String, pending: Pending) {
        self.next_number += 1;
        if self.pending.len() >= PENDING_MAX {
            return self.refuse(pending.request, Refusal::Temporary);
        }
        match self.authority.redeem(self.next_number, token) {
            Ok(()) => {
                self.pending.insert(self.next_number, pending);
            }
            Err(error) => {
                self.refuse(pending.request, Refusal::Temporary);
                self.lost_authority(&error);
            }
        }
    }

    fn hear_authority(&mut self) {
        match self.authority.answers() {
            Ok(answers) => {
                for (number, redeemed) in answers {
                    if let Some(pending) = self.pending.remove(&number) {
                        self.redeemed(pending, redeemed);
                    }
                }
            }
            Err(error) => self.lost_authority(&error),
        }
    }

    /// authd is gone: what it was asked is lost.
    fn lost_authority(&mut self, error: &io::Error) {
        if !self.pending.is_empty() {
            self.warn(&format!("authd does not answer: {error}"));
        }
        for pending in std::mem::take(&mut self.pending).into_values() {
            self.refuse(pending.request, Refusal::Temporary);
        }
    }

    fn give_up_waiting(&mut self) {
        let oldest = self.pending.values().next().map(|pending| pending.since);
        if oldest.is_some_and(|since| since.elapsed() >= AUTHORITY_PATIENCE) {
            self.authority.close();
            self.lost_authority(&io::ErrorKind::TimedOut.into());
        }
    }

    fn redeemed(&mut self, pending: Pending, redeemed: Redeemed) {
        let refusal = match redeemed {
            Redeemed::Login(login) => match self.owner(*login) {
                Ok(owner) => return self.start(&owner, pending),
                Err(text) => {
                    self.warn(&text);
                    Refusal::Forbidden
                }
            },
            Redeemed::Unknown | Redeemed::NotUnderstood => {
                self.warn("authd does not know a login that it has just given");
                Refusal::Temporary
            }
        };
        self.refuse(pending.request, refusal);
    }

    /// Who the session process becomes, or why there can be none.
    fn owner(&self, login: Login) -> Result<Owner, String> {
        let Login { user, service, uid, gid, home, mail } = login;
        if service != P::NAME {
            return Err(format!("the login of {user} is for {service}"));
        }
        let mail = mail.ok_or_else(|| format!("{user} has no mail location"))?;
        let uid = uid.map(|uid| self.valid_uid(&user, uid)).transpose()?;
        let gid = gid.map(|gid| self.valid_gid(&user, gid)).transpose()?;
        // Without root everything runs as the caller (DESIGN: one user per role).
        let root = mail_posix::Identity::current().uid == 0;
        if root && uid.is_none() {
            return Err(format!("{user} has no uid"));
        }
        Ok(Owner { user, uid: uid.filter(|_| root), gid: gid.filter(|_| root), home, mail })
    }

    fn valid_uid(&self, user: &str, uid: u32) -> Result<u32, String> {
        let Rules { first_uid, last_uid, .. } = self.rules;
        let valid = uid != 0 && uid >= first_uid && (last_uid == 0 || uid <= last_uid);
        let text = || format!("Mail access for users with UID {uid} not permitted (see first_valid_uid; user {user})");
        if valid { Ok(uid) } else { Err(text()) }
    }

    fn valid_gid(&self, user: &str, gid: u32) -> Result<u32, String> {
        let Rules { first_gid, last_gid, .. } = self.rules;
        let valid = gid >= first_gid && (last_gid == 0 || gid <= last_gid);
        let text = || format!("Mail access for users with GID {gid} not permitted (see first_valid_gid; user {user})");
        if valid { Ok(gid) } else { Err(text()) }
    }

    /// Passes a connection to its owner's process.
    fn start(&mut self, owner: &Owner, pending: Pending) {
        let Pending { request, connection, stream, .. } = pending;
        let limit = self.rules.sessions_per_user_and_address;
        if !self.registry.may_enter(&owner.user, connection.peer, limit) {
            return self.refuse(request, Refusal::TooMany { limit });
        }
        let process = match self.registry.place(&owner.user) {
            Place::Running(process) => process,
            Place::New(process) => match self.fork(process, owner) {
                Ok(()) => process,
                Err(error) => {
                    self.registry.end(process);
                    self.warn(&format!("cannot make a session process: {error}"));
                    return self.refuse(request, Refusal::Temporary);
                }
            },
        };
        let Some(session) = self.registry.pass(process, connection.peer) else {
            return self.refuse(request, Refusal::Temporary);
        };
        let pid = self.processes.get(&process).map_or(0, |process| process.child.pid());
        if self.order(process, &SessionOrder::Serve { session, connection }, vec![stream]) {
            self.tell_front(&FrontReply::Started { request, pid });
        } else {
            self.refuse(request, Refusal::Temporary);
        }
    }

    fn fork(&mut self, process: ProcessId, owner: &Owner) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let link = Link::new(ours)?;
        let parent = std::process::id();
        let (protocol, owner) = (self.protocol.clone(), owner.clone());
        let child = mail_posix::fork_child(move || {
            // No other owner's conversation, no listener and no key goes along.
            let prepared = mail_posix::fork::close_all_but(&[theirs.as_fd()])
                .and_then(|()| mail_posix::signals::unblock_all())
                .and_then(|()| mail_posix::fork::die_with_parent(parent));
            if prepared.is_err() {
                return mail_posix::fork::PANICKED;
            }
            session::run(session::Start { protocol, owner, control: theirs })
        })?;
        self.processes.insert(process, Process { child, link });
        Ok(())
    }

    /// Sends an order; a process that does not take it is ended. Whether it was sent.
    fn order(&mut self, process: ProcessId, order: &SessionOrder, descriptors: Vec<OwnedFd>) -> bool {
        let Some(entry) = self.processes.get_mut(&process) else { return false };
        match entry.link.send(order, descriptors) {
            Ok(()) => true,
            Err(_) => {
                self.end(process);
                false
            }
        }
    }

    fn hear_process(&mut self, process: ProcessId) {
        let Some(entry) = self.processes.get_mut(&process) else { return };
        let mut heard = Vec::new();
        let open = read_all(&mut entry.link, &mut heard);
        for received in heard {
            if let Ok(frame) = received.raw.read::<SessionReport>(&[]) {
                self.process_reports(process, frame.body);
            }
        }
        if !open {
            self.end(process);
        }
    }

    fn process_reports(&mut self, process: ProcessId, report: SessionReport) {
        match report {
            SessionReport::Closed { session } => {
                // A process speaks for its own sessions only.
                if self.registry.session(session).is_some_and(|entry| entry.process == process) {
                    self.registry.close(session);
                }
            }
            SessionReport::Line { line } => {
                let user = self.registry.user_of(process).map(str::to_owned);
                let pid = self.processes.get(&process).map(|process| process.child.pid());
                if let (Some(user), Some(pid)) = (user, pid) {
                    self.log(FrontReply::Line { user, pid, line });
                }
            }
            SessionReport::Idle { served } => {
                if self.registry.may_exit(process, served) {
                    self.order(process, &SessionOrder::Exit, Vec::new());
                }
            }
        }
    }

    /// A process is gone, or must go.
    fn end(&mut self, process: ProcessId) {
        let Some(Process { child, .. }) = self.processes.remove(&process) else { return };
        let sessions = self.registry.end(process).len();
        self.leaving.push(Leaving { child, sessions, killed_at: Instant::now() + LEAVING_PATIENCE });
    }

    /// Reaps processes whose conversation has ended. One that stays is killed.
    fn reap(&mut self) {
        let mut reports = Vec::new();
        self.leaving.retain_mut(|leaving| {
            let Leaving { child, sessions, killed_at } = leaving;
            let ended = match child.try_wait() {
                Ok(None) => {
                    if Instant::now() >= *killed_at {
                        let _ = child.signal(9);
                    }
                    return true;
                }
                Ok(Some(ended)) if ended.success() => return false,
                Ok(Some(ended)) => ended.to_string(),
                Err(error) => error.to_string(),
            };
            reports.push(format!("session process {} ended with {sessions} sessions: {ended}", child.pid()));
            false
        });
        for report in reports {
            self.warn(&report);
        }
    }

    fn tell_front(&mut self, reply: &FrontReply) {
        if let Some(front) = self.front.as_mut()
            && front.send(reply, Vec::new()).is_err()
        {
            self.front = None;
        }
    }

    fn refuse(&mut self, request: u64, refusal: Refusal) {
        self.tell_front(&FrontReply::Refused { request, refusal });
    }

    fn warn(&mut self, text: &str) {
        self.log(FrontReply::Warning { text: format!("{}: {text}", P::NAME) });
    }

    /// Gives a line to the front, which keeps the log; while there is none, lines wait.
    fn log(&mut self, line: FrontReply) {
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        while let (Some(line), Some(front)) = (self.lines.front(), self.front.as_mut()) {
            match front.send(line, Vec::new()) {
                Ok(()) => drop(self.lines.pop_front()),
                Err(_) => self.front = None,
            }
        }
    }
}

/// Who became ready.
#[derive(Debug, Default)]
struct Ready {
    front: bool,
    authority: bool,
    processes: Vec<ProcessId>,
}

/// Whose descriptor a poll entry is.
enum Source {
    Front,
    Authority,
    Process(ProcessId),
    Leaving,
}

/// Reads what has come; false at the end or after an error.
fn read_all(link: &mut Link, heard: &mut Vec<Received>) -> bool {
    let open = link.flush().is_ok() && link.fill().unwrap_or(false);
    loop {
        match link.frame() {
            Ok(Some(received)) => heard.push(received),
            Ok(None) => return open,
            Err(_) => return false,
        }
    }
}
