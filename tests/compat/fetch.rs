//! I13, I14, I15: the same messages in two Maildirs, one read by Dovecot, one by us.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use test_support::Builder;
use test_support::clients::Imap;

use crate::dovecot::{Dovecot, login};
use crate::response::fetched;
use crate::switch::{give, without_recent};

/// What is asked for of each message.
const ITEMS: [&str; 9] = [
    "(RFC822.SIZE INTERNALDATE FLAGS UID)",
    "ENVELOPE",
    "BODYSTRUCTURE",
    "BODY",
    "BODY.PEEK[]",
    "(RFC822.HEADER BODY.PEEK[TEXT])",
    "(BODY.PEEK[HEADER.FIELDS (Subject From X)] BODY.PEEK[HEADER.FIELDS.NOT (Subject)])",
    "(BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[2.MIME] BODY.PEEK[1.2])",
    "(BODY.PEEK[]<5.20> BODY.PEEK[TEXT]<100.5> BODY.PEEK[1]<2.3>)",
];

const HEAD: &str =
    "From: A B <a@b.c>\nTo: c@d.e\nSubject: hi\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <x@y>\n";

/// Messages that break rules or lean on rare ones; `HEAD` stands for a usual header.
const MESSAGES: [&str; 42] = [
    "HEAD\nhello\nworld\n",
    "Subject: x\n\nno newline at the end",
    "",
    "\nbody\n",
    "HEADContent-Type: multipart/mixed; boundary=\"b1\"\n\npreamble\n--b1\n\npart one\n--b1\nContent-Type: text/html; charset=utf-8\nContent-Disposition: attachment; filename=\"x y.html\"\n\n<p>two</p>\n--b1--\nepilogue\n",
    "HEADContent-Type: multipart/mixed; boundary=b1\n\n--b1\nContent-Type: multipart/alternative; boundary=b2\n\n--b2\nContent-Type: text/plain\n\nplain\n--b2\nContent-Type: text/html\n\n<b>html</b>\n--b2--\n\n--b1\nContent-Type: message/rfc822\n\nFrom: inner@x.y\nSubject: inner\n\ninner body\nline 2\n--b1--\n",
    "HEADContent-Type: application/octet-stream; name=f\nContent-Transfer-Encoding: base64\nContent-ID: <cid@1>\nContent-Description: desc\nContent-MD5: abc=\nContent-Language: en, de\nContent-Location: http://x/\n\nAAAA\n",
    "HEADContent-Type: message/rfc822\n\nFrom: i@x.y\nSubject: in\nContent-Type: multipart/mixed; boundary=q\n\n--q\n\na\n--q\nContent-Type: image/png\n\nb\n--q--\n",
    "HEADContent-Type: multipart/digest; boundary=q\n\n--q\n\nFrom: d1@x\n\nd1\n--q\n\nFrom: d2@x\n\nd2\n--q--\n",
    "HEADContent-Type: multipart/mixed\n\nno boundary\n",
    "HEADContent-Type: multipart/mixed; boundary=q\n\n--q\n\nfirst\n--q\nContent-Type: text/html\n\nunterminated",
    "HEADContent-Type: multipart/mixed; boundary=q\n\nno parts at all\n",
    "HEADContent-Type: multipart/mixed; boundary=q\n\n--qq\n\nx\n--q\t\n\ny\n--q--  \n",
    "HEADContent-Type: multipart/mixed; boundary=q\n\n--q\nContent-Type: multipart/mixed; boundary=q\n\n--q\n\nx\n--q--\n--q--\n",
    "HEADContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\nx\n--a\n\ny\n--a--\n",
    "HEADContent-Type: multipart/mixed; boundary=\"a b (c)\"\n\n--a b (c)\n\nx\n--a b (c)--\n",
    "HEADContent-Type: message/rfc822\n\n",
    "HEADContent-Type: message/partial; id=\"x\"; number=1; total=2\n\nFrom: x@y\n\nz\n",
    "HEADContent-Type: text\n\nx\n",
    "HEADContent-Type: /; x=y\n\nx\n",
    "HEADContent-Type: text/plain; charset\n\nx\n",
    "HEADContent-Type: text/plain; charset=iso 8859; name=\"unterm\n\nx\n",
    "HEADContent-Type: (c) text (d) / (e) html (f); charset=utf-8 (g)\nContent-Transfer-Encoding: (x) 8bit (y)\nContent-Disposition: inline\nContent-Language: en\n\nx\n",
    "HEADContent-Type: text/html\nContent-Type: multipart/mixed; boundary=q\n\n--q\n\nx\n--q--\n",
    "HEADContent-Type: application/pdf\nContent-Disposition: attachment; filename*=iso-8859-1''a%20b; size=12\n\nx\n",
    "From: \"Quoted \\\"Name\\\"\" <q@x>, plain@y, =?utf-8?q?J=C3=B6rg?= <j@z>\nSender: s@t\nReply-To: r1@x, R Two <r2@x>\nTo: group: a@b, c@d;, undisclosed-recipients:;\nCc: (comment) x@y (comment2)\nBcc: <@route,@r2:u@v>\nIn-Reply-To: <irt@x>\nSubject: =?iso-8859-1?q?caf=E9?=\nDate: bad date\n\nx\n",
    "From: <>\nTo: a b c\nCc: a@b@c, , ;\nReply-To:\nSubject:\nDate:\n\nx\n",
    "From: john\nTo: \"unterminated <a@b>\nCc: a@b c@d\nSender: (only comment)\n\nx\n",
    "From: user@[1.2.3.4], \"a b\"@c, a.b.@c, .a@b\nTo: Name with . dot <x@y>\n\nx\n",
    "From: Name <<a@b>>\nTo: <a@b\nCc: a@b>\nSender: Name <a@b> trailing\nReply-To: Name\n\n",
    "To: a@b; c@d\nCc: <a@b>, <c@d>;\nBcc: A: x@y, B <z@w>; , c@d\nFrom: undisclosed:;\n\n",
    "To: <localonly>\nCc: Some Name\nBcc: a b <c>\nFrom: \"quoted local\"@x.y\n\n",
    "Subject: a\n b\n\tc\nFrom: a\n <b@c>\nX: y\n\nx\n",
    "Subject:\ttabbed\t value \t\nFrom:a@b\nTo:   c@d   \n\nx\n",
    "Subject: say \"hi\" \\ there\nFrom: \"a\\\\b\" <x@y>\n\nx\n",
    "Subject: one\nSubject: two\nFrom: a@b\nFrom: c@d\nMessage-ID: <1@1>\nMessage-ID: <2@2>\nDate: x\nDate: y\n\nx\n",
    "SUBJECT: up\nfrom: low@x\nCONTENT-TYPE: TEXT/HTML; CHARSET=UTF-8; Name=\"X\"\ncontent-transfer-encoding: BASE64\n\nx\n",
    "no colon line\nSubject : space before colon\nFrom: x@y\n: empty\n\nb\n",
    "From user@x Mon Jan 1\nSubject: s\n\nb\n",
    "Message-ID: no brackets (c)\nIn-Reply-To: \"q\" text <a@b>\n <c@d>\nDate:  Mon,  1 Jan\n 2024\nFrom: x@y\n\n",
    "Subject: carriage\rreturn\nFrom: x@y\n\nbo\rdy\r\nline\n\r\n",
    "HEADContent-Type: multipart/report; report-type=delivery-status; boundary=a\n\n--a\n\nnote\n--a\nContent-Type: message/delivery-status\n\nReporting-MTA: dns;x\n--a\nContent-Type: text/rfc822-headers\n\nSubject: y\n--a--\n",
];

