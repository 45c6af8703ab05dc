//! The monitor's part: redeems tokens, makes session processes, passes connections to them, reaps them.
//!
//! One thread, one poll. It reads frames of the front, of session processes and of authd, never an octet of a client. The front may be under
//! a client's control and a session process under its owner's: of either only the few fields of [`crate::wire`] are believed, and neither can
//! name a user.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_config::dovecot::{Location, Settings, Unsupported};
use mail_config::{Config, Views};
use mail_daemon::monitor::{Desk, Service, Watch};
use mail_ipc::auth::Login;
use mail_ipc::frame::{Frame, Raw};
use mail_posix::{Child, Ended};

use crate::authority::{Authority, Redeemed};
use crate::link::Link;
use crate::registry::{Place, ProcessId, Registry};
use crate::service::Protocol;
use crate::session;
use crate::wire::{FrontReply, FrontRequest, HandOver, Owner, Refusal, SessionLine, SessionOrder, SessionReport};

/// How long authd may take to redeem a token.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(30);
/// Connections that wait for authd at one time.
const PENDING_MAX: usize = 1024;
const KILL: i32 = 9;

/// What the configuration says about a session: to the monitor, and to the process that serves it.
pub(crate) struct Seen<P> {
    rules: Rules,
    /// Where mail lies if authd names no place: the session process looks for it, unless the configuration asks for what is not built.
    location: Result<String, String>,
    /// `mail_access_groups`
    groups: Vec<String>,
    /// The protocol, for the session process.
    pub(crate) protocol: P,
}

impl<P: Protocol> Seen<P> {
    fn of(config: &Config) -> Self {
        let location = match &config.dovecot.location {
            Location::Unsupported(Unsupported { what, source }) => Err(format!("{source}: {what} is not supported")),
            Location::Detect | Location::At { .. } => Ok(String::new()),
        };
        let settings = config.dovecot.protocol(P::SERVED);
        let groups = settings.mail_access_groups.value.clone();
        Self { rules: Rules::of(settings), location, groups, protocol: P::new(config) }
    }
}

/// Limits and identities of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    /// The most sessions of a user from one address (`mail_max_userip_connections`; 0 is no limit).
    sessions_per_user_and_address: u32,
    /// The lowest and highest uid that mail is read as (`first_valid_uid`, `last_valid_uid`; a highest of 0 is no limit).
    uids: (u32, u32),
    /// The same of gids.
    gids: (u32, u32),
}

impl Rules {
    fn of(settings: &Settings) -> Self {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            sessions_per_user_and_address: number(*settings.mail_max_userip_connections),
            uids: (number(*settings.first_valid_uid), number(*settings.last_valid_uid)),
            gids: (number(*settings.first_valid_gid), number(*settings.last_valid_gid)),
        }
    }

    fn valid_uid(self, user: &str, uid: u32) -> Result<u32, String> {
        let (first_uid, last_uid) = self.uids;
        let valid = uid != 0 && uid >= first_uid && (last_uid == 0 || uid <= last_uid);
        let text = || format!("Mail access for users with UID {uid} not permitted (see first_valid_uid; user {user})");
        if valid { Ok(uid) } else { Err(text()) }
    }

    fn valid_gid(self, user: &str, gid: u32) -> Result<u32, String> {
        let (first_gid, last_gid) = self.gids;
        let valid = gid >= first_gid && (last_gid == 0 || gid <= last_gid);
        let text = || format!("Mail access for users with GID {gid} not permitted (see first_valid_gid; user {user})");
        if valid { Ok(gid) } else { Err(text()) }
    }
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
    /// The link is watched for room.
    full: bool,
}

impl Process {
    /// Has the monitor come back when a message that waits can be sent.
    fn watch_for_room(&mut self, watch: &Watch, id: ProcessId) -> io::Result<()> {
        let full = self.link.wants_to_write();
        if std::mem::replace(&mut self.full, full) != full {
            watch.for_room(&self.link, id.0, full)?;
        }
        Ok(())
    }
}

/// The watched descriptor of authd; session processes have their numbers, which begin at 1.
const AUTHORITY: u64 = 0;

