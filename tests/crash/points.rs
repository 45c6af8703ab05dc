//! SIGKILL at named points (`mail_posix::points`), one after the other, while 20 sessions send numbered messages.
//!
//! Each point says who dies there and what that may cost. `POSTRIDER_CRASH_POINT_ROUNDS` repeats the list; once in CI.

use std::time::{Duration, Instant};

use test_support::{Patience, System, wait_for};

use crate::load::{Load, all_arrive, no_second_copy};
use crate::sink::Sink;
use crate::system::{builder, is_back, kill, points_directory, rounds};

/// A named point.
struct Point {
    name: &'static str,
    /// The daemon that dies there, wholly or one process of it.
    daemon: &'static str,
}

const fn point(name: &'static str, daemon: &'static str) -> Point {
    Point { name, daemon }
}

/// In the order in which a message passes them. The cleaner's points are in queue-store's own tests.
const POINTS: &[Point] = &[
    // A new segment is named and empty: queue-manager begins another.
    point("segment-created", "queue-manager"),
    // Written, not synced, not answered: smtpd presents the message again; if the record survived it is known, else taken now.
    point("queue-written", "queue-manager"),
    // Durable, not answered: presented again, known, answered. One message.
    point("queue-synced", "queue-manager"),
    // Durable and in the state in memory, which is gone.
    point("queue-applied", "queue-manager"),
    // sled has a batch that nobody was told of: the log is replayed from the sequence number in the same batch.
    point("index-applied", "queue-manager"),
    // A long content is synced in its own file, and no record names it: removed at the start, presented again, refused with 451.
    point("content-synced", "queue-manager"),
    // smtpd has the answer; nobody was told to deliver: the start finds the message due.
    point("intake-answered", "queue-manager"),
    // The message is the queue's, and the client never hears it: it arrives although it was not acknowledged. A client that sends it
    // again makes the one duplicate that SMTP cannot avoid on this side (RFC 1047).
    point("intake-accepted", "smtpd"),
    // A worker has leases of which the next queue-manager learns only from the worker.
    point("leases-granted", "queue-manager"),
    // In tmp/, synced, without a name in new/: delivered again, what lies in tmp/ is nobody's.
    point("maildir-written", "local-delivery"),
    // Named, the name not synced, not reported: the next attempt finds the file and syncs the directory.
    point("maildir-renamed", "local-delivery"),
    // Delivered, not reported by the deliverer: found by the next attempt.
    point("mailbox-synced", "local-delivery"),
    // Reported to the coordinator, which dies: found by the next attempt.
    point("mailbox-reported", "local-delivery"),
    // The other server said 250, and nobody heard it: sent again. The one duplicate that SMTP cannot avoid on that side.
    point("remote-answered", "remote-delivery"),
    // The outcome is on disk, the worker not told: it repeats it, and it is known.
    point("outcome-recorded", "queue-manager"),
];

/// Ten further messages come this often while a death is awaited.
const TRICKLE: Duration = Duration::from_millis(200);

pub fn a_death_at_any_of_them_loses_nothing() -> Result<(), String> {
    let sink = Sink::start().map_err(|error| error.to_string())?;
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    open_to_all(place.path())?;
    let armed = place.path().join("points");
    points_directory(&armed)?;
    let system = builder(&sink).environment("POSTRIDER_POINTS_DIRECTORY", &armed.display().to_string()).start()?;
    let load = Load::start(&system);
    load.reach(load.allow_more(20))?;
    let mut extra = 0;
    for round in 0..rounds("POSTRIDER_CRASH_POINT_ROUNDS", 1) {
        for point in POINTS {
            let before = sink.copies().len();
            let file = armed.join(point.name);
            // A segment is begun once in a life; everything else is passed again and again.
            let passages = if point.name == "segment-created" { 0 } else { round % 5 };
            arm(&place.path().join("next"), &file, passages)?;
            die_at(&system, &load, &sink, point, &file).map_err(|error| format!("{}: {error}", point.name))?;
            extra += if point.daemon == "remote-delivery" { sink.copies().len() - before } else { 0 };
        }
    }
    let acknowledged = load.end();
    let stored = all_arrive(&system, Some(&sink), &acknowledged)?;
    no_second_copy(&stored)?;
    let copies = sink.copies();
    let numbers: std::collections::BTreeSet<u32> = copies.iter().map(|copy| copy.number).collect();
    let twice = copies.len() - numbers.len();
    // Only what was under way when remote-delivery died after a 250.
    if twice > extra { Err(format!("{twice} second copies at the other server")) } else { Ok(()) }
}

fn die_at(system: &System, load: &Load, sink: &Sink, point: &Point, file: &std::path::Path) -> Result<(), String> {
    let long = "0123456789abcdef\r\n".repeat(64 * 1024);
    if point.name == "segment-created" {
        kill(system, point.daemon)?;
    }
    let mut more = Instant::now();
    load.allow_more(10);
    let passed = wait_for("somebody to die there", Patience::default(), || {
        if point.name == "content-synced" {
            // The client hears 451, or that its connection is gone.
            let _ = load.send_one(false, &long);
        }
        // A trickle: a queue of thousands would hold up the message that shows the service to be back.
        if more.elapsed() >= TRICKLE {
            load.allow_more(10);
            more = Instant::now();
        }
        (!file.exists()).then(Instant::now)
    });
    let died = passed.map_err(|error| format!("{error}\n{}", system.logs()))?;
    is_back(system, point.daemon, load, sink, died).map(drop)
}

/// Arms a point: the file appears whole, and the system's user may count in it.
pub fn arm(fresh: &std::path::Path, file: &std::path::Path, passages: usize) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(fresh, passages.to_string())
        .and_then(|()| std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(0o666)))
        .and_then(|()| std::fs::rename(fresh, file))
        .map_err(|error| error.to_string())
}

pub fn open_to_all(directory: &std::path::Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
}
