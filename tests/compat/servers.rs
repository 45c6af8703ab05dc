//! Tables that servers answer: real servers of the test's own, asked by `postmap -q` of Postfix and of us.

pub mod ldap;
pub mod memcache;
pub mod mysql;
pub mod tcp;

use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::{Patience, wait_for};

use super::tables::{Place, text};

/// Servers do not run as root.
const NOBODY: u32 = 65534;

/// A server that ends with the test.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().display().to_string();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.map_err(|error| format!("{name}: {error}"))?))
    }

    /// Waits until somebody listens on a port of this machine.
    fn wait_for_port(&mut self, port: u16) -> Result<(), String> {
        let answers = || TcpStream::connect(("127.0.0.1", port)).ok();
        wait_for(&format!("a server on port {port}"), Patience::default(), || match self.0.try_wait() {
            Ok(Some(status)) => Some(Err(format!("the server ended: {status}"))),
            _ => answers().map(|_| Ok(())),
        })?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says about one key.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Value(String),
    NotFound,
    /// Nobody knows now.
    Failed,
}

impl Said {
    /// Both programs end with 1 for a key that is not there and for a failure; only the latter is complained about as the end.
    fn of(output: &Output, fatal: &str) -> Self {
        let complained = text(&output.stderr);
        match output.status.success() {
            true => Self::Value(text(&output.stdout)),
            false if !complained.is_empty() && complained.contains(fatal) => Self::Failed,
            false => Self::NotFound,
        }
    }
}

/// Carries out comparisons, several at once: Postfix's program sleeps a second before it gives up.
fn side_by_side<T: Sync>(cases: &[T], compare: impl Fn(&T) -> Result<usize, String> + Sync) -> Result<usize, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut asked = 0;
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            asked += compare(case)?;
        }
        Ok::<usize, String>(asked)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        done.sum()
    })
}

/// Asks both for each key by itself, so that failures are told from keys that are not there.
fn compare_each<'a>(
    place: &Place,
    table: &str,
    keys: impl IntoIterator<Item = &'a String>,
    shown: &str,
) -> Result<(usize, usize), String> {
    compare_each_of(place, (table, table), keys, shown)
}

/// The same of a table of theirs and one of ours.
fn compare_each_of<'a>(
    place: &Place,
    tables: (&str, &str),
    keys: impl IntoIterator<Item = &'a String>,
    shown: &str,
) -> Result<(usize, usize), String> {
    let outcomes: Vec<Result<Said, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            keys.into_iter().map(|key| scope.spawn(|| compare_one(place, tables, key, shown))).collect();
        asked.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a comparison panicked".to_owned()))).collect()
    });
    let said = outcomes.into_iter().collect::<Result<Vec<Said>, String>>()?;
    Ok((said.len(), said.iter().filter(|said| **said == Said::Failed).count()))
}

fn compare_one(place: &Place, (table, own): (&str, &str), key: &str, shown: &str) -> Result<Said, String> {
    let (their, our) = (place.theirs(&["-q", key, table], "")?, place.ours(&["-q", key, own], "")?);
    let (theirs, ours) = (Said::of(&their, "fatal:"), Said::of(&our, ""));
    if theirs == ours {
        return Ok(ours);
    }
    let (said, say) = (text(&their.stderr), text(&our.stderr));
    Err(format!("{table}: {key}: {theirs:?}, ours {ours:?}\nPostfix: {said}\nours: {say}\ntable:\n{shown}"))
}