/// The monitor's part of the service.
pub struct Monitor<P> {
    /// What the configuration in force says to each connection.
    views: Option<Arc<Views<Seen<P>>>>,
    registry: Registry,
    processes: HashMap<ProcessId, Process>,
    by_pid: HashMap<u32, ProcessId>,
    /// Processes whose conversation has ended and that have not been reaped, with the sessions they left.
    leaving: HashMap<u32, usize>,
    authority: Option<Authority>,
    pending: BTreeMap<u64, Pending>,
    next_number: u64,
    draining: bool,
}

impl<P> Default for Monitor<P> {
    fn default() -> Self {
        Self {
            views: None,
            registry: Registry::default(),
            processes: HashMap::new(),
            by_pid: HashMap::new(),
            leaving: HashMap::new(),
            authority: None,
            pending: BTreeMap::new(),
            next_number: 0,
            draining: false,
        }
    }
}

impl<P> std::fmt::Debug for Monitor<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl<P: Protocol> Service for Monitor<P> {
    fn frame(&mut self, desk: &mut Desk, raw: Raw, descriptors: Vec<OwnedFd>) {
        let mut desk = Work { desk, monitor: self };
        match raw.read::<FrontRequest>(&[]) {
            Ok(frame) => desk.front_asks(frame.body, descriptors),
            Err(error) => desk.warn(&format!("the front is not understood: {error}")),
        }
        desk.tidy();
    }

    fn ready(&mut self, desk: &mut Desk, token: u64) {
        let mut work = Work { desk, monitor: self };
        if token == AUTHORITY {
            work.hear_authority()
        } else {
            work.hear_process(ProcessId(token))
        }
        work.tidy();
    }

    fn child_ended(&mut self, desk: &mut Desk, pid: u32, ended: Ended) {
        let mut work = Work { desk, monitor: self };
        if let Some(process) = work.monitor.by_pid.get(&pid).copied() {
            // Its last words come before its end.
            work.hear_process(process);
            work.end(process);
        }
        let sessions = work.monitor.leaving.remove(&pid).unwrap_or(0);
        if sessions > 0 {
            work.warn(&format!("session process {pid} ended with {sessions} sessions: {ended}"));
        }
        work.tidy();
    }

    fn reloaded(&mut self, _desk: &mut Desk) {
        // The next session process is made of the new configuration.
        self.views = None;
    }

    fn stop(&mut self, desk: &mut Desk) {
        self.draining = true;
        let mut work = Work { desk, monitor: self };
        let processes: Vec<ProcessId> = work.monitor.processes.keys().copied().collect();
        for process in processes {
            work.order(process, &SessionOrder::Shutdown, Vec::new());
        }
        work.tidy();
    }

    fn busy(&self) -> bool {
        !self.processes.is_empty() || !self.leaving.is_empty()
    }
}

/// The monitor at work: its memory, and the desk that it works at.
struct Work<'a, P> {
    desk: &'a mut Desk,
    monitor: &'a mut Monitor<P>,
}

