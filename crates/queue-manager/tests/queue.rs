//! Stories of the queue, told to the core and its sockets in this process.

mod common;

use std::time::Duration;

use common::*;
use mail_ipc::control::{QueueName, Request, Response, Selection};
use mail_ipc::delivery::{Fate, FromWorker, Held, Member, TransportKind};
use mail_ipc::intake;
use mail_types::Notify;
use queue_manager::backoff::Times;
use queue_manager::settings::Settings;

const LOCAL: [TransportKind; 1] = [TransportKind::Local];
const SMTP: [TransportKind; 1] = [TransportKind::Smtp];

fn settings() -> Settings {
    Settings::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_through() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    door.submit(1, envelope("a@example.org", &["john@local.test"]), b"Subject: x\r\n\r\nhello\r\n").await;
    let mut worker = manager.worker("local-delivery", &LOCAL, 10).await;
    let (lease, content) = worker.grants().await.remove(0);
    assert_eq!((lease.id, lease.attempt, lease.unreported), (id(1), 1, false));
    assert_eq!(lease.recipients[0].address.to_string(), "john@local.test");
    assert_eq!(content, b"Subject: x\r\n\r\nhello\r\n");
    assert_eq!(manager.listed().await[0].queue, QueueName::Active);
    worker.settle(&lease, 0, Fate::Delivered).await;
    manager.empty().await;
    // The same intake again, after the answer was lost.
    door.submit(1, envelope("a@example.org", &["john@local.test"]), b"Subject: x\r\n\r\nhello\r\n").await;
    assert!(manager.listed().await.is_empty());
    manager.stop().await;
}

