//! LMTP from outside: the listeners of dovecot.conf, one reply per recipient after the mail is stored, nothing queued, and no smuggling there either.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use test_support::harness::{Test, test};
use test_support::{Builder, Patience, System, free_port, system, wait_for};

use super::smuggling::ENDS;
use super::{ensure, wrong};

pub fn tests() -> Vec<Test> {
    vec![
        // L01, L02, R1
        test("LMTP answers for each recipient after its mail is stored, and queues nothing", &[], one_reply_each),
        // S07, R11
        test("no line end but CRLF ends a message that comes by LMTP", &[], no_second_message),
        // R1, R6
        test("local-delivery is killed while mail comes by LMTP: what was answered with 250 lies there", &[], killed),
        test("LMTP knows no relaying, no login and no other protocol", &[], nothing_else),
    ]
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The system, and the port of its `inet_listener`.
struct Lmtp {
    system: System,
    port: u16,
}

static LMTP: Mutex<Option<Arc<Lmtp>>> = Mutex::new(None);

fn open() -> Result<Arc<Lmtp>, String> {
    let mut lmtp = LMTP.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lmtp) = &*lmtp {
        return Ok(Arc::clone(lmtp));
    }
    let opened = Arc::new(start()?);
    *lmtp = Some(Arc::clone(&opened));
    Ok(opened)
}

fn start() -> Result<Lmtp, String> {
    let port = free_port(Ipv4Addr::LOCALHOST).map_err(wrong)?;
    let listeners = format!(
        "service lmtp {{\n  inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  \
         unix_listener {{root}}/queue/lmtp-in {{\n    mode = 0666\n  }}\n}}"
    );
    let builder = Builder::new("lmtp.example").user("anne", "secret").dovecot(&listeners);
    Ok(Lmtp { system: builder.start()?, port })
}

/// Stops the system of these stories.
pub fn close() {
    drop(LMTP.lock().unwrap_or_else(PoisonError::into_inner).take());
}

trait Both: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Both for T {}

/// A conversation in lines.
struct Client(BufReader<Box<dyn Both>>);

impl Client {
    fn inet(lmtp: &Lmtp) -> Result<Self, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, lmtp.port)).map_err(wrong)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
        Self::greeted(Box::new(stream))
    }

    fn unix(lmtp: &Lmtp) -> Result<Self, String> {
        let stream = UnixStream::connect(lmtp.system.root().join("queue/lmtp-in")).map_err(wrong)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
        Self::greeted(Box::new(stream))
    }

    fn greeted(stream: Box<dyn Both>) -> Result<Self, String> {
        let mut client = Self(BufReader::new(stream));
        let greeting = client.hear()?;
        ensure(greeting.starts_with("220 mail.lmtp.example "), || greeting)?;
        Ok(client)
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        self.0.get_mut().write_all(octets).map_err(wrong)
    }

    /// The last line of the next reply.
    fn hear(&mut self) -> Result<String, String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).map_err(wrong)? == 0 {
                return Err("the connection ended".to_owned());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    fn expect(&mut self, command: &str, start: &str) -> Result<(), String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        let reply = self.hear()?;
        ensure(reply.starts_with(start), || format!("{command}: {reply}, expected {start}"))
    }

    fn rest(&mut self) -> String {
        let mut octets = Vec::new();
        let _ = self.0.by_ref().take(100_000).read_to_end(&mut octets);
        String::from_utf8_lossy(&octets).into_owned()
    }
}

fn one_reply_each() -> Result<(), String> {
    let lmtp = open()?;
    let (john, mary) = ("john@lmtp.example", "mary+detail@lmtp.example");
    for (name, mut client) in [("inet", Client::inet(&lmtp)?), ("unix", Client::unix(&lmtp)?)] {
        client.expect("EHLO x", "500 5.5.2")?;
        client.expect("HELO x", "500 5.5.2")?;
        client.expect("LHLO x", "250 ")?;
        client.expect("MAIL FROM:<a@elsewhere.example>", "250")?;
        client.expect("DATA", "503 5.5.1")?;
        client.expect(&format!("RCPT TO:<{john}>"), "250")?;
        client.expect("RCPT TO:<nobody@lmtp.example>", "550 5.1.1 <nobody@lmtp.example> User doesn't exist")?;
        client.expect(&format!("RCPT TO:<{mary}>"), "250")?;
        client.expect("DATA", "354")?;
        client.send(format!("Subject: by lmtp {name}\r\n\r\nhello\r\n.\r\n").as_bytes())?;
        let (first, second) = (client.hear()?, client.hear()?);
        let good = first == format!("250 2.0.0 <{john}> Saved") && second == format!("250 2.0.0 <{mary}> Saved");
        ensure(good, || format!("{first}\n{second}"))?;
        // It lies there when the reply comes; nobody has to wait.
        let stored =
            |user| lmtp.system.messages(user).into_iter().find(|m| m.contains(&format!("Subject: by lmtp {name}\n")));
        let (johns, marys) =
            (stored("john").ok_or("john has no message")?, stored("mary").ok_or("mary has no message")?);
        let trace = johns
            .starts_with("Return-Path: <a@elsewhere.example>\nDelivered-To: <john@lmtp.example>\nReceived: from x ");
        ensure(trace && johns.contains("with LMTP id ") && marys.contains("with LMTP id "), || johns)?;
        client.expect("QUIT", "221")?;
    }
    long_content(&lmtp)?;
    one_that_cannot(&lmtp)?;
    let queue = lmtp.system.run(&["mailq"], "")?;
    ensure(queue.contains("Mail queue is empty"), || queue)
}