impl<P: Protocol> Work<'_, P> {
    fn views(&mut self) -> &Arc<Views<Seen<P>>> {
        let config = &self.desk.running.config;
        self.monitor.views.get_or_insert_with(|| Arc::new(Views::new(Arc::clone(config), |config, _| Seen::of(config))))
    }

    fn front_asks(&mut self, asked: FrontRequest, descriptors: Vec<OwnedFd>) {
        match asked {
            FrontRequest::Start { request, token, connection } => {
                let Some(stream) = descriptors.into_iter().next() else {
                    return self.refuse(request, Refusal::Temporary);
                };
                if self.monitor.draining {
                    return self.refuse(request, Refusal::ShuttingDown);
                }
                self.redeem(token, Pending { request, connection, stream, since: Instant::now() });
            }
            FrontRequest::Announce { user, mailbox } => {
                for process in self.monitor.registry.processes_of(&user) {
                    self.order(process, &SessionOrder::Announce { mailbox: mailbox.clone() }, Vec::new());
                }
            }
        }
    }

    fn redeem(&mut self, token: String, pending: Pending) {
        if self.monitor.pending.len() >= PENDING_MAX {
            return self.refuse(pending.request, Refusal::Temporary);
        }
        self.monitor.next_number += 1;
        let number = self.monitor.next_number;
        let setup = &self.desk.setup;
        let authority =
            self.monitor.authority.get_or_insert_with(|| Authority::new(setup.state.clone(), setup.instance.clone()));
        let sent = authority.redeem(number, token).and_then(|()| authority.watch(&self.desk.watch, AUTHORITY));
        match sent {
            Ok(()) => {
                self.monitor.pending.insert(number, pending);
            }
            Err(error) => {
                self.refuse(pending.request, Refusal::Temporary);
                self.lost_authority(&error);
            }
        }
    }

    fn hear_authority(&mut self) {
        let Some(authority) = self.monitor.authority.as_mut() else { return };
        let answers = authority.answers();
        let watched = authority.watch(&self.desk.watch, AUTHORITY);
        match answers.and_then(|answers| watched.map(|()| answers)) {
            Ok(answers) => {
                for (number, redeemed) in answers {
                    if let Some(pending) = self.monitor.pending.remove(&number) {
                        self.redeemed(pending, redeemed);
                    }
                }
            }
            Err(error) => self.lost_authority(&error),
        }
    }

    /// authd is gone: what it was asked is lost.
    fn lost_authority(&mut self, error: &io::Error) {
        if !self.monitor.pending.is_empty() {
            self.warn(&format!("authd does not answer: {error}"));
        }
        for pending in std::mem::take(&mut self.monitor.pending).into_values() {
            self.refuse(pending.request, Refusal::Temporary);
        }
    }

    fn redeemed(&mut self, pending: Pending, redeemed: Redeemed) {
        let refusal = match redeemed {
            Redeemed::Login(login) => {
                let seen = self.views().of(&pending.connection.connection(P::NAME));
                match owner(*login, &seen) {
                    Ok(owner) => return self.start(&owner, &seen, pending),
                    Err(text) => {
                        self.warn(&text);
                        Refusal::Forbidden
                    }
                }
            }
            Redeemed::Unknown | Redeemed::NotUnderstood => {
                self.warn("authd does not know a login that it has just given");
                Refusal::Temporary
            }
        };
        self.refuse(pending.request, refusal);
    }

    /// Passes a connection to its owner's process.
    fn start(&mut self, owner: &Owner, seen: &Seen<P>, pending: Pending) {
        let Pending { request, connection, stream, .. } = pending;
        let limit = seen.rules.sessions_per_user_and_address;
        if !self.monitor.registry.may_enter(&owner.user, connection.peer, limit) {
            return self.refuse(request, Refusal::TooMany { limit });
        }
        let process = match self.monitor.registry.place(owner) {
            Place::Running(process) => process,
            Place::New(process) => match self.fork(process, owner) {
                Ok(()) => process,
                Err(error) => {
                    self.monitor.registry.end(process);
                    self.warn(&format!("cannot make a session process: {error}"));
                    return self.refuse(request, Refusal::Temporary);
                }
            },
        };
        let Some(session) = self.monitor.registry.pass(process, connection.peer) else {
            return self.refuse(request, Refusal::Temporary);
        };
        let pid = self.monitor.processes.get(&process).map_or(0, |process| process.child.pid());
        if self.order(process, &SessionOrder::Serve { session, connection }, vec![stream]) {
            self.tell_front(&FrontReply::Started { request, pid });
        } else {
            self.refuse(request, Refusal::Temporary);
        }
    }

    fn fork(&mut self, process: ProcessId, owner: &Owner) -> io::Result<()> {
        if self.monitor.processes.is_empty() {
            // A conversation for each session process, and in it a descriptor or more for each session.
            crate::front::raise_descriptor_limit();
        }
        let (ours, theirs) = UnixStream::pair()?;
        let link = Link::new(ours)?;
        let views = Arc::clone(self.views());
        // No other owner's conversation, no listener and no key goes along.
        let child = self.desk.fork(&[theirs.as_fd()], || match theirs.try_clone() {
            Ok(control) => session::run(session::Start { views, owner: owner.clone(), control }),
            Err(_) => mail_posix::fork::PANICKED,
        })?;
        self.desk.watch.add(&link, process.0)?;
        self.monitor.by_pid.insert(child.pid(), process);
        self.monitor.processes.insert(process, Process { child, link, full: false });
        Ok(())
    }

    /// Sends an order; a process that does not take it is ended. Whether it was sent.
    fn order(&mut self, process: ProcessId, order: &SessionOrder, descriptors: Vec<OwnedFd>) -> bool {
        let Some(entry) = self.monitor.processes.get_mut(&process) else { return false };
        let sent = entry.link.send(order, descriptors).and_then(|()| entry.watch_for_room(&self.desk.watch, process));
        if sent.is_err() {
            self.end(process);
        }
        sent.is_ok()
    }

    fn hear_process(&mut self, process: ProcessId) {
        let Some(entry) = self.monitor.processes.get_mut(&process) else { return };
        let mut heard = Vec::new();
        let open = read_all(&mut entry.link, &mut heard);
        let open = open && entry.watch_for_room(&self.desk.watch, process).is_ok();
        for received in heard {
            if let Ok(frame) = received.read::<SessionReport>(&[]) {
                self.process_reports(process, frame.body);
            }
        }
        if !open {
            self.end(process);
        }
    }

    fn process_reports(&mut self, process: ProcessId, report: SessionReport) {
        match report {
            SessionReport::Closed { session, line } => {
                // A process speaks for its own sessions only.
                if self.monitor.registry.session(session).is_some_and(|entry| entry.process == process) {
                    self.monitor.registry.close(session);
                }
                self.pass_line(process, line);
            }
            SessionReport::Line { line } => self.pass_line(process, line),
            SessionReport::Idle { served } => {
                if self.monitor.registry.may_exit(process, served) {
                    self.order(process, &SessionOrder::Exit, Vec::new());
                }
            }
        }
    }

    fn pass_line(&mut self, process: ProcessId, line: SessionLine) {
        let user = self.monitor.registry.user_of(process).map(str::to_owned);
        let pid = self.monitor.processes.get(&process).map(|process| process.child.pid());
        if let (Some(user), Some(pid)) = (user, pid) {
            self.tell_front(&FrontReply::Line { user, pid, line });
        }
    }

    /// A process has ended its conversation, or must go: it has nothing more to do, and may not stay.
    fn end(&mut self, process: ProcessId) {
        let Some(Process { child, link, .. }) = self.monitor.processes.remove(&process) else { return };
        self.desk.watch.remove(&link);
        self.monitor.by_pid.remove(&child.pid());
        let sessions = self.monitor.registry.end(process).len();
        let _ = child.signal(KILL);
        self.monitor.leaving.insert(child.pid(), sessions);
    }

    /// What is due after every piece of work.
    fn tidy(&mut self) {
        let oldest = self.monitor.pending.values().next().map(|pending| pending.since);
        if oldest.is_some_and(|since| since.elapsed() >= AUTHORITY_PATIENCE) {
            self.monitor.authority = None;
            self.lost_authority(&io::ErrorKind::TimedOut.into());
        }
        if self.monitor.draining && self.monitor.processes.is_empty() {
            self.tell_front(&FrontReply::Drained);
        }
    }

    fn tell_front(&mut self, reply: &FrontReply) {
        // If the front is gone, the daemon ends.
        let _ = self.desk.front.send(&Frame::new(0, reply), &[]);
    }

    fn refuse(&mut self, request: u64, refusal: Refusal) {
        self.tell_front(&FrontReply::Refused { request, refusal });
    }

    fn warn(&mut self, text: &str) {
        self.tell_front(&FrontReply::Warning { text: format!("{}: {text}", P::NAME) });
    }
}

