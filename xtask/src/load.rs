//! `cargo xtask load`: how fast mail comes in, and how fast it reaches a Maildir, beside Debian's Postfix in the same run.
//!
//! Both servers get the same lines of main.cf, lie on the same file system, and sync before they answer. Rounds alternate. What counts is the ratio: messages
//! per second while Postfix's `smtp-source` sends, and CPU seconds of the whole server per 1,000 messages until the last is delivered.

mod cpu;
mod reference;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::harness::program;
use test_support::{Builder, Patience, wait_for};

use reference::Postfix;

const SESSIONS: &str = "20";
const OCTETS: &str = "4096";
const ROUNDS: usize = 3;

/// The lines that both servers share. `discard` receives only; `maildir` delivers to one mailbox.
const COMMON: &str = "smtpd_client_connection_count_limit = 0\nvirtual_mailbox_domains = load.example\nvirtual_minimum_uid = 1\n\
    virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_mailbox_maps = inline:{user@load.example=user/Maildir/}\n";

/// A job: its name, and what main.cf says for it.
const JOBS: [(&str, &str); 2] =
    [("receive", "virtual_transport = discard:load"), ("end to end to Maildir", "virtual_transport = virtual")];

/// One server, ready to be loaded.
trait Server {
    fn address(&self) -> SocketAddr;
    /// CPU seconds used so far by all its processes.
    fn cpu(&self) -> f64;
    /// Messages in its queue.
    fn queued(&self) -> usize;
    /// The directory that holds the mailbox.
    fn mailboxes(&self) -> &Path;
}

/// What one round gave.
struct Figures {
    rate: f64,
    cpu: f64,
}

/// Runs all jobs.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let messages = match arguments {
        [] => 5_000,
        [flag, number] if flag == "--messages" => {
            number.parse().map_err(|_| format!("load: `{number}' is no number"))?
        }
        _ => return Err("load: --messages N".to_owned()),
    };
    let source = program("smtp-source").ok_or("smtp-source is not installed (Debian: postfix)")?;
    println!("{messages} messages of {OCTETS} octets, {SESSIONS} sessions, {ROUNDS} rounds each; medians");
    println!("{:24} {:>12} {:>16}", "", "messages/s", "CPU s per 1,000");
    for (name, transport) in JOBS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(round(&Ours::start(transport)?, &source, messages)?);
            if let Some(postfix) = Postfix::start(&format!("{COMMON}{transport}\n"))? {
                theirs.push(round(&postfix, &source, messages)?);
            }
        }
        let ours = show(&format!("{name}, ours"), &ours);
        if theirs.is_empty() {
            println!("{name}: Postfix is not installed, or we are not root: no comparison");
            continue;
        }
        let theirs = show(&format!("{name}, Postfix"), &theirs);
        println!("{:24} {:>11.1}x {:>15.2}x", "ratio", ours.rate / theirs.rate, ours.cpu / theirs.cpu);
    }
    Ok(())
}

fn show(name: &str, figures: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = figures.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let median = Figures { rate: median(|f| f.rate), cpu: median(|f| f.cpu) };
    println!("{name:24} {:>12.0} {:>16.3}", median.rate, median.cpu);
    median
}

fn round(server: &dyn Server, source: &Path, messages: usize) -> Result<Figures, String> {
    let (before, began) = (server.cpu(), Instant::now());
    let status = Command::new(source)
        .args([
            "-4",
            "-s",
            SESSIONS,
            "-l",
            OCTETS,
            "-m",
            &messages.to_string(),
            "-f",
            "sender@load.example",
            "-t",
            "user@load.example",
        ])
        .arg(server.address().to_string())
        .status()
        .map_err(|error| format!("smtp-source: {error}"))?;
    let seconds = began.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("smtp-source: {status}"));
    }
    let patience = Patience(Duration::from_secs(300));
    wait_for("an empty queue", patience, || (server.queued() == 0).then_some(()))?;
    let delivered = fs::read_dir(server.mailboxes().join("user/Maildir/new")).map_or(0, Iterator::count);
    if delivered != 0 && delivered != messages {
        return Err(format!("{delivered} of {messages} messages are in the mailbox"));
    }
    // End to end counts to the last delivery, receiving to the last reply.
    let seconds = if delivered == 0 { seconds } else { began.elapsed().as_secs_f64() };
    let messages = f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
    Ok(Figures { rate: messages / seconds, cpu: (server.cpu() - before) * 1000.0 / messages })
}

/// Our own server.
struct Ours {
    system: test_support::System,
    mailboxes: std::path::PathBuf,
}

impl Ours {
    fn start(transport: &str) -> Result<Self, String> {
        let lines = format!("{COMMON}virtual_mailbox_base = {{root}}/home\n{transport}");
        let system = Builder::new("ours.example").profile("release").main_cf(&lines).start()?;
        let mailboxes = system.root().join("home");
        Ok(Self { system, mailboxes })
    }
}

impl Server for Ours {
    fn address(&self) -> SocketAddr {
        self.system.ports.at(self.system.ports.smtp)
    }

    fn cpu(&self) -> f64 {
        self.system.pid().map_or(0.0, cpu::of_tree)
    }

    fn queued(&self) -> usize {
        let shown = self.system.run(&["postqueue", "-j"], "").unwrap_or_else(|_| "unknown\n".to_owned());
        shown.lines().count()
    }

    fn mailboxes(&self) -> &Path {
        &self.mailboxes
    }
}
