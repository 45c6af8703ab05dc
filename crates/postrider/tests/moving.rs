//! `adopt` and `leave` on a queue directory that Postfix could have left: killed at each of their points and run again, every message is in one
//! of the two queues, once, as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_types::{Body, Client, DsnOptions, Envelope, Notify, Purpose, Recipient, Ret, Sender, UnixTime};
use postfix_queue::{Dropped, LIMITS, Outgoing, State, Wait, id, log, read};

/// Where messages lie.
const QUEUES: [&str; 5] = ["incoming", "active", "deferred", "hold", "maildrop"];

/// A machine with a main.cf, a queue of Postfix's and programs that stand in for Postfix's.
struct Machine {
    root: tempfile::TempDir,
}

/// What makes a message that message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    sender: String,
    open: Vec<(String, u8, Option<String>)>,
    content: Vec<u8>,
    arrival: u64,
    hold: bool,
    ret: u8,
    envid: Option<String>,
    warned: bool,
    purpose: Purpose,
    reasons: Vec<String>,
    /// What the sender is still to hear.
    told: Vec<(String, String)>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let machine = Self { root };
        for directory in ["etc/postfix", "programs", "queue/pid", "queue/postrider/segments"] {
            fs::create_dir_all(machine.path(directory)).expect("made");
        }
        for queue in QUEUES.iter().chain(&["corrupt", "defer", "bounce", "trace"]) {
            fs::create_dir_all(machine.path("queue").join(queue)).expect("made");
        }
        for directory in ["maildrop", "log", "ledger", "content", "corrupt"] {
            fs::create_dir_all(machine.path("queue/postrider").join(directory)).expect("made");
        }
        for program in ["postmap", "postalias"] {
            let path = machine.path("programs").join(program);
            fs::write(&path, "#!/bin/sh\necho \"$0 $*\" >> \"${0%/*}/calls\"\n").expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        let shown = machine.root.path().display().to_string();
        let main = format!(
            "compatibility_level = 3.6\nmyhostname = mail.moving.example\nmydestination =\nrelayhost = [127.0.0.1]:9\nqueue_directory = {shown}/queue\n\
             command_directory = {shown}/programs\nalias_maps =\nalias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nvirtual_alias_maps = hash:{shown}/etc/postfix/virtual\n"
        );
        fs::write(machine.path("etc/postfix/main.cf"), main).expect("written");
        fs::write(
            machine.path("etc/postfix/master.cf"),
            "127.0.0.1:2525 inet n - n - - smtpd\nsmtp unix - - n - - smtp\n",
        )
        .expect("written");
        fs::write(machine.path("etc/postfix/dovecot.conf"), "").expect("written");
        fs::write(machine.path("etc/postfix/virtual"), "a@b.example c@d.example\n").expect("written");
        machine
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn queue(&self) -> PathBuf {
        self.path("queue")
    }

    /// Runs a command, to be killed at a point where one is named.
    fn run(&self, command: &str, point: &str) -> Output {
        let mut run = Command::new(env!("CARGO_BIN_EXE_postrider"));
        run.arg(command).arg("-c").arg(self.path("etc/postfix")).arg("--yes").env_remove("MAIL_CONFIG");
        if command == "adopt" {
            run.arg("--root").arg(self.root.path());
        }
        if !point.is_empty() {
            run.env("POSTRIDER_POINTS", point);
        }
        run.output().expect("it runs")
    }

    fn succeed(&self, command: &str) -> String {
        let output = self.run(command, "");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{command}: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Puts a file where Postfix would have it.
    fn put(&self, queue: &str, octets: &[u8], mode: u32, logs: impl Fn(&str)) {
        let path = self.queue().join("new");
        fs::write(&path, octets).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let inode = path.metadata().expect("there").ino();
        let name = id::name(0, u32::try_from(inode % 1_000_000).expect("small"), inode, false);
        logs(&name);
        let directory =
            self.queue().join(queue).join(if queue == "deferred" { id::forest(&name, 1) } else { String::new() });
        fs::create_dir_all(&directory).expect("made");
        fs::rename(&path, directory.join(name)).expect("named");
    }

    /// Messages of every kind, numbered.
    fn fill(&self) {
        for number in 0..14_u32 {
            let queue = ["incoming", "deferred", "hold", "active"][number as usize % 4];
            let (envelope, done, content) = message(number);
            let wait = if number.is_multiple_of(5) { Wait::Warned } else { Wait::Unwatched };
            let (file, offsets) = Outgoing { envelope: &envelope, done: &done, content: &content, wait }.write();
            let entry = log::Entry {
                recipient: envelope.recipients[0].address.to_string(),
                offset: offsets[0],
                status: "4.4.1".to_owned(),
                action: "delayed".to_owned(),
                reason: format!("connect to host{number}: refused"),
                ..log::Entry::default()
            };
            self.put(queue, &file, 0o700, |name| {
                // Postfix stopped before it told the sender of the one that is done.
                let (log, action) = if number == 7 { ("bounce", "failed") } else { ("trace", "relayed") };
                if let [done] = &done[..]
                    && number < 12
                {
                    let recipient = done.address.to_string();
                    let status = if log == "bounce" { "5.1.1" } else { "2.0.0" }.to_owned();
                    let (offset, action, reason) = (offsets[2], action.to_owned(), "so it is".to_owned());
                    let told = log::Entry { recipient, status, offset, action, reason, ..log::Entry::default() };
                    fs::write(self.queue().join(log).join(name), log::text(&[told])).expect("written");
                }
                if queue == "deferred" {
                    let directory = self.queue().join("defer").join(id::forest(name, 1));
                    fs::create_dir_all(&directory).expect("made");
                    fs::write(directory.join(name), log::text(std::slice::from_ref(&entry))).expect("written");
                }
            });
        }
        for number in 100..103_u32 {
            let recipients = [format!("to{number}@c.example"), "bare".to_owned()];
            let content = format!("X-Number: {number}\nSubject: dropped\n\nhello\n");
            let dropped = Dropped {
                arrival: UnixTime(1_700_000_000_000),
                sender: "me@a.example",
                full_name: Some(b"Full Name"),
                recipients: &recipients,
                ret: Some(Ret::Headers),
                envid: Some("env"),
                notify: Some(Notify { success: false, failure: true, delay: false }),
                purpose: Purpose::Deliver,
                content: content.as_bytes(),
            };
            self.put("maildrop", &dropped.write(), 0o744, |_| ());
        }
    }

    /// Every message of Postfix's queue by its number, with what it says; a number that stands there twice is an error.
    fn messages(&self) -> BTreeMap<u32, Facts> {
        let mut found = BTreeMap::new();
        for queue in QUEUES {
            for path in files(&self.queue().join(queue)) {
                let (number, facts) = self.facts(queue, &path);
                assert!(found.insert(number, facts).is_none(), "message {number} is there twice");
            }
        }
        found
    }

    fn facts(&self, queue: &str, path: &Path) -> (u32, Facts) {
        let file = read(&fs::read(path).expect("read"), &LIMITS).expect("a queue file");
        let text = String::from_utf8_lossy(&file.content).into_owned();
        let number = text.lines().find_map(|line| line.strip_prefix("X-Number: ")?.parse().ok()).expect("a number");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let defer = self.queue().join("defer").join(id::forest(name, 1)).join(name);
        let entries = log::parse(&fs::read(defer).unwrap_or_default());
        let shown = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let open = file.recipients.iter().filter(|to| to.state == State::Open);
        let facts = Facts {
            sender: shown(&file.sender.clone().expect("a sender")),
            open: open.map(|to| (shown(&to.address), to.notify, to.orcpt.as_deref().map(shown))).collect(),
            // A submission gets the time of its second hand-over.
            arrival: if queue == "maildrop" { 0 } else { file.arrival.expect("a time").0 },
            hold: queue == "hold",
            ret: file.ret,
            envid: file.envid.as_deref().map(shown),
            warned: file.warn == Some(-1),
            purpose: file.purpose().expect("known"),
            told: ["bounce", "trace"]
                .iter()
                .flat_map(|log| log::parse(&fs::read(self.queue().join(log).join(name)).unwrap_or_default()))
                .map(|entry| (entry.recipient, entry.action))
                .collect(),
            reasons: entries.into_iter().map(|entry| entry.reason).collect(),
            content: file.content,
        };
        (number, facts)
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("listed").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The envelope of a message with recipients that are done, and its content.
fn message(number: u32) -> (Envelope, Vec<Recipient>, Vec<u8>) {
    let to = |text: &str| Recipient::new(text.parse().expect("an address"));
    let mut first = to(&format!("to{number}@c.example"));
    if number.is_multiple_of(3) {
        first.notify = Some(Notify { success: true, failure: true, delay: false });
        first.orcpt = Some(format!("rfc822;Original+{number}@x.example"));
    }
    let filler = if number == 3 { "long line of text\n".repeat(70_000) } else { "text\n".repeat(number as usize) };
    let body = if number.is_multiple_of(2) { "Grüße\n" } else { "" };
    let envelope = Envelope {
        sender: if number == 4 { Sender::Null } else { Sender::Address("from@a.example".parse().expect("an address")) },
        recipients: vec![first, to(&format!("\"odd one\"@d{number}.example"))],
        arrival: UnixTime(1_700_000_000_000 + u64::from(number) * 1000),
        size: 0,
        body: if number.is_multiple_of(2) { Body::EightBitMime } else { Body::SevenBit },
        smtputf8: number.is_multiple_of(7),
        dsn: DsnOptions {
            ret: (number.is_multiple_of(3)).then_some(Ret::Full),
            envid: (number.is_multiple_of(3)).then(|| format!("id+{number}")),
        },
        message_id: None,
        purpose: if number == 5 { Purpose::Trace } else { Purpose::Deliver },
        client: Client {
            name: "client.example".into(),
            address: "192.0.2.7".parse().ok(),
            protocol: "ESMTP".into(),
            ..Client::default()
        },
    };
    let done = if number % 4 == 3 { vec![to("done@e.example")] } else { vec![] };
    (envelope, done, format!("X-Number: {number}\nSubject: {number}\n\n{body}{filler}").into_bytes())
}

/// The checksum of every file below, and its time.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let of = |path: PathBuf| {
        let entry = (fs::read(&path).expect("read"), path.metadata().expect("there").modified().expect("known"));
        (path, entry)
    };
    files(directory).into_iter().map(of).collect()
}

#[test]
fn what_goes_over_and_comes_back_is_what_it_was() {
    let machine = Machine::new();
    machine.fill();
    let (before, files) = (machine.messages(), tree(&machine.path("etc/postfix")));
    let said = machine.succeed("adopt");
    assert!(said.contains("imported 11, on hold 3, submissions for smtpd 3, left 0"), "{said}");
    assert_eq!(machine.messages().len(), 0);
    assert_eq!(fs::read_link(machine.path("etc/postrider")).expect("a link"), Path::new("postfix"));
    assert_eq!(tree(&machine.path("etc/postfix")), files);
    let again = machine.succeed("adopt");
    assert!(again.contains("imported 0, on hold 0, submissions for smtpd 0, left 0"), "{again}");
    let said = machine.succeed("leave");
    assert!(said.contains("handed over 11, on hold 3, submissions 3, left 0"), "{said}");
    assert_eq!(machine.messages(), before);
    assert_eq!(tree(&machine.path("etc/postfix")), files);
    let built = fs::read_to_string(machine.path("programs/calls")).expect("called");
    assert!(built.contains("postmap -c") && built.contains("hash:"), "{built}");
    let said = machine.succeed("leave");
    assert!(said.contains("handed over 0, on hold 0, submissions 0, left 0"), "{said}");
    assert_eq!(machine.messages().len(), before.len());
    // What was never attempted is due at once.
    let time = |path: PathBuf| path.metadata().expect("there").modified().expect("known");
    assert!(files_of(&machine, "incoming").into_iter().map(time).all(|time| time <= SystemTime::now()));
}

fn files_of(machine: &Machine, queue: &str) -> Vec<PathBuf> {
    files(&machine.queue().join(queue))
}

/// Where `adopt` is killed; a second point is where the run after that is killed.
const ADOPT: [&[&str]; 9] = [
    &["adopt-begun=kill"],
    &["adopt-accepted=kill"],
    &["adopt-accepted=kill", "adopt-abandoned=kill:2"],
    &["adopt-moved=kill"],
    &["adopt-moved=kill:3"],
    &["adopt-synced=kill"],
    &["adopt-released=kill"],
    &["adopt-dropped=kill:2"],
    &["adopt-drop-moved=kill:2"],
];

#[test]
fn adopt_killed_at_each_point_loses_nothing_and_repeats_nothing() {
    for points in ADOPT {
        let machine = Machine::new();
        machine.fill();
        let before = machine.messages();
        for point in points {
            let killed = machine.run("adopt", point);
            assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        }
        machine.succeed("adopt");
        assert_eq!(machine.messages().len(), 0, "{points:?}");
        machine.succeed("leave");
        assert_eq!(machine.messages(), before, "{points:?}");
    }
}

/// Where `leave` is killed.
const LEAVE: [&[&str]; 11] = [
    &["leave-staged=kill"],
    &["leave-begun=kill"],
    &["leave-held=kill"],
    &["leave-held=kill", "leave-abandoned=kill:2"],
    &["leave-one-named=kill"],
    &["leave-one-named=kill:3"],
    &["leave-named=kill"],
    &["leave-ended=kill"],
    &["leave-drop-staged=kill:2"],
    &["leave-drop-leaving=kill:2"],
    &["leave-drop-named=kill:2"],
];

#[test]
fn leave_killed_at_each_point_loses_nothing_and_repeats_nothing() {
    for points in LEAVE {
        let machine = Machine::new();
        machine.fill();
        let before = machine.messages();
        machine.succeed("adopt");
        for point in points {
            let killed = machine.run("leave", point);
            assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        }
        machine.succeed("leave");
        assert_eq!(machine.messages(), before, "{points:?}");
        assert!(!machine.queue().join("postrider-leave").exists(), "{points:?}");
    }
}

#[test]
fn postfix_went_on_after_a_death_and_its_word_counts() {
    let machine = Machine::new();
    machine.fill();
    let killed = machine.run("adopt", "adopt-accepted=kill");
    assert_eq!(killed.status.signal(), Some(9));
    // Postfix delivers one of them meanwhile, and all recipients but one of another.
    let gone = files_of(&machine, "active").remove(0);
    let (number, _) = machine.facts("active", &gone);
    fs::remove_file(&gone).expect("removed");
    let half = files_of(&machine, "active").remove(0);
    let mut octets = fs::read(&half).expect("read");
    let first = read(&octets, &LIMITS).expect("good").recipients[0].offset;
    octets[usize::try_from(first).expect("small")] = b'D';
    fs::write(&half, octets).expect("written");
    let before = machine.messages();
    assert!(!before.contains_key(&number));
    machine.succeed("adopt");
    machine.succeed("leave");
    assert_eq!(machine.messages(), before);
}

#[test]
fn what_only_postfix_can_do_stays_with_it() {
    let machine = Machine::new();
    let (envelope, _, content) = message(1);
    let (good, _) = Outgoing { envelope: &envelope, done: &[], content: &content, wait: Wait::Unwatched }.write();
    let mut filtered = good.clone();
    // A content filter behind the content.
    let end = filtered.len() - 2;
    filtered.truncate(end);
    postfix_queue::record::put(&mut filtered, postfix_queue::record::FILTER, b"scan:[127.0.0.1]:10024");
    postfix_queue::record::put(&mut filtered, postfix_queue::record::END, b"");
    machine.put("deferred", &filtered, 0o700, |_| ());
    machine.put("incoming", &good, 0o600, |_| ());
    machine.put("corrupt", b"nonsense", 0o400, |_| ());
    machine.put("hold", &good[..good.len() - 3], 0o700, |_| ());
    machine.put("active", &good, 0o710, |_| ());
    let output = machine.run("adopt", "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for reason in ["scan:[127.0.0.1]:10024", "incomplete", "damaged", "no queue file", "postsuper -e"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    assert!(said.contains("imported 0, on hold 0, submissions for smtpd 0, left 5"), "{said}");
    let there: usize =
        ["deferred", "incoming", "corrupt", "hold", "active"].iter().map(|q| files_of(&machine, q).len()).sum();
    assert_eq!(there, 5);
}

#[test]
fn neither_moves_anything_while_the_other_side_runs() {
    let machine = Machine::new();
    machine.fill();
    let lock = machine.queue().join("pid/master.pid");
    fs::write(&lock, "1\n").expect("written");
    let master = fs::File::open(&lock).expect("open");
    rustix::fs::flock(&master, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    for command in ["adopt", "leave"] {
        let output = machine.run(command, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(75) && said.contains("Postfix is running"), "{command}: {said}");
    }
    drop(master);
    let segments = fs::File::open(machine.queue().join("postrider/segments")).expect("open");
    rustix::fs::flock(&segments, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    for command in ["adopt", "leave"] {
        let output = machine.run(command, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(75) && said.contains("Postrider is running"), "{command}: {said}");
    }
    assert_eq!(machine.messages().len(), 17);
}

#[test]
fn the_survey_changes_nothing_and_says_what_there_is() {
    let machine = Machine::new();
    machine.fill();
    let before = machine.messages();
    let mut run = Command::new(env!("CARGO_BIN_EXE_postrider"));
    let output = run.args(["adopt", "--json", "--root"]).arg(machine.root.path()).output().expect("it runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let queue = &report["survey"]["queue"];
    assert_eq!(
        (queue["deferred"].as_u64(), queue["hold"].as_u64(), queue["maildrop"].as_u64()),
        (Some(4), Some(3), Some(3))
    );
    assert_eq!(report["survey"]["running"]["postfix"], false);
    assert!(report["survey"]["coverage"]["supported"].as_u64().is_some_and(|count| count > 3), "{report}");
    assert!(!machine.path("etc/postrider").exists());
    assert_eq!(machine.messages(), before);
    let text =
        Command::new(env!("CARGO_BIN_EXE_postrider")).args(["adopt", "--root"]).arg(machine.root.path()).output();
    let text = String::from_utf8(text.expect("it runs").stdout).expect("text");
    for words in [
        "active 3, corrupt 0, deferred 4",
        "What to do:",
        "postrider adopt -c",
        "systemctl enable --now postrider.target",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn files_that_would_not_start_are_surveyed_and_nothing_is_prepared() {
    let machine = Machine::new();
    machine.fill();
    let main = machine.path("etc/postfix/main.cf");
    let text = fs::read_to_string(&main).expect("read");
    fs::write(&main, format!("{text}message_size_limit = much\n")).expect("written");
    for yes in [&[][..], &["--yes"]] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_postrider"));
        let output = run.args(["adopt", "--root"]).arg(machine.root.path()).args(yes).output().expect("it runs");
        let (seen, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(78), "{wrong}");
        assert!(wrong.contains("main.cf:") && wrong.contains("message_size_limit"), "{wrong}");
        assert!(
            seen.contains("active 3, corrupt 0, deferred 4") && seen.contains("(postrider check), then ask again"),
            "{seen}"
        );
        assert!(!machine.path("etc/postrider").exists());
    }
}

#[test]
fn a_deferred_message_is_due_when_postfix_would_have_tried_it() {
    let machine = Machine::new();
    let (envelope, _, content) = message(1);
    let (file, offsets) = Outgoing { envelope: &envelope, done: &[], content: &content, wait: Wait::Unwatched }.write();
    let entry = log::Entry {
        recipient: envelope.recipients[0].address.to_string(),
        offset: offsets[0],
        status: "4.4.1".to_owned(),
        reason: "refused".to_owned(),
        ..log::Entry::default()
    };
    machine.put("deferred", &file, 0o700, |name| {
        let directory = machine.queue().join("defer").join(id::forest(name, 1));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join(name), log::text(std::slice::from_ref(&entry))).expect("written");
    });
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 1234;
    let due = UNIX_EPOCH + Duration::from_secs(seconds);
    let path = files_of(&machine, "deferred").remove(0);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(due)).expect("set");
    machine.succeed("adopt");
    machine.succeed("leave");
    let path = files_of(&machine, "deferred").remove(0);
    assert_eq!(path.metadata().expect("there").modified().expect("known"), due);
}