/// Content beyond what fits into memory goes through a file, which is gone afterwards.
fn long_content(lmtp: &Lmtp) -> Result<(), String> {
    let mut client = Client::inet(lmtp)?;
    client.expect("LHLO x", "250 ")?;
    client.expect("MAIL FROM:<>", "250")?;
    client.expect("RCPT TO:<john@lmtp.example>", "250")?;
    client.expect("DATA", "354")?;
    let body = "0123456789abcdef\r\n".repeat(100_000);
    client.send(format!("Subject: long\r\n\r\n{body}.\r\n").as_bytes())?;
    let reply = client.hear()?;
    ensure(reply == "250 2.0.0 <john@lmtp.example> Saved", || reply)?;
    let found = lmtp.system.messages("john").into_iter().find(|message| message.contains("Subject: long\n"));
    let found = found.ok_or("the long message is missing")?;
    ensure(found.ends_with(&body.replace("\r\n", "\n")), || "the long message is not whole".to_owned())?;
    let left = wait_for("an empty content directory", Patience::default(), || {
        let entries = std::fs::read_dir(lmtp.system.state().join("content")).ok()?;
        (entries.count() == 0).then_some(())
    });
    left.map_err(|error| format!("{error}\n{}", lmtp.system.logs()))
}

/// A mailbox that cannot be written gives its recipient a temporary reply, and the others their mail. It is a mailbox that no other story uses.
fn one_that_cannot(lmtp: &Lmtp) -> Result<(), String> {
    let mut client = Client::unix(lmtp)?;
    client.expect("LHLO x", "250 ")?;
    client.expect("MAIL FROM:<>", "250")?;
    client.expect("RCPT TO:<anne@lmtp.example>", "250")?;
    client.expect("DATA", "354")?;
    client.expect("Subject: the first\r\n\r\nhello\r\n.", "250 2.0.0 <anne@")?;
    let maildir = lmtp.system.maildir("anne");
    let (new, aside) = (maildir.join("tmp"), maildir.join("tmp-aside"));
    std::fs::rename(&new, &aside).map_err(wrong)?;
    std::fs::write(&new, "in the way").map_err(wrong)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o444)).map_err(wrong)?;
    let mut client = Client::unix(lmtp)?;
    client.expect("LHLO x", "250 ")?;
    client.expect("MAIL FROM:<>", "250")?;
    client.expect("RCPT TO:<anne@lmtp.example>", "250")?;
    client.expect("RCPT TO:<john@lmtp.example>", "250")?;
    client.expect("DATA", "354")?;
    client.send(b"Subject: for one of two\r\n\r\nhello\r\n.\r\n")?;
    let (anne, john) = (client.hear()?, client.hear()?);
    std::fs::remove_file(&new).and_then(|()| std::fs::rename(&aside, &new)).map_err(wrong)?;
    ensure(anne.starts_with("451 4.") && john.starts_with("250 2.0.0 <john@"), || format!("{anne}\n{john}"))?;
    let stored = |user| lmtp.system.messages(user).iter().any(|message| message.contains("Subject: for one of two\n"));
    ensure(stored("john") && !stored("anne"), || "stored for the wrong one".to_owned())
}

