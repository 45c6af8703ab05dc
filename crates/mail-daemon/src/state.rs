//! The state directory: which directories exist, whose they are, and the users of the roles.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use mail_ipc::hello::Role;
use mail_posix::users::{self, User};

/// The group of the private sockets.
pub const GROUP: &str = "postrider";
/// The user of the queue.
pub const QUEUE_USER: &str = "postrider";
/// The group of postdrop.
const DROP_GROUP: &str = "postdrop";

/// The users of the roles.
const USERS: [&str; 6] =
    [QUEUE_USER, "postrider-smtpd", "postrider-local", "postrider-remote", "postrider-login", "postrider-auth"];

/// A directory of the state: its name, its mode, and whose it is when we are root.
struct Entry {
    name: &'static str,
    mode: u32,
    owner: Option<&'static str>,
    group: &'static str,
}

const fn entry(name: &'static str, mode: u32, owner: Option<&'static str>, group: &'static str) -> Entry {
    Entry { name, mode, owner, group }
}

const ENTRIES: &[Entry] = &[
    entry("segments", 0o700, Some(QUEUE_USER), GROUP),
    entry("content", 0o700, Some(QUEUE_USER), GROUP),
    entry("corrupt", 0o700, Some(QUEUE_USER), GROUP),
    entry("sled", 0o700, Some(QUEUE_USER), GROUP),
    entry("ledger", 0o700, Some(QUEUE_USER), GROUP),
    entry("maildrop", 0o730, Some("postrider-smtpd"), DROP_GROUP),
    entry("generation", 0o750, None, GROUP),
    entry("tls", 0o700, None, GROUP),
    entry("log", 0o770, None, GROUP),
    entry("public", 0o755, None, GROUP),
    entry("private", 0o750, None, GROUP),
    entry("private/daemons", 0o750, None, GROUP),
];

/// Whether this process can give files and processes to other users.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the directories that are missing and, as root, gives them to their users.
///
/// # Errors
/// A directory cannot be made, or (as root) a role's user or group is missing; the text says how to make it.
pub fn prepare(state: &Path) -> io::Result<()> {
    let root = is_root();
    make(state, 0o755)?;
    for entry in ENTRIES {
        let path = state.join(entry.name);
        make(&path, entry.mode)?;
        if root {
            let uid = entry.owner.map(|name| role_user(name).map(|user| user.uid)).transpose()?.unwrap_or(0);
            std::os::unix::fs::chown(&path, Some(uid), Some(group(entry.group)?))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))?;
        }
    }
    // The names are durable before anything below them is promised to be.
    fs::File::open(state)?.sync_all()
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| io::Error::new(error.kind(), format!("cannot make {}: {error}", path.display())))
}

/// The user of a role.
///
/// # Errors
/// There is no such user; the text holds the line of sysusers.d that makes it.
pub fn role_user(name: &str) -> io::Result<User> {
    users::by_name(name)?.ok_or_else(|| {
        let text = format!(
            "no user {name}: put `u {name} - \"Postrider\" -' into a file of sysusers.d and run systemd-sysusers"
        );
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// The users and groups that a system with separate roles needs and this machine lacks.
///
/// # Errors
/// The databases cannot be read.
pub fn missing() -> io::Result<Vec<String>> {
    let mut missing = Vec::new();
    for name in USERS {
        if users::by_name(name)?.is_none() {
            missing.push(format!("user {name}"));
        }
    }
    for name in [GROUP, DROP_GROUP] {
        if users::group_by_name(name)?.is_none() {
            missing.push(format!("group {name}"));
        }
    }
    Ok(missing)
}

/// Who may call itself which role on a private socket: the users of the roles, looked up while the process still is root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles(Vec<(Role, u32)>);

impl Roles {
    /// The roles that have users of their own. Without root there are none: every role is the caller.
    ///
    /// # Errors
    /// The passwd database cannot be read.
    pub fn of_system() -> io::Result<Self> {
        if !is_root() {
            return Ok(Self::default());
        }
        let named = [
            (Role::Smtpd, "postrider-smtpd"),
            (Role::QueueManager, QUEUE_USER),
            (Role::LocalDelivery, "postrider-local"),
            (Role::RemoteDelivery, "postrider-remote"),
            (Role::Pop3Front, "postrider-login"),
            (Role::ImapFront, "postrider-login"),
            (Role::Authd, "postrider-auth"),
        ];
        let mut users = Vec::with_capacity(named.len());
        for (role, name) in named {
            // A role that has no user cannot be running.
            users.extend(users::by_name(name)?.map(|user| (role, user.uid)));
        }
        Ok(Self(users))
    }

    /// Whether a process with this uid may call itself this role. Root may: it could become any of them.
    #[must_use]
    pub fn may_be(&self, role: Role, uid: u32) -> bool {
        let own = || uid == rustix::process::geteuid().as_raw();
        uid == 0 || if self.0.is_empty() { own() } else { self.0.contains(&(role, uid)) }
    }
}

/// The id of a group.
///
/// # Errors
/// There is no such group; the text holds the line of sysusers.d that makes it.
pub fn group(name: &str) -> io::Result<u32> {
    let found = users::group_by_name(name)?.map(|group| group.gid);
    found.ok_or_else(|| {
        let text = format!("no group {name}: put `g {name} -' into a file of sysusers.d and run systemd-sysusers");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_with_a_user_of_its_own_is_nobody_elses() {
        let separate = Roles(vec![(Role::Smtpd, 901), (Role::LocalDelivery, 902)]);
        assert!(separate.may_be(Role::Smtpd, 901) && separate.may_be(Role::Smtpd, 0));
        for (role, uid) in [(Role::Smtpd, 902), (Role::LocalDelivery, 901), (Role::RemoteDelivery, 901)] {
            assert!(!separate.may_be(role, uid), "{role:?} {uid}");
        }
        let own = rustix::process::geteuid().as_raw();
        assert!(Roles::default().may_be(Role::Smtpd, own) && !Roles::default().may_be(Role::Smtpd, own + 1));
    }
}
