//! Messages that only ask, told to the core and its sockets in this process.

mod common;

use std::time::Duration;

use common::*;
use mail_ipc::delivery::{Fate, Member, TransportKind};
use mail_ipc::intake::{Request, Response, Verified};
use mail_types::{Envelope, Purpose};
use queue_manager::settings::{Settings, Verification};

const LOCAL: [TransportKind; 1] = [TransportKind::Local];
const SMTP: [TransportKind; 1] = [TransportKind::Smtp];

fn asking(purpose: Purpose, sender: &str, recipients: &[&str]) -> Envelope {
    Envelope { purpose, ..envelope(sender, recipients) }
}

/// So many reports that the sender gets, with their fields on one line each.
async fn reports(local: &mut Worker, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        for (lease, content) in local.grants().await {
            assert_eq!((lease.sender.to_string().as_str(), lease.purpose), ("", Purpose::Deliver));
            local.report(&lease, 0, Fate::Delivered).await;
            texts.push(String::from_utf8(content).expect("ASCII").replace("\r\n    ", " "));
        }
    }
    texts
}

/// So many leases, in the order of their next hops.
async fn leases(worker: &mut Worker, count: usize) -> Vec<mail_ipc::delivery::Lease> {
    let mut leases = Vec::new();
    while leases.len() < count {
        leases.extend(worker.grants().await.into_iter().map(|(lease, _)| lease));
    }
    leases.sort_by_key(|lease| lease.destination.nexthop.clone());
    leases
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_is_attempted_once_and_one_report_tells_of_all() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let recipients = ["a@far.test", "b@far.test", "c@far.test", "list@local.test", "x@discard.test", "y@error.test"];
    door.submit(1, asking(Purpose::Verify, "john@local.test", &recipients), b"Subject: probe\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    assert_eq!(lease.purpose, Purpose::Verify);
    remote.settle(&lease, 0, Fate::Relayed { dsn: true }).await;
    remote.settle(&lease, 1, Fate::Bounced).await;
    remote.settle(&lease, 2, Fate::Deferred { dead: false }).await;
    let (list, _) = local.grants().await.remove(0);
    let member =
        |text: &str| Member { address: text.parse().expect("good"), owner: None, chain: Vec::new(), part: None };
    let members = vec![member("john@local.test"), member("z@error.test")];
    local.settle(&list, list.recipients[0].number, Fate::Expanded { members }).await;
    let (john, _) = local.grants().await.remove(0);
    assert_eq!(john.purpose, Purpose::Verify);
    local.settle(&john, john.recipients[0].number, Fate::Delivered).await;
    let text = reports(&mut local, 1).await.remove(0);
    for part in [
        "Subject: Mail Delivery Status Report",
        "Final-Recipient: rfc822; a@far.test\r\nAction: deliverable\r\nStatus: 2.0.0\r\n",
        "Final-Recipient: rfc822; b@far.test\r\nAction: undeliverable\r\nStatus: 5.1.1\r\n",
        "Final-Recipient: rfc822; c@far.test\r\nAction: undeliverable\r\nStatus: 4.4.1\r\n",
        "Final-Recipient: rfc822; john@local.test\r\nOriginal-Recipient: rfc822;list@local.test\r\nAction: deliverable\r\n",
        "Final-Recipient: rfc822; z@error.test\r\nOriginal-Recipient: rfc822;list@local.test\r\nAction: undeliverable\r\n",
        "Final-Recipient: rfc822; x@discard.test\r\nAction: deliverable\r\n",
        "Final-Recipient: rfc822; y@error.test\r\nAction: undeliverable\r\nStatus: 5.1.1\r\n",
        "<john@local.test> (expanded from <list@local.test>): delivery via mx.test[127.0.0.1]:25: delivered\r\n",
        "Content-Description: Message Headers\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: probe\r\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_question_without_a_sender() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    for (serial, purpose, sender) in [(1, Purpose::Verify, ""), (2, Purpose::Probe, "double-bounce@local.test")] {
        door.submit(serial, asking(purpose, sender, &["a@far.test"]), b"\r\n").await;
        let (lease, _) = remote.grants().await.remove(0);
        remote.settle(&lease, 0, Fate::Deferred { dead: false }).await;
        manager.empty().await;
    }
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_destination_is_an_answer() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    // Postfix's default: a cohort of failures of the window's size.
    for serial in 1..=5 {
        door.submit(serial, envelope("john@local.test", &["a@far.test"]), b"\r\n").await;
    }
    for lease in leases(&mut remote, 5).await {
        remote.settle(&lease, 0, Fate::Deferred { dead: true }).await;
    }
    door.submit(9, asking(Purpose::Verify, "john@local.test", &["b@far.test"]), b"\r\n").await;
    let text = reports(&mut local, 1).await.remove(0);
    let reason = "delivery temporarily suspended: connect to mx.test: Connection refused";
    assert!(text.contains("Action: undeliverable\r\nStatus: 4.4.1") && text.contains(reason), "{text}");
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_message_is_delivered_and_its_first_attempt_reported() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let recipients = ["a@far.test", "b@far.test", "c@far.test"];
    door.submit(1, asking(Purpose::Trace, "john@local.test", &recipients), b"Subject: x\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Relayed { dsn: true }).await;
    remote.settle(&lease, 1, Fate::Bounced).await;
    remote.settle(&lease, 2, Fate::Deferred { dead: false }).await;
    let mut texts = reports(&mut local, 2).await;
    texts.sort_by_key(|text| text.contains("Undelivered Mail"));
    let [text, bounce] = &texts[..] else { panic!("{texts:?}") };
    for part in ["a@far.test\r\nAction: relayed", "b@far.test\r\nAction: failed", "c@far.test\r\nAction: delayed"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(bounce.contains("Undelivered Mail") && !bounce.contains("a@far.test"), "{bounce}");
    // The second attempt is nobody's business.
    manager.ask(mail_ipc::control::Request::Flush { what: mail_ipc::control::Selection::All }).await;
    let (again, _) = remote.grants().await.remove(0);
    assert_eq!(again.attempt, 2);
    remote.settle(&again, 2, Fate::Relayed { dsn: true }).await;
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_outlives_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    door.submit(1, asking(Purpose::Verify, "john@local.test", &["a@far.test", "b@slow.test"]), b"\r\n").await;
    let both = leases(&mut remote, 2).await;
    remote.settle(&both[0], both[0].recipients[0].number, Fate::Bounced).await;
    drop(remote);
    manager.stop().await;
    let manager = start(dir.path(), Settings::default());
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let (slow, _) = remote.grants().await.remove(0);
    assert_eq!((slow.purpose, slow.destination.nexthop.as_str()), (Purpose::Verify, "slow.test"));
    remote.settle(&slow, slow.recipients[0].number, Fate::Delivered).await;
    let text = reports(&mut local, 1).await.remove(0);
    assert!(
        text.contains("a@far.test\r\nAction: undeliverable") && text.contains("b@slow.test\r\nAction: deliverable")
    );
    manager.empty().await;
    manager.stop().await;
}

fn question(address: &str) -> Request {
    let address: mail_types::Address = address.parse().expect("address");
    Request::Verify { recipient: address.clone(), address }
}

async fn ask(door: &mut Door, address: &str) {
    door.line.writer.send(&mail_ipc::Frame::new(7, question(address)), &[], &[]).await.expect("sent");
}

async fn answer(door: &mut Door) -> Verified {
    match within(door.answer()).await {
        Response::Verified { answer } => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_sent_once_and_its_answer_remembered() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let (mut door, mut other) = (Door::open(&manager).await, Door::open(&manager).await);
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    for (address, fate) in [
        ("good@far.test", Fate::Relayed { dsn: true }),
        ("bad@far.test", Fate::Bounced),
        ("later@far.test", Fate::Deferred { dead: false }),
    ] {
        ask(&mut door, address).await;
        let (lease, content) = remote.grants().await.remove(0);
        // Who asks meanwhile waits for the same probe.
        ask(&mut other, &address.replace("far", "FAR")).await;
        assert_eq!((lease.purpose, lease.recipients[0].original.as_deref()), (Purpose::Probe, Some(address)));
        assert_eq!(content, format!("Subject: probe\r\nTo: {address}\r\n\r\n").as_bytes());
        within(async { while manager.listed().await.len() != 1 {} }).await;
        remote.settle(&lease, 0, fate.clone()).await;
        let first = answer(&mut door).await;
        let wanted = match fate {
            Fate::Relayed { .. } => Verified::Deliverable,
            Fate::Bounced => Verified::Undeliverable { text: "host mx.test said: 550 5.1.1 no such user".to_owned() },
            _ => Verified::Deferred { text: "connect to mx.test: Connection refused".to_owned() },
        };
        assert_eq!((&first, &answer(&mut other).await), (&wanted, &wanted));
        ask(&mut door, address).await;
        assert_eq!(answer(&mut door).await, wanted, "without another probe");
    }
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_good_and_one_alias_is_followed() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), Settings::default());
    let mut door = Door::open(&manager).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let member =
        |text: &str| Member { address: text.parse().expect("good"), owner: None, chain: Vec::new(), part: None };
    ask(&mut door, "all@local.test").await;
    let (lease, _) = local.grants().await.remove(0);
    let members = vec![member("a@error.test"), member("b@error.test")];
    local.settle(&lease, 0, Fate::Expanded { members }).await;
    assert_eq!(answer(&mut door).await, Verified::Deliverable);
    ask(&mut door, "root@local.test").await;
    let (lease, _) = local.grants().await.remove(0);
    local.settle(&lease, 0, Fate::Expanded { members: vec![member("a@error.test")] }).await;
    assert_eq!(answer(&mut door).await, Verified::Undeliverable { text: "nobody here".to_owned() });
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_address_stays_good_while_a_probe_fails_and_a_bad_one_may_be_forgotten() {
    let dir = tempfile::tempdir().expect("directory");
    let long = Duration::from_secs(3600);
    let verification =
        Verification { positive: (long, Duration::ZERO), negative_cache: false, ..Verification::default() };
    let manager = start(dir.path(), Settings { verification, ..Settings::default() });
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    ask(&mut door, "a@far.test").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Delivered).await;
    assert_eq!(answer(&mut door).await, Verified::Deliverable);
    // Answered at once, and probed again beside it.
    within(async {
        loop {
            ask(&mut door, "a@far.test").await;
            assert_eq!(answer(&mut door).await, Verified::Deliverable);
            if !manager.listed().await.is_empty() {
                return;
            }
        }
    })
    .await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Bounced).await;
    ask(&mut door, "a@far.test").await;
    assert_eq!(answer(&mut door).await, Verified::Deliverable);
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Delivered).await;
    // Nothing is kept of what is bad: each question is a probe.
    for _ in 0..2 {
        ask(&mut door, "bad@far.test").await;
        let (lease, _) = remote.grants().await.remove(0);
        remote.settle(&lease, 0, Fate::Bounced).await;
        assert!(matches!(answer(&mut door).await, Verified::Undeliverable { .. }));
    }
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_probes_and_no_more() {
    let dir = tempfile::tempdir().expect("directory");
    let verification = Verification { pending_limit: 1, ..Verification::default() };
    let manager = start(dir.path(), Settings { verification, ..Settings::default() });
    let mut door = Door::open(&manager).await;
    ask(&mut door, "a@far.test").await;
    ask(&mut door, "b@far.test").await;
    assert_eq!(answer(&mut door).await, Verified::Unknown);
    manager.stop().await;
}
