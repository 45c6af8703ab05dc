//! What a queue store does, on every engine.

mod common;

use std::time::Duration;

use common::*;
use mail_types::UnixTime;
use queue_store::{
    Answer, Body, Change, Class, Content, Engine, Expanded, Fate, Hop, Member, OWN_FILE_MIN, Op, OpenError, Options,
    Outcome, Store,
};

const ENGINES: [Engine; 2] = [Engine::Sled, Engine::Memory];

fn on_every_engine(test: impl Fn(&dyn Fn() -> Store)) {
    for engine in ENGINES {
        let dir = tempfile::tempdir().expect("directory");
        let options = Options { engine, ..Options::default() };
        test(&|| Store::open(dir.path(), options.clone()).expect("open").0);
    }
}

fn octets(store: &Store, serial: u32) -> Vec<u8> {
    match store.load(id(serial)).expect("load").body {
        Body::Octets(octets) => octets,
        Body::File(mut file, _) => {
            let mut octets = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut octets).expect("read");
            octets
        }
    }
}

#[test]
fn what_was_accepted_is_there_after_a_stop_and_a_start() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["a@x.org", "b@x.org"], b"one"));
        done(&store, accept(2, &["c@x.org"], b"two"));
        done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
        store.close().expect("close");
        let store = open();
        assert_eq!(present(&store), [(1, vec![1]), (2, vec![0])]);
        assert_eq!(octets(&store, 1), b"one");
        assert_eq!(store.load(id(2)).expect("load").envelope, envelope(&["c@x.org"], 3));
        assert_eq!(store.counts().messages, 2);
    });
}

#[test]
fn the_same_intake_gets_the_same_answer() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["a@x.org"], b"one"));
        assert_eq!(store.commit(vec![accept(1, &["a@x.org"], b"one")]), Ok(vec![Answer::Known]));
        done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
        assert_eq!(store.commit(vec![accept(1, &["a@x.org"], b"one")]), Ok(vec![Answer::Known]));
        assert!(present(&store).is_empty());
        store.close().expect("close");
        let store = open();
        assert_eq!(
            store.commit(vec![accept(1, &["a@x.org"], b"one")]),
            Ok(vec![Answer::Known]),
            "also after a restart"
        );
        assert!(present(&store).is_empty());
    });
}

#[test]
fn granted_numbers_are_never_granted_again() {
    on_every_engine(|open| {
        let mut next = 1;
        for _ in 0..3 {
            let store = open();
            for _ in 0..2 {
                assert_eq!(store.commit(vec![Op::Grant(100)]), Ok(vec![Answer::Granted { first: next, count: 100 }]));
                next += 100;
            }
        }
    });
}

#[test]
fn a_group_is_recorded_whole_or_not_at_all() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["a@x.org"], b"one"));
        let failed = Op::Outcome(Outcome { report: true, ..record(1, 0, "a@x.org", Fate::Bounced) });
        done(&store, failed);
        assert_eq!(store.reports(None, 10).expect("reports"), [(id(1), 0)]);
        assert_eq!(present(&store), [(1, vec![0])], "the recipient stays until the report is queued");
        let reported = || outcome(1, 0, "a@x.org", Fate::Reported);
        let answers = store.commit(vec![accept(2, &["sender@example.org"], b"bounce"), reported()]);
        assert_eq!(answers, Ok(vec![Answer::Done, Answer::Done]));
        assert_eq!(present(&store), [(2, vec![0])]);
        assert!(store.reports(None, 10).expect("reports").is_empty());
        let answers = store.commit(vec![accept(3, &["sender@example.org"], b"bounce"), reported()]);
        assert_eq!(answers, Ok(vec![Answer::Unknown]), "the message is gone, so no second bounce");
        assert_eq!(present(&store), [(2, vec![0])]);
    });
}

#[test]
fn hold_takes_out_of_the_schedule_and_release_puts_back() {
    on_every_engine(|open| {
        let store = open();
        let unrouted = Hop::default();
        let change = Change { id: id(1), at: UnixTime(5) };
        let scheduled = |class| store.schedule(&unrouted, class, None, 10).expect("schedule").len();
        done(&store, accept(1, &["a@x.org", "b@x.org"], b"one"));
        assert_eq!(scheduled(Class::Incoming), 2);
        done(&store, Op::Hold(change));
        assert_eq!((scheduled(Class::Incoming), store.next_hop(None).expect("hop"), store.counts().hold), (0, None, 1));
        done(&store, outcome(1, 0, "a@x.org", Fate::Deferred(UnixTime(1_790_000_900_000))));
        assert_eq!((scheduled(Class::Incoming), scheduled(Class::Deferred)), (0, 0), "an outcome does not release");
        done(&store, Op::Release(change));
        assert_eq!((scheduled(Class::Incoming), scheduled(Class::Deferred), store.counts().hold), (1, 1, 0));
        assert_eq!(store.counts().deferred, 1);
        done(&store, Op::Delete(change));
        assert_eq!((present(&store), store.next_hop(None).expect("hop")), (vec![], None));
        assert_eq!(store.commit(vec![Op::Release(change)]), Ok(vec![Answer::Unknown]));
    });
}

#[test]
fn an_outcome_that_is_repeated_counts_once() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["a@x.org", "b@x.org"], b"one"));
        done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
        done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
        assert_eq!(present(&store), [(1, vec![1])]);
    });
}

