//! Records as they were written once: they decode for ever.

mod common;

use std::path::PathBuf;

use common::*;
use mail_types::{EnhancedStatus, Notify, Purpose, Recipient, Ret, UnixTime};
use queue_store::format::{Kind, SegmentHeader};
use queue_store::segment::{Found, Walk, encode_record, read_header};
use queue_store::{
    Accepted, Change, Deleted, Expanded, Fate, Granted, Hop, LastReply, Member, Moved, Outcome, Place, RecipientState,
    Record, Remote, Void,
};

const AT: UnixTime = UnixTime(1_790_000_000_123);

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn full_envelope() -> mail_types::Envelope {
    let mut envelope = mail_types::Envelope::clone(&envelope(&["a@x.org"], 12));
    envelope.recipients.push(Recipient {
        address: address("\"b c\"@x.org"),
        original: Some("list@x.org".to_owned()),
        orcpt: Some("rfc822;list@x.org".to_owned()),
        notify: Some(Notify { success: true, failure: true, delay: false }),
    });
    envelope.dsn.ret = Some(Ret::Headers);
    envelope.dsn.envid = Some("QQ314159".to_owned());
    envelope
}

fn state() -> RecipientState {
    RecipientState {
        owner: Some(mail_types::Sender::Address(address("owner-list@x.org"))),
        chain: vec![address("list@x.org")],
        attempts: 3,
        last: Some(LastReply {
            status: Some(EnhancedStatus::of(4, 4, 1)),
            text: "Connection refused".to_owned(),
            mta: Some(Remote { name: Some("mx.x.org".to_owned()), diagnostic: Some("450 no".to_owned()) }),
            at: AT,
        }),
        report: Some(Fate::Bounced),
        warned: true,
        via: Some(Hop::new("smtp smtp x.org").expect("hop")),
        hop: Hop::new("smtp smtp x.org").expect("hop"),
        ..RecipientState::new(Recipient::new(address("m@x.org")), AT)
    }
}

/// One record of each type, as this version writes it.
fn examples() -> Vec<(&'static str, Record)> {
    let change = Change { id: id(7), at: AT };
    let fates = [
        Fate::Delivered,
        Fate::Relayed,
        Fate::Discarded,
        Fate::Bounced,
        Fate::Deferred(AT),
        Fate::Redirected,
        Fate::Warned,
        Fate::Reported,
    ];
    let outcome = |result| {
        Record::Outcome(Outcome {
            at: AT,
            status: Some(EnhancedStatus::of(2, 0, 0)),
            mta: Some(Remote { name: Some("mx.x.org".to_owned()), diagnostic: None }),
            report: true,
            via: Some(Hop::new("smtp smtp x.org").expect("hop")),
            ..record(7, 1, "b@x.org", result)
        })
    };
    let envelope = std::sync::Arc::new(full_envelope());
    let member = Member {
        recipient: Recipient::new(address("m@x.org")),
        owner: None,
        chain: vec![address("list@x.org")],
        part: None,
    };
    let mut all = vec![
        ("granted", Record::Granted(Granted { first: 1, count: 10_000 })),
        (
            "accepted",
            Record::Accepted(Accepted {
                id: id(7),
                at: AT,
                envelope: envelope.clone(),
                place: Place::Segment,
                hold: true,
            }),
        ),
        (
            "accepted-file",
            Record::Accepted(Accepted {
                id: id(7),
                at: AT,
                envelope: envelope.clone(),
                place: Place::File(5_000_000),
                hold: false,
            }),
        ),
        (
            "expanded",
            Record::Expanded(Expanded {
                id: id(7),
                at: AT,
                recipient: 0,
                address: address("list@x.org"),
                members: vec![member],
                report: true,
            }),
        ),
        ("held", Record::Held(change)),
        ("released", Record::Released(change)),
        ("requeued", Record::Requeued(change)),
        ("deleted", Record::Deleted(Deleted { id: id(7), at: AT, recipients: vec![(1, address("b@x.org"))] })),
        (
            "moved",
            Record::Moved(Moved {
                id: id(7),
                at: AT,
                envelope,
                place: Place::Segment,
                recipients: vec![(4, state())],
                next: 5,
                hold: true,
                corrupt: true,
            }),
        ),
        ("void", Record::Void(Void { from: 17, to: 19 })),
    ];
    let names = ["delivered", "relayed", "discarded", "bounced", "deferred", "redirected", "warned", "reported"];
    all.extend(names.into_iter().zip(fates).map(|(name, fate)| (name, outcome(fate))));
    all
}

/// What later builds of version 1 write beside that; each has a default, or is a result of its own.
fn additions() -> Vec<(&'static str, Record)> {
    let asked = mail_types::Envelope { purpose: Purpose::Verify, ..full_envelope() };
    let accepted = Accepted {
        id: id(7),
        at: AT,
        envelope: std::sync::Arc::new(asked.clone()),
        place: Place::Segment,
        hold: false,
    };
    let state = RecipientState { report: Some(Fate::Undeliverable), traced: true, ..state() };
    let moved = Moved {
        id: id(7),
        at: AT,
        envelope: std::sync::Arc::new(mail_types::Envelope {
            purpose: Purpose::Probe,
            recipients: Vec::new(),
            ..asked
        }),
        place: Place::Segment,
        recipients: vec![(4, state)],
        next: 5,
        hold: false,
        corrupt: false,
    };
    let outcome = |result| Record::Outcome(Outcome { at: AT, ..record(7, 1, "b@x.org", result) });
    vec![
        ("accepted-verify", Record::Accepted(accepted)),
        ("moved-probe", Record::Moved(moved)),
        ("deliverable", outcome(Fate::Deliverable)),
        ("undeliverable", outcome(Fate::Undeliverable)),
        ("traced", outcome(Fate::Traced)),
    ]
}