// S13, S14, D03c
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_comes_back_to_the_sender_and_its_bounce_to_nobody() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    door.submit(1, envelope("john@local.test", &["x@far.test", "y@far.test"]), b"Subject: hi\r\n\r\nbody\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    assert_eq!(lease.recipients.len(), 2, "one lease for one destination");
    remote.settle(&lease, 0, Fate::Bounced).await;
    remote.settle(&lease, 1, Fate::Bounced).await;
    let (bounce, content) = local.grants().await.remove(0);
    let text = String::from_utf8(content).expect("ASCII");
    assert_eq!(bounce.sender.to_string(), "");
    for part in
        ["Final-Recipient: rfc822; x@far.test", "Final-Recipient: rfc822; y@far.test", "Status: 5.1.1", "Subject: hi"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    local.settle(&bounce, 0, Fate::Bounced).await;
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_never_is_silent_and_notify_success_is_not() {
    // D01c
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    door.submit(1, notify(envelope("john@local.test", &["x@far.test"]), Notify::NEVER), b"\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Bounced).await;
    manager.empty().await;
    let success = Notify { success: true, ..Notify::NEVER };
    door.submit(2, notify(envelope("john@local.test", &["x@far.test"]), success), b"Subject: s\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Relayed { dsn: false }).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let (report, content) = local.grants().await.remove(0);
    let text = String::from_utf8(content).expect("ASCII");
    assert!(text.contains("Action: relayed") && text.contains("Content-Type: text/rfc822-headers"), "{text}");
    local.settle(&report, 0, Fate::Delivered).await;
    manager.empty().await;
    manager.stop().await;
}

// R7
#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_its_own_fate() {
    // One copy, one bounce, one retry.
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    door.submit(1, envelope("john@local.test", &["a@far.test", "b@far.test", "c@far.test"]), b"\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Relayed { dsn: true }).await;
    remote.settle(&lease, 1, Fate::Bounced).await;
    remote.settle(&lease, 2, Fate::Deferred { dead: false }).await;
    let listed = within(async {
        loop {
            let listed = manager.listed().await;
            if listed.len() == 2 {
                return listed;
            }
        }
    })
    .await;
    let left: Vec<String> = listed.iter().flat_map(|m| m.recipients.iter().map(|r| r.address.to_string())).collect();
    assert_eq!(left, ["c@far.test", "john@local.test"]);
    assert_eq!(listed[0].queue, QueueName::Deferred);
    assert_eq!(listed[0].recipients[0].reason.as_deref(), Some("connect to mx.test: Connection refused"));
    // postqueue -f
    assert_eq!(
        manager.ask(Request::Flush { what: Selection::All }).await,
        Response::Done { count: 1, unknown: vec![] }
    );
    let (again, _) = remote.grants().await.remove(0);
    assert_eq!((again.attempt, again.recipients[0].number, again.unreported), (2, 2, false));
    manager.stop().await;
}

// S14, S22
#[tokio::test(flavor = "multi_thread")]
async fn an_old_message_is_given_up_after_its_attempt() {
    let dir = tempfile::tempdir().expect("directory");
    let times = Times { lifetime: Duration::ZERO, ..Times::default() };
    let manager = start(dir.path(), Settings { times, ..settings() });
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    door.submit(1, envelope("john@local.test", &["a@far.test"]), b"Subject: old\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Deferred { dead: true }).await;
    let (_, content) = local.grants().await.remove(0);
    let text = String::from_utf8(content).expect("ASCII");
    assert!(text.contains("Action: failed\r\nStatus: 5.4.1\r\n") && text.contains("Connection refused"), "{text}");
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_told_once() {
    let dir = tempfile::tempdir().expect("directory");
    let times = Times { warn_after: Duration::from_millis(1), ..Times::default() };
    let manager = start(dir.path(), Settings { times, ..settings() });
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let mut old = envelope("john@local.test", &["a@far.test"]);
    old.arrival = mail_types::UnixTime(old.arrival.0 - 1000);
    door.submit(1, old, b"Subject: slow\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Deferred { dead: false }).await;
    let (warning, content) = local.grants().await.remove(0);
    assert!(String::from_utf8(content).expect("ASCII").contains("Action: delayed"));
    local.settle(&warning, 0, Fate::Delivered).await;
    manager.ask(Request::Flush { what: Selection::All }).await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Deferred { dead: false }).await;
    // The first warning is gone, and no second one came: the message alone is left.
    within(async { while manager.listed().await.len() != 1 {} }).await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_becomes_its_members() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    door.submit(1, envelope("a@example.org", &["sales@local.test"]), b"\r\n").await;
    let (lease, _) = local.grants().await.remove(0);
    let chain = vec!["sales@local.test".parse().expect("address")];
    let member =
        |text: &str| Member { address: text.parse().expect("address"), owner: None, chain: chain.clone(), part: None };
    let members = vec![member("mike@local.test"), member("charles@far.test")];
    local.settle(&lease, 0, Fate::Expanded { members }).await;
    let (mike, _) = local.grants().await.remove(0);
    let (charles, _) = remote.grants().await.remove(0);
    assert_eq!((mike.id, charles.id), (id(1), id(1)));
    assert_eq!(mike.recipients[0].original.as_deref(), Some("sales@local.test"));
    assert_eq!(mike.recipients[0].chain, chain);
    local.settle(&mike, mike.recipients[0].number, Fate::Delivered).await;
    remote.settle(&charles, charles.recipients[0].number, Fate::Relayed { dsn: false }).await;
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_worker_is_carried_out_here() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    door.submit(1, envelope("", &["x@discard.test", "y@error.test"]), b"\r\n").await;
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_hold_release_and_delete() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    for serial in 1..=3 {
        door.submit(serial, envelope("a@example.org", &["john@local.test"]), b"\r\n").await;
    }
    let done = |count| Response::Done { count, unknown: vec![] };
    assert_eq!(manager.ask(Request::Hold { what: Selection::All }).await, done(3));
    assert!(manager.listed().await.iter().all(|message| message.queue == QueueName::Hold));
    let ids = Selection::Ids(vec![id(2), id(9)]);
    assert_eq!(manager.ask(Request::Delete { what: ids }).await, Response::Done { count: 1, unknown: vec![id(9)] });
    assert_eq!(manager.ask(Request::Release { what: Selection::Ids(vec![id(3)]) }).await, done(1));
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let (lease, _) = local.grants().await.remove(0);
    assert_eq!(lease.id, id(3));
    // Leased: the delete waits for the outcome.
    assert_eq!(manager.ask(Request::Delete { what: Selection::Ids(vec![id(3)]) }).await, done(1));
    assert_eq!(manager.listed().await.len(), 2);
    local.settle(&lease, 0, Fate::Deferred { dead: false }).await;
    within(async { while manager.listed().await.len() != 1 {} }).await;
    match manager.ask(Request::Status).await {
        Response::Status { hold, incoming, active, deferred, .. } => {
            assert_eq!((hold, incoming, active, deferred), (1, 0, 0, 0))
        }
        other => panic!("{other:?}"),
    }
    manager.stop().await;
}

// S14
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_comes_back_when_its_worker_starts_anew() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    door.submit(1, envelope("a@example.org", &["john@local.test"]), b"\r\n").await;
    let mut first = manager.worker("local-delivery", &LOCAL, 10).await;
    let (lease, _) = first.grants().await.remove(0);
    drop(first);
    let mut second = manager.worker("local-delivery", &LOCAL, 10).await;
    let (again, _) = second.grants().await.remove(0);
    assert_eq!((again.id, again.attempt, again.unreported), (lease.id, 2, true));
    second.settle(&again, 0, Fate::Delivered).await;
    manager.empty().await;
    manager.stop().await;
}

// R6, R7
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_its_lease_while_queue_manager_restarts() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    for serial in 1..=2 {
        door.submit(serial, envelope("a@example.org", &["john@local.test"]), b"\r\n").await;
    }
    let mut worker = manager.worker("local-delivery", &LOCAL, 1).await;
    let (lease, _) = worker.grants().await.remove(0);
    manager.stop().await;
    let manager = start(dir.path(), settings());
    let line = manager
        .connect(queue_manager::serve::Kind::Delivery, mail_ipc::hello::Role::LocalDelivery, "local-delivery")
        .await;
    let mut worker = Worker { line };
    let held = Held { id: lease.id, attempt: lease.attempt, recipients: vec![0] };
    worker.say(FromWorker::Resume { leases: vec![held], outcomes: vec![] }).await;
    worker.say(FromWorker::Ready { kinds: LOCAL.to_vec(), slots: 5, open: vec![] }).await;
    let (other, _) = worker.grants().await.remove(0);
    assert_ne!(other.id, lease.id, "it is being attempted");
    assert!(other.unreported, "nobody knows of what was granted before the restart");
    worker.settle(&lease, 0, Fate::Delivered).await;
    worker.settle(&other, 0, Fate::Delivered).await;
    // An outcome that is repeated is answered again.
    worker.settle(&lease, 0, Fate::Delivered).await;
    manager.empty().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_content_travels_in_files() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut worker = manager.worker("local-delivery", &LOCAL, 10).await;
    for (serial, length) in [(1, 100_000), (2, 3_000_000)] {
        let content = vec![b'x'; length];
        door.line
            .writer
            .send(&mail_ipc::Frame::new(1, intake::Request::OpenContent { id: id(serial) }), &[], &[])
            .await
            .expect("sent");
        let received = door.line.reader.frame().await.expect("sound").expect("an answer");
        let file = std::fs::File::from(received.descriptors.into_iter().next().expect("a descriptor"));
        std::os::unix::fs::FileExt::write_all_at(&file, &content, 0).expect("write");
        drop(file);
        let request = intake::Request::Submit {
            id: id(serial),
            envelope: Box::new(envelope("a@example.org", &["john@local.test"])),
            more_recipients: false,
            content: intake::Content::File,
            hold: false,
        };
        assert_eq!(door.ask(request, b"").await, intake::Response::Accepted { id: id(serial) });
        let (lease, received) = worker.grants().await.remove(0);
        assert_eq!((lease.size, received.len()), (length as u64, length));
        worker.settle(&lease, 0, Fate::Delivered).await;
    }
    manager.empty().await;
    // The answer comes before the file goes.
    within(async { while std::fs::read_dir(dir.path().join("content")).expect("content").count() > 0 {} }).await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_message_goes_back_with_its_reason_and_one_on_hold_only_by_force() {
    let dir = tempfile::tempdir().expect("directory");
    let manager = start(dir.path(), settings());
    let mut door = Door::open(&manager).await;
    let mut remote = manager.worker("remote-delivery", &SMTP, 10).await;
    let mut local = manager.worker("local-delivery", &LOCAL, 10).await;
    let done = |count| Response::Done { count, unknown: vec![] };
    let one = |held| Request::Expire { what: Selection::Ids(vec![id(1)]), held };
    door.submit(1, envelope("john@local.test", &["a@far.test"]), b"Subject: one\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    remote.settle(&lease, 0, Fate::Deferred { dead: false }).await;
    assert_eq!(manager.ask(Request::Hold { what: Selection::All }).await, done(1));
    assert_eq!(manager.ask(one(false)).await, done(0), "-e leaves what is on hold");
    assert_eq!(manager.ask(one(true)).await, done(1));
    let (bounce, content) = local.grants().await.remove(0);
    let text = String::from_utf8(content).expect("ASCII");
    assert!(text.contains("Action: failed") && text.contains("Connection refused"), "{text}");
    local.settle(&bounce, 0, Fate::Delivered).await;
    // Under way: the outcome comes first, and what it leaves is expired.
    door.submit(2, envelope("john@local.test", &["a@far.test", "b@far.test"]), b"Subject: two\r\n\r\n").await;
    let (lease, _) = remote.grants().await.remove(0);
    assert_eq!(manager.ask(Request::Expire { what: Selection::All, held: false }).await, done(1));
    remote.settle(&lease, 0, Fate::Relayed { dsn: true }).await;
    remote.settle(&lease, 1, Fate::Deferred { dead: false }).await;
    let (bounce, content) = local.grants().await.remove(0);
    let text = String::from_utf8(content).expect("ASCII");
    assert!(text.contains("b@far.test") && !text.contains("rfc822; a@far.test"), "{text}");
    local.settle(&bounce, 0, Fate::Delivered).await;
    manager.empty().await;
    manager.stop().await;
}
