//! Disks without space and without inodes, under the queue and under the mailboxes: `452 4.3.1` or deferred, never a stopped daemon, never a
//! loss, and all well again by itself when there is room. Small file systems in memory, mounted in the test's own namespace.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mail_store::mbox::{Mbox, MboxError, lock_methods};
use test_support::clients::{Security, Smtp};
use test_support::harness::Need;
use test_support::{Patience, System, wait_for};

use crate::load::{Load, Mailboxes, all_arrive, no_second_copy};
use crate::sink::Sink;
use crate::system::{DAEMONS, builder, is_back, kill};

/// Mounts of its own, and root to make them.
pub const NEEDS: &[Need] = &[Need::Root, Need::NetworkNamespace];

/// A file system in memory; gone when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(place: &Path, options: &str) -> Result<Self, String> {
        let options = format!("mode=777,{options}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).status();
        match status {
            Ok(status) if status.success() => Ok(Self(place.to_owned())),
            other => Err(format!("{}: cannot be mounted: {other:?}", place.display())),
        }
    }

    /// Takes all space, or what has become free since.
    fn fill(&self) -> Result<(), String> {
        let mut file = File::options().create(true).append(true).open(self.0.join("fill")).map_err(text)?;
        // The smaller pieces find what the larger ones left.
        for piece in [1024 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        Ok(())
    }

    /// Takes all inodes, or those that have become free since.
    fn fill_inodes(&self) -> Result<(), String> {
        let made = fs::create_dir(self.0.join("fill"));
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(text)?;
        while File::create(self.0.join("fill").join(format!("{:?}", Instant::now()))).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<(), String> {
        let fill = self.0.join("fill");
        if fill.is_dir() { fs::remove_dir_all(fill) } else { fs::remove_file(fill) }.map_err(text)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A system with a small disk under one of its directories.
fn system_on(directory: &str, options: &str, lines: &str) -> Result<(System, Small, Sink), String> {
    let sink = Sink::start().map_err(text)?;
    let mut system = builder(&sink).main_cf(lines).prepare()?;
    let place = system.root().join(directory);
    let small = Small::mount(&place, options)?;
    if directory == "home" {
        ["john", "mary"].iter().try_for_each(|user| fs::create_dir(place.join(user))).map_err(text)?;
    }
    system.give_to_user(&place).map_err(text)?;
    system.start()?;
    Ok((system, small, sink))
}

/// The refusal of a message with so many octets of text.
fn refusal(system: &System, octets: usize) -> Result<(), String> {
    let sent = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).and_then(|mut smtp| {
        let message = format!("Subject: too much\r\n\r\n{}", "0123456789abcde\r\n".repeat(octets / 17));
        smtp.send("mary@crash.example", &["john@crash.example"], &message)
    });
    match sent {
        Err(error) if error.to_string().contains("452 4.3.1") => Ok(()),
        Err(error) => Err(format!("refused otherwise: {error}\n{}", system.logs())),
        Ok(reply) => Err(format!("accepted: {reply}")),
    }
}

fn accepted_again(load: &Load, system: &System) -> Result<(), String> {
    wait_for("an accepted message", Patience::default(), || load.send_one(false, "").ok())
        .map(drop)
        .map_err(|error| format!("{error}\n{}", system.logs()))
}

/// Waits for the refusal of a message. What smtpd believes about the room may be a second old, and a queue that works gives room back.
fn refused(system: &System, octets: usize, fill: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let mut last = String::new();
    let found = wait_for("a refusal", Patience::default(), || {
        let tried = fill().and_then(|()| refusal(system, octets));
        tried.map_err(|error| last = error).ok()
    });
    found.map_err(|error| format!("{error}: {last}"))
}

fn pids(system: &System) -> Vec<Option<u32>> {
    // The processes of deliverers and sessions come and go; the monitor stays.
    DAEMONS.iter().map(|daemon| system.main_of(daemon)).collect()
}

fn finish(system: &System, sink: &Sink, load: Load) -> Result<(), String> {
    let stored = all_arrive(system, Some(sink), &load.end())?;
    no_second_copy(&stored)
}

pub fn a_full_queue_refuses_and_heals() -> Result<(), String> {
    let (system, disk, sink) = system_on("queue", "size=64m", "")?;
    let load = Load::start(&system);
    load.reach(load.allow_more(40))?;
    let before = pids(&system);
    let fill = || disk.fill();
    refused(&system, 100, fill)?;
    refused(&system, 100_000, fill)?;
    // The first command that can be refused is.
    let mut said = String::new();
    wait_for("a refused MAIL", Patience::default(), || {
        fill().ok()?;
        let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).ok()?;
        let told = smtp.command("MAIL FROM:<mary@crash.example>", 2);
        said = told.unwrap_or_else(|error| error.to_string());
        said.contains("452 4.3.1 Insufficient system storage").then_some(())
    })
    .map_err(|error| format!("{error}: {said}"))?;
    disk.free()?;
    accepted_again(&load, &system)?;
    if pids(&system) != before {
        return Err(format!("a daemon ended\n{}", system.logs()));
    }
    // Now with a queue-manager that starts on the full disk.
    disk.fill()?;
    kill(&system, "queue-manager")?;
    refused(&system, 100, fill)?;
    disk.free()?;
    accepted_again(&load, &system)?;
    finish(&system, &sink, load)
}

pub fn a_queue_without_inodes_refuses_and_heals() -> Result<(), String> {
    let (system, disk, sink) = system_on("queue", "size=128m,nr_inodes=400", "")?;
    let load = Load::start(&system);
    load.reach(load.allow_more(40))?;
    let before = pids(&system);
    let fill = || disk.fill_inodes();
    // Long content needs a file of its own; what fits into the segment is taken.
    refused(&system, 200_000, fill)?;
    disk.free()?;
    accepted_again(&load, &system)?;
    let long = "0123456789abcde\r\n".repeat(12_000);
    load.send_one(false, &long).map_err(text)?;
    if pids(&system) != before {
        return Err(format!("a daemon ended\n{}", system.logs()));
    }
    disk.fill_inodes()?;
    kill(&system, "queue-manager")?;
    refused(&system, 200_000, fill)?;
    disk.free()?;
    accepted_again(&load, &system)?;
    finish(&system, &sink, load)
}

pub fn queue_minfree_is_kept_free() -> Result<(), String> {
    let (system, _disk, _sink) = system_on("queue", "size=100m", "queue_minfree = 200000000")?;
    refusal(&system, 100)
}

pub fn a_full_mailbox_disk_defers_and_heals() -> Result<(), String> {
    let (system, disk, sink) = system_on("home", "size=8m", "")?;
    let load = Load::start(&system);
    let mut mailboxes = Mailboxes::default();
    let first = load.send_one(false, "").map_err(text)?;
    // The Maildir is there before the disk is full.
    wait_for("the first message", Patience::default(), || mailboxes.count(&system).contains_key(&first).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))?;
    disk.fill()?;
    let killed = Instant::now();
    let number = load.send_one(false, &"0123456789abcde\r\n".repeat(500)).map_err(text)?;
    wait_for("the log line", Patience::default(), || {
        let log = system.log("local-delivery");
        log.lines().any(|line| line.contains("status=deferred") && line.contains("dsn=4.")).then_some(())
    })
    .map_err(|error| format!("{error}\n{}", system.logs()))?;
    if mailboxes.count(&system).contains_key(&number) {
        return Err("delivered on a full disk".to_owned());
    }
    // It is tried again each second.
    wait_for("nothing left in tmp", Patience::default(), || {
        let entries = fs::read_dir(system.maildir("john").join("tmp")).ok()?;
        (entries.count() == 0).then_some(())
    })?;
    disk.free()?;
    wait_for("the message", Patience::default(), || mailboxes.count(&system).contains_key(&number).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))?;
    is_back(&system, "local-delivery", &load, &sink, killed.max(Instant::now()))?;
    finish(&system, &sink, load)
}

