//! The power fails: what was acknowledged is on the disk, on a disk that forgets what was not flushed ([`crate::disk`]).
//!
//! The controls come first: without a sync everything is lost, with the file synced and its directory not the last ones are lost, with both
//! none. Without them a disk that forgets nothing would pass every test. `POSTRIDER_POWER_CUTS` says how often the system loses its power; 3 in CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use rustix::process::Signal;
use test_support::clients::{Imap, Security};
use test_support::{Patience, System, system, wait_for};

use crate::disk::{Disk, Unflushed};
use crate::load::{Load, all_arrive, no_second_copy, number};
use crate::sink::Sink;
use crate::system::{DAEMONS, builder, rounds};

/// Files of a control.
const FILES: usize = 100;
/// Messages acknowledged before the power fails.
const MESSAGES: usize = 150;
/// Messages appended over IMAP before the power fails.
const APPENDED: usize = 20;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes files as a Maildir is written, with or without the syncs; gives how many are missing or empty after the power failed.
fn lost(sync_file: bool, sync_directory: bool, unflushed: Unflushed) -> Result<usize, String> {
    // ext4 would commit by itself after five seconds.
    let mut disk = Disk::new("commit=600")?;
    let write = |number: usize| -> std::io::Result<()> {
        let (tmp, new) = (disk.path().join("tmp"), disk.path().join("new"));
        let mut file = File::create(tmp.join(number.to_string()))?;
        file.write_all(&[b'x'; 3000])?;
        if sync_file {
            file.sync_all()?;
        }
        fs::rename(tmp.join(number.to_string()), new.join(number.to_string()))?;
        if sync_directory { File::open(new)?.sync_all() } else { Ok(()) }
    };
    for name in ["tmp", "new"] {
        fs::create_dir(disk.path().join(name)).map_err(text)?;
    }
    File::open(disk.path()).and_then(|directory| directory.sync_all()).map_err(text)?;
    (0..FILES).try_for_each(write).map_err(text)?;
    disk.cut(unflushed)?;
    let after = disk.after()?;
    let whole = |number: &usize| {
        fs::metadata(after.join("new").join(number.to_string())).is_ok_and(|metadata| metadata.len() == 3000)
    };
    Ok((0..FILES).filter(|number| !whole(number)).count())
}

pub fn the_disk_forgets() -> Result<(), String> {
    let nothing = lost(false, false, Unflushed::Lost)?;
    let files = lost(true, false, Unflushed::Lost)?;
    let both = lost(true, true, Unflushed::Lost)?;
    let chance = lost(true, true, Unflushed::Half)?;
    match (nothing, files, both, chance) {
        (FILES, 1..=10, 0, 0) => Ok(()),
        _ => Err(format!(
            "lost of {FILES}: without a sync {nothing}, without that of the directory {files}, with both {both} and {chance}"
        )),
    }
}

/// What IMAP has told: where each appended message is, and that numbers only rise.
#[derive(Debug, Default)]
struct Told {
    validity: u32,
    modseq: u64,
    /// Message number and UID.
    uids: BTreeMap<u32, u32>,
    appended: BTreeSet<u32>,
}

pub fn the_system_keeps_what_it_acknowledged() -> Result<(), String> {
    for round in 0..rounds("POSTRIDER_POWER_CUTS", 3) {
        let unflushed = if round % 2 == 0 { Unflushed::Lost } else { Unflushed::Half };
        one_cut(unflushed).map_err(|error| format!("cut {round}, {unflushed:?}: {error}"))?;
    }
    Ok(())
}

fn one_cut(unflushed: Unflushed) -> Result<(), String> {
    // The other server answers nothing before the cut: its mail is in the queue when the power fails.
    let sink = Sink::slow().map_err(text)?;
    let mut system = builder(&sink).prepare()?;
    let mut disk = Disk::new("noatime")?;
    lay_on_disk(&system, &mut disk)?;
    system.start()?;
    let load = Load::start(&system);
    load.reach(load.allow_more(MESSAGES / 3))?;
    let mut told = Told::default();
    let mut imap = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).map_err(text)?;
    imap.login("john", "secret").map_err(text)?;
    append(&mut imap, &mut told).map_err(|error| format!("APPEND: {error}\n{}", system.logs()))?;
    let goal = load.allow_more(MESSAGES);
    load.reach(goal - MESSAGES / 2)?;
    look(&mut imap, &mut told).map_err(|error| format!("before the cut: {error}\n{}", system.logs()))?;
    load.reach(goal - MESSAGES / 4)?;
    disk.cut(unflushed)?;
    nothing_is_accepted(&load)?;
    kill_everything(&mut system);
    let acknowledged = load.end();
    let after = disk.after()?;
    another_boot(&after)?;
    show(&system, &mut disk, &after)?;
    system.start()?;
    sink.allow(usize::MAX);
    let stored = all_arrive(&system, Some(&sink), &acknowledged)?;
    no_second_copy(&stored)?;
    let mut imap = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).map_err(text)?;
    imap.login("john", "secret").map_err(text)?;
    let mut now = Told::default();
    look(&mut imap, &mut now).map_err(|error| format!("after the cut: {error}\n{}", system.logs()))?;
    still_true(&told, &now)
}

