//! sled is deleted while some recipients are delivered, some are held, some were deleted: the replay of the segments sends nothing twice,
//! releases nothing and brings nothing back.

use std::fs;
use std::time::Instant;

use rustix::process::Signal;
use test_support::clients::{Security, Smtp};
use test_support::{Patience, System, free_port, system, wait_for};

use crate::load::{Load, Mailboxes};
use crate::sink::Sink;
use crate::system::{builder, is_back, kill};

const FROM: &str = "mary@crash.example";

pub fn nothing_is_sent_twice_released_or_resurrected() -> Result<(), String> {
    let sink = Sink::start().map_err(|error| error.to_string())?;
    // Nobody listens for later.example: its mail is deferred at each attempt.
    let closed = free_port(sink.address.ip()).map_err(|error| error.to_string())?;
    let lines = format!(
        "transport_maps = inline:{{ {{far.example=smtp:[{ip}]:{}}}, {{later.example=smtp:[{ip}]:{closed}}} }}",
        sink.address.port(),
        ip = sink.address.ip(),
    );
    let system = builder(&sink).main_cf(&lines).start()?;
    let both = send(&system, 4_000_001, &["john@crash.example", "x@later.example", "y@far.example"])?;
    let held = send(&system, 4_000_002, &["x@later.example"])?;
    let deleted = send(&system, 4_000_003, &["x@later.example"])?;
    wait_for("the deliveries", Patience::default(), || {
        let stored = Mailboxes::default().count(&system).contains_key(&4_000_001);
        (stored && sink.has(4_000_001) && queue(&system).matches("later").count() >= 3).then_some(())
    })
    .map_err(|error| format!("{error}\n{}\n{}", queue(&system), system.logs()))?;
    system.run(&["postsuper", "-h", &held], "")?;
    system.run(&["postsuper", "-d", &deleted], "")?;
    // What is under way is held or deleted after its outcome.
    system.wait_for_queue("one held and one deleted", |queue| {
        queue.contains(&format!("{held}!")) && !queue.contains(&deleted)
    })?;
    let died = without_index(&system)?;
    let load = Load::start(&system);
    is_back(&system, "queue-manager", &load, &sink, died)?;
    is_back(&system, "remote-delivery", &load, &sink, Instant::now())?;
    system.wait_for_line("queue-manager", &["queue index rebuilt"])?;
    system.run(&["postqueue", "-f"], "")?;
    // Behind a message that was accepted later, nothing older is on its way any more.
    is_back(&system, "remote-delivery", &load, &sink, Instant::now())?;
    system.wait_for_queue("the queue as it was", |now| {
        now.contains(&both)
            && now.contains(&format!("{held}!"))
            && !now.contains(&deleted)
            && !now.contains("john@crash.example")
            && !now.contains("y@far.example")
    })?;
    let copies = sink.copies().iter().filter(|copy| copy.number == 4_000_001).count();
    let stored = Mailboxes::default().count(&system).get(&4_000_001).copied();
    if (copies, stored) == (1, Some(1)) {
        return Ok(());
    }
    Err(format!("{copies} copies at the other server, {stored:?} in the mailbox\n{}", system.logs()))
}

/// Kills queue-manager and deletes its index before it is started again.
fn without_index(system: &System) -> Result<Instant, String> {
    let up = system.pid().ok_or("the system does not run")?;
    system::signal(up, Signal::STOP);
    kill(system, "queue-manager")?;
    // Killed and not buried: its files are closed when the program is gone from /proc.
    wait_for("the end of queue-manager", Patience::default(), || {
        system.pids_of("queue-manager").is_empty().then_some(())
    })?;
    fs::remove_dir_all(system.state().join("sled/index")).map_err(|error| format!("sled: {error}"))?;
    let died = Instant::now();
    system::signal(up, Signal::CONT);
    Ok(died)
}

fn queue(system: &System) -> String {
    system.run(&["mailq"], "").unwrap_or_default()
}

/// Sends a message; gives its queue id.
fn send(system: &System, number: u32, to: &[&str]) -> Result<String, String> {
    let sent = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear)
        .and_then(|mut smtp| smtp.send(FROM, to, &format!("Subject: x\r\nX-Number: {number}\r\n\r\nbody")));
    let reply = sent.map_err(|error| format!("{error}\n{}", system.logs()))?;
    reply.rsplit(' ').next().map(str::to_owned).ok_or_else(|| format!("no queue id: {reply}"))
}
