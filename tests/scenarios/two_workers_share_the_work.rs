//! `postrider up --workers local-delivery=2`: two instances deliver side by side, and what a killed one held comes back and is delivered.

use std::collections::BTreeSet;

use rustix::process::Signal;
use test_support::clients::{Security, Smtp};
use test_support::system::signal;
use test_support::{Builder, Patience, System, wait_for};

const INSTANCES: [&str; 2] = ["local-delivery", "local-delivery@2"];
/// Messages that are sent at once.
const MESSAGES: usize = 60;

pub fn and_one_may_die() -> Result<(), String> {
    let system = Builder::new("c.example").workers("local-delivery=2").start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    // One of them may have delivered everything before the other came to ask for work.
    let mut sent = 0;
    wait_for("a delivery by each instance", Patience::default(), || {
        let more = send(system, &mut sent);
        let delivered = INSTANCES.iter().all(|instance| system.log(instance).contains("status=sent"));
        (more.is_err() || delivered).then_some(more)
    })??;
    // The second instance, its coordinator first: what it holds must not be lost with it.
    send(system, &mut sent)?;
    for pid in instance_pids(system)? {
        signal(pid, Signal::KILL);
    }
    send(system, &mut sent)?;
    let all = wait_for("every message", Patience::default(), || (numbers(system).len() == sent).then_some(()));
    all.map_err(|error| format!("{error}: {} of {sent}", numbers(system).len()))
}

/// Sends the next messages, which are counted.
fn send(system: &System, sent: &mut usize) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    for number in *sent..*sent + MESSAGES {
        let text = format!("Subject: x\r\nX-Number: {number}\r\n\r\nx");
        let to = if number % 2 == 0 { "john@c.example" } else { "mary@c.example" };
        smtp.send("x@c.example", &[to], &text).map_err(wrong)?;
        *sent += 1;
    }
    Ok(())
}

/// The different messages that arrived.
fn numbers(system: &System) -> BTreeSet<String> {
    let messages = ["john", "mary"].into_iter().flat_map(|user| system.messages(user));
    messages.filter_map(|message| Some(message.split_once("X-Number: ")?.1.lines().next()?.to_owned())).collect()
}

/// The processes of the second instance.
fn instance_pids(system: &System) -> Result<Vec<u32>, String> {
    let second = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"@2\0"));
    let pids: Vec<u32> = system.pids_of("local-delivery").into_iter().filter(second).collect();
    if pids.is_empty() { Err("the second instance does not run".to_owned()) } else { Ok(pids) }
}
