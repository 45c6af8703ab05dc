//! `postrider up --workers local-delivery=2`: two instances deliver side by side, and what a killed one held comes back and is delivered.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use test_support::clients::{Security, Smtp};
use test_support::system::signal;
use test_support::{Builder, Patience, System, wait_for};

const INSTANCES: [&str; 2] = ["local-delivery", "local-delivery@2"];
const MESSAGES: usize = 60;

pub fn and_one_may_die() -> Result<(), String> {
    let system = Builder::new("c.example").workers("local-delivery=2").start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    send(system, 0..MESSAGES)?;
    wait_for("a delivery by each instance", Patience::default(), || {
        INSTANCES.iter().all(|instance| system.log(instance).contains("status=sent")).then_some(())
    })?;
    // The second instance, its coordinator first: what it holds must not be lost with it.
    send(system, MESSAGES..2 * MESSAGES)?;
    for pid in instance_pids(system)? {
        signal(pid, Signal::KILL);
    }
    send(system, 2 * MESSAGES..3 * MESSAGES)?;
    let all = wait_for("every message", Patience(Duration::from_secs(90)), || {
        let numbers = numbers(system);
        (numbers.len() == 3 * MESSAGES).then_some(numbers)
    });
    all.map(drop).map_err(|error| format!("{error}: {} of {}", numbers(system).len(), 3 * MESSAGES))
}

fn send(system: &System, numbers: std::ops::Range<usize>) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    for number in numbers {
        let text = format!("Subject: x\r\nX-Number: {number}\r\n\r\nx");
        let to = if number % 2 == 0 { "john@c.example" } else { "mary@c.example" };
        smtp.send("x@c.example", &[to], &text).map_err(wrong)?;
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
