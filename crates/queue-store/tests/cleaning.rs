//! Cleaning goes on whatever the disk or a kill does to it.

mod common;

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use mail_types::UnixTime;
use queue_store::{Body, Change, Fate, LoadError, Op, Options, Store};

/// Segments so small that a few messages fill one, cleaned as soon as there is something to gain.
fn small(clean_every: Duration) -> Options {
    Options { segment_size: 8192, slack: 0, keep: Duration::ZERO, clean_every, ..Options::default() }
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("segments")).expect("segments").map(|entry| entry.expect("entry").path());
    let mut all: Vec<_> = entries.filter(|path| path.extension().is_none()).collect();
    all.sort();
    all
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

// R2, S14
#[test]
fn damaged_messages_in_the_oldest_segment_stay_in_the_queue_and_stop_no_cleaning() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path(), small(Duration::from_secs(3600))).expect("open").0;
    let content = vec![b'c'; 1500];
    for serial in 1..=4 {
        done(&store, accept(serial, &["a@x.org"], &content));
    }
    store.close().expect("close");
    let store = Store::open(dir.path(), small(Duration::from_millis(20))).expect("open").0;
    let oldest = segments(dir.path()).remove(0);
    // While the queue is open, the disk loses: a whole header, one octet of metadata, one octet of content.
    let file = OpenOptions::new().write(true).open(&oldest).expect("open");
    let at = |serial| store.message(id(serial)).expect("state").expect("here").location;
    file.write_all_at(&[0; 64], at(1).offset).expect("write");
    file.write_all_at(b"\xff", at(2).offset + 64 + 40).expect("write");
    file.write_all_at(b"?", at(3).offset + 64 + u64::from(at(3).meta) + 100).expect("write");
    for serial in 10..=60 {
        done(&store, accept(serial, &["b@x.org"], &content));
        done(&store, outcome(serial, 0, "b@x.org", Fate::Delivered));
    }
    until("the oldest segment to go", || {
        done(&store, Op::Release(Change { id: id(4), at: UnixTime(1) }));
        !oldest.exists()
    });
    let all = [(1, vec![0]), (2, vec![0]), (3, vec![0]), (4, vec![0])];
    assert_eq!(present(&store), all);
    let corrupt = |store: &Store| -> Vec<bool> {
        (1..=4).map(|serial| store.message(id(serial)).expect("state").expect("here").corrupt).collect()
    };
    assert_eq!(corrupt(&store), [true, true, true, false]);
    let mut damaged = content.clone();
    damaged[100] = b'?';
    assert!(
        matches!(store.body(id(3)), Ok(Body::Octets(octets)) if octets == damaged),
        "an operator sees what is left"
    );
    assert_eq!(store.load(id(1)).expect("an envelope").envelope.sender, envelope(&[], 0).sender);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let store = Store::open(dir.path(), small(Duration::from_secs(3600))).expect("open").0;
    assert_eq!(present(&store), all);
    assert_eq!(corrupt(&store), [true, true, true, false], "the log says the same");
}

#[test]
fn a_damaged_content_is_never_given_out_before_it_is_marked() {
    let dir = tempfile::tempdir().expect("directory");
    let store = open(dir.path()).0;
    done(&store, accept(1, &["a@x.org"], b"the content"));
    let location = store.message(id(1)).expect("state").expect("here").location;
    let file = OpenOptions::new().write(true).open(segments(dir.path()).remove(0)).expect("open");
    file.write_all_at(b"?", location.offset + 64 + u64::from(location.meta)).expect("write");
    assert!(matches!(store.body(id(1)), Err(LoadError::Damaged)));
}

const PLACE: &str = "QUEUE_STORE_CLEANING";
const FIRST: &str = "QUEUE_STORE_FIRST";

/// Not a test of its own: the process that is killed. Says which message it has begun and ended with.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let store = Store::open(Path::new(&place), small(Duration::from_millis(1))).expect("open").0;
    let begin: u32 = std::env::var(FIRST).expect("a number").parse().expect("a number");
    for serial in begin.. {
        done(&store, accept(serial, &["a@x.org"], &[b'c'; 1000]));
        println!("\naccepted {serial}");
        // One of twenty stays, so that there is always something to move.
        if serial % 20 != 0 {
            done(&store, outcome(serial, 0, "a@x.org", Fate::Delivered));
            println!("\nended {serial}");
        }
    }
}

// R1, R2, R6
#[test]
fn a_kill_at_any_point_of_the_cleaning_loses_and_resurrects_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let (place, points) = (dir.path().join("queue"), dir.path().join("points"));
    std::fs::create_dir(&points).expect("directory");
    let (mut accepted, mut ended) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for (round, point) in ["messages-moved", "ledger-written", "segment-created", "index-applied", "queue-written"]
        .iter()
        .cycle()
        .take(15)
        .enumerate()
    {
        std::fs::write(points.join(point), (round % 4).to_string()).expect("armed");
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .envs([(PLACE, place.as_os_str()), ("POSTRIDER_POINTS_DIRECTORY", points.as_os_str())])
            // Numbers of its own: one may have been taken without a word.
            .env(FIRST, (round * 100_000 + 1).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child runs");
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            match line.split_once(' ').map(|(word, number)| (word, number.parse::<u32>())) {
                Some(("accepted", Ok(number))) => drop(accepted.insert(number)),
                Some(("ended", Ok(number))) => drop(ended.insert(number)),
                _ => {}
            }
        }
        let death = child.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&death.stderr).into_owned();
        assert!(!points.join(point).exists(), "nobody died at {point}: {}: {said}", death.status);
        let store = Store::open(&place, small(Duration::from_secs(3600))).expect("open").0;
        let present: std::collections::BTreeSet<u32> = present(&store).into_iter().map(|(serial, _)| serial).collect();
        let lost: Vec<_> = accepted.iter().filter(|n| *n % 20 == 0 && !present.contains(n)).collect();
        let resurrected: Vec<_> = ended.intersection(&present).collect();
        assert!(lost.is_empty() && resurrected.is_empty(), "{point}: lost {lost:?}, back again {resurrected:?}");
    }
}

// R5
#[test]
fn where_space_is_short_a_segment_that_is_mostly_dead_is_ended_so_that_it_can_go() {
    let dir = tempfile::tempdir().expect("directory");
    let content = vec![b'c'; 60_000];
    let plain = Options { clean_every: Duration::from_secs(3600), ..Options::default() };
    let store = Store::open(dir.path(), plain.clone()).expect("open").0;
    for serial in 1..=31 {
        done(&store, accept(serial, &["a@x.org"], &content));
    }
    store.close().expect("close");
    let wanting = Options { min_free: u64::MAX / 2, ..plain };
    let store = Store::open(dir.path(), wanting).expect("open").0;
    store.commit(vec![accept(99, &["a@x.org"], &content)]).expect_err("there is no such disk");
    let newest = || segments(dir.path()).pop();
    let begun = newest();
    for serial in 1..=14 {
        done(&store, outcome(serial, 0, "a@x.org", Fate::Delivered));
    }
    assert_eq!(newest(), begun, "most of it lives");
    for serial in 15..=30 {
        done(&store, outcome(serial, 0, "a@x.org", Fate::Delivered));
    }
    until("another segment", || {
        done(&store, Op::Release(Change { id: id(31), at: UnixTime(1) }));
        newest() != begun
    });
    store.close().expect("close");
}