fn kind_of(name: &str) -> Kind {
    match name {
        "granted" => Kind::Granted,
        "accepted" | "accepted-file" | "accepted-verify" => Kind::Accepted,
        "expanded" => Kind::Expanded,
        "held" => Kind::Held,
        "released" => Kind::Released,
        "requeued" => Kind::Requeued,
        "deleted" => Kind::Deleted,
        "moved" | "moved-probe" => Kind::Moved,
        "void" => Kind::Void,
        _ => Kind::Outcome,
    }
}

#[test]
fn every_record_of_version_1_decodes_to_what_it_said() {
    for (name, record) in examples().into_iter().chain(additions()) {
        let path = golden(&format!("{name}.1.json"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Record::decode(kind_of(name), text.trim_ascii_end()).expect(name), record, "{name}");
    }
}

#[test]
fn a_purpose_that_nobody_knows_is_no_plain_mail() {
    let known = std::fs::read_to_string(golden("accepted-verify.1.json")).expect("the golden file");
    let unknown = known.replace("\"purpose\":\"verify\"", "\"purpose\":\"to-be-invented\"");
    assert_ne!(known, unknown);
    assert!(Record::decode(Kind::Accepted, unknown.as_bytes()).is_err(), "it is set aside, and never delivered");
}

#[test]
fn a_field_of_a_later_version_is_ignored() {
    let text = br#"{"first":1,"count":2,"colour":"blue"}"#;
    assert_eq!(Record::decode(Kind::Granted, text).expect("decoded"), Record::Granted(Granted { first: 1, count: 2 }));
}

#[test]
fn a_segment_of_version_1_is_read_to_its_end() {
    let file = std::fs::File::open(golden("segment.1")).expect("the golden segment");
    let header = read_header(&file).expect("read").expect("a header");
    assert_eq!(header, SegmentHeader { number: 9, tag: [0xa5; 16], first: 100, created: AT.0 });
    let mut walk = Walk::new(&file, header.tag, None, true).expect("walk");
    for (n, (name, record)) in examples().into_iter().enumerate() {
        let Some(Found::Record { header, meta, content_good, .. }) = walk.step().expect("read") else {
            panic!("{name}")
        };
        assert_eq!((header.sequence, header.batch, content_good), (100 + n as u64, 100, true));
        assert_eq!(Record::decode(header.kind, &meta).expect(name), record);
    }
    assert!(walk.step().expect("read").is_none());
}

proptest::proptest! {
    #[test]
    fn a_flipped_bit_in_a_segment_never_makes_another_record(at in 64usize..100_000, bit in 0u8..8) {
        let mut octets = std::fs::read(golden("segment.1")).expect("the golden segment");
        let at = 64 + at % (octets.len() - 64);
        octets[at] ^= 1 << bit;
        let mut file = tempfile::tempfile().expect("file");
        std::io::Write::write_all(&mut file, &octets).expect("written");
        let originals = examples();
        let mut walk = Walk::new(&file, [0xa5; 16], None, true).expect("walk");
        let (mut whole, mut damaged) = (0, 0);
        while let Some(found) = walk.step().expect("read") {
            match found {
                Found::Record { header, meta, content_good, .. } => {
                    let original = &originals[(header.sequence - 100) as usize].1;
                    proptest::prop_assert_eq!(&Record::decode(header.kind, &meta).expect("decoded"), original);
                    whole += usize::from(content_good);
                    damaged += usize::from(!content_good);
                }
                Found::Damaged { from, to } => {
                    proptest::prop_assert!((from..to).contains(&(at as u64)));
                    damaged += 1;
                }
            }
        }
        proptest::prop_assert_eq!((whole, damaged), (originals.len() - 1, 1));
    }
}

/// Writes golden files that are missing; run with `cargo test -p queue-store --test golden -- --ignored` after a new record type.
#[test]
#[ignore = "writes files"]
fn write_missing_golden_files() {
    std::fs::create_dir_all(golden("")).expect("directory");
    let header = SegmentHeader { number: 9, tag: [0xa5; 16], first: 100, created: AT.0 };
    let mut segment = header.encode().to_vec();
    for (n, (name, record)) in examples().into_iter().enumerate() {
        let mut text = Vec::new();
        record.encode(&mut text).expect("encoded");
        text.push(b'\n');
        let path = golden(&format!("{name}.1.json"));
        if !path.exists() {
            std::fs::write(path, &text).expect("written");
        }
        let content: &[u8] = if matches!(name, "accepted" | "moved") { b"hello, world" } else { b"" };
        encode_record(&mut segment, &header.tag, &record, content, (100 + n as u64, 100, 0)).expect("encoded");
    }
    for (name, record) in additions() {
        let mut text = Vec::new();
        record.encode(&mut text).expect("encoded");
        text.push(b'\n');
        let path = golden(&format!("{name}.1.json"));
        if !path.exists() {
            std::fs::write(path, &text).expect("written");
        }
    }
    if !golden("segment.1").exists() {
        std::fs::write(golden("segment.1"), segment).expect("written");
    }
}
