//! The start after something went wrong.

mod common;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::*;
use mail_types::UnixTime;
use queue_store::segment::{Found, Walk, read_header};
use queue_store::{Answer, Change, Class, Engine, Fate, Op, Options, Outcome, Record, Run, Store};

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("segments")).expect("segments").map(|entry| entry.expect("entry").path());
    // run.json lies beside them.
    let mut all: Vec<PathBuf> = entries.filter(|path| path.extension().is_none()).collect();
    all.sort();
    all
}

/// Where the records of a segment begin, with their types and sequence numbers.
fn records(path: &Path) -> Vec<(u64, Record, u64)> {
    let file = File::open(path).expect("open");
    let header = read_header(&file).expect("read").expect("a header");
    let mut walk = Walk::new(&file, header.tag, None, true).expect("walk");
    let mut out = Vec::new();
    while let Some(found) = walk.step().expect("readable") {
        if let Found::Record { at, header, meta, .. } = found {
            out.push((at, Record::decode(header.kind, &meta).expect("decoded"), header.sequence));
        }
    }
    out
}

/// A copy of a queue as a crash leaves it: the segments, nothing else.
fn copy(from: &Path, to: &Path) {
    for name in ["segments", "content"] {
        std::fs::create_dir_all(to.join(name)).expect("directory");
        for entry in std::fs::read_dir(from.join(name)).expect("list") {
            let entry = entry.expect("entry");
            std::fs::copy(entry.path(), to.join(name).join(entry.file_name())).expect("copy");
        }
    }
}

/// A directory whose syncs cost nothing, where the system has one: this is about what the log says, a thousand times.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("directory")
}

fn memory() -> Options {
    Options { engine: Engine::Memory, ..Options::default() }
}

fn failed(serial: u32, to: &str) -> Op {
    Op::Outcome(Outcome { report: true, ..record(serial, 0, to, Fate::Bounced) })
}

/// A short life with every kind of record; after each step, what the queue holds.
fn life(store: &Store) -> Vec<Vec<(u32, Vec<u32>)>> {
    let change = |serial| Change { id: id(serial), at: UnixTime(7) };
    let steps: Vec<Vec<Op>> = vec![
        vec![Op::Grant(10)],
        vec![accept(1, &["a@x.org", "b@x.org"], b"the first content")],
        vec![accept(2, &["c@x.org"], b"")],
        vec![outcome(1, 0, "a@x.org", Fate::Delivered)],
        vec![Op::Hold(change(2))],
        vec![failed(1, "b@x.org").into_second()],
        vec![accept(3, &["sender@example.org"], b"bounce"), reported(1, 1, "b@x.org")],
        vec![Op::Release(change(2))],
        vec![outcome(3, 0, "sender@example.org", Fate::Delivered)],
        vec![Op::Requeue(change(2))],
        vec![accept(4, &["d@x.org"], b"last")],
        vec![Op::Delete(change(2))],
    ];
    let mut after = vec![present(store)];
    for ops in steps {
        let answers = store.commit(ops).expect("committed");
        assert!(!answers.contains(&Answer::Unknown));
        after.push(present(store));
    }
    after
}

fn reported(serial: u32, recipient: u32, to: &str) -> Op {
    outcome(serial, recipient, to, Fate::Reported)
}

trait Second {
    fn into_second(self) -> Op;
}

impl Second for Op {
    /// The same about the second recipient.
    fn into_second(self) -> Op {
        match self {
            Op::Outcome(outcome) => {
                let recipients = outcome.recipients.iter().map(|(_, to)| (1, to.clone())).collect();
                Op::Outcome(Outcome { recipients, ..outcome })
            }
            other => other,
        }
    }
}

// R1
#[test]
fn a_log_that_ends_anywhere_is_a_queue_of_some_moment() {
    let dir = in_memory();
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    let moments = life(&store);
    drop(store);
    let newest = segments(dir.path()).pop().expect("one");
    let length = std::fs::metadata(&newest).expect("length").len();
    let mut reached = 0;
    // Seven is prime to every length here, so all kinds of places are cut.
    for cut in (64..length).step_by(7).chain([length]) {
        let crashed = in_memory();
        copy(dir.path(), crashed.path());
        let newest = segments(crashed.path()).pop().expect("one");
        OpenOptions::new().write(true).open(&newest).expect("open").set_len(cut).expect("cut");
        let (store, _) = Store::open(crashed.path(), memory()).expect("open");
        let now = present(&store);
        let moment = moments.iter().skip(reached).position(|moment| *moment == now);
        reached += moment.unwrap_or_else(|| panic!("cut at {cut}: {now:?} was never the state"));
        // The queue goes on: what comes now is there after the next start.
        if cut % 32 == 0 {
            done(&store, accept(50, &["z@x.org"], b"after the crash"));
            drop(store);
            let (store, _) = Store::open(crashed.path(), memory()).expect("open again");
            assert!(present(&store).contains(&(50, vec![0])));
        }
    }
    assert_eq!(reached, moments.len() - 1);
}

