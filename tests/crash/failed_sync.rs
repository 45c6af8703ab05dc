//! A sync fails: the message is refused with 451, and the file is never synced again, since a second sync would say that all is well although
//! the kernel has thrown the pages away (R4). strace makes the call fail; queue-manager itself has no part in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use test_support::clients::{Security, Smtp};
use test_support::{Patience, System, system, wait_for};

use crate::load::{Load, all_arrive};
use crate::sink::Sink;
use crate::system::{builder, is_back, kill};

/// strace on a process and its threads, until it is dropped.
struct Tracing(Child);

impl Tracing {
    /// The first fdatasync of each thread fails.
    fn start(pid: u32, log: &std::path::Path) -> Result<Self, String> {
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync:error=EIO:when=1"])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(log)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace: {error}"))?;
        let mut line = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr);
            // It says so once it holds all threads.
            lines.read_line(&mut line).map_err(|error| error.to_string())?;
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        }
        let tracing = Self(child);
        if line.contains("attached") { Ok(tracing) } else { Err(format!("strace: {line}")) }
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        system::signal(self.0.id(), Signal::INT);
        let _ = self.0.wait();
    }
}

pub fn is_not_repeated() -> Result<(), String> {
    let sink = Sink::start().map_err(|error| error.to_string())?;
    let system = builder(&sink).start()?;
    let load = Load::start(&system);
    load.send_one(false, "").map_err(|error| error.to_string())?;
    // The sync that fails is that of the next message, not of this one's outcome.
    system.wait_for_empty_queue()?;
    let pid = system.front_of("queue-manager").ok_or("queue-manager does not run")?;
    let log = system.root().join("log/syncs");
    let tracing = Tracing::start(pid, &log)?;
    refused(&system)?;
    wait_for("an accepted message", Patience::default(), || load.send_one(false, "").ok())?;
    drop(tracing);
    let calls = fs::read_to_string(&log).map_err(|error| error.to_string())?;
    let segment = |line: &str| line.split_once("/segments/0").and_then(|(_, rest)| rest.get(..9).map(str::to_owned));
    let mut lines = calls.lines().skip_while(|line| !(line.contains("EIO") && segment(line).is_some()));
    let failed = lines.next().and_then(segment).ok_or_else(|| format!("no sync of a segment failed\n{calls}"))?;
    if lines.any(|line| segment(line).as_ref() == Some(&failed)) {
        return Err(format!("segment {failed} was synced again\n{calls}"));
    }
    // What was refused does not come after all, not even out of the pages that are still in memory.
    kill(&system, "queue-manager")?;
    is_back(&system, "queue-manager", &load, &sink, Instant::now())?;
    let stored = all_arrive(&system, None, &load.end())?;
    if stored.contains_key(&REFUSED) { Err("the refused message was delivered".to_owned()) } else { Ok(()) }
}

/// The number of the message that is refused.
const REFUSED: u32 = 5_000_001;

fn refused(system: &System) -> Result<(), String> {
    let sent = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).and_then(|mut smtp| {
        let message = format!("Subject: x\r\nX-Number: {REFUSED}\r\n\r\nbody");
        smtp.send("mary@crash.example", &["john@crash.example"], &message)
    });
    match sent {
        Err(error) if error.to_string().contains("451 4.3.0") => Ok(()),
        other => Err(format!("after a failed sync: {other:?}\n{}", system.logs())),
    }
}
