//! A user who makes the server work as hard as it can does not slow another one: what is compared is work, not time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use test_support::clients::{Imap, Security};
use test_support::{Builder, Patience, System, wait_for};

use super::dialogue::check;
use super::session::{Session, work};

/// Connections of the hostile user that search, and that ask for everything and read nothing.
const SEARCHING: usize = 3;
const NOT_READING: usize = 4;
/// Visits of the other user.
const VISITS: usize = 60;
/// Whoever takes turns with a neighbour's threads on the processors waits for each of them once in a while; whoever waited for their searches, or
/// for readers that never read, would see each processor do hundreds of times the work of a visit for them.
const NEIGHBOURS_SHARE: u64 = 30;

pub fn a_hostile_user_does_not_slow_another() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    bombs(&system)?;
    for number in 0..10 {
        let mut mary = Session::login(&system, "mary", "a delivery")?;
        let message = format!("Subject: {number}\r\n\r\nhello\r\n");
        mary.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    let not_reading = (0..NOT_READING).map(|_| ask_and_do_not_read(&system)).collect::<Result<Vec<_>, _>>()?;
    let (over, searches) = (AtomicBool::new(false), AtomicUsize::new(0));
    let outcome = std::thread::scope(|scope| {
        let searching: Vec<_> = (0..SEARCHING).map(|_| scope.spawn(|| search(&system, &over, &searches))).collect();
        let outcome = visits(&system, &searches);
        over.store(true, Ordering::Relaxed);
        let ended = searching.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a client panicked".to_owned())));
        outcome.and(ended.collect())
    });
    drop(not_reading);
    outcome
}

/// The other user comes, looks and goes while the hostile one is at work; then their work is compared.
fn visits(system: &System, searches: &AtomicUsize) -> Result<(), String> {
    wait_for("a search", Patience::default(), || (searches.load(Ordering::Relaxed) > 0).then_some(()))?;
    // Her process stays as long as one of her sessions does.
    let mut stays = Session::login(system, "mary", "who stays")?;
    let (john, mary) = (process_of(system, "john")?, process_of(system, "mary")?);
    let before = (work(john), work(mary));
    for _ in 0..VISITS {
        let mut visit = Session::login(system, "mary", "a visitor")?;
        visit.ok("SELECT INBOX")?;
        let fetched = visit.ok("FETCH 1:* (FLAGS ENVELOPE BODY.PEEK[])")?;
        check(fetched.matches("* ").count() >= 10, || format!("a visit: {fetched}"))?;
        visit.ok("LOGOUT")?;
    }
    stays.ok("NOOP")?;
    check(process_of(system, "mary")? == mary, || "mary's process did not stay".to_owned())?;
    let (theirs, ours) = (work(john) - before.0, (work(mary) - before.1).max(1));
    eprintln!("{VISITS} visits took {ours} ticks; meanwhile the neighbour's work took {theirs}");
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let most = NEIGHBOURS_SHARE * processors * ours;
    check(theirs <= most, || format!("{ours} ticks of work waited for {theirs} of the neighbour's"))
}

/// Fills the hostile user's mailbox with messages that are laborious to search.
fn bombs(system: &System) -> Result<(), String> {
    let mut john = Session::login(system, "john", "bombs")?;
    let parts = "--x\r\nContent-Type: text/html; charset=iso-2022-jp\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=1B=24B=25=\r\n".repeat(4_000);
    let message =
        format!("Subject: =?utf-8?q?a=20b?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n{parts}--x--\r\n");
    for _ in 0..20 {
        john.ok(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))?;
    }
    Ok(())
}

fn search(system: &System, over: &AtomicBool, searches: &AtomicUsize) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("the hostile user: {error}");
    let mut imap = Imap::connect(system.ports.at(system.ports.imap), Security::Clear).map_err(wrong)?;
    imap.login("john", "secret").map_err(wrong)?;
    imap.command("SELECT INBOX").map_err(wrong)?;
    while !over.load(Ordering::Relaxed) {
        imap.command("SEARCH OR TEXT nowhere BODY \"not there\"").map_err(wrong)?;
        searches.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn ask_and_do_not_read(system: &System) -> Result<Imap, String> {
    let wrong = |error: std::io::Error| format!("the reader: {error}");
    let mut imap = Imap::connect(system.ports.at(system.ports.imap), Security::Clear).map_err(wrong)?;
    imap.login("john", "secret").map_err(wrong)?;
    imap.command("SELECT INBOX").map_err(wrong)?;
    imap.lines.say("f FETCH 1:* (BODY.PEEK[] BODY.PEEK[TEXT])").map_err(wrong)?;
    Ok(imap)
}

/// The session process of a user, from the last line about a login; it lives.
fn process_of(system: &System, user: &str) -> Result<u32, String> {
    let login = format!("Login: user=<{user}>,");
    let found = wait_for(&format!("the process of {user}"), Patience::default(), || {
        let log = system.log("imapd");
        let line = log.lines().rfind(|line| line.contains(&login))?;
        let pid = line.split_once("mpid=")?.1.split(',').next()?.parse().ok()?;
        Some(pid).filter(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false))
    });
    found.map_err(|error| format!("{error}\n{}", system.log("imapd")))
}
