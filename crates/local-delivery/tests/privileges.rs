//! Started as root, the daemon keeps its rights in a monitor, and deliverers are the recipients.
//!
//! The users exist in a mount namespace of the test's own. Without the right to make one the test says that it is skipped.

mod common;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use common::{MESSAGE, PRIVILEGED, grant, lease, next, outcomes, start, start_closed, start_trying, start_with};
use mail_ipc::delivery::{Content, Fate, FromWorker, Lease, Outcome, TransportKind};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n\
    postrider:x:900:900::/:/bin/false\npostrider-smtpd:x:901:901::/:/bin/false\npostrider-local:x:902:902::/:/bin/false\n\
    john:x:1000:1000::/:/bin/sh\nanna:x:1001:1001::/:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\nmail:x:8:\nnogroup:x:65534:\npostrider:x:900:\npostdrop:x:903:\njohn:x:1000:\nanna:x:1001:\n";

/// Runs a test of this file again with these users, in a namespace of its own.
fn in_a_namespace(test: &str) {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, text) in [("passwd", PASSWD), ("group", GROUP)] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("set");
    }
    let script = "mount --bind $0/passwd /etc/passwd && mount --bind $0/group /etc/group && exec \"$@\"";
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(dir.path()).args(arguments).env(PRIVILEGED, "1");
        command.status().is_ok_and(|status| status.success())
    };
    if !rustix::process::geteuid().is_root() || !run(&["true".as_ref()]) {
        eprintln!("SKIPPED: no right to make a mount namespace");
        return;
    }
    let this = std::env::current_exe().expect("known");
    assert!(run(&[this.as_os_str(), "--exact".as_ref(), test.as_ref(), "--nocapture".as_ref()]), "see above");
}

fn owned_directory(path: &Path, uid: u32, gid: u32, mode: u32) {
    std::fs::create_dir(path).expect("made");
    chown(path, Some(uid), Some(gid)).expect("chown");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[tokio::test]
async fn deliverers_are_the_recipients() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("deliverers_are_the_recipients");
    }
    let mut system = start("home_mailbox = Maildir/\n").await;
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let home = system.dir.path().join("home");
    owned_directory(&home.join("john"), 1000, 1000, 0o700);
    owned_directory(&home.join("anna"), 0, 0, 0o700);
    system.authd();
    let (mut queue, _) = system.worker().await;
    let content = Content::Follows(MESSAGE.len() as u64);
    grant(&queue, lease(TransportKind::Local, &["john@info.net", "anna@info.net"], content)).await;
    let ends = outcomes(&mut queue, 2).await;
    assert_eq!(ends[&1].fate, Fate::Delivered, "{}", ends[&1].text);
    let maildir = home.join("john/Maildir");
    let message = std::fs::read_dir(maildir.join("new"))
        .expect("made")
        .next()
        .expect("one")
        .expect("entry")
        .metadata()
        .expect("stat");
    assert_eq!((message.uid(), message.gid(), message.mode() & 0o777), (1000, 1000, 0o600));
    assert_eq!(maildir.metadata().expect("stat").mode() & 0o777, 0o700);
    // The home of another owner cannot be written to: nothing runs as root.
    assert!(
        matches!(ends[&2].fate, Fate::Deferred { .. }) && ends[&2].text.contains("Permission denied"),
        "{}",
        ends[&2].text
    );
    let front = std::fs::read_to_string(format!("/proc/{}/status", child_of(system.daemon.id()))).expect("alive");
    assert!(front.lines().any(|line| line.starts_with("Uid:\t902\t902\t902\t902")), "{front}");
}

#[tokio::test]
async fn a_mailbox_in_a_spool_of_its_group_is_made_for_its_owner() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("a_mailbox_in_a_spool_of_its_group_is_made_for_its_owner");
    }
    let mut system = start("mail_spool_directory = DIR/mail\n").await;
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    // As Debian's /var/mail is.
    let spool = system.dir.path().join("mail");
    owned_directory(&spool, 0, 8, 0o2775);
    system.authd();
    let (mut queue, _) = system.worker().await;
    let content = Content::Follows(MESSAGE.len() as u64);
    grant(&queue, lease(TransportKind::Local, &["john@info.net"], content)).await;
    let ends = outcomes(&mut queue, 1).await;
    assert_eq!(ends[&1].text, "delivered to mailbox");
    let mailbox = spool.join("john").metadata().expect("made");
    assert_eq!((mailbox.uid(), mailbox.mode() & 0o777), (1000, 0o600));
    assert!(!spool.join("john.lock").exists());
}