// S14
#[test]
fn a_group_of_which_the_second_half_is_missing_does_not_count() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    done(&store, accept(1, &["a@x.org"], b"one"));
    done(&store, failed(1, "a@x.org"));
    store.commit(vec![accept(2, &["sender@example.org"], b"bounce"), reported(1, 0, "a@x.org")]).expect("committed");
    drop(store);
    let newest = segments(dir.path()).pop().expect("one");
    let (last, _, _) = records(&newest).pop().expect("records");
    OpenOptions::new().write(true).open(&newest).expect("open").set_len(last + 10).expect("cut");
    let (store, recovery) = Store::open(dir.path(), memory()).expect("open");
    assert_eq!(present(&store), [(1, vec![0])]);
    assert_eq!(store.reports(None, 9).expect("reports"), [(id(1), 0)], "the bounce is made again");
    assert_eq!(recovery.incomplete, 1);
}

#[test]
fn damage_in_the_middle_is_named_and_the_rest_is_served() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    for serial in 1..=5 {
        done(&store, accept(serial, &["a@x.org"], format!("content {serial}").as_bytes()));
    }
    drop(store);
    let newest = segments(dir.path()).pop().expect("one");
    let all = records(&newest);
    let begins: BTreeMap<u32, u64> = all
        .iter()
        .filter_map(|(at, record, _)| match record {
            Record::Accepted(accepted) => Some((accepted.id.serial(), *at)),
            _ => None,
        })
        .collect();
    let file = OpenOptions::new().read(true).write(true).open(&newest).expect("open");
    // The header of one, the content of another.
    file.write_all_at(b"\xff\xff", begins[&2] + 30).expect("write");
    file.write_all_at(b"?", begins[&5] - 1).expect("write");
    let (store, recovery) = Store::open(dir.path(), memory()).expect("open");
    assert_eq!(present(&store).iter().map(|(serial, _)| *serial).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert_eq!(recovery.quarantined.len(), 2);
    let stretch = &recovery.quarantined[0];
    assert_eq!((stretch.from, stretch.to), (begins[&2], begins[&3]));
    assert_eq!(std::fs::metadata(&stretch.copy).expect("the copy").len(), stretch.to - stretch.from);
    assert_eq!(recovery.corrupt, [id(4)]);
    assert!(store.message(id(4)).expect("state").expect("here").corrupt);
    assert_eq!(
        store
            .next_hop(None)
            .expect("hop")
            .map(|hop| store.schedule(&hop, queue_store::Class::Incoming, None, 9).expect("due").len()),
        Some(3)
    );
}

// R4
#[test]
fn a_write_that_failed_is_void_although_its_records_are_intact() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    done(&store, accept(1, &["a@x.org"], b"one"));
    done(&store, accept(2, &["a@x.org"], b"two"));
    drop(store);
    let newest = segments(dir.path()).pop().expect("one");
    let (_, _, sequence) = records(&newest).pop().expect("records");
    // What a store writes after the sync of message 2 failed.
    let header = read_header(&File::open(&newest).expect("open")).expect("read").expect("header");
    let next =
        queue_store::format::SegmentHeader { number: header.number + 1, tag: [3; 16], first: sequence + 1, created: 1 };
    let mut octets = next.encode().to_vec();
    let void = Record::Void(queue_store::Void { from: sequence, to: sequence });
    queue_store::segment::encode_record(&mut octets, &next.tag, &void, b"", (sequence + 1, sequence + 1, 0))
        .expect("encode");
    std::fs::write(dir.path().join(format!("segments/{:010}", next.number)), octets).expect("write");
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    assert_eq!(present(&store), [(1, vec![0])]);
}

#[test]
fn a_segment_without_a_readable_header_is_set_aside_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    done(&store, accept(1, &["a@x.org"], b"one"));
    drop(store);
    let (store, _) = Store::open(dir.path(), memory()).expect("open");
    done(&store, accept(2, &["a@x.org"], b"two"));
    drop(store);
    let first = segments(dir.path()).remove(0);
    OpenOptions::new().write(true).open(&first).expect("open").write_all_at(b"?", 3).expect("write");
    let (store, recovery) = Store::open(dir.path(), memory()).expect("open");
    assert_eq!(present(&store), [(2, vec![0])]);
    assert!(recovery.quarantined[0].copy.exists() && !first.exists());
}

// R2
#[test]
fn sled_is_used_after_a_crash_of_this_boot_and_thrown_away_after_another() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = open(dir.path());
    for serial in 1..=20 {
        done(&store, accept(serial, &["a@x.org"], b"content"));
    }
    store.close().expect("close");
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.rebuilt, recovery.replayed), (None, 0), "a clean stop leaves nothing to replay");
    done(&store, accept(21, &["a@x.org"], b"content"));
    drop(store);
    let (store, recovery) = open(dir.path());
    assert_eq!(recovery.rebuilt, None);
    let all = present(&store);
    assert_eq!(all.len(), 21);
    drop(store);
    let before = Run::read(dir.path());
    Run { boot: "another".to_owned(), ..before }.write(dir.path()).expect("write");
    let (store, recovery) = open(dir.path());
    assert!(recovery.rebuilt.is_some() && recovery.replayed > 20);
    assert_eq!(present(&store), all);
}

