//! Files of the mailbox and of the queue: uidlist, keywords, subscriptions, index and cache, file names, segments, keys of the index.

use std::io::{BufReader, Cursor, Seek as _, Write as _};

use mail_store::maildir::{
    Health, UidList, cache_places, changed_subscriptions, file_name, keywords_text, parse_keywords,
    parse_subscriptions, reread_index,
};
use mail_store::{Flags, KEYWORDS_MAX, Location, MailboxName};
use queue_store::format::HEADER;
use queue_store::segment::{Found, Walk};
use queue_store::{Record, keys};

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

pub const SUBSCRIPTIONS: Target = Target {
    name: "subscriptions",
    run: subscriptions,
    tokens: &[
        "V\t2\n\n", "INBOX\n", "a\tb\n", "\x01t", "\x01n", "\x010", "\x011", "\x01", "\t", "../x\n", "&-", ".", "~",
        "\n",
    ],
    cost: 1,
};

pub const INDEX: Target = Target {
    name: "mailbox_index",
    run: index,
    tokens: &["PRINDEX1", "\x01\0\0\0", "\x02\0\0\0", "\0\0\0\0", "\x01", "\x03", "1.M2P3.host,S=10:2,S", "P0001"],
    cost: 1,
};

pub const CACHE: Target = Target {
    name: "mailbox_cache",
    run: cache,
    tokens: &["PRCACHE1", "\x07\0\0\0", "\x01\0\0\0", "\0\0\x10\0", "\u{ff}", "(NIL)"],
    cost: 1,
};

pub const LOCATION: Target = Target {
    name: "mail_location",
    run: location,
    tokens: &[
        "maildir:",
        "~/Maildir",
        "/var/vmail",
        ":INBOX=",
        ":INDEX=",
        ":CONTROL=",
        "MEMORY",
        ":LAYOUT=Maildir++",
        "..",
        "~",
        "/",
        ":",
    ],
    cost: 1,
};

pub const KEYS: Target = Target {
    name: "queue_keys",
    run: queue_keys,
    tokens: &["t", "m", "r", "p", "s", "e", "smtp example.org", "\0\0", "\0\x01", "\0\0\0\0\0\0\0\x01"],
    cost: 1,
};

/// A name that is subscribed to is there, one that is not is not, and the others stay.
fn subscriptions(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let before = parse_subscriptions(&text);
    let others = |names: &[MailboxName], but: &MailboxName| -> Vec<MailboxName> {
        names.iter().filter(|name| *name != but).cloned().collect()
    };
    let fresh = MailboxName::from_stored("a.new one").expect("a name");
    for name in before.iter().take(3).chain([&fresh]) {
        for subscribed in [true, false] {
            let Some(after) = changed_subscriptions(&text, name, subscribed) else {
                assert_eq!(before.contains(name), subscribed);
                continue;
            };
            let names = parse_subscriptions(&after);
            assert_eq!(names.contains(name), subscribed, "{after:?}");
            assert_eq!(others(&names, name), others(&before, name), "{after:?}");
            assert_eq!(changed_subscriptions(&after, name, subscribed), None, "{after:?}");
        }
    }
}

/// UIDs rise, and what was read is written and read again as the same. The checksums are not for the fuzzer to find.
fn index(input: &[u8]) {
    let mut sound = input.get(..8).unwrap_or_default().to_vec();
    for entry in input.get(8..).unwrap_or_default().split(|&octet| octet == b'|') {
        sound.extend(u32::try_from(entry.len()).unwrap_or(0).to_le_bytes());
        sound.extend(crc32c::crc32c(entry).to_le_bytes());
        sound.extend(entry);
    }
    for text in [input, &sound] {
        let Some([first, second]) = reread_index(text) else { continue };
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]), "{first:?}");
        assert_eq!(first, second);
    }
}

/// Entries lie within the file, side by side.
fn cache(input: &[u8]) {
    let length = input.len() as u64;
    let Ok(Some((places, end))) = cache_places(BufReader::new(Cursor::new(input)), length, 7) else { return };
    let mut spans: Vec<(u64, u64)> = places.values().map(|&(at, size)| (at, at + 12 + u64::from(size))).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:?}");
    assert!(spans.first().is_none_or(|first| first.0 >= 12) && spans.last().is_none_or(|last| last.1 <= end));
    assert!((12..=length).contains(&end));
}

/// Every directory has a place of its own, whatever the process's working directory.
fn location(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(location) = Location::parse(&text, std::path::Path::new("/home/john")) else { return };
    for directory in location.directories() {
        assert!(directory.is_absolute(), "{}", directory.display());
    }
    assert!(location.inbox_path().is_absolute());
}

/// A key that is understood is written as the same octets, so that no two stand for one thing.
fn queue_keys(input: &[u8]) {
    if let Some((hop, class, due)) = keys::read_schedule(input) {
        assert_eq!(keys::schedule(&hop, class, due).as_ref(), input);
    }
    if let Some(id) = keys::read_message(input) {
        assert_eq!(keys::message(id).as_ref(), input);
    }
    if let Some((id, number)) = keys::read_numbered(input) {
        assert!(
            [keys::recipient(id, number), keys::report(id, number)].iter().any(|key| key.as_ref()[1..] == input[1..])
        );
    }
    if let Some(number) = keys::read_u64(input) {
        assert_eq!(keys::segment(number).as_ref()[1..], input[1..]);
    }
    let _ = (keys::behind(input), keys::after(input));
}

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