#[test]
fn members_take_the_place_of_a_list() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["list@x.org"], b"one"));
        let member = |text| Member {
            recipient: mail_types::Recipient::new(address(text)),
            owner: None,
            chain: vec![address("list@x.org")],
            part: None,
        };
        let members = vec![member("a@x.org"), member("b@y.org")];
        let expanded = Expanded {
            id: id(1),
            at: UnixTime(9),
            recipient: 0,
            address: address("list@x.org"),
            members,
            report: false,
        };
        let hop = Hop::new("smtp:y.org").expect("hop");
        done(&store, Op::Expand(expanded, vec![Hop::default(), hop.clone()]));
        assert_eq!(present(&store), [(1, vec![1, 2])]);
        assert_eq!(store.schedule(&hop, Class::Incoming, None, 9).expect("schedule")[0].recipient, 2);
        store.close().expect("close");
        let store = open();
        let (_, state) = store.recipients(id(1), 2, 1).expect("recipients").remove(0);
        assert_eq!(state.chain, [address("list@x.org")]);
        done(&store, outcome(1, 1, "a@x.org", Fate::Delivered));
        done(&store, outcome(1, 2, "b@y.org", Fate::Relayed));
        assert!(present(&store).is_empty());
    });
}

#[test]
fn every_destination_of_the_schedule_is_found() {
    on_every_engine(|open| {
        let store = open();
        done(&store, accept(1, &["a@x.org", "b@y.org", "c@z.org"], b"one"));
        for (number, name) in [(0, "smtp:x"), (1, "smtp:x.org"), (2, "local:z")] {
            let hop = Some(Hop::new(name).expect("hop"));
            assert!(store.reschedule(id(1), number, hop, Some(UnixTime(7))).expect("reschedule"));
        }
        let mut found = Vec::new();
        let mut after = None;
        while let Some(hop) = store.next_hop(after.as_ref()).expect("next") {
            found.push(hop.as_str().to_owned());
            after = Some(hop);
        }
        assert_eq!(found, ["local:z", "smtp:x", "smtp:x.org"]);
    });
}

#[test]
fn long_content_keeps_its_own_file_and_short_content_does_not() {
    on_every_engine(|open| {
        let store = open();
        let long = vec![b'l'; OWN_FILE_MIN as usize];
        for (serial, content) in [(1, &long), (2, &b"short".to_vec())] {
            let mut file = store.create_content(id(serial)).expect("create");
            std::io::Write::write_all(&mut file, content).expect("write");
            let taken = store.complete_content(id(serial)).expect("complete");
            let Op::Accept { accepted, .. } = accept(serial, &["a@x.org"], content) else { unreachable!() };
            let own = matches!(taken, Content::File(_));
            assert_eq!(own, serial == 1);
            done(&store, Op::Accept { accepted, content: taken, hops: Vec::new() });
        }
        drop(store.create_content(id(3)).expect("create"));
        store.close().expect("close");
        let store = open();
        assert_eq!(octets(&store, 1), long);
        assert_eq!(octets(&store, 2), b"short");
        assert!(store.complete_content(id(3)).is_err(), "a file that no record names goes at the start");
        done(&store, outcome(1, 0, "a@x.org", Fate::Delivered));
        // The answer comes before the file goes; the next commit comes after it.
        done(&store, accept(4, &["a@x.org"], b""));
        assert!(store.complete_content(id(1)).is_err());
    });
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let (_store, _) = open(dir.path());
    assert!(matches!(Store::open(dir.path(), options()), Err(OpenError::Locked)));
}

#[test]
fn cleaning_moves_what_lives_and_writes_the_ledger() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().expect("directory");
        let small = Options {
            engine,
            segment_size: 4096,
            slack: 0,
            keep: Duration::ZERO,
            clean_every: Duration::from_millis(20),
            ..Options::default()
        };
        let (store, _) = Store::open(dir.path(), small.clone()).expect("open");
        let content = vec![b'c'; 1000];
        for serial in 1..=200 {
            done(&store, accept(serial, &["a@x.org", "b@x.org"], &content));
            done(&store, outcome(serial, 0, "a@x.org", Fate::Delivered));
            if serial % 50 != 0 {
                done(&store, outcome(serial, 1, "b@x.org", Fate::Bounced));
            }
        }
        let octets_on_disk = || -> u64 {
            let entries = std::fs::read_dir(dir.path().join("segments")).expect("segments");
            entries.map(|entry| entry.and_then(|e| e.metadata()).map_or(0, |m| m.len())).sum()
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        // The newest segment holds disk space ahead.
        while octets_on_disk() > 4 * 1024 * 1024 + 40_000 {
            assert!(std::time::Instant::now() < deadline, "{} octets", octets_on_disk());
            tick(&store);
        }
        let left: Vec<(u32, Vec<u32>)> = [50, 100, 150, 200].into_iter().map(|serial| (serial, vec![1])).collect();
        assert_eq!(present(&store), left);
        assert_eq!(octets(&store, 50), content);
        drop(store);
        std::fs::remove_dir_all(dir.path().join("sled")).ok();
        let (store, _) = Store::open(dir.path(), small).expect("open again");
        assert_eq!(present(&store), left, "the segments alone say the same");
        assert_eq!(octets(&store, 50), content);
        let days: Vec<_> = std::fs::read_dir(dir.path().join("ledger")).expect("ledger").collect();
        let text: String =
            days.into_iter().map(|day| std::fs::read_to_string(day.expect("day").path()).expect("text")).collect();
        assert!(text.lines().filter(|line| line.contains("\"to\":\"a@x.org\"")).count() > 100, "{text}");
    }
}

/// A change that leaves everything as it is, so that the store has something to do.
fn tick(store: &Store) {
    let (id, _) = store.messages(None, 1).expect("list").remove(0);
    done(store, Op::Release(Change { id, at: UnixTime(1) }));
}
