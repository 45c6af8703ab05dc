//! Messages: header fields, MIME structure and sections, addresses, delivery status notifications.

use std::ops::Range;

use mail_message::dsn::{self, Action, Kind, Recipient, Report};
use mail_message::header::Header;
use mail_message::mime::{
    Body, Envelope, Located, Needle, Part, SearchText, SectionPart, fields, parse_addresses, sent_date, unfolded,
    with_crlf,
};
use mail_types::{EnhancedStatus, UnixTime};

use crate::Target;
use crate::machine::{lines, shown};

const FIELDS: &[&str] = &[
    "Subject: ",
    "From: ",
    "To: ",
    "Received: from a by b; ",
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "Content-Type: message/rfc822\r\n",
    "Content-Type: multipart/digest; boundary=\"a b\"\r\n",
    "; charset*0*=utf-8''%41",
    "; name*1=x",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "Content-Disposition: attachment; filename=x\r\n",
    "=?utf-8?B?w6Q=?=",
    "=?x?q?=41?=",
    "--b\r\n",
    "--b--\r\n",
    "\r\n\r\n",
    "\r\n ",
    "\n",
    "\r",
    "(",
    ")",
    "\"",
    "\\",
    "=20",
    "=\r\n",
    "QUJD",
    "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n",
    "\0",
];

pub const HEADER: Target = Target { name: "message_header", run: header, tokens: FIELDS, cost: 1 };

pub const MIME: Target = Target { name: "message_mime", run: mime, tokens: FIELDS, cost: 2 };

pub const ADDRESSES: Target = Target {
    name: "message_addresses",
    run: |input| assert!(parse_addresses(input).len() <= 2 * input.len() + 1),
    tokens: &[
        "a@b.org",
        "\"a b\" <c@d>",
        "group: ",
        ";",
        ",",
        "(",
        ")",
        "\\",
        "\"",
        "<",
        ">",
        "<@a,@b:c@d>",
        "[1.2.3.4]",
        " . ",
        "\r\n ",
        "=?utf-8?q?a?=",
        ":",
        "@",
    ],
    cost: 1,
};

pub const DSN: Target = Target {
    name: "dsn_compose",
    run: notification,
    tokens: &[
        "\r\n",
        "\n",
        "\r\n.\r\n",
        "From: a\r\n",
        "--",
        "\0",
        "ä",
        "rfc822;",
        "550 5.1.1 <a@b>: unknown",
        "\x7f",
        "\t",
    ],
    cost: 1,
};

/// The fields are stretches of the header one after the other, and unfolding loses no octet but line ends.
fn header(input: &[u8]) {
    let header = Header::scan(input);
    assert!(header.end() <= header.body() && header.body() <= input.len());
    let mut at = 0;
    for field in header.fields() {
        let range = field.range();
        assert!(range.start >= at && range.end <= header.end() && range.start < range.end, "{range:?} after {at}");
        at = range.end;
        assert!(!field.name().is_empty() && field.raw() == &input[range]);
        let kept = |octets: &[u8]| octets.iter().filter(|octet| !octet.is_ascii_whitespace()).count();
        assert_eq!(kept(&field.value()), kept(field.folded()), "{}", shown(field.raw()));
        drop(field.text());
    }
    assert!(header.hops() <= header.fields().len());
}

fn mime(input: &[u8]) {
    let message = with_crlf(input);
    let structure = Part::parse(&message);
    assert_eq!(structure.whole(), 0..message.len());
    let mut count = 0;
    part(&message, &structure, &(0..message.len()), 0, &mut count);
    sections(&message, &structure);

    let head = &message[structure.header.clone()];
    drop(Envelope::parse(head));
    let _ = sent_date(head);
    for field in fields(head) {
        assert!(unfolded(field.value).iter().all(|octet| *octet != b'\n'), "{}", shown(field.value));
    }
    let needle = Needle::new(b"a", None).expect("UTF-8");
    let mut text = SearchText::default();
    let _ = (text.header_contains(head, &needle), text.body_contains(&message, &structure, &needle));
    let _ = text.field_contains(head, "subject", &needle);
}

/// A part lies inside its parent, after its earlier siblings; depth and number are limited.
fn part(message: &[u8], part_: &Part, within: &Range<usize>, depth: usize, count: &mut usize) {
    *count += 1;
    assert!(depth <= mail_message::mime::NESTING_LIMIT + 1 && *count <= mail_message::mime::PARTS_LIMIT + 1);
    assert!(part_.header.start >= within.start && part_.header.end == part_.body.start && part_.body.end <= within.end);
    let lines = message[part_.body.clone()].iter().filter(|&&octet| octet == b'\n').count();
    assert_eq!(part_.lines, lines, "lines of {:?}", part_.body);
    match &part_.kind {
        Body::Single => {}
        Body::Message(inner) => part(message, inner, &part_.body, depth + 1, count),
        Body::Multipart(children) => {
            let mut from = part_.body.start;
            for child in children {
                part(message, child, &(from..part_.body.end), depth + 1, count);
                from = child.body.end;
            }
        }
    }
}

/// Header and text of a message are the whole; a section that is there lies in the message.
fn sections(message: &[u8], structure: &Part) {
    let names = ["Subject".to_owned(), "from".to_owned()];
    let size = |path: &[u32], wanted: SectionPart| match structure.locate(path, wanted) {
        Located::At(range) => message[range].len(),
        Located::Among(header) => wanted.choose(&message[header]).len(),
        Located::Nowhere => 0,
    };
    assert_eq!(size(&[], SectionPart::Header) + size(&[], SectionPart::Text), message.len());
    for path in [&[][..], &[1], &[2], &[1, 1], &[2, 1, 1], &[4_294_967_295]] {
        for wanted in [SectionPart::All, SectionPart::Mime, SectionPart::Fields(&names), SectionPart::FieldsNot(&names)]
        {
            // A last line without an end gets one, and a blank line follows.
            assert!(size(path, wanted) <= message.len() + 4);
        }
    }
}

/// Whatever a remote server says and a message holds, a notification has lines of at most 998 octets and its own three parts.
fn notification(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let recipient = Recipient {
        address: "a@b.org",
        orcpt: Some(&text),
        action: Action::Failed,
        status: EnhancedStatus::of(5, 1, 1),
        text: &text,
        remote: Some(&text),
        diagnostic: Some(&text),
    };
    let content = with_crlf(input);
    for full in [true, false] {
        let report = Report {
            kind: Kind::Failure,
            host: "mx.info.net",
            mail_name: "Postfix",
            to: "sender@b.org",
            postmaster: "postmaster@info.net",
            id: "4XyZ",
            date: UnixTime(1_700_000_000_000),
            original_id: "4XyY",
            arrival: UnixTime(1_700_000_000_000),
            envid: Some(&text),
            recipients: std::slice::from_ref(&recipient),
            content: if full { b"Subject: x\r\n\r\nbody\r\n" } else { &content },
            full,
            smtputf8: false,
        };
        let composed = dsn::compose(&report);
        if full {
            assert!(lines(&composed).iter().all(|line| line.len() <= 998 && !line.contains(&0)));
            let parts = Part::parse(&composed).children().len();
            assert_eq!(parts, 3, "{}", shown(&composed));
        }
    }
}