/// Twenty messages in every state that there is.
fn every_state(store: &Store) {
    for serial in 1..=20 {
        done(store, accept(serial, &["a@x.org", "b@x.org"], b"content"));
    }
    let change = |serial| Change { id: id(serial), at: UnixTime(7) };
    done(store, outcome(1, 0, "a@x.org", Fate::Delivered));
    done(store, Op::Hold(change(2)));
    done(store, Op::Delete(change(3)));
    done(store, outcome(4, 1, "b@x.org", Fate::Deferred(UnixTime(99))));
    done(store, failed(5, "a@x.org"));
    done(store, outcome(6, 0, "a@x.org", Fate::Delivered));
    done(store, outcome(6, 1, "b@x.org", Fate::Bounced));
}

type Seen = (Vec<(u32, Vec<u32>)>, queue_store::Counts, Vec<(mail_types::QueueId, u32)>, Vec<bool>);

fn seen(store: &Store) -> Seen {
    let held = store.messages(None, 99).expect("list").iter().map(|(_, message)| message.hold).collect();
    (present(store), store.counts(), store.reports(None, 9).expect("reports"), held)
}

// R2, S14
#[test]
fn a_damaged_truncated_or_deleted_sled_is_rebuilt_and_nobody_notices() {
    let spoil: [(&str, Spoil); 4] = [
        ("overwritten", |dir| each_file(dir, |path, length| std::fs::write(path, vec![0x55; length as usize]))),
        ("truncated", |dir| {
            each_file(dir, |path, length| OpenOptions::new().write(true).open(path)?.set_len(length / 2))
        }),
        ("emptied", |dir| each_file(dir, |path, _| OpenOptions::new().write(true).open(path)?.set_len(0))),
        ("deleted", |dir| std::fs::remove_dir_all(dir).expect("removed")),
    ];
    for (how, spoil) in spoil {
        for clean in [true, false] {
            let dir = tempfile::tempdir().expect("directory");
            let (store, _) = open(dir.path());
            every_state(&store);
            let before = seen(&store);
            if clean {
                store.close().expect("close");
            } else {
                drop(store);
            }
            spoil(&dir.path().join("sled/index"));
            let (store, recovery) = open(dir.path());
            assert!(recovery.rebuilt.is_some(), "{how}");
            assert_eq!(seen(&store), before, "{how}, {}", if clean { "after a stop" } else { "after a kill" });
        }
    }
}

/// How the index is damaged.
type Spoil = fn(&Path);

fn each_file(dir: &Path, spoil: impl Fn(&Path, u64) -> std::io::Result<()>) {
    for entry in std::fs::read_dir(dir).expect("list") {
        let path = entry.expect("entry").path();
        if path.is_file() {
            spoil(&path, path.metadata().expect("length").len()).expect("spoilt");
        }
    }
}

#[test]
fn an_index_ahead_of_its_log_is_not_believed() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = open(dir.path());
    for serial in 1..=5 {
        done(&store, accept(serial, &["a@x.org"], b"content"));
    }
    store.close().expect("close");
    let newest = segments(dir.path()).pop().expect("one");
    let (at, _, _) = records(&newest).remove(3);
    OpenOptions::new().write(true).open(&newest).expect("open").set_len(at).expect("cut");
    let (store, recovery) = open(dir.path());
    assert!(recovery.rebuilt.is_some());
    assert_eq!(present(&store).len(), 2);
}

// R2, R7
#[test]
fn what_the_index_had_is_gone_for_ever_once_it_ended() {
    let dir = tempfile::tempdir().expect("directory");
    let hop = queue_store::Hop::default();
    let scheduled = |store: &Store| -> usize {
        [Class::Incoming, Class::Deferred]
            .map(|class| store.schedule(&hop, class, None, 100).expect("a schedule").len())
            .into_iter()
            .sum()
    };
    let (store, _) = open(dir.path());
    done(&store, accept(1, &["a@x.org", "b@x.org"], b"content"));
    store.close().expect("close");
    let (store, recovery) = open(dir.path());
    assert_eq!(recovery.rebuilt, None, "the index is the one of before");
    assert_eq!(scheduled(&store), 2);
    done(&store, outcome(1, 0, "a@x.org", Fate::Deferred(UnixTime(1_790_000_900_000))));
    done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
    done(&store, outcome(1, 1, "b@x.org", Fate::Warned));
    assert_eq!((present(&store), scheduled(&store)), (vec![(1, vec![1])], 1));
    store.close().expect("close");
    let (store, recovery) = open(dir.path());
    assert_eq!(recovery.rebuilt, None);
    assert_eq!((present(&store), scheduled(&store)), (vec![(1, vec![1])], 1), "nothing comes back");
    done(&store, outcome(1, 1, "b@x.org", Fate::Delivered));
    store.close().expect("close");
    let (store, _) = open(dir.path());
    assert_eq!((present(&store), scheduled(&store)), (Vec::new(), 0));
    store.close().expect("close");
}
