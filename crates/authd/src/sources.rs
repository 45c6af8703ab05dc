//! The facts that a plan asks for, as the front gets them: its own eyes first, the monitor's rights where those are needed.

use std::cell::Cell;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use accounts::passwd_file::PasswdFile;
use accounts::plan::{PamAnswer, PamQuestion, Sources, SystemUser};
use mail_posix::users::{self, User};
use mail_types::Octets;
use tokio::runtime::Handle;

use crate::cache::Cache;
use crate::files::Files;
use crate::helper::Helper;
use crate::questions::{Answer, Question};

/// How long a system user is remembered; that there is none, never.
const USER_LIFE: Duration = Duration::from_secs(10);
const USERS_MOST: usize = 4096;
/// How long a login waits for a free helper.
const HELPER_PATIENCE: Duration = Duration::from_secs(10);

/// The front's sources. Asked from threads that may block, never from the event loop.
pub(crate) struct FrontSources {
    files: Files,
    users: Mutex<Cache<User>>,
    helper: Option<Helper>,
    runtime: Handle,
    /// As many hashes at once as there are processors.
    hashing: Slots,
    /// Helpers of the monitor at once.
    helping: Slots,
    /// Where the problems of a file that was read are told.
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl FrontSources {
    pub(crate) fn new(helper: Option<Helper>, helpers: usize, tell: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            files: Files::default(),
            users: Mutex::new(Cache::new(USERS_MOST, USER_LIFE)),
            helper,
            runtime: Handle::current(),
            hashing: Slots::new(processors),
            helping: Slots::new(helpers),
            tell,
        }
    }

    /// Takes every file anew: what a reload asks for.
    pub(crate) fn forget_files(&self) {
        self.files.forget();
    }

    /// A user of the machine, through the cache.
    pub(crate) fn passwd(&self, name: &str) -> Result<Option<User>, String> {
        let now = Instant::now();
        let cache = || self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = cache().get(name, now) {
            return Ok(Some(user));
        }
        let found = users::by_name(name).map_err(|error| format!("getpwnam({name}) failed: {error}"))?;
        if let Some(user) = &found {
            cache().put(name, user.clone(), now);
        }
        Ok(found)
    }

    fn ask(&self, question: Question) -> Result<(Answer, Vec<OwnedFd>), String> {
        let helper = self.helper.as_ref().ok_or("authd runs without a monitor")?;
        self.runtime.block_on(helper.ask(question))
    }

    fn opinion(&self, question: Question) -> PamAnswer {
        let Some(_slot) = self.helping.take(Some(HELPER_PATIENCE)) else {
            return PamAnswer::Unavailable("all helpers are busy".into());
        };
        match self.ask(question) {
            Ok((Answer::Opinion { opinion }, _)) => opinion.into(),
            Ok((Answer::Refused { text }, _)) | Err(text) => PamAnswer::Unavailable(text),
            Ok(_) => PamAnswer::Unavailable("the monitor gave another answer".into()),
        }
    }

    /// Opens a file, by the monitor where we may not.
    fn open(&self, path: &str) -> Result<File, String> {
        match File::open(path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                match self.ask(Question::File { path: path.to_owned() }) {
                    Ok((Answer::File, descriptors)) => {
                        descriptors.into_iter().next().map(File::from).ok_or_else(|| "no descriptor came".to_owned())
                    }
                    Ok((Answer::Refused { text }, _)) | Err(text) => Err(text),
                    Ok(_) => Err("the monitor gave another answer".to_owned()),
                }
            }
            Err(error) => Err(format!("open({path}) failed: {error}")),
        }
    }
}

impl Sources for FrontSources {
    fn hashing(&self, quick: bool, check: &mut dyn FnMut()) {
        let _slot = if quick { None } else { self.hashing.take(None) };
        check();
    }

    fn passwd_file(&self, path: &str) -> Result<Arc<PasswdFile>, String> {
        // Most often nothing changed, and where the monitor would have to open the file that spares two processes their turn.
        if let Some(users) = self.files.unchanged(path) {
            return Ok(users.file);
        }
        let opened = self.open(path)?;
        let users = self.files.users(path, &opened, SystemTime::now())?;
        if users.fresh {
            for (line, problem) in &users.file.problems {
                (self.tell)(&format!("passwd-file {path}: line {line}: {problem}"));
            }
        }
        Ok(users.file)
    }