pub fn is_the_same() -> Result<(), String> {
    let system = Builder::new("compat.example").start()?;
    let dovecot = Dovecot::beside(&system)?;
    for user in ["john", "mary"] {
        fill(&system.maildir(user)).map_err(|error| error.to_string())?;
    }
    let mut theirs = dovecot.login("john")?;
    let mut ours = login(system.ports.at(system.ports.imap), "mary")?;
    for session in [&mut theirs, &mut ours] {
        ask(session, "EXAMINE INBOX")?;
    }
    let mut differences = String::new();
    for items in ITEMS {
        let command = format!("FETCH 1:* {items}");
        let [expected, found] =
            [&mut theirs, &mut ours].map(|session| ask(session, &command).map(|said| fetched(&said)));
        let (expected, found) = (expected?, found?);
        if expected.len() != MESSAGES.len() {
            return Err(format!("Dovecot shows {} of {} messages", expected.len(), MESSAGES.len()));
        }
        for (number, expected) in &expected {
            let found = found.get(number).cloned().map(without_recent);
            let expected = without_recent(expected.clone());
            if found.as_ref() != Some(&expected) {
                let message = MESSAGES[*number as usize - 1];
                differences.push_str(&format!("{items} of {message:?}\n  Dovecot {expected:?}\n  ours    {found:?}\n"));
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

fn ask(session: &mut Imap, command: &str) -> Result<Vec<String>, String> {
    session.command(command).map_err(|error| format!("{command}: {error}"))
}

/// Puts the messages into a Maildir, each with a date of its own.
fn fill(maildir: &Path) -> std::io::Result<()> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(part))?;
    }
    for (number, message) in MESSAGES.iter().enumerate() {
        let name = format!("{}.M{number}.compat:2,S", 1_700_000_000 + number);
        let path = maildir.join("cur").join(name);
        fs::write(&path, message.replace("HEAD", HEAD))?;
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
        fs::File::options().write(true).open(&path)?.set_modified(received)?;
    }
    give(maildir)
}
