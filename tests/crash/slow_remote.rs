//! queue-manager is restarted again and again, killed or asked to stop, while the other server takes its time over the final dot: each message
//! goes out once, because the worker keeps its leases and outcomes and tells them to the next queue-manager.
//!
//! `POSTRIDER_CRASH_RESTARTS` says how often; 50 in CI. The daemons run without a supervisor, so that nothing pauses between the lives.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use test_support::clients::greets;
use test_support::{Patience, System, system, wait_for};

use crate::load::{Load, goes_far};
use crate::sink::Sink;
use crate::system::{builder, rounds};

/// Messages for the other server under way at each restart.
const MESSAGES: usize = 4;

/// Daemons that end with the test.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn no_message_goes_out_twice() -> Result<(), String> {
    let sink = Sink::slow().map_err(|error| error.to_string())?;
    let system = builder(&sink).prepare()?;
    let mut others = Running(Vec::new());
    for name in ["authd", "remote-delivery", "local-delivery", "smtpd"] {
        others.0.push(start(&system, name)?);
    }
    let mut manager = Running(vec![start(&system, "queue-manager")?]);
    let door = system.ports.at(system.ports.smtp);
    wait_for("smtpd", Patience::default(), || greets(door).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))?;
    let load = Load::start(&system);
    for round in 0..rounds("POSTRIDER_CRASH_RESTARTS", 50) {
        let goal = load.allow_more(MESSAGES * 4);
        load.reach(goal).map_err(|error| format!("restart {round}: {error}\n{}", system.logs()))?;
        // Some wait for their answer now; those of the round before get it while queue-manager is away.
        let under_way = wait_for("messages on their way", Patience::default(), || {
            let read = sink.read();
            (read > sink.copies().len()).then_some(read)
        });
        let under_way = under_way.map_err(|error| format!("restart {round}: {error}\n{}", system.logs()))?;
        let how = if round % 2 == 0 { Signal::KILL } else { Signal::TERM };
        manager.0.iter().for_each(|child| system::signal(child.id(), how));
        sink.allow(under_way - 1);
        for child in &mut manager.0 {
            child.wait().map_err(|error| error.to_string())?;
        }
        manager.0 = vec![start(&system, "queue-manager")?];
    }
    sink.allow(usize::MAX);
    let far: BTreeSet<u32> = load.end().into_iter().filter(|number| goes_far(*number)).collect();
    wait_for("every message at the other server", Patience::default(), || {
        far.iter().all(|number| sink.has(*number)).then_some(())
    })
    .map_err(|error| format!("{error}\n{}", system.logs()))?;
    // Then no further copy can come.
    system.wait_for_empty_queue()?;
    let copies = sink.copies();
    let numbers: BTreeSet<u32> = copies.iter().map(|copy| copy.number).collect();
    if copies.len() == numbers.len() {
        return Ok(());
    }
    Err(format!("{} copies of {} messages at the other server\n{}", copies.len(), numbers.len(), system.logs()))
}

fn start(system: &System, name: &str) -> Result<Child, String> {
    let log = system.root().join(format!("log/{name}.out"));
    let log = std::fs::File::options().append(true).create(true).open(log).map_err(|error| error.to_string())?;
    let mut command: Command = system.command(name);
    command.arg("-c").arg(system.etc()).arg("--log-dir").arg(system.root().join("log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| format!("{name}: {error}"))
}