    fn pam(&self, question: PamQuestion<'_>) -> PamAnswer {
        self.opinion(Question::Pam {
            service: question.service.to_owned(),
            user: question.user.to_owned(),
            password: question.password.into(),
            remote: question.remote.to_owned(),
        })
    }

    fn shadow(&self, name: &str, password: Option<&Octets>) -> PamAnswer {
        self.opinion(Question::Shadow { user: name.to_owned(), password: password.cloned() })
    }

    fn system_user(&self, name: &str) -> Result<Option<SystemUser>, String> {
        let user = self.passwd(name)?;
        Ok(user.map(|user| SystemUser {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            home: user.home.to_string_lossy().into_owned(),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        let group = users::group_by_name(name).map_err(|error| format!("getgrnam({name}) failed: {error}"))?;
        Ok(group.map(|group| group.gid))
    }
}

/// The sources as far as they answer at once: what is in memory and takes microseconds. An event loop may ask them.
pub(crate) struct AtOnce<'a> {
    sources: &'a FrontSources,
    missed: Cell<bool>,
}

impl FrontSources {
    /// What answers at once.
    pub(crate) fn at_once(&self) -> AtOnce<'_> {
        AtOnce { sources: self, missed: Cell::new(false) }
    }
}

impl AtOnce<'_> {
    /// Whether something that was asked takes longer: whatever was made of the answers is then worth nothing.
    pub(crate) fn missed(&self) -> bool {
        self.missed.get()
    }

    fn miss<T>(&self) -> Result<T, String> {
        self.missed.set(true);
        Err("not at once".to_owned())
    }
}

impl Sources for AtOnce<'_> {
    fn hashing(&self, quick: bool, check: &mut dyn FnMut()) {
        if quick {
            check();
        } else {
            self.missed.set(true);
        }
    }

    fn passwd_file(&self, path: &str) -> Result<Arc<PasswdFile>, String> {
        self.sources.files.unchanged(path).map_or_else(|| self.miss(), |users| Ok(users.file))
    }

    fn pam(&self, _question: PamQuestion<'_>) -> PamAnswer {
        PamAnswer::Unavailable(self.miss::<()>().err().unwrap_or_default())
    }

    fn shadow(&self, _name: &str, _password: Option<&Octets>) -> PamAnswer {
        PamAnswer::Unavailable(self.miss::<()>().err().unwrap_or_default())
    }

    fn system_user(&self, _name: &str) -> Result<Option<SystemUser>, String> {
        self.miss()
    }

    fn group(&self, _name: &str) -> Result<Option<u32>, String> {
        self.miss()
    }
}

/// So many at once; the others wait their turn.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// A place, waited for as long as `patience` says; for ever without it, which always gives one.
    fn take(&self, patience: Option<Duration>) -> Option<Slot<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |free: &mut usize| *free == 0;
        let mut free = match patience {
            None => self.freed.wait_while(free, full).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.freed.wait_timeout_while(free, patience, full);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *free = free.checked_sub(1)?;
        Some(Slot(self))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_so_many_hashes_run_at_once() {
        let (slots, running, most) = (Slots::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _slot = slots.take(None).unwrap();
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(*slots.free.lock().unwrap(), 2);
        let _held = (slots.take(None), slots.take(None));
        assert!(slots.take(Some(Duration::ZERO)).is_none());
    }

    #[tokio::test]
    async fn without_a_monitor_system_passwords_are_unknown_not_wrong() {
        let sources = FrontSources::new(None, 1, Box::new(|_| {}));
        let question = PamQuestion { service: "dovecot", user: "root", password: "x", remote: "192.0.2.1" };
        assert!(matches!(sources.pam(question), PamAnswer::Unavailable(_)));
        assert!(matches!(sources.shadow("root", Some(&"x".into())), PamAnswer::Unavailable(_)));
    }

    #[tokio::test]
    async fn system_users_are_found_and_absent_ones_are_not_remembered() {
        let sources = FrontSources::new(None, 1, Box::new(|_| {}));
        assert_eq!(sources.passwd("root").unwrap().unwrap().uid, 0);
        assert_eq!(sources.passwd("root").unwrap().unwrap().uid, 0);
        assert_eq!(sources.passwd("no-such-user-anywhere").unwrap(), None);
    }
}