fn no_second_message() -> Result<(), String> {
    let lmtp = open()?;
    for end in ENDS {
        let mut client = Client::inet(&lmtp)?;
        client.expect("LHLO x", "250 ")?;
        client.expect("MAIL FROM:<a@elsewhere.example>", "250")?;
        client.expect("RCPT TO:<mary@lmtp.example>", "250")?;
        client.expect("DATA", "354")?;
        let inner = "MAIL FROM:<evil@x>\r\nRCPT TO:<mary@lmtp.example>\r\nDATA\r\nSubject: smuggled\r\n\r\ninside\r\n.\r\nQUIT\r\n";
        client.send(&[b"Subject: outer by lmtp\r\n\r\nbefore".as_slice(), end, inner.as_bytes()].concat())?;
        let replies = client.rest();
        let good = replies == "250 2.0.0 <mary@lmtp.example> Saved\r\n221 2.0.0 Bye\r\n";
        ensure(good, || format!("{end:?}: {replies}\n{}", lmtp.system.logs()))?;
    }
    let all = lmtp.system.messages("mary");
    let outer = all.iter().filter(|message| message.contains("\nSubject: outer by lmtp\n")).count();
    let smuggled =
        all.iter().any(|message| message.split("\n\n").next().is_some_and(|header| header.contains("smuggled")));
    ensure(outer == ENDS.len() && !smuggled, || format!("{outer} messages, smuggled: {smuggled}"))
}

/// Sessions that send while local-delivery is killed, how often it is, and how many messages are acknowledged between.
const SESSIONS: usize = 4;
const KILLS: usize = 3;
const BETWEEN: usize = 25;

fn killed() -> Result<(), String> {
    let lmtp = start()?;
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let acknowledged: Mutex<BTreeSet<usize>> = Mutex::default();
    let count = || acknowledged.lock().map_or(0, |numbers| numbers.len());
    std::thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // A broken connection or a temporary reply is what a kill looks like from outside.
                    let _ = send_numbered(&lmtp, &next, &done, &acknowledged);
                }
            });
        }
        let rounds = (0..=KILLS).try_for_each(|round| {
            let wanted = count() + BETWEEN;
            wait_for("acknowledged messages", Patience::default(), || (count() >= wanted).then_some(()))?;
            let pids = if round < KILLS { lmtp.system.pids_of("local-delivery") } else { Vec::new() };
            pids.into_iter().for_each(|pid| system::signal(pid, rustix::process::Signal::KILL));
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        rounds.map_err(|error: String| format!("{error}\n{}", lmtp.system.logs()))
    })?;
    let stored: BTreeSet<usize> = lmtp.system.messages("john").iter().filter_map(|message| numbered(message)).collect();
    let acknowledged = acknowledged.into_inner().map_err(|error| error.to_string())?;
    let missing: Vec<_> = acknowledged.difference(&stored).collect();
    ensure(missing.is_empty(), || format!("of {} missing: {missing:?}\n{}", acknowledged.len(), lmtp.system.logs()))
}

/// One connection that sends numbered messages until something breaks.
fn send_numbered(
    lmtp: &Lmtp,
    next: &AtomicUsize,
    done: &AtomicBool,
    acknowledged: &Mutex<BTreeSet<usize>>,
) -> Result<(), String> {
    let mut client = Client::inet(lmtp)?;
    client.expect("LHLO x", "250 ")?;
    while !done.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        client.expect("MAIL FROM:<>", "250")?;
        client.expect("RCPT TO:<john@lmtp.example>", "250")?;
        client.expect("DATA", "354")?;
        client.send(format!("Subject: x\r\nX-Number: {number}\r\n\r\nhello\r\n.\r\n").as_bytes())?;
        if client.hear()?.starts_with("250 2.0.0 ") {
            acknowledged.lock().map_err(|error| error.to_string())?.insert(number);
        }
    }
    Ok(())
}

fn numbered(message: &str) -> Option<usize> {
    message.lines().find_map(|line| line.strip_prefix("X-Number: "))?.trim().parse().ok()
}

fn nothing_else() -> Result<(), String> {
    let lmtp = open()?;
    let mut client = Client::inet(&lmtp)?;
    client.expect("LHLO x", "250 ")?;
    client.expect("AUTH PLAIN AAAA", "503 5.5.1")?;
    client.expect("STARTTLS", "502 5.5.1")?;
    client.expect("MAIL FROM:<a@elsewhere.example>", "250")?;
    client.expect("RCPT TO:<user@outside.example>", "550 5.1.1")?;
    client.expect("RCPT TO:<@lmtp.example:user@outside.example>", "550 5.1.1")?;
    client.expect("RCPT TO:<john@lmtp.example> NOTIFY=SUCCESS", "555 5.5.4")?;
    client.expect("RCPT TO:<\"/etc/passwd\"@lmtp.example>", "550 5.1.1")?;
    client.expect("RCPT TO:<../john@lmtp.example>", "550 5.1.1")?;
    client.expect("RCPT TO:<\"\"@lmtp.example>", "501 5.1.3")?;
    client.expect("XCLIENT ADDR=127.0.0.1", "500 5.5.2")?;
    client.expect("GET / HTTP/1.1", "221 2.7.0")
}
