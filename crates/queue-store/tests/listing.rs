//! What a list of the queue reads.

mod common;

use common::*;
use queue_store::Fate;

/// Messages with one recipient, with more than are read at once, and with a few beside those that are done.
#[test]
fn recipients_of_many_messages_are_those_of_each() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, _) = open(dir.path());
    let many: Vec<String> = (0..1300).map(|number| format!("u{number}@example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let sizes = [1, 600, 1300, 3, 511, 512, 1, 2, 3, 1];
    for (serial, size) in (1..).zip(sizes) {
        done(&store, accept(serial, &many[..size], b"x"));
    }
    done(&store, outcome(4, 1, "u1@example.org", Fate::Delivered));
    let ids: Vec<_> = (1..).zip(sizes).map(|(serial, _)| id(serial)).collect();
    for limit in [1, 2, 700, usize::MAX] {
        let each = ids.iter().map(|id| store.recipients(*id, 0, limit).expect("recipients"));
        let each: Vec<Vec<_>> = each.map(|all| all.into_iter().map(|(_, state)| state).collect()).collect();
        assert_eq!(store.recipients_of(&ids, limit).expect("recipients"), each, "at most {limit}");
        assert_eq!(store.recipients_of(&ids[2..5], limit).expect("recipients"), each[2..5], "at most {limit}");
        // Others between them, as one that is accepted while the list is made.
        let (some, of_them) = ([ids[0], ids[3], ids[6], ids[9]], [0, 3, 6, 9].map(|at| each[at].clone()));
        assert_eq!(store.recipients_of(&some, limit).expect("recipients"), of_them, "at most {limit}");
    }
    assert!(store.recipients_of(&[], 10).expect("recipients").is_empty());
    assert_eq!(store.recipients_of(&[id(99)], 10).expect("recipients"), [[]]);
}
