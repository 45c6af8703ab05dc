//! The passwd and group databases, through the C library, so that NSS modules (LDAP, sssd) count as well.
//!
//! Not found is `Ok(None)`; an error means that the database could not be asked, and must never be read as "no such user".

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::path::PathBuf;

/// An entry of the passwd database. The password field is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name as the database spells it.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The comment field, usually the full name.
    pub gecos: String,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

/// An entry of the group database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name of the group.
    pub name: String,
    /// The group id.
    pub gid: u32,
    /// The names that the entry lists as members; users whose primary group this is are usually not among them.
    pub members: Vec<String>,
}

/// The user of this name. A name with a NUL byte is found nowhere.
///
/// # Errors
/// The database cannot be asked.
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    lookup(|entry: *mut libc::passwd, buffer, length, found| {
        // SAFETY: all pointers are valid for the call; `lookup` keeps entry and buffer alive while the result is read.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) }
    })
}

/// The user with this id; the first one, when several share it.
///
/// # Errors
/// The database cannot be asked.
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    lookup(|entry: *mut libc::passwd, buffer, length, found| {
        // SAFETY: as in `by_name`.
        unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) }
    })
}

/// The group of this name.
///
/// # Errors
/// The database cannot be asked.
pub fn group_by_name(name: &str) -> io::Result<Option<Group>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    lookup(|entry: *mut libc::group, buffer, length, found| {
        // SAFETY: as in `by_name`.
        unsafe { libc::getgrnam_r(name.as_ptr(), entry, buffer, length, found) }
    })
}

/// The group with this id.
///
/// # Errors
/// The database cannot be asked.
pub fn group_by_gid(gid: u32) -> io::Result<Option<Group>> {
    lookup(|entry: *mut libc::group, buffer, length, found| {
        // SAFETY: as in `by_name`.
        unsafe { libc::getgrgid_r(gid, entry, buffer, length, found) }
    })
}

/// What the shadow database says about a user's password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The stored password, in the form of crypt(3).
    pub password: String,
    /// The day (counted from 1970) from which on the account is closed; none for never.
    pub expires: Option<u64>,
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shadow").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The shadow entry of a user; needs root or the group `shadow`.
///
/// # Errors
/// The database cannot be read (`PermissionDenied` without the rights).
pub fn shadow_by_name(name: &str) -> io::Result<Option<Shadow>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    lookup(|entry: *mut libc::spwd, buffer, length, found| {
        // SAFETY: as in `by_name`.
        unsafe { libc::getspnam_r(name.as_ptr(), entry, buffer, length, found) }
    })
}

/// All groups of a user: `gid` and every group that lists the name.
///
/// # Errors
/// The name has a NUL byte, or the list does not fit into 65,536 entries.
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut room: usize = 32;
    while room <= 65_536 {
        let mut groups = vec![0; room];
        let mut count = i32::try_from(room).expect("at most 65,536");
        // SAFETY: `groups` has room for `count` entries, and glibc writes no more than that.
        let fits = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) } >= 0;
        if fits {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        room *= 2;
    }
    Err(io::Error::other("too many groups"))
}

/// An entry of a C database that can be copied into an owned value.
trait Entry: Sized {
    type Owned;
    /// # Safety
    /// The entry was filled by the C library and its buffer is still alive.
    unsafe fn copy(&self) -> Self::Owned;
}

impl Entry for libc::passwd {
    type Owned = User;
    unsafe fn copy(&self) -> User {
        // SAFETY: the caller's promise; the fields are NUL-terminated strings in the buffer, or null.
        unsafe {
            User {
                name: text(self.pw_name),
                uid: self.pw_uid,
                gid: self.pw_gid,
                gecos: text(self.pw_gecos),
                home: path(self.pw_dir),
                shell: path(self.pw_shell),
            }
        }
    }
}

impl Entry for libc::spwd {
    type Owned = Shadow;
    unsafe fn copy(&self) -> Shadow {
        // SAFETY: the caller's promise.
        unsafe { Shadow { password: text(self.sp_pwdp), expires: u64::try_from(self.sp_expire).ok() } }
    }
}

impl Entry for libc::group {
    type Owned = Group;
    unsafe fn copy(&self) -> Group {
        let mut members = Vec::new();
        // SAFETY: the caller's promise; gr_mem is an array of strings that ends with a null pointer.
        unsafe {
            let mut next = self.gr_mem;
            while !next.is_null() && !(*next).is_null() {
                members.push(text(*next));
                next = next.add(1);
            }
            Group { name: text(self.gr_name), gid: self.gr_gid, members }
        }
    }
}

/// Calls one of the `get..._r` functions with a buffer that grows until the entry fits (at most 1 MiB).
fn lookup<E: Entry>(call: impl Fn(*mut E, *mut c_char, usize, *mut *mut E) -> i32) -> io::Result<Option<E::Owned>> {
    let mut length = 1024;
    loop {
        let mut buffer = vec![0; length];
        let mut entry = std::mem::MaybeUninit::<E>::uninit();
        let mut found = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr(), length, &raw mut found) {
            0 if found.is_null() => return Ok(None),
            // SAFETY: the call succeeded and `found` points to `entry`, whose strings lie in `buffer`.
            0 => return Ok(Some(unsafe { (*found).copy() })),
            libc::ERANGE if length < 1 << 20 => length *= 2,
            libc::EINTR => {}
            // POSIX lets these mean "not found" too; glibc's own documentation lists them.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// # Safety
/// `pointer` is null or a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// # Safety
/// As [`text`].
unsafe fn path(pointer: *const c_char) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    if pointer.is_null() {
        return PathBuf::new();
    }
    // SAFETY: the caller's promise.
    PathBuf::from(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(pointer) }.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_id() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(root.home, PathBuf::from("/root"));
        assert_eq!(by_uid(0).unwrap().unwrap(), root);
    }

    #[test]
    fn an_absent_user_is_not_an_error() {
        assert_eq!(by_name("no-such-user-anywhere").unwrap(), None);
        assert_eq!(by_name("nul\0byte").unwrap(), None);
        assert_eq!(by_uid(0xFFFF_FF00).unwrap(), None);
    }

    #[test]
    fn an_absent_user_has_no_shadow_and_root_s_needs_rights() {
        match shadow_by_name("root") {
            Ok(Some(shadow)) => assert!(!format!("{shadow:?}").contains(&format!("{:?}", shadow.password))),
            Ok(None) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert!(!matches!(shadow_by_name("no-such-user-anywhere"), Ok(Some(_))));
    }

    #[test]
    fn groups_are_found_both_ways() {
        let root = group_by_gid(0).unwrap().unwrap();
        assert_eq!(group_by_name(&root.name).unwrap().unwrap(), root);
        assert!(groups_of("root", 0).unwrap().contains(&0));
        assert_eq!(groups_of("no-such-user-anywhere", 77).unwrap(), vec![77]);
    }
}