// R9
#[tokio::test]
async fn commands_have_the_rights_of_who_wrote_them() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("commands_have_the_rights_of_who_wrote_them");
    }
    let aliases = "system: \"|(id -u; id -g; id -G; grep NoNewPrivs /proc/self/status) > DIR/home/open/$LOCAL\"\n";
    let mut system =
        start_with("home_mailbox = Maildir/\ndefault_privs = anna\nrecipient_delimiter = +\n", aliases).await;
    let path = |name: &str| system.dir.path().join(name);
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    owned_directory(&path("home/open"), 0, 0, 0o777);
    owned_directory(&path("home/john"), 1000, 1000, 0o700);
    let forward = aliases.replace("DIR", &system.dir.path().display().to_string()).replace("system: ", "");
    std::fs::write(path("home/john/.forward"), forward).expect("written");
    let (open, table) = (path("home/open"), path("etc/aliases"));
    system.authd();
    let (mut queue, _) = system.worker().await;
    let content = Content::Follows(MESSAGE.len() as u64);
    grant(&queue, lease(TransportKind::Local, &["john@info.net", "system@info.net"], content)).await;
    let ends = outcomes(&mut queue, 2).await;
    assert!(ends.values().all(|end| end.fate == Fate::Delivered), "{ends:?}");
    // The alias file is another's now, and with it what it says.
    chown(&table, Some(1000), Some(1000)).expect("chown");
    grant(&queue, lease(TransportKind::Local, &["system+own@info.net"], content)).await;
    let ends = outcomes(&mut queue, 1).await;
    assert_eq!(ends[&1].fate, Fate::Delivered, "{}", ends[&1].text);
    let ids = |name: &str| std::fs::read_to_string(open.join(name)).expect("written");
    // The programs of a forwarder may be set-uid (`sendmail` is set-gid).
    assert_eq!(ids("john"), "1000\n1000\n1000\nNoNewPrivs:\t0\n");
    assert_eq!(ids("system"), "1001\n1001\n1001\nNoNewPrivs:\t0\n");
    assert_eq!(ids("system+own"), "1000\n1000\n1000\nNoNewPrivs:\t0\n");
}

// R9. Attack class: slowloris, hostile users
#[tokio::test]
async fn a_user_who_stops_his_deliverer_stops_nobody_else() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("a_user_who_stops_his_deliverer_stops_nobody_else");
    }
    let mut system = start("home_mailbox = Maildir/\n").await;
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let home = system.dir.path().join("home");
    owned_directory(&home.join("john"), 1000, 1000, 0o700);
    owned_directory(&home.join("anna"), 1001, 1001, 0o700);
    system.authd();
    let (mut queue, _) = system.worker().await;
    let numbered = |user: &str, number: u32| Lease {
        lease: number.into(),
        id: mail_types::QueueId::new(1_700_000_000, number, 7).expect("in range"),
        ..lease(TransportKind::Local, &[user], Content::Follows(MESSAGE.len() as u64))
    };
    grant(&queue, numbered("john@info.net", 1)).await;
    assert_eq!(outcomes(&mut queue, 1).await[&1].fate, Fate::Delivered);
    let deliverer = child_of_user(system.daemon.id(), 1000);
    // The process is his own as far as the kernel is concerned.
    rustix::process::kill_process(deliverer, rustix::process::Signal::STOP).expect("alive");
    for number in 2..=151 {
        grant(&queue, numbered("john@info.net", number)).await;
    }
    for number in 1001..=1020 {
        grant(&queue, numbered("anna@info.net", number)).await;
    }
    let mut ends = Vec::new();
    while ends.len() < 170 {
        if let FromWorker::Outcomes { outcomes } = next(&mut queue).await {
            ends.extend(outcomes);
        }
    }
    // Anna's mail is there while his waits; then he is given up, and his mail is for later.
    assert!(ends[..20].iter().all(|end| end.lease > 1000 && end.fate == Fate::Delivered), "{:?}", &ends[..20]);
    let later = |end: &Outcome| end.lease < 1000 && matches!(end.fate, Fate::Deferred { dead: false });
    assert!(ends[20..].iter().all(later), "{:?}", &ends[20..]);
    assert_eq!(ends[20].text, "the delivery process of this user does not answer");
    let again = Lease { attempt: 2, unreported: true, ..numbered("john@info.net", 2) };
    grant(&queue, again).await;
    assert_eq!(outcomes(&mut queue, 1).await[&1].fate, Fate::Delivered);
    assert_eq!(std::fs::read_dir(home.join("john/Maildir/new")).expect("made").count(), 2);
}

