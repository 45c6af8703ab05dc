//! Becoming another user: the one place where a process gives up its rights.
//!
//! The order is the one that cannot be undone half way: bounding set, groups, group id, user id, capabilities, no_new_privs; then the
//! result is read back, and regaining root is tried and must fail. A process that cannot be sure must end: no caller may go on after an error.

use std::fmt;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::users::{self, User};

/// Whom to become: ids and the complete list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user id: real, effective and saved.
    pub uid: u32,
    /// The group id: real, effective and saved.
    pub gid: u32,
    /// All supplementary groups; nothing else is kept.
    pub groups: Vec<u32>,
}

impl Identity {
    /// The identity of a user of the passwd database, with all groups of that user.
    ///
    /// # Errors
    /// The group database cannot be asked.
    pub fn of(user: &User) -> io::Result<Self> {
        Ok(Self { uid: user.uid, gid: user.gid, groups: users::groups_of(&user.name, user.gid)? })
    }

    /// Ids that need not be in any database (virtual mailbox users), without further groups.
    #[must_use]
    pub fn ids(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: vec![gid] }
    }

    /// This identity with one more group, such as that of the private sockets.
    #[must_use]
    pub fn with_group(mut self, gid: u32) -> Self {
        if !self.groups.contains(&gid) {
            self.groups.push(gid);
        }
        self
    }

    /// This identity with the groups of these names or numbers (`mail_access_groups`). Root's is given to nobody.
    ///
    /// # Errors
    /// There is no such group, it is root's, or the group database cannot be asked.
    pub fn with_named_groups(self, names: &[String]) -> io::Result<Self> {
        names.iter().try_fold(self, |identity, name| {
            let gid = match name.parse::<u32>() {
                Ok(number) => Some(number),
                Err(_) => users::group_by_name(name)?.map(|group| group.gid),
            };
            let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("no group `{name}' that mail may have"));
            Ok(identity.with_group(gid.filter(|gid| *gid != 0).ok_or_else(wrong)?))
        })
    }

    /// The identity of this process as it is now.
    #[must_use]
    pub fn current() -> Self {
        let groups = rustix::process::getgroups().unwrap_or_default();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
        }
    }
}

/// What else is taken away with the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Set-uid programs give no rights any more. Off only for deliverers that run a user's own commands.
    pub no_new_privs: bool,
    /// No core dumps, and no other process of the same user may trace this one.
    pub not_dumpable: bool,
    /// The most open files, where a limit is wanted.
    pub open_files: Option<u64>,
    /// The most bytes of address space, where a limit is wanted.
    pub address_space: Option<u64>,
}

impl Confinement {
    /// Everything taken that can be taken without numbers: for fronts and session processes.
    pub const FULL: Self = Self { no_new_privs: true, not_dumpable: true, open_files: None, address_space: None };
    /// For a process that runs a user's own commands, which may be set-uid programs (a forwarder calls `sendmail`).
    pub const RUNS_COMMANDS: Self = Self { no_new_privs: false, ..Self::FULL };
}

/// Why the process did not become the user. It must end.
#[derive(Debug)]
pub enum BecomeError {
    /// More than one thread exists: rights are per thread in the kernel, so nothing could be promised.
    Threads(usize),
    /// The process is not root and another user was asked for.
    NotRoot {
        /// Who we are.
        current: u32,
        /// Whom the caller asked for.
        wanted: u32,
    },
    /// Root is not a user to become.
    Root,
    /// A system call failed; the text names it.
    Call(&'static str, io::Error),
    /// Everything succeeded, but reading back shows rights that should be gone.
    NotVerified(&'static str),
}

impl fmt::Display for BecomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "cannot change the user of a process with {count} threads"),
            Self::NotRoot { current, wanted } => write!(f, "uid {current} cannot become uid {wanted} without root"),
            Self::Root => write!(f, "refusing to become root"),
            Self::Call(call, error) => write!(f, "{call}: {error}"),
            Self::NotVerified(what) => write!(f, "rights not dropped: {what}"),
        }
    }
}

impl std::error::Error for BecomeError {}

/// Becomes the user, for ever: afterwards no way leads back to root. Called in a single-threaded process only.
/// A process that is not root may "become" itself: then groups stay as they are and only the confinement is applied.
///
/// # Errors
/// See [`BecomeError`]; the process may be left half way and must end.
pub fn become_user(identity: &Identity, confinement: Confinement) -> Result<(), BecomeError> {
    let threads = crate::fork::thread_count().map_err(|error| BecomeError::Call("counting threads", error))?;
    if threads != 1 {
        return Err(BecomeError::Threads(threads));
    }
    if identity.uid == 0 {
        return Err(BecomeError::Root);
    }
    let current = rustix::process::geteuid().as_raw();
    if current == 0 {
        limit(confinement)?;
        drop_bounding_set()?;
        let leash = Leash::of_this_process()?;
        change_ids(identity)?;
        leash.renew()?;
    } else if current == identity.uid && rustix::process::getuid().as_raw() == identity.uid {
        limit(confinement)?;
    } else {
        return Err(BecomeError::NotRoot { current, wanted: identity.uid });
    }
    drop_capabilities()?;
    confine(confinement)?;
    verify(identity, current == 0)
}

/// The signal that this process gets when its parent ends. The kernel forgets it when the user changes, and the parent may end meanwhile.
struct Leash {
    signal: Option<rustix::process::Signal>,
    parent: Option<rustix::process::Pid>,
}

