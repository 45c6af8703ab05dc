//! The real daemon between a queue-manager and an authd that the test plays: what becomes of each recipient.

mod common;

use common::{MESSAGE, NOBODY, answer, grant, is_root, key, lease, next, outcomes, spawn, start, start_with};
use mail_ipc::Frame;
use mail_ipc::delivery::{Content, Fate, FromWorker, Lease, ToWorker, TransportKind};
use mail_ipc::hello::{Hello, Role};
use mail_net::ipc;

// R7, S16
#[tokio::test]
async fn each_recipient_gets_its_own_outcome() {
    let mut system = start("home_mailbox = Maildir/\nrecipient_delimiter = +\n").await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    let recipients =
        ["John+lists@info.net", "nobody.here@info.net", "later@info.net", "looped@info.net", "anna@info.net"];
    grant(&queue, lease(TransportKind::Local, &recipients, Content::Follows(MESSAGE.len() as u64))).await;
    let ends = outcomes(&mut queue, 5).await;
    let end = |number: u32| (ends[&number].status.to_string(), ends[&number].text.as_str());
    assert_eq!(end(1), ("2.0.0".into(), "delivered to maildir"));
    assert_eq!(end(2), ("5.1.1".into(), "unknown user: \"nobody.here\""));
    assert_eq!(end(3), ("4.3.0".into(), "user lookup error: LDAP is down"));
    assert_eq!(end(4), ("5.4.6".into(), "mail forwarding loop for looped@info.net"));
    assert_eq!(ends[&5].fate, Fate::Delivered);
    let expected = "Return-Path: <sender@example.org>\nX-Original-To: John+lists@info.net\nDelivered-To: John+lists@info.net\n\
        Delivered-To: looped@info.net\nSubject: Test\n\nTest message\n";
    assert_eq!(system.files("john"), [expected]);
    system.logged("to=<anna@info.net>, relay=local, delay=").await;
    system.logged("dsn=5.1.1, status=bounced (unknown user: \"nobody.here\")").await;
}

#[tokio::test]
async fn a_user_of_the_userdb_gets_mail_as_over_lmtp() {
    let mut system = start("").await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    let recipients = ["mail+detail@info.net", "other@info.net"];
    let file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut &file, MESSAGE).expect("written");
    let lease = lease(TransportKind::Mailbox, &recipients, Content::Descriptor { length: MESSAGE.len() as u64 });
    let grants = Frame::new(0, ToWorker::Grants { leases: vec![lease] });
    let passed = [std::os::fd::AsFd::as_fd(&file)];
    queue.writer.send(&grants, &passed, &[]).await.expect("sent");
    let ends = outcomes(&mut queue, 2).await;
    assert_eq!(
        (ends[&1].text.as_str(), ends[&1].relay.as_str()),
        ("250 2.0.0 <mail+detail@info.net> Saved", "mail.info.net[private/dovecot-lmtp]")
    );
    assert_eq!(ends[&2].status.to_string(), "5.1.1");
    assert!(
        system.files("mail")[0]
            .starts_with("Return-Path: <sender@example.org>\nDelivered-To: <mail+detail@info.net>\n")
    );
}

// R3
#[tokio::test]
async fn an_outcome_survives_a_queue_manager_that_goes_away() {
    let mut system = start("home_mailbox = Maildir/\n").await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    grant(&queue, lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))).await;
    outcomes(&mut queue, 1).await;
    // It went without having recorded.
    drop(queue);
    let (mut queue, held) = system.worker_with_outcomes().await;
    assert!(held.is_empty());
    let again = outcomes(&mut queue, 1).await;
    assert_eq!(again[&1].fate, Fate::Delivered);
    let recorded = ToWorker::Recorded { outcomes: vec![key(&again[&1])] };
    queue.writer.send(&Frame::new(0, recorded), &[], &[]).await.expect("sent");
    // A repeated attempt finds the mail and delivers nothing.
    let repeated = Lease {
        attempt: 2,
        unreported: true,
        ..lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))
    };
    grant(&queue, repeated).await;
    assert_eq!(outcomes(&mut queue, 1).await[&1].fate, Fate::Delivered);
    assert_eq!(system.files("john").len(), 1);
}

const ALIASES: &str = "sales: charles,john,mike\ncharles: charles@gmail.com\nowner-sales: anna\njohn: john, copy@gmail.com\nnull: /dev/null\n\
    both: anna, DIR/home/all, |/bin/x\ncommand: |/bin/x\nfile: DIR/home/all, DIR/home/dir/\nnothere: :include:/nonexistent\n\
    list: :include:DIR/etc/list\ntwice: john, again, twice2\nagain: john\ntwice2: again\n";

