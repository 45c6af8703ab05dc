//! Attack classes MIME bombs and hostile headers: messages that lie in a Maildir, however they came there.
//!
//! Listing them and fetching each in every form takes under ten seconds a command, and every response is well-formed (I30).

use std::fs;

use test_support::clients::{Pop3, Security};
use test_support::{Builder, System};

use super::dialogue::check;
use super::session::Session;

pub fn hostile_messages_are_listed_and_fetched() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let mut john = Session::login_to_work(&system, "john", "bombs")?;
    john.ok("SELECT INBOX")?;
    let bombs = bombs();
    let directory = system.maildir("john").join("cur");
    for (number, (name, message)) in bombs.iter().enumerate() {
        let path = directory.join(format!("{}.M1P1.{name}:2,", 1_700_000_000 + number));
        fs::write(&path, message).map_err(|error| format!("{}: {error}", path.display()))?;
        give(&system, &path)?;
    }
    let count = bombs.len();
    let said = john.ok("SELECT INBOX")?;
    check(said.contains(&format!("* {count} EXISTS")), || format!("SELECT: {said}"))?;
    for (at, (name, message)) in bombs.iter().enumerate() {
        let number = at + 1;
        for items in [
            "(FLAGS UID RFC822.SIZE INTERNALDATE ENVELOPE BODYSTRUCTURE)",
            "BODY",
            "BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT DATE MESSAGE-ID CONTENT-TYPE REFERENCES)]",
            "BODY.PEEK[1]",
            "BODY.PEEK[1.1.1.1.1.1.1.1.MIME]",
            "BODY.PEEK[]",
        ] {
            let said =
                john.say(format!("FETCH {number} {items}").as_bytes()).map_err(|error| format!("{name}: {error}"))?;
            let fetched = said.iter().any(|response| response.starts_with(format!("* {number} FETCH (").as_bytes()));
            check(fetched, || format!("{name}: nothing of {items}"))?;
            if items == "BODY.PEEK[]" {
                let served: usize = said.iter().map(Vec::len).sum();
                check(served > message.len(), || format!("{name}: {served} of {} octets", message.len()))?;
            }
        }
        john.ok(&format!("SEARCH {number} OR TEXT needle OR FROM needle HEADER X-A needle"))?;
    }
    // All at once, as a client that opens the mailbox does, twice: the second time from the cache.
    for _ in 0..2 {
        let all = john.say(b"FETCH 1:* (UID ENVELOPE)")?;
        check(all.len() == count + 1, || format!("{} responses for {count} messages", all.len()))?;
    }
    by_pop3(&system, count)
}

/// The same by POP3: sizes agree, and every message comes whole.
fn by_pop3(system: &System, count: usize) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut pop3 = Pop3::connect(system.ports.at(system.ports.pop3), Security::Clear).map_err(failed)?;
    pop3.login("john", "secret").map_err(failed)?;
    let listed = pop3.listing("LIST").map_err(failed)?;
    check(listed.len() == count, || format!("LIST: {listed:?}"))?;
    for line in listed {
        let (number, size) = line.split_once(' ').ok_or("LIST")?;
        pop3.command(&format!("RETR {number}")).map_err(failed)?;
        let mut octets = 0;
        loop {
            let line = pop3.lines.line().map_err(failed)?;
            if line == b".\r\n" {
                break;
            }
            octets += line.len() - usize::from(line.starts_with(b"."));
        }
        // A message without a last line end gets one on the way.
        let size: usize = size.parse().map_err(|_| "a size")?;
        check(octets == size || octets == size + 2, || format!("message {number}: {octets} octets of {size}"))?;
    }
    pop3.command("QUIT").map(drop).map_err(failed)
}

/// A file in a Maildir belongs to its owner.
pub fn give(system: &System, path: &std::path::Path) -> Result<(), String> {
    let owner = fs::metadata(system.maildir("john")).map_err(|error| error.to_string())?;
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|error| format!("{}: {error}", path.display()))
}

fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let multipart = |n: usize| format!("Content-Type: multipart/mixed; boundary=b{n}x\n\n--b{n}x\n");
    let long = |piece: &str, octets: usize| piece.repeat(octets / piece.len());
    let texts: Vec<(&'static str, String)> = vec![
        ("nesting", (0..2000).map(multipart).collect()),
        ("same-boundary", "Content-Type: multipart/mixed; boundary=b\n\n--b\n".repeat(5_000)),
        ("rfc822-cycle", "Content-Type: message/rfc822\nFrom: a@b\nSubject: x\n\n".repeat(5_000)),
        (
            "digest",
            "Content-Type: multipart/digest; boundary=d\n\n".to_owned() + &"--d\n\nSubject: x\n\ny\n".repeat(20_000),
        ),
        ("parts", "Content-Type: multipart/mixed; boundary=q\n\n".to_owned() + &"--q\n\nx\n".repeat(40_000)),
        ("dashes", "Content-Type: multipart/mixed; boundary=q\n\n".to_owned() + &long("--\n", 300_000)),
        ("long-boundary", format!("Content-Type: multipart/mixed; boundary={}\n\nx\n", "b".repeat(200_000))),
        ("addresses", format!("From: a@b\nTo: {}\n\nx\n", long("someone@example.com, ", 300_000))),
        ("to-fields", long("To: a@b\n", 300_000) + "\nx\n"),
        ("folded-addresses", format!("To: {}z@z\n\nx\n", long("a@b,\n ", 300_000))),
        ("groups", format!("To: {}\n\nx\n", long("g:a@b;,", 300_000))),
        ("open-groups", format!("To: {}\n\nx\n", long("g:", 300_000))),
        ("open-literals", format!("From: {}\n\nx\n", long("a@[,", 300_000))),
        ("open-routes", format!("From: <{}\n\nx\n", long("@a,", 300_000))),
        ("open-comments", format!("From: {}\n\nx\n", long("(", 300_000))),
        (
            "open-quotes",
            format!(
                "From: {}\nContent-Type: text/plain; a={}\n\nx\n",
                long("\"a\" ", 300_000),
                long("\"\\\"", 500_000)
            ),
        ),
        ("large-header", format!("Subject: {}\nX-A: {}\n\nx\n", "s".repeat(300_000), long("a b ", 1_000_000))),
        ("many-fields", long("X: y\n", 300_000) + "\nx\n"),
        ("no-body", "A: b\n".repeat(60_000)),
        (
            "rfc2231",
            format!(
                "Content-Type: text/plain{}\n\nx\n",
                (0..50_000).map(|n| format!("; n*{n}*=a")).collect::<String>()
            ),
        ),
        ("parameters", format!("Content-Type: text/plain{}\n\nx\n", "; a=b".repeat(60_000))),
        (
            "semicolons",
            format!("Content-Disposition: x{}\nContent-Language: {}\n\nx\n", ";".repeat(500_000), ",".repeat(500_000)),
        ),
        ("encoded-words", format!("Subject: {}\n\nx\n", long("=?utf-8?q?", 300_000))),
        ("one-line", format!("Subject: x\n\n{}", "x".repeat(1_000_000))),
        ("line-ends", format!("Subject: x\n\n{}", "\n".repeat(300_000))),
        ("quoted-printable", format!("Content-Transfer-Encoding: quoted-printable\n\n{}", "=".repeat(300_000))),
        ("empty", String::new()),
    ];
    let mut all: Vec<(&'static str, Vec<u8>)> =
        texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    all.push((
        "nul",
        b"From: \"a\0b\" <c\0d@e>\nSubject: x\0y\nContent-Type: te\0xt/pl\0ain; a=\"\0\"\nMessage-ID: <\0>\n\n\0\0\0\n"
            .to_vec(),
    ));
    all.push(("carriage-returns", b"Subject: a\rb\r\r\nFrom: x\r<a@b>\nTo: a@b\r\rSubject: c\n\n\r\r\r\n\r".to_vec()));
    all.push((
        "eight-bit",
        b"From: \xff\xfe <\x80@\x81>\nSubject: \xc3\x28 \xf0\x9f\nContent-Type: \xe4/\xf6; \xfc=\"\xdf\"\n\n\xff\n"
            .to_vec(),
    ));
    all.push(("quoting", b"From: \"a\\\"b\\\\\" <\"c d\"@e>\nSubject: {5}\nTo: \"(\" <)@(>\nContent-Type: text/plain; name=\"{3}\"; x=\"\\\"\"\nMessage-ID: \"\\\nContent-ID: {9999999999}\n\nx\n".to_vec()));
    all.push((
        "control",
        b"Subject: \x01\x1b[31m\x7f\nFrom: \x02 <\x03@\x04>\nDate: \x05\nIn-Reply-To: \t\n\nx\n".to_vec(),
    ));
    all
}
