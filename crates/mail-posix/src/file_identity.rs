//! Whose files a thread makes: for a command of root's that writes into a directory of a daemon's user, so that the daemon can use what it finds.

use std::io;
use std::marker::PhantomData;

/// While it lives, files that this thread makes belong to the user, and what the user may not open this thread may not either. Threads that
/// are started meanwhile stay so. Dropped, the thread makes its own files again.
///
/// This gives up no rights for good (a thread can always go back): it is no protection against code, only against wrong owners.
#[derive(Debug)]
pub struct FileIdentity {
    /// The ids before.
    before: (u32, u32),
    /// The kernel keeps the ids per thread.
    thread: PhantomData<*const ()>,
}

impl FileIdentity {
    /// Takes the ids of a user and group for the files of this thread.
    ///
    /// # Errors
    /// The process may not: only root may take ids that it does not have.
    pub fn take(uid: u32, gid: u32) -> io::Result<Self> {
        let before = set(uid, gid);
        let taken = Self { before, thread: PhantomData };
        // The calls answer with the ids before, whether they did anything or not: asked again they tell.
        if set(uid, gid) == (uid, gid) { Ok(taken) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Drop for FileIdentity {
    fn drop(&mut self) {
        set(self.before.0, self.before.1);
    }
}

/// Sets the ids for files of this thread and gives those before. With the user's id the rights of root over files go and come.
fn set(uid: u32, gid: u32) -> (u32, u32) {
    // The group first: without the rights of root it could not be changed any more. On the way back either order works.
    // SAFETY: setfsgid and setfsuid take a number and touch no memory of ours.
    let (gid, uid) = unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    (uid.cast_unsigned(), gid.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn files_belong_to_the_user_that_was_taken_and_then_to_us_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = rustix::process::geteuid().as_raw();
        let root = own == 0;
        let (uid, gid) = if root { (65534, 65534) } else { (own, rustix::process::getegid().as_raw()) };
        if root {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).expect("given away");
        }
        let owner = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, "").expect("written");
            path.metadata().expect("there").uid()
        };
        let taken = FileIdentity::take(uid, gid).expect("allowed");
        assert_eq!(owner("theirs"), uid);
        let thread = std::thread::spawn({
            let path = directory.path().join("thread");
            move || std::fs::write(&path, "").map(|()| path.metadata().map(|m| m.uid()))
        });
        assert_eq!(thread.join().expect("ended").expect("written").expect("there"), uid);
        drop(taken);
        assert_eq!(owner("ours"), own);
    }

    #[test]
    fn nobody_takes_the_ids_of_somebody_else() {
        if rustix::process::geteuid().as_raw() != 0 {
            assert!(FileIdentity::take(0, 0).is_err());
        }
    }
}