#[tokio::test]
async fn an_alias_becomes_its_members() {
    let mut system =
        start_with("home_mailbox = Maildir/\nallow_mail_to_files = alias\ndefault_privs = anna\n", ALIASES).await;
    std::fs::write(system.dir.path().join("etc/list"), "# members\nanna\n|/bin/x\n").expect("written");
    system.authd();
    let (mut queue, _) = system.worker().await;
    let names = ["sales", "charles", "john", "null", "both", "command", "nothere", "list", "twice"];
    let addresses: Vec<String> = names.iter().map(|name| format!("{name}@info.net")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    grant(&queue, lease(TransportKind::Local, &addresses, Content::Follows(MESSAGE.len() as u64))).await;
    let ends = outcomes(&mut queue, names.len()).await;
    let members = |number: u32| match &ends[&number].fate {
        Fate::Expanded { members } => members.clone(),
        other => panic!("{other:?}"),
    };
    let to = |number: u32| members(number).iter().map(|member| member.address.to_string()).collect::<Vec<_>>();
    // Aliases in aliases are expanded too, each address once.
    assert_eq!(to(1), ["charles@gmail.com", "john@info.net", "copy@gmail.com", "mike@info.net"]);
    assert!(members(1).iter().all(|member| member.owner == Some("owner-sales@info.net".parse().expect("good"))));
    assert_eq!(members(1)[0].chain, ["sales@info.net", "charles@info.net"].map(|a| a.parse().expect("good")));
    assert_eq!(to(9), ["john@info.net", "copy@gmail.com"]);
    assert_eq!(to(2), ["charles@gmail.com"]);
    assert_eq!(to(3), ["john@info.net", "copy@gmail.com"]);
    assert_eq!((ends[&4].fate.clone(), ends[&4].text.as_str()), (Fate::Delivered, "delivered to file: /dev/null"));
    // Commands and files have no address: each is the alias again, with its number.
    assert_eq!(to(5), ["anna@info.net", "both@info.net", "both@info.net"]);
    assert_eq!(members(5).iter().map(|member| member.part).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
    assert_eq!(members(5)[1].chain, ["both@info.net".parse().expect("good")]);
    assert_eq!(ends[&6].fate, Fate::Bounced, "{}", ends[&6].text);
    assert!(ends[&6].text.starts_with("Command not executed: "), "{}", ends[&6].text);
    assert!(matches!(ends[&7].fate, Fate::Deferred { .. }));
    assert_eq!(to(8), ["anna@info.net", "list@info.net"]);
}

/// The members of an expansion, as recipients of a later lease.
fn next_lease(members: &[mail_ipc::delivery::Member]) -> Lease {
    let mut lease = lease(TransportKind::Local, &["x@info.net"], Content::Follows(MESSAGE.len() as u64));
    let first = lease.recipients.remove(0);
    let recipient = |(number, member): (u32, &mail_ipc::delivery::Member)| {
        let (address, chain, part) = (member.address.clone(), member.chain.clone(), member.part);
        mail_ipc::delivery::LeaseRecipient { number, address, chain, part, ..first.clone() }
    };
    lease.recipients = (1..).zip(members).map(recipient).collect();
    lease
}

fn give_to_nobody(path: &std::path::Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
}

#[tokio::test]
async fn a_forward_file_sends_mail_on_and_each_part_of_it_is_delivered_once() {
    let mut system = start("home_mailbox = Maildir/\nrecipient_delimiter = +\n").await;
    system.authd();
    let home = system.dir.path().join("home/john");
    std::fs::create_dir(&home).expect("made");
    give_to_nobody(&home);
    let (out, copy) = (home.join("out"), home.join("copy"));
    let list = format!("elsewhere@example.org, john\n\"|cat > {}\"\n{}\n", out.display(), copy.display());
    std::fs::write(home.join(".forward"), list).expect("written");
    let (mut queue, _) = system.worker().await;
    grant(&queue, lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))).await;
    let ends = outcomes(&mut queue, 1).await;
    let Fate::Expanded { members } = &ends[&1].fate else { panic!("{:?}", ends[&1]) };
    let seen: Vec<_> = members.iter().map(|member| (member.address.to_string(), member.part)).collect();
    let own = "john@info.net".to_owned();
    let wanted = [("elsewhere@example.org".into(), None), (own.clone(), None), (own.clone(), Some(0)), (own, Some(1))];
    assert_eq!(seen, wanted);
    assert!(members.iter().all(|member| member.chain == ["john@info.net".parse().expect("good")]));
    grant(&queue, next_lease(&members[1..])).await;
    let ends = outcomes(&mut queue, 3).await;
    assert_eq!(ends[&1].text, "delivered to maildir");
    assert_eq!(ends[&2].text, format!("delivered to command: cat > {}", out.display()));
    assert_eq!(ends[&3].text, format!("delivered to file: {}", copy.display()));
    let text = std::fs::read_to_string(out).expect("the command wrote");
    let expected = "Return-Path: <sender@example.org>\nX-Original-To: john@info.net\nDelivered-To: john@info.net\n\
        Delivered-To: looped@info.net\nSubject: Test\n\nTest message\n";
    let (from, rest) = text.split_once('\n').expect("lines");
    assert!(from.starts_with("From sender@example.org  ") && rest == expected, "{text}");
    assert_eq!(system.files("john").len(), 1);
    assert!(std::fs::read_to_string(copy).expect("made").ends_with("Test message\n\n"));
    // What was taken out meanwhile is told, not guessed.
    std::fs::write(home.join(".forward"), "elsewhere@example.org\n").expect("written");
    grant(&queue, next_lease(&members[2..3])).await;
    assert_eq!(outcomes(&mut queue, 1).await[&1].fate, Fate::Bounced);
}