/// The descendant of a process that belongs to a user.
fn child_of_user(pid: u32, uid: u32) -> rustix::process::Pid {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("alive");
    let of_user = |child: &&str| {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.contains(&format!("\nUid:\t{uid}\t"))
    };
    let found = children.split_whitespace().find(of_user).expect("a deliverer");
    rustix::process::Pid::from_raw(found.parse().expect("a number")).expect("positive")
}

// R9. Attack class: Maildir: symlinks, FIFOs; symlink and hardlink races on spool
#[tokio::test]
async fn hostile_mailboxes_lead_nowhere() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("hostile_mailboxes_lead_nowhere");
    }
    let main = "mail_spool_directory = DIR/mail\ndeliver_lock_attempts = 2\n";
    let mut system = start(main).await;
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let spool = system.dir.path().join("mail");
    owned_directory(&spool, 0, 8, 0o1777);
    let secret = system.dir.path().join("secret");
    std::fs::write(&secret, "").expect("written");
    chown(&secret, Some(1001), Some(1001)).expect("chown");
    system.authd();
    let (mut queue, _) = system.worker().await;
    let content = Content::Follows(MESSAGE.len() as u64);
    let mailbox = spool.join("anna");
    let mut plant = async |what: &str| {
        let _ = std::fs::remove_file(&mailbox);
        match what {
            "symbolic link" => std::os::unix::fs::symlink(&secret, &mailbox).expect("made"),
            "more than one name" => std::fs::hard_link(&secret, &mailbox).expect("made"),
            "not owned by recipient" => {
                std::fs::write(&mailbox, "").expect("made");
                std::fs::set_permissions(&mailbox, std::fs::Permissions::from_mode(0o666)).expect("set");
            }
            "" => std::fs::write(spool.join("anna.lock"), "1").expect("made"),
            _ => {
                rustix::fs::mkfifoat(rustix::fs::CWD, &mailbox, rustix::fs::Mode::from_raw_mode(0o666)).expect("made");
                std::fs::set_permissions(&mailbox, std::fs::Permissions::from_mode(0o666)).expect("set");
            }
        }
        grant(&queue, lease(TransportKind::Local, &["anna@info.net", "john@info.net"], content)).await;
        let ends = outcomes(&mut queue, 2).await;
        assert!(matches!(ends[&1].fate, Fate::Deferred { .. }), "{what}: {:?}", ends[&1]);
        assert!(ends[&1].text.contains(what), "{what}: {}", ends[&1].text);
        assert_eq!(ends[&2].fate, Fate::Delivered, "{}", ends[&2].text);
    };
    for what in ["symbolic link", "more than one name", "not owned by recipient", "No such device"] {
        plant(what).await;
    }
    // A lock that somebody holds for ever is waited for as long as main.cf says.
    plant("").await;
    assert_eq!(std::fs::read(&secret).expect("read"), b"");
}

#[tokio::test]
async fn a_table_that_only_root_may_read_serves_and_is_taken_when_it_is_replaced() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("a_table_that_only_root_may_read_serves_and_is_taken_when_it_is_replaced");
    }
    let main = "virtual_alias_maps = hash:DIR/etc/virtual\nalias_maps = hash:DIR/etc/closed/aliases\n";
    let mut system = start_closed(
        main,
        &[("virtual", "john@info.org first@info.net\n"), ("closed/aliases", "all: john@info.org\n")],
    )
    .await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    let table = system.dir.path().join("etc/virtual");
    let mut seen = async |attempt: u32| {
        let content = Content::Follows(MESSAGE.len() as u64);
        let lease = Lease { attempt, ..lease(TransportKind::Local, &["all@info.net"], content) };
        grant(&queue, lease).await;
        let ends = outcomes(&mut queue, 1).await;
        let Fate::Expanded { members } = &ends[&1].fate else { panic!("{:?}", ends[&1]) };
        members[0].address.to_string()
    };
    assert_eq!(seen(1).await, "first@info.net");
    let new = table.with_extension("new");
    std::fs::write(&new, "john@info.org second@info.net\n").expect("written");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("set");
    std::fs::rename(&new, &table).expect("renamed");
    let (mut attempt, deadline) = (1, std::time::Instant::now() + std::time::Duration::from_secs(120));
    while seen(attempt).await == "first@info.net" {
        assert!(std::time::Instant::now() < deadline, "the new table is never seen");
        attempt += 1;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(seen(attempt + 1).await, "second@info.net");
}

