//! Changes by other programs, through inotify.
//!
//! The kernel gives each uid 128 instances, and users of one uid share them: so a process has one for all mailboxes that its sessions watch.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Told that something happened in a mailbox; only that: [`crate::Mailbox::sync`] finds out what. It must not block.
pub type Tell = Arc<dyn Fn() + Send + Sync>;

/// Octets of an event before its name: watch, mask, cookie, length of the name (inotify(7)).
const EVENT: usize = 16;

/// All watches of a process, over one descriptor: who polls it hands what it reads to [`Watches::tell`].
pub struct Watches {
    fd: OwnedFd,
    listeners: Mutex<Listeners>,
    attended: AtomicBool,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    /// By the kernel's number of a directory.
    by_directory: HashMap<i32, Vec<(u64, Tell)>>,
}

/// A watch on some directories, until it is dropped.
pub struct Watch {
    watches: Arc<Watches>,
    number: u64,
    directories: Vec<i32>,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("directories", &self.directories).finish_non_exhaustive()
    }
}

impl Watches {
    /// An instance; none where the user's instances are used up, or the system has none.
    #[must_use]
    pub fn new() -> Option<Arc<Self>> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Arc::new(Self { fd, listeners: Mutex::default(), attended: AtomicBool::new(false) }))
    }

    /// Whether the caller is the first who asks: then it is the caller who polls the descriptor from now on.
    #[must_use]
    pub fn to_be_attended(&self) -> bool {
        !self.attended.swap(true, Ordering::Relaxed)
    }

    /// Watches directories. None where the user's watches are used up, or the file system has none.
    #[must_use]
    pub fn on(self: &Arc<Self>, directories: &[&Path], tell: &Tell) -> Option<Watch> {
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        let mut listeners = self.listeners();
        listeners.next += 1;
        // What was added before an error goes with this.
        let mut watch = Watch { watches: Arc::clone(self), number: listeners.next, directories: Vec::new() };
        for directory in directories {
            // The same number for the same directory, however often it is asked for.
            let Ok(added) = inotify::add_watch(&self.fd, *directory, events) else {
                drop(listeners);
                return None;
            };
            listeners.by_directory.entry(added).or_default().push((watch.number, Arc::clone(tell)));
            watch.directories.push(added);
        }
        Some(watch)
    }

    /// Tells those whom events concern, each once. `events` is what one read of the descriptor gave.
    pub fn tell(&self, mut events: &[u8]) {
        let mut told: HashMap<u64, Tell> = HashMap::new();
        let mut listeners = self.listeners();
        while let Some((head, rest)) = events.split_first_chunk::<EVENT>() {
            let [w0, w1, w2, w3, m0, m1, m2, m3, _, _, _, _, l0, l1, l2, l3] = *head;
            let directory = i32::from_ne_bytes([w0, w1, w2, w3]);
            let mask = u32::from_ne_bytes([m0, m1, m2, m3]);
            let name = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            events = rest.get(name..).unwrap_or_default();
            if mask & inotify::ReadFlags::QUEUE_OVERFLOW.bits() != 0 {
                told.extend(listeners.by_directory.values().flatten().cloned());
            }
            told.extend(listeners.by_directory.get(&directory).into_iter().flatten().cloned());
            if mask & inotify::ReadFlags::IGNORED.bits() != 0 {
                // The directory is gone, and the kernel's watch with it.
                listeners.by_directory.remove(&directory);
            }
        }
        drop(listeners);
        told.into_values().for_each(|tell| tell());
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut listeners = self.watches.listeners();
        for directory in &self.directories {
            let Some(others) = listeners.by_directory.get_mut(directory) else { continue };
            others.retain(|(number, _)| *number != self.number);
            if others.is_empty() {
                listeners.by_directory.remove(directory);
                let _ = inotify::remove_watch(&self.watches.fd, *directory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Reads what happened, and tells.
    fn attend(watches: &Watches) {
        let mut buffer = [0; 4096];
        while let Ok(count) = rustix::io::read(watches, &mut buffer) {
            watches.tell(&buffer[..count]);
        }
    }

    #[test]
    fn one_instance_tells_each_watch_of_its_own_directories() {
        let temporary = tempfile::tempdir().expect("a directory");
        let [one, two] = ["one", "two"].map(|name| temporary.path().join(name));
        [&one, &two].into_iter().for_each(|path| std::fs::create_dir(path).expect("made"));
        let watches = Watches::new().expect("an instance");
        assert!(watches.to_be_attended() && !watches.to_be_attended());
        let counted = || {
            let count = Arc::new(AtomicUsize::new(0));
            let tell: Tell = Arc::new({
                let count = Arc::clone(&count);
                move || {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            (count, tell)
        };
        let ((first, tell_first), (second, tell_second)) = (counted(), counted());
        let both = watches.on(&[&one, &two], &tell_first).expect("a watch");
        let only = watches.on(&[&two], &tell_second).expect("a watch");
        std::fs::write(one.join("a"), "").expect("written");
        attend(&watches);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (1, 0));
        std::fs::write(two.join("a"), "").expect("written");
        std::fs::write(two.join("b"), "").expect("written");
        attend(&watches);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (2, 1), "each once");
        // The directory stays watched for the other.
        drop(both);
        std::fs::remove_file(two.join("a")).expect("removed");
        std::fs::remove_file(one.join("a")).expect("removed");
        attend(&watches);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (2, 2));
        std::fs::remove_dir_all(&two).expect("removed");
        attend(&watches);
        assert_eq!(second.load(Ordering::Relaxed), 3);
        drop(only);
        assert!(watches.listeners().by_directory.is_empty());
        let all = watches.on(&[&one], &tell_first).expect("a watch");
        let (before, other) = (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
        // The kernel lost events: anything may have happened anywhere. Watch -1, the mask, no cookie, no name.
        let mut lost = [0; EVENT];
        lost[..4].copy_from_slice(&(-1i32).to_ne_bytes());
        lost[4..8].copy_from_slice(&inotify::ReadFlags::QUEUE_OVERFLOW.bits().to_ne_bytes());
        watches.tell(&lost);
        assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (before + 1, other));
        drop(all);
        assert!(watches.on(&[&two], &tell_second).is_none() && watches.listeners().by_directory.is_empty());
        watches.tell(b"not an event");
    }
}