impl Leash {
    fn of_this_process() -> Result<Self, BecomeError> {
        let signal = rustix::process::parent_process_death_signal();
        let signal = signal.map_err(|error| BecomeError::Call("PR_GET_PDEATHSIG", error.into()))?;
        Ok(Self { signal, parent: rustix::process::getppid() })
    }

    fn renew(self) -> Result<(), BecomeError> {
        if self.signal.is_none() {
            return Ok(());
        }
        let renewed = rustix::process::set_parent_process_death_signal(self.signal);
        renewed.map_err(|error| BecomeError::Call("PR_SET_PDEATHSIG", error.into()))?;
        if rustix::process::getppid() == self.parent {
            Ok(())
        } else {
            Err(BecomeError::NotVerified("the parent has ended meanwhile"))
        }
    }
}

/// Hard limits first: raising one needs the rights that are about to go.
fn limit(confinement: Confinement) -> Result<(), BecomeError> {
    let limits = [(Resource::Nofile, confinement.open_files), (Resource::As, confinement.address_space)];
    for (resource, value) in limits.into_iter().filter(|(_, value)| value.is_some()) {
        let limit = Rlimit { current: value, maximum: value };
        rustix::process::setrlimit(resource, limit).map_err(|error| BecomeError::Call("setrlimit", error.into()))?;
    }
    Ok(())
}

/// Takes every capability out of the bounding set. Root without CAP_SETPCAP (in a container) keeps the set, which then gives nothing to
/// a process that holds no capability and cannot gain one.
fn drop_bounding_set() -> Result<(), BecomeError> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // EINVAL: a capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(rustix::io::Errno::PERM) => return Ok(()),
            Err(error) => return Err(BecomeError::Call("PR_CAPBSET_DROP", error.into())),
        }
    }
    Ok(())
}

/// Groups, then group id, then user id: after the user id nothing else could be changed.
fn change_ids(identity: &Identity) -> Result<(), BecomeError> {
    let checked = |call, result: i32| match result {
        0 => Ok(()),
        _ => Err(BecomeError::Call(call, io::Error::last_os_error())),
    };
    // SAFETY: the pointer and the length describe the vector of groups.
    checked("setgroups", unsafe { libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) })?;
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: no pointers.
    checked("setresgid", unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: no pointers.
    checked("setresuid", unsafe { libc::setresuid(uid, uid, uid) })
}

fn drop_capabilities() -> Result<(), BecomeError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(|error| BecomeError::Call("capset", error.into()))?;
    match rustix::thread::clear_ambient_capability_set() {
        // EINVAL: a kernel without ambient capabilities.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(BecomeError::Call("PR_CAP_AMBIENT", error.into())),
    }
}

fn confine(confinement: Confinement) -> Result<(), BecomeError> {
    if confinement.no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| BecomeError::Call("PR_SET_NO_NEW_PRIVS", error.into()))?;
    }
    let dumpable = if confinement.not_dumpable { DumpableBehavior::NotDumpable } else { DumpableBehavior::Dumpable };
    set_dumpable_behavior(dumpable).map_err(|error| BecomeError::Call("PR_SET_DUMPABLE", error.into()))
}

/// Reads everything back and tries to regain root, which must fail.
fn verify(identity: &Identity, groups_were_set: bool) -> Result<(), BecomeError> {
    let (uids, gids) = real_effective_saved().map_err(|error| BecomeError::Call("getresuid", error))?;
    if uids != [identity.uid; 3] {
        return Err(BecomeError::NotVerified("user ids differ"));
    }
    if groups_were_set && gids != [identity.gid; 3] {
        return Err(BecomeError::NotVerified("group ids differ"));
    }
    if groups_were_set && sorted(Identity::current().groups) != sorted(identity.groups.clone()) {
        return Err(BecomeError::NotVerified("supplementary groups differ"));
    }
    // SAFETY: no pointers.
    if unsafe { libc::setresuid(0, 0, 0) } == 0 || unsafe { libc::setuid(0) } == 0 || unsafe { libc::seteuid(0) } == 0 {
        return Err(BecomeError::NotVerified("root could be regained"));
    }
    // SAFETY: no pointers.
    if identity.gid != 0 && groups_were_set && unsafe { libc::setgid(0) } == 0 {
        return Err(BecomeError::NotVerified("group root could be regained"));
    }
    let held = rustix::thread::capabilities(None).map_err(|error| BecomeError::Call("capget", error.into()))?;
    if !(held.effective | held.permitted | held.inheritable).is_empty() {
        return Err(BecomeError::NotVerified("capabilities remain"));
    }
    Ok(())
}

fn sorted(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn real_effective_saved() -> io::Result<([u32; 3], [u32; 3])> {
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    let [real, effective, saved] = &mut uids;
    // SAFETY: three valid places to write one id each.
    if unsafe { libc::getresuid(real, effective, saved) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let [real, effective, saved] = &mut gids;
    // SAFETY: three valid places to write one id each.
    if unsafe { libc::getresgid(real, effective, saved) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((uids, gids))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The tests that really change the user need a process of one thread: see tests/processes.rs.

    #[test]
    fn a_process_with_threads_is_refused() {
        let (quit, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let refused = become_user(&Identity::ids(12_345, 12_345), Confinement::FULL);
        assert!(matches!(refused, Err(BecomeError::Threads(2..))), "{refused:?}");
        drop(quit);
        let _ = other.join();
    }

    #[test]
    fn a_group_is_added_once() {
        let identity = Identity::ids(5, 6).with_group(7).with_group(7).with_group(6);
        assert_eq!(identity.groups, vec![6, 7]);
    }
}
