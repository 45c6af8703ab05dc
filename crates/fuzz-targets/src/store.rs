//! Files of the mailbox and of the queue: uidlist, keywords, file names, segments.

use std::io::{Seek as _, Write as _};

use mail_store::maildir::{Health, UidList, file_name, keywords_text, parse_keywords};
use mail_store::{Flags, KEYWORDS_MAX};
use queue_store::Record;
use queue_store::format::HEADER;
use queue_store::segment::{Found, Walk};

use crate::Target;

pub const UIDLIST: Target = Target {
    name: "uidlist",
    run: uidlist,
    tokens: &[
        "3 V1 N4\n",
        "1 123 7\n",
        "1 :a\n",
        "2 W9 :b,S=1\n",
        " P0001",
        " Gabc",
        "4294967295 :z\n",
        "0 :x\n",
        " ",
        ":",
        "\n",
        ":2,S",
    ],
    cost: 1,
};

pub const KEYWORDS: Target = Target {
    name: "keywords",
    run: keywords,
    tokens: &["0 $Forwarded\n", "25 z\n", "26 no\n", "1 ", " ", "\n"],
    cost: 1,
};

pub const FILE_NAME: Target = Target {
    name: "maildir_file_name",
    run: names,
    tokens: &["1.M2P3.host", ",S=10", ",W=12", ":2,", "FRSTD", "abz", ":1,", "/", ".", ",", "="],
    cost: 1,
};

pub const SEGMENT: Target = Target { name: "queue_segment", run: segment, tokens: &[], cost: 4 };

/// What was read is written and read again as the same; a list with damage keeps rising UIDs.
fn uidlist(input: &[u8]) {
    let (list, health) = UidList::parse(input);
    assert!(list.records.windows(2).all(|pair| pair[0].uid < pair[1].uid));
    assert!(list.records.last().is_none_or(|last| list.next() > last.uid));
    if list.uid_validity == 0 {
        assert_eq!(health, Health::Damaged);
        return;
    }
    let text = list.to_text();
    let (again, health) = UidList::parse(&text);
    assert_eq!(health, Health::Sound);
    assert_eq!((&again.records, again.next(), &again.header_fields), (&list.records, list.next(), &list.header_fields));
    assert_eq!(again.to_text(), text);
}

fn keywords(input: &[u8]) {
    let names = parse_keywords(input);
    assert!(names.len() <= KEYWORDS_MAX);
    assert_eq!(parse_keywords(keywords_text(&names).as_bytes()), names);
}

/// Flags that were put into a name are read from it, and the base name stays.
fn names(input: &[u8]) {
    let (flags, keywords) = file_name::flags(input);
    for (flags, keywords) in [(flags, keywords), (Flags::SEEN, 1), (Flags::NONE, 0)] {
        let named = file_name::with_flags(input, flags, keywords);
        assert_eq!(file_name::base(&named), file_name::base(input));
        assert_eq!(file_name::flags(&named), (flags, keywords));
    }
    let _ = (file_name::size(input, b'S'), file_name::stem(input), file_name::seen_by_a_reader(input));
    let text = String::from_utf8_lossy(input);
    let host = file_name::host(&text);
    assert!(!host.is_empty() && host.len() <= 64 && !host.contains(['/', ':', ',']), "{host:?}");
}

/// The walk passes over every octet once, and what it calls a record is one.
fn segment(input: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).expect("written");
    file.rewind().expect("rewound");
    let mut walk = Walk::new(&file, [0xa5; 16], None, true).expect("the size is known");
    let mut at = HEADER as u64;
    while let Some(found) = walk.step().expect("readable") {
        let (from, to) = match found {
            Found::Record { at, header, meta, .. } => {
                assert_eq!(meta.len(), header.meta as usize);
                if let Ok(record) = Record::decode(header.kind, &meta) {
                    let mut written = Vec::new();
                    record.encode(&mut written).expect("encodes");
                    assert_eq!(Record::decode(header.kind, &written).ok(), Some(record));
                }
                (at, at + header.total())
            }
            Found::Damaged { from, to } => (from, to),
        };
        assert!(from >= at && to > from && to <= input.len() as u64, "{at}: {from}..{to} of {}", input.len());
        at = to;
    }
}