// Attack class: command injection; symlink and hardlink races on spool and aliases
#[tokio::test]
async fn hostile_forward_files_and_addresses_do_nothing() {
    let mut system = start("home_mailbox = Maildir/\nrecipient_delimiter = +\n").await;
    system.authd();
    let home = system.dir.path().join("home/john");
    std::fs::create_dir(&home).expect("made");
    give_to_nobody(&home);
    let forward = home.join(".forward");
    let (mut queue, _) = system.worker().await;
    // A FIFO nobody writes to would stop a reader for ever.
    rustix::fs::mkfifoat(rustix::fs::CWD, &forward, rustix::fs::Mode::from_raw_mode(0o644)).expect("made");
    grant(&queue, lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))).await;
    assert_eq!(outcomes(&mut queue, 1).await[&1].text, "delivered to maildir");
    std::fs::remove_file(&forward).expect("removed");
    // Nothing of an address reaches a shell.
    let report = home.join("environment");
    std::fs::write(&forward, format!("|echo \"$EXTENSION $SENDER $LOCAL\" > {}\n", report.display())).expect("written");
    let hostile = "\"john+$(touch x);`id`|../a&b\"@info.net";
    let mut lease = lease(TransportKind::Local, &[hostile], Content::Follows(MESSAGE.len() as u64));
    lease.sender = mail_types::Sender::Address("\";id>/x;\"@x.org".parse().expect("good"));
    grant(&queue, lease).await;
    let ends = outcomes(&mut queue, 1).await;
    assert_eq!(ends[&1].fate, Fate::Delivered, "{}", ends[&1].text);
    let text = std::fs::read_to_string(report).expect("written");
    assert_eq!(text, "__touch_x___id__../a_b __id_/x__@x.org john+__touch_x___id__../a_b\n");
    system.logged(".forward is not a regular file").await;
}

#[tokio::test]
async fn a_mailbox_command_gets_what_no_forward_file_sends_elsewhere() {
    let main = "mailbox_command = cat >> DIR/home/all.$USER\nmailbox_command_maps = inline:{ { anna = exit 75 } }\n";
    let mut system = start(main).await;
    system.authd();
    give_to_nobody(&system.dir.path().join("home"));
    let (mut queue, _) = system.worker().await;
    let recipients = ["john@info.net", "anna@info.net"];
    grant(&queue, lease(TransportKind::Local, &recipients, Content::Follows(MESSAGE.len() as u64))).await;
    let ends = outcomes(&mut queue, 2).await;
    assert_eq!(ends[&1].fate, Fate::Delivered, "{}", ends[&1].text);
    assert!(system.dir.path().join("home/all.john").exists());
    assert_eq!((ends[&2].status.to_string(), ends[&2].text.as_str()), ("4.3.0".into(), "temporary failure"));
}