/// Who the session process becomes, or why there can be none.
fn owner<P: Protocol>(login: Login, seen: &Seen<P>) -> Result<Owner, String> {
    // Whoever logged in as the user: a master user has the user's rights, and no others.
    let Login { user, master: _, service, uid, gid, home, mail } = login;
    if service != P::NAME {
        return Err(format!("the login of {user} is for {service}"));
    }
    let mail = mail.map_or_else(|| seen.location.clone(), Ok)?;
    let uid = uid.map(|uid| seen.rules.valid_uid(&user, uid)).transpose()?;
    let gid = gid.map(|gid| seen.rules.valid_gid(&user, gid)).transpose()?;
    // Without root everything runs as the caller (DESIGN: one user per role).
    let root = rustix::process::geteuid().is_root();
    if root && uid.is_none() {
        return Err(format!("{user} has no uid"));
    }
    let groups = if root { seen.groups.clone() } else { Vec::new() };
    Ok(Owner { user, uid: uid.filter(|_| root), gid: gid.filter(|_| root), groups, home, mail })
}

/// Reads what has come; false at the end or after an error.
fn read_all(link: &mut Link, heard: &mut Vec<Raw>) -> bool {
    let open = link.flush().is_ok() && link.fill().unwrap_or(false);
    loop {
        match link.frame() {
            Ok(Some(received)) => heard.push(received),
            Ok(None) => return open,
            Err(_) => return false,
        }
    }
}
