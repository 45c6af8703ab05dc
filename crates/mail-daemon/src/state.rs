//! The state directory: which directories exist, whose they are, and the users of the roles.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use mail_posix::users::{self, User};

/// The group of the private sockets.
pub const GROUP: &str = "postrider";
/// The user of the queue.
pub const QUEUE_USER: &str = "postrider";
/// The group of postdrop.
const DROP_GROUP: &str = "postdrop";

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
    Ok(())
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