// Attack class: Maildir: symlinks, FIFOs, device links
#[tokio::test]
async fn a_maildir_that_is_none_holds_up_nobody() {
    let mut system = start("home_mailbox = Maildir/\n").await;
    system.authd();
    let maildir = system.dir.path().join("home/john/Maildir");
    std::fs::create_dir_all(&maildir).expect("made");
    rustix::fs::mkfifoat(rustix::fs::CWD, maildir.join("new"), rustix::fs::Mode::from_raw_mode(0o666)).expect("made");
    give_to_nobody(&maildir);
    let (mut queue, _) = system.worker().await;
    let recipients = ["john@info.net", "anna@info.net"];
    grant(&queue, lease(TransportKind::Local, &recipients, Content::Follows(MESSAGE.len() as u64))).await;
    let ends = outcomes(&mut queue, 2).await;
    assert!(matches!(ends[&1].fate, Fate::Deferred { .. }), "{:?}", ends[&1]);
    assert_eq!(ends[&2].fate, Fate::Delivered);
}

// R6
#[tokio::test]
async fn a_command_dies_with_the_daemon_so_that_it_may_run_again() {
    let mut system = start_with("default_privs = anna\n", "slow: |echo $$ >> DIR/home/pids; sleep 600\n").await;
    system.authd();
    let (queue, _) = system.worker().await;
    grant(&queue, lease(TransportKind::Local, &["slow@info.net"], Content::Follows(MESSAGE.len() as u64))).await;
    let path = system.dir.path().join("home/pids");
    let pid = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(pid) = text.lines().next() {
            break pid.to_owned();
        }
        tokio::task::yield_now().await;
    };
    system.daemon.kill().expect("alive");
    system.daemon.wait().expect("ended");
    let alive = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    while alive() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_member_of_its_own_alias_is_a_user_or_what_has_no_address() {
    let mut system = start_with("home_mailbox = Maildir/\ndefault_privs = anna\n", ALIASES).await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    let mut lease = lease(
        TransportKind::Local,
        &["john@info.net", "list@info.net", "file@info.net"],
        Content::Follows(MESSAGE.len() as u64),
    );
    std::fs::write(system.dir.path().join("etc/list"), "anna\n|/bin/x\n").expect("written");
    for recipient in &mut lease.recipients[..2] {
        recipient.chain = vec!["root@info.net".parse().expect("good"), recipient.address.clone()];
    }
    lease.recipients[1].part = Some(0);
    grant(&queue, lease).await;
    let ends = outcomes(&mut queue, 3).await;
    assert_eq!(ends[&1].fate, Fate::Delivered);
    assert!(
        system.files("john")[0]
            .contains("X-Original-To: root@info.net\nDelivered-To: john@info.net\nDelivered-To: root@info.net\n")
    );
    assert_eq!((ends[&2].fate.clone(), ends[&2].text.as_str()), (Fate::Bounced, "mail to command is restricted"));
    let Fate::Expanded { members } = &ends[&3].fate else { panic!("{:?}", ends[&3]) };
    grant(&queue, next_lease(members)).await;
    let ends = outcomes(&mut queue, 2).await;
    assert!(ends.values().all(|end| end.fate == Fate::Delivered), "{ends:?}");
    assert!(
        std::fs::read_to_string(system.dir.path().join("home/all"))
            .expect("made")
            .starts_with("From sender@example.org  ")
    );
    assert_eq!(std::fs::read_dir(system.dir.path().join("home/dir/new")).expect("made").count(), 1);
}

#[tokio::test]
async fn a_changed_alias_is_taken_when_newaliases_says_so() {
    let mut system = start_with("home_mailbox = Maildir/\nmail_spool_directory = DIR/spool\n", "a: anna\n").await;
    system.authd();
    let (mut queue, _) = system.worker().await;
    std::fs::write(system.dir.path().join("etc/aliases"), "a: john\n").expect("written");
    let control = system.dir.path().join("spool/postrider/private/daemons");
    let stream = ipc::connect_stream(&control, "local-delivery.sock").expect("listens");
    let hello = Hello::new(Role::Command, "test");
    let mut conversation = ipc::accept(stream, &hello).await.expect("greets");
    let path = system.dir.path().join("etc/aliases").to_str().expect("utf-8").into();
    let request = mail_ipc::control::DaemonRequest::TableChanged { path };
    conversation.writer.send(&Frame::new(1, request), &[], &[]).await.expect("sent");
    conversation.reader.frame().await.expect("sound").expect("answered");
    let mut members = Vec::new();
    // The table is taken by a task of its own, soon after the answer.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    for attempt in 1.. {
        let lease =
            Lease { attempt, ..lease(TransportKind::Local, &["a@info.net"], Content::Follows(MESSAGE.len() as u64)) };
        grant(&queue, lease).await;
        let ends = outcomes(&mut queue, 1).await;
        let Fate::Expanded { members: found } = &ends[&1].fate else { panic!("{:?}", ends[&1]) };
        members.clone_from(found);
        if members[0].address.local() == "john" || std::time::Instant::now() > deadline {
            break;
        }
    }
    assert_eq!(members[0].address.to_string(), "john@info.net");
}

