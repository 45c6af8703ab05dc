//! `cargo xtask load`: what the work costs, beside Debian's Postfix and Dovecot in the same run.
//!
//! Both servers get the same lines of configuration and the same mail, lie on the same file system, and sync before they answer; rounds alternate, medians
//! count. Rates depend on whatever else the machine does; the CPU seconds of the whole server per 1,000 items depend on it far less.
//! The table goes to standard output and, with `--write`, into `docs/performance.md`.

mod cpu;
mod dovecot;
mod idle;
mod mailbox;
mod ours;
mod postfix;
mod report;
mod sessions;
mod smtp;
mod workers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use test_support::binaries;
use test_support::harness::program;

use report::{Metric, Outcome};

/// A server under load, ours or the reference.
trait Server {
    /// Where it listens: SMTP of a transport, IMAP of a mailbox server.
    fn address(&self) -> SocketAddr;
    /// CPU seconds used so far by all its processes.
    fn cpu(&self) -> f64;
    /// KiB of memory that its processes hold now, shared pages divided among those that share them.
    fn memory(&self) -> f64;
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Reference,
}

/// How much of everything.
#[derive(Debug, Clone)]
struct Scale {
    messages: usize,
    mailbox: usize,
    idle: usize,
    rounds: usize,
}

/// What one round gave, in the order of its row's metrics; none where the reference is not installed.
type Round = Result<Option<Vec<f64>>, String>;

/// A row: what one round of it measures on one server, in the order of its metrics.
struct Row {
    name: &'static str,
    metrics: &'static [Metric],
    round: fn(&Scale, Side) -> Round,
}

fn rows() -> Vec<Row> {
    [smtp::rows(), workers::rows(), idle::rows(), sessions::rows(), mailbox::rows()].into_iter().flatten().collect()
}

/// Runs the rows that were asked for, all of them without a name.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let Options { scale, only, write } = Options::parse(arguments)?;
    let built = binaries::build("release")?;
    let release = built.get("xtask").ok_or("xtask was not built")?;
    if !std::env::current_exe().is_ok_and(|own| own.canonicalize().ok() == release.canonicalize().ok()) {
        // The clients of the load share the processors with the servers, so they are optimised as well.
        let status = Command::new(release).arg("load").args(arguments).status().map_err(|error| error.to_string())?;
        return if status.success() { Ok(()) } else { Err(format!("load: {status}")) };
    }
    program("smtp-source").ok_or("smtp-source is not installed (Debian: postfix)")?;
    let mut outcomes = Vec::new();
    for row in rows() {
        if only.is_empty() || only.iter().any(|name| row.name.contains(name.as_str())) {
            outcomes.push(measure(&row, &scale)?);
        }
    }
    if write { report::write(&scale.describe(), &outcomes) } else { Ok(()) }
}

/// Alternates between the servers and takes medians.
fn measure(row: &Row, scale: &Scale) -> Result<Outcome, String> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        ours.extend((row.round)(scale, Side::Ours).map_err(|error| format!("{}, ours: {error}", row.name))?);
        theirs.extend((row.round)(scale, Side::Reference).map_err(|error| format!("{}, theirs: {error}", row.name))?);
    }
    let outcome = Outcome::new(row.name, row.metrics, &ours, &theirs);
    outcome.show();
    Ok(outcome)
}

struct Options {
    scale: Scale,
    only: Vec<String>,
    write: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let scale = Scale { messages: 5_000, mailbox: 10_000, idle: 1_000, rounds: 3 };
        let mut options = Self { scale, only: Vec::new(), write: false };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            if flag == "--write" {
                options.write = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("load: {flag} needs a value"))?;
            let number = || value.parse::<usize>().map_err(|_| format!("load: `{value}' is no number"));
            match flag.as_str() {
                "--messages" => options.scale.messages = number()?.max(100),
                "--mailbox" => options.scale.mailbox = number()?.max(100),
                "--idle" => options.scale.idle = number()?.max(10),
                "--rounds" => options.scale.rounds = number()?.max(1),
                "--row" => options.only.push(value.clone()),
                _ => {
                    return Err("load [--messages N] [--mailbox N] [--idle N] [--rounds N] [--row NAME]... [--write]"
                        .to_owned());
                }
            }
        }
        Ok(options)
    }
}

impl Scale {
    fn describe(&self) -> String {
        let Self { messages, mailbox, idle, rounds } = self;
        format!("{messages} messages, mailboxes of {mailbox}, {idle} idle connections, {rounds} rounds each, medians")
    }
}

/// Waits until a server has rested from its work, so that what it holds then is what it keeps.
fn rest() {
    std::thread::sleep(std::time::Duration::from_secs(4));
}

/// A count as the number that a rate is made of.
fn count(items: usize) -> f64 {
    f64::from(u32::try_from(items).unwrap_or(u32::MAX))
}

/// Entries of a directory; 0 if there is none.
fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}
