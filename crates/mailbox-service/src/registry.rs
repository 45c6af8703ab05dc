//! Who is logged in, and which process serves whom: the monitor's memory, without I/O.
//!
//! One session process per mailbox owner; somebody whose mail lies elsewhere for some connections is another owner there. The race between a process that has become idle and a connection just passed to it is closed by
//! counting: the process says how many connections have reached it, and may end only if that is all that were passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::Owner;

/// Numbers the sessions of one monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// Numbers the session processes of one monitor; never used twice, unlike process ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// A session, as `doveadm who` would show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user: String,
    /// From where.
    pub peer: IpAddr,
    /// Which process serves it.
    pub process: ProcessId,
}

#[derive(Debug)]
struct Process {
    owner: Owner,
    /// Connections passed so far.
    passed: u64,
    /// It was told to exit; new connections go to another.
    leaving: bool,
    sessions: BTreeSet<SessionId>,
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The owner's process is running.
    Running(ProcessId),
    /// A process must be made under this number.
    New(ProcessId),
}

/// All sessions and session processes.
#[derive(Debug, Default)]
pub struct Registry {
    next_session: u64,
    next_process: u64,
    processes: HashMap<ProcessId, Process>,
    by_owner: HashMap<Owner, ProcessId>,
    sessions: BTreeMap<SessionId, Session>,
    /// How many sessions each user has from each address.
    counts: HashMap<(String, IpAddr), u32>,
}

impl Registry {
    /// Whether a user may have one more session from an address (`mail_max_userip_connections`; 0 is no limit).
    #[must_use]
    pub fn may_enter(&self, user: &str, peer: IpAddr, limit: u32) -> bool {
        limit == 0 || self.counts.get(&(user.to_owned(), peer)).is_none_or(|count| *count < limit)
    }

    /// The process that serves an owner, or a number for a new one.
    pub fn place(&mut self, owner: &Owner) -> Place {
        if let Some(&process) = self.by_owner.get(owner) {
            return Place::Running(process);
        }
        self.next_process += 1;
        let process = ProcessId(self.next_process);
        self.by_owner.insert(owner.clone(), process);
        let entry = Process { owner: owner.clone(), passed: 0, leaving: false, sessions: BTreeSet::new() };
        self.processes.insert(process, entry);
        Place::New(process)
    }

    /// A connection is passed to a process. Gives the session's number; none if there is no such process.
    pub fn pass(&mut self, process: ProcessId, peer: IpAddr) -> Option<SessionId> {
        let entry = self.processes.get_mut(&process)?;
        entry.passed += 1;
        self.next_session += 1;
        let session = SessionId(self.next_session);
        entry.sessions.insert(session);
        let user = &entry.owner.user;
        *self.counts.entry((user.clone(), peer)).or_default() += 1;
        self.sessions.insert(session, Session { user: user.clone(), peer, process });
        Some(session)
    }

    /// A process says that it is idle after `served` connections. Whether it may exit: then no further connection goes to it.
    pub fn may_exit(&mut self, process: ProcessId, served: u64) -> bool {
        let Some(entry) = self.processes.get_mut(&process) else { return false };
        if entry.passed != served || entry.leaving {
            return false;
        }
        entry.leaving = true;
        let owner = entry.owner.clone();
        self.forget(&owner, process);
        true
    }

    /// A session ended. False if it was not known (its process is gone already).
    pub fn close(&mut self, session: SessionId) -> bool {
        let Some(over) = self.sessions.remove(&session) else { return false };
        if let Some(entry) = self.processes.get_mut(&over.process) {
            entry.sessions.remove(&session);
        }
        let key = (over.user, over.peer);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
        true
    }

    /// A process ended, by itself or not: its sessions are over.
    pub fn end(&mut self, process: ProcessId) -> Vec<SessionId> {
        let Some(entry) = self.processes.remove(&process) else { return Vec::new() };
        self.forget(&entry.owner, process);
        let over: Vec<SessionId> = entry.sessions.into_iter().collect();
        for session in &over {
            self.close(*session);
        }
        over
    }

    /// The processes that serve a user now.
    #[must_use]
    pub fn processes_of(&self, user: &str) -> Vec<ProcessId> {
        let serving = self.processes.iter().filter(|(_, entry)| entry.owner.user == user && !entry.leaving);
        serving.map(|(process, _)| *process).collect()
    }