pub fn an_mbox_is_as_it_was() -> Result<(), String> {
    let place = tempfile::tempdir().map_err(text)?;
    let disk = Small::mount(place.path(), "size=1m")?;
    let mbox = Mbox {
        path: place.path().join("mbox"),
        locks: lock_methods(["fcntl", "dotlock"]).map_err(str::to_owned)?,
        patience: Duration::from_secs(1),
        stale: Duration::from_secs(100),
        size_limit: 0,
        owner: None,
    };
    let append =
        |octets: usize| mbox.append("From x  Sun Nov 22 14:50:20 2026", |writer| writer.write(&vec![b'x'; octets]));
    append(1000).map_err(|error| format!("{error:?}"))?;
    let before = fs::read(&mbox.path).map_err(text)?;
    for octets in [2 * 1024 * 1024, 3000] {
        if octets < 4096 {
            disk.fill()?;
        }
        match append(octets) {
            Err(MboxError::Store(mail_store::StoreError::NoSpace)) => {}
            other => return Err(format!("{octets} octets: {other:?}")),
        }
        let now = fs::read(&mbox.path).map_err(text)?;
        let left: io::Result<Vec<_>> =
            fs::read_dir(place.path()).map_err(text)?.map(|e| e.map(|e| e.file_name())).collect();
        let left = left.map_err(text)?;
        if now != before || left.iter().any(|name| name.to_string_lossy().ends_with(".lock")) {
            return Err(format!("{octets} octets: {} of {} octets left, {left:?}", now.len(), before.len()));
        }
    }
    disk.free()?;
    append(3000).map_err(|error| format!("{error:?}"))
}