#[tokio::test]
async fn a_mailbox_of_virtual_mailbox_maps_is_found() {
    let main = "virtual_mailbox_maps = inline:{ {a@v.org = v.org/a/}, {b@v.org = v.org/b} }\nvirtual_mailbox_base = DIR/home\n\
                virtual_uid_maps = static:5000\nvirtual_gid_maps = static:5000\nstrict_mailbox_ownership = no\n";
    let system = start(main).await;
    let (mut queue, _) = system.worker().await;
    let home = system.dir.path().join("home/v.org");
    std::fs::create_dir(&home).expect("made");
    if is_root() {
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    grant(
        &queue,
        lease(TransportKind::Virtual, &["a+x@v.org", "b@v.org", "c@v.org"], Content::Follows(MESSAGE.len() as u64)),
    )
    .await;
    let ends = outcomes(&mut queue, 3).await;
    assert_eq!(ends[&3].text, "unknown user: \"c@v.org\"");
    assert_eq!(ends[&2].text, "delivered to mailbox");
    assert!(std::fs::read_to_string(home.join("b")).expect("made").ends_with("Test message\n\n"));
    assert_eq!(ends[&1].status.to_string(), "5.1.1", "no recipient_delimiter");
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way() {
    let mut system = start("mail_spool_directory = /nonexistent/dir/\n").await;
    let (mut queue, _) = system.worker().await;
    grant(&queue, lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))).await;
    // The attempt waits for the answer to its lookup when the stop comes.
    let lookup = system.lookup.take().expect("once");
    let (stream, _) = lookup.accept().await.expect("accepts");
    let pid = rustix::process::Pid::from_child(&system.daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("alive");
    tokio::spawn(answer(stream, system.dir.path().join("home")));
    let ends = outcomes(&mut queue, 1).await;
    assert!(matches!(ends[&1].fate, Fate::Deferred { .. }));
    let recorded = ToWorker::Recorded { outcomes: vec![key(&ends[&1])] };
    queue.writer.send(&Frame::new(0, recorded), &[], &[]).await.expect("sent");
    let status = tokio::task::spawn_blocking(move || system.daemon.wait().expect("ends")).await.expect("joined");
    assert!(status.success());
}

// R3, R6
#[tokio::test]
async fn a_killed_daemon_loses_nothing_and_delivers_nothing_twice() {
    let mut system = start("home_mailbox = Maildir/\n").await;
    system.authd();
    let numbered = |number: u32, attempt: u32| Lease {
        lease: u64::from(number),
        id: mail_types::QueueId::new(1_700_000_000, number, 7).expect("in range"),
        attempt,
        unreported: attempt > 1,
        ..lease(TransportKind::Local, &["john@info.net"], Content::Follows(MESSAGE.len() as u64))
    };
    let (queue, _) = system.worker().await;
    let new = system.dir.path().join("home/john/Maildir/new");
    let count = || std::fs::read_dir(&new).map_or(0, Iterator::count);
    for number in 1..=200 {
        grant(&queue, numbered(number, 1)).await;
    }
    // It dies in the midst of it.
    while count() < 20 {
        tokio::task::yield_now().await;
    }
    system.daemon.kill().expect("alive");
    system.daemon.wait().expect("ended");
    drop(queue);
    system.daemon = spawn(system.dir.path());
    let (mut queue, held) = system.worker().await;
    assert!(held.is_empty());
    for number in 1..=200 {
        grant(&queue, numbered(number, 2)).await;
    }
    let mut delivered = std::collections::BTreeSet::new();
    while delivered.len() < 200 {
        if let FromWorker::Outcomes { outcomes } = next(&mut queue).await {
            delivered.extend(outcomes.iter().filter(|end| end.fate == Fate::Delivered).map(|end| end.lease));
        }
    }
    assert_eq!(count(), 200);
}
