//! Numbered messages from 20 sessions, and the account of them at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use test_support::clients::{Security, Smtp};
use test_support::{Patience, System, wait_for};

use crate::sink::Sink;

const SESSIONS: usize = 20;
/// Between two attempts of a session to connect.
const PAUSE: Duration = Duration::from_millis(20);

/// What a test knows about the messages that were sent.
#[derive(Default)]
struct Account {
    acknowledged: BTreeSet<u32>,
    /// Sessions pause while so many are acknowledged.
    allowed: usize,
}

struct Shared {
    door: SocketAddr,
    domain: String,
    next: AtomicU32,
    done: AtomicBool,
    account: Mutex<Account>,
    changed: Condvar,
}

/// Sessions that send, as far as they are allowed to.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for permission; false at the end.
    fn may_send(&self) -> bool {
        let mut account = self.lock();
        while !self.done.load(Ordering::Relaxed) && account.acknowledged.len() >= account.allowed {
            account = self.changed.wait(account).unwrap_or_else(PoisonError::into_inner);
        }
        !self.done.load(Ordering::Relaxed)
    }

    /// One connection that sends until something breaks; only a `250` after the content counts.
    fn session(&self) {
        let Ok(mut smtp) = Smtp::connect(self.door, Security::Clear) else {
            // Nobody is there: twenty who try without a pause leave no processor to who is to come back.
            return std::thread::sleep(PAUSE);
        };
        while self.may_send() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if self.one(&mut smtp, number, "").is_err() {
                return;
            }
        }
    }

    fn one(&self, smtp: &mut Smtp, number: u32, filling: &str) -> io::Result<()> {
        let text = format!("Subject: number {number}\r\nX-Number: {number}\r\n\r\nmessage {number}{filling}");
        let to = recipient(number, &self.domain);
        smtp.send(&format!("mary@{}", self.domain), &[&to], &text)?;
        self.lock().acknowledged.insert(number);
        self.changed.notify_all();
        Ok(())
    }
}

/// Every fourth message goes to another server, one of four to mary, the others to john.
fn recipient(number: u32, domain: &str) -> String {
    match number % 4 {
        0 => format!("far{number}@far.example"),
        1 => format!("mary@{domain}"),
        _ => format!("john@{domain}"),
    }
}

/// Whether a message goes to the other server.
pub fn goes_far(number: u32) -> bool {
    number.is_multiple_of(4)
}

impl Load {
    /// Starts the sessions; they send nothing before [`Load::allow_more`].
    pub fn start(system: &System) -> Self {
        let shared = Arc::new(Shared {
            door: system.ports.at(system.ports.smtp),
            domain: system.domain.clone(),
            next: AtomicU32::new(0),
            done: AtomicBool::new(false),
            account: Mutex::default(),
            changed: Condvar::new(),
        });
        let session = |shared: Arc<Shared>| {
            move || {
                while shared.may_send() {
                    shared.session();
                }
            }
        };
        let threads = (0..SESSIONS).map(|_| std::thread::spawn(session(Arc::clone(&shared)))).collect();
        Self { shared, threads }
    }

    /// Lets so many further messages be acknowledged; gives the number of acknowledged messages that this will lead to.
    pub fn allow_more(&self, count: usize) -> usize {
        let mut account = self.shared.lock();
        account.allowed = account.acknowledged.len() + count;
        self.shared.changed.notify_all();
        account.allowed
    }

    /// How many are acknowledged.
    pub fn count(&self) -> usize {
        self.shared.lock().acknowledged.len()
    }

    /// Waits until so many are acknowledged.
    pub fn reach(&self, count: usize) -> Result<(), String> {
        wait_for(&format!("{count} acknowledged messages"), Patience::default(), || {
            (self.count() >= count).then_some(())
        })
        .map_err(|error| format!("{error} (there are {})", self.count()))
    }

    /// Sends one message on a connection of its own, to the other server or to a mailbox; gives its number.
    pub fn send_one(&self, far: bool, filling: &str) -> io::Result<u32> {
        let numbers = std::iter::repeat_with(|| self.shared.next.fetch_add(1, Ordering::Relaxed));
        // The numbers in between are never sent.
        let number = numbers.into_iter().find(|number| goes_far(*number) == far).unwrap_or_default();
        let mut smtp = Smtp::connect(self.shared.door, Security::Clear)?;
        self.shared.one(&mut smtp, number, filling)?;
        Ok(number)
    }

    /// Which are acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<u32> {
        self.shared.lock().acknowledged.clone()
    }

    /// Ends the sessions; gives what was acknowledged.
    pub fn end(mut self) -> BTreeSet<u32> {
        self.shared.done.store(true, Ordering::Relaxed);
        // With the lock held nobody is between looking and waiting.
        drop(self.shared.lock());
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A session that panicked has failed to send; what it had acknowledged is in the account.
            let _ = thread.join();
        }
        self.acknowledged()
    }
}

/// The numbers in Maildirs, by file: each file is read once, however often it is looked for.
#[derive(Default)]
pub struct Mailboxes {
    known: HashMap<String, Option<u32>>,
}

impl Mailboxes {
    /// How many files hold each number now.
    pub fn count(&mut self, system: &System) -> BTreeMap<u32, usize> {
        // A session that opens the mailbox moves files from new to cur: one may show in both.
        let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for user in ["john", "mary"] {
            for part in ["new", "cur"] {
                self.look_into(&system.maildir(user).join(part), &mut found);
            }
        }
        found.into_iter().map(|(number, files)| (number, files.len())).collect()
    }

    fn look_into(&mut self, directory: &Path, found: &mut BTreeMap<u32, BTreeSet<String>>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().split(':').next().unwrap_or_default().to_owned();
            if !self.known.contains_key(&name)
                && let Ok(text) = std::fs::read(entry.path())
            {
                self.known.insert(name.clone(), number(&String::from_utf8_lossy(&text)));
            }
            if let Some(Some(number)) = self.known.get(&name) {
                found.entry(*number).or_default().insert(name);
            }
        }
    }
}

/// The number of a message.
pub fn number(message: &str) -> Option<u32> {
    message.lines().find_map(|line| line.strip_prefix("X-Number: "))?.trim().parse().ok()
}

/// Waits until every acknowledged message is in its mailbox or at the other server; gives how often each number lies in a mailbox.
pub fn all_arrive(
    system: &System,
    sink: Option<&Sink>,
    acknowledged: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, usize>, String> {
    let mut mailboxes = Mailboxes::default();
    let mut missing = acknowledged.clone();
    let arrived = wait_for("every acknowledged message", Patience::default(), || {
        let stored = mailboxes.count(system);
        let far: BTreeSet<u32> =
            sink.map(|sink| sink.copies().iter().map(|copy| copy.number).collect()).unwrap_or_default();
        missing.retain(|number| !stored.contains_key(number) && !far.contains(number));
        missing.is_empty().then_some(stored)
    });
    arrived.map_err(|error| {
        format!("{error}: of {} acknowledged missing {missing:?}\n{}", acknowledged.len(), system.logs())
    })
}

/// A mailbox never holds a message twice: an attempt whose predecessor left no outcome looks first.
pub fn no_second_copy(stored: &BTreeMap<u32, usize>) -> Result<(), String> {
    let twice: Vec<_> = stored.iter().filter(|(_, copies)| **copies > 1).collect();
    if twice.is_empty() { Ok(()) } else { Err(format!("more than one copy in a mailbox: {twice:?}")) }
}