    /// Whose a process is.
    #[must_use]
    pub fn user_of(&self, process: ProcessId) -> Option<&str> {
        self.processes.get(&process).map(|entry| entry.owner.user.as_str())
    }

    /// A session.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session)
    }

    /// Everybody who is logged in.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    fn forget(&mut self, owner: &Owner, process: ProcessId) {
        if self.by_owner.get(owner) == Some(&process) {
            self.by_owner.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn owner(user: &str) -> Owner {
        let mail = "maildir:~/Maildir".to_owned();
        Owner { user: user.to_owned(), uid: None, gid: None, groups: Vec::new(), home: None, mail }
    }

    #[test]
    fn mail_that_lies_elsewhere_has_a_process_of_its_own() {
        let mut registry = Registry::default();
        let away = Owner { mail: "maildir:~/away".to_owned(), ..owner("john") };
        let (Place::New(here), Place::New(there)) = (registry.place(&owner("john")), registry.place(&away)) else {
            panic!("nobody was there")
        };
        registry.pass(here, PEER);
        registry.pass(there, PEER);
        assert!(!registry.may_enter("john", PEER, 2), "the limit is the user's");
        let mut both = registry.processes_of("john");
        both.sort_unstable();
        assert_eq!(both, [here, there]);
        registry.end(here);
        assert_eq!((registry.place(&away), registry.processes_of("john")), (Place::Running(there), vec![there]));
    }

    #[test]
    fn one_process_serves_all_connections_of_an_owner() {
        let mut registry = Registry::default();
        let Place::New(john) = registry.place(&owner("john")) else { panic!("nobody was there") };
        assert_eq!(registry.place(&owner("john")), Place::Running(john));
        assert!(matches!(registry.place(&owner("mary")), Place::New(mary) if mary != john));
        assert_ne!(registry.pass(john, PEER), registry.pass(john, PEER));
        assert_eq!(registry.sessions().count(), 2);
    }

    #[test]
    fn a_process_with_a_connection_on_its_way_may_not_exit() {
        let mut registry = Registry::default();
        let Place::New(john) = registry.place(&owner("john")) else { panic!("nobody was there") };
        let first = registry.pass(john, PEER).expect("a process");
        registry.close(first);
        registry.pass(john, PEER);
        assert!(!registry.may_exit(john, 1), "the second connection has not reached it");
        assert!(registry.may_exit(john, 2));
        assert!(!registry.may_exit(john, 2), "once is enough");
        assert!(matches!(registry.place(&owner("john")), Place::New(again) if again != john));
        assert_eq!(registry.end(john).len(), 1);
        assert!(
            matches!(registry.place(&owner("john")), Place::Running(_)),
            "the end of the old one leaves the new one alone"
        );
    }

    #[test]
    fn the_end_of_a_process_ends_its_owners_sessions_only() {
        let mut registry = Registry::default();
        let (Place::New(john), Place::New(mary)) = (registry.place(&owner("john")), registry.place(&owner("mary")))
        else {
            panic!("nobody was there")
        };
        let session = registry.pass(john, PEER).expect("a process");
        registry.pass(mary, PEER);
        assert_eq!(registry.end(john), [session]);
        assert!(!registry.close(session));
        assert_eq!(registry.sessions().map(|(_, session)| session.user.as_str()).collect::<Vec<_>>(), ["mary"]);
        assert_eq!(registry.pass(john, PEER), None);
    }

    #[test]
    fn the_limit_holds_per_user_and_address() {
        let mut registry = Registry::default();
        let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
        let Place::New(john) = registry.place(&owner("john")) else { panic!("nobody was there") };
        let first = registry.pass(john, PEER).expect("a process");
        assert!(registry.may_enter("john", PEER, 2));
        registry.pass(john, PEER);
        assert!(!registry.may_enter("john", PEER, 2));
        assert!(registry.may_enter("john", other, 2) && registry.may_enter("mary", PEER, 2));
        assert!(registry.may_enter("john", PEER, 0), "0 is no limit");
        registry.close(first);
        assert!(registry.may_enter("john", PEER, 2));
        registry.pass(john, PEER);
        registry.end(john);
        assert!(registry.may_enter("john", PEER, 1) && registry.counts.is_empty());
    }
}