const VIRTUAL: &str = "virtual_mailbox_domains = v.example\nvirtual_mailbox_base = DIR/home\n\
    virtual_uid_maps = static:5000\nvirtual_gid_maps = static:5000\nvirtual_mailbox_maps = \
    inline:{ {a@v.example=a/Maildir/} {b@v.example=b/Maildir/} {c@v.example=boxes/c} {d@v.example=boxes/d} {e@v.example=file/Maildir/} }\n";

// R9
#[tokio::test]
async fn a_deliverer_of_users_who_share_a_uid_reaches_one_mailbox() {
    if std::env::var_os(PRIVILEGED).is_none() {
        return in_a_namespace("a_deliverer_of_users_who_share_a_uid_reaches_one_mailbox");
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let home = dir.path().join("home");
    let probes = ["list:HOME/a/Maildir", "list:HOME/b/Maildir", "read:HOME/boxes/c", "read:HOME/boxes/d", "list:HOME"];
    let probes = probes.join(" ").replace("HOME", home.to_str().expect("utf-8"));
    let tries = [("POSTRIDER_POINTS", "local.deliverer=probe"), ("POSTRIDER_PROBES", &probes)];
    let mut system = start_trying(dir, VIRTUAL, &tries).await;
    std::fs::set_permissions(system.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    chown(&home, Some(5000), Some(5000)).expect("chown");
    owned_directory(&home.join("boxes"), 5000, 5000, 0o700);
    std::fs::write(home.join("file"), "").expect("written");
    system.authd();
    let (mut queue, _) = system.worker().await;
    let mut deliver = async |attempt: u32, users: &[&str]| {
        let content = Content::Follows(MESSAGE.len() as u64);
        grant(&queue, Lease { attempt, ..lease(TransportKind::Virtual, users, content) }).await;
        outcomes(&mut queue, users.len()).await
    };
    // Each mailbox is there when the next deliverer tries.
    for (attempt, user) in (1..).zip(["a@v.example", "b@v.example", "c@v.example", "d@v.example"]) {
        let ends = deliver(attempt, &[user]).await;
        assert_eq!(ends[&1].fate, Fate::Delivered, "{user}: {}", ends[&1].text);
    }
    let tried = |probe: &str| -> Vec<String> {
        let said = std::fs::read_to_string(system.dir.path().join("stderr")).expect("written");
        let lines = said.lines().filter_map(|line| line.strip_prefix("probe local.deliverer ")?.split_once(": "));
        lines.filter(|(what, _)| what.ends_with(probe)).map(|(_, result)| result.to_owned()).collect()
    };
    // The deliverers in their order; what is not there yet is hidden as well.
    assert_eq!(
        tried("list:{}".replace("{}", home.join("a/Maildir").to_str().expect("utf-8")).as_str()),
        ["done", "EACCES", "EACCES", "EACCES"]
    );
    assert_eq!(tried("/b/Maildir")[1..], ["done", "EACCES", "EACCES"]);
    assert_eq!(tried("/boxes/c")[2..], ["ENOENT", "EACCES"]);
    assert_eq!(tried("/home"), ["EACCES"; 4]);
    // A mailbox that cannot be made is deferred with its reason, and taken once it can.
    let ends = deliver(5, &["e@v.example"]).await;
    assert!(ends[&1].text.contains("file/Maildir"), "{}", ends[&1].text);
    std::fs::remove_file(home.join("file")).expect("removed");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let mut attempt = 6;
    while deliver(attempt, &["e@v.example"]).await[&1].fate != Fate::Delivered {
        assert!(std::time::Instant::now() < deadline, "never delivered");
        attempt += 1;
    }
    // One that was put in the place of another is delivered to, by another deliverer.
    std::fs::rename(home.join("a/Maildir"), home.join("a/old")).expect("renamed");
    let ends = deliver(100, &["a@v.example"]).await;
    assert_eq!(ends[&1].fate, Fate::Delivered, "{}", ends[&1].text);
    assert_eq!(std::fs::read_dir(home.join("a/Maildir/new")).expect("made").count(), 1);
}

/// The one child of a process.
fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("alive");
    children.split_whitespace().next().expect("a child").parse().expect("a number")
}