/// The queue and the homes move to the disk.
fn lay_on_disk(system: &System, disk: &mut Disk) -> Result<(), String> {
    for name in ["queue", "home"] {
        fs::create_dir(disk.path().join(name)).map_err(text)?;
    }
    for user in ["john", "mary"] {
        fs::create_dir(disk.path().join("home").join(user)).map_err(text)?;
    }
    system.give_to_user(&disk.path()).map_err(text)?;
    let path = disk.path();
    show(system, disk, &path)
}

fn show(system: &System, disk: &mut Disk, path: &Path) -> Result<(), String> {
    ["queue", "home"].iter().try_for_each(|name| disk.bind(&path.join(name), &system.root().join(name)))
}

/// The machine has started anew: the queue's note of the boot names another.
fn another_boot(path: &Path) -> Result<(), String> {
    let note = path.join("queue/postrider/segments/run.json");
    let mut run: serde_json::Value = match fs::read(&note) {
        Ok(octets) => serde_json::from_slice(&octets).map_err(text)?,
        // It was not durable yet; then nothing is believed either.
        Err(_) => return Ok(()),
    };
    run["boot"] = "before the power failed".into();
    fs::write(&note, run.to_string()).map_err(text)
}

/// With the disk failing, nothing is acknowledged: what is sent on connections of its own is refused, or the daemon is gone.
fn nothing_is_accepted(load: &Load) -> Result<(), String> {
    for far in [false, true, false] {
        if let Ok(number) = load.send_one(far, "") {
            return Err(format!("message {number} was acknowledged after the disk had failed"));
        }
    }
    Ok(())
}

fn kill_everything(system: &mut System) {
    let daemons = || DAEMONS.iter().flat_map(|daemon| system.pids_of(daemon)).collect::<Vec<u32>>();
    let up = system.pid();
    // The supervisor first, so that nobody is started again.
    up.into_iter().for_each(|pid| system::signal(pid, Signal::KILL));
    let _ = wait_for("the end of the daemons", Patience::default(), || {
        // Each time: one may have forked another in the moment of looking.
        let left = daemons();
        left.iter().for_each(|pid| system::signal(*pid, Signal::KILL));
        left.is_empty().then_some(())
    });
    // Buries the supervisor.
    let _ = system.stop();
}

fn append(imap: &mut Imap, told: &mut Told) -> Result<(), String> {
    for number in (1_000_000..).take(APPENDED) {
        let message = format!("Subject: appended\r\nX-Number: {number}\r\n\r\nbody\r\n");
        imap.command(&format!("APPEND INBOX (\\Flagged) {{{}+}}\r\n{message}", message.len())).map_err(text)?;
        told.appended.insert(number);
    }
    Ok(())
}

/// What a client sees now; what it sees was synced before.
fn look(imap: &mut Imap, told: &mut Told) -> Result<(), String> {
    let word = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    for line in imap.command("SELECT INBOX").map_err(text)? {
        told.validity = word(&line, "[UIDVALIDITY").map_or(told.validity, |value| value as u32);
        told.modseq = word(&line, "[HIGHESTMODSEQ").unwrap_or(told.modseq);
    }
    for line in imap.command("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (X-Number)])").map_err(text)? {
        if let (Some(number), Some(uid)) = (number(&line), word(&line, "UID ")) {
            told.uids.insert(number, uid as u32);
        }
    }
    if told.uids.is_empty() { Err("IMAP shows nothing".to_owned()) } else { Ok(()) }
}

fn still_true(before: &Told, now: &Told) -> Result<(), String> {
    let moved: Vec<_> = before.uids.iter().filter(|(number, uid)| now.uids.get(number) != Some(uid)).collect();
    let missing: Vec<_> = before.appended.iter().filter(|number| !now.uids.contains_key(number)).collect();
    if before.validity == now.validity && now.modseq >= before.modseq && moved.is_empty() && missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "UIDVALIDITY {} and {}, HIGHESTMODSEQ {} and {}, other UIDs {moved:?}, appended and missing {missing:?}",
        before.validity, now.validity, before.modseq, now.modseq
    ))
}
