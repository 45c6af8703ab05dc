//! Tables that a server answers, tables that change under a running system, tables that break.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, wait_for};

/// A socketmap server whose replies the test sets; every other key is not found. It ends with the test's process.
#[derive(Clone, Default)]
struct Socketmap {
    replies: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socketmap {
    fn start(&self) -> Result<u16, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let server = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        Ok(port)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut length = 0;
            loop {
                let mut octet = [0];
                stream.read_exact(&mut octet).ok()?;
                match octet[0] {
                    b':' => break,
                    digit => length = length * 10 + usize::from(digit - b'0'),
                }
            }
            let mut request = vec![0; length + 1];
            stream.read_exact(&mut request).ok()?;
            request.pop();
            let request = String::from_utf8_lossy(&request).into_owned();
            let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
            // A key that ends in an asterisk stands for all that begin like it.
            let begins = |key: &String| key.strip_suffix('*').is_some_and(|begin| request.starts_with(begin));
            let known =
                replies.get(&request).or_else(|| replies.iter().find(|(key, _)| begins(key)).map(|(_, reply)| reply));
            let reply = known.cloned().unwrap_or_else(|| "NOTFOUND ".to_owned());
            drop(replies);
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            stream.write_all(format!("{}:{reply},", reply.len()).as_bytes()).ok()?;
        }
    }

    fn say(&self, request: &str, reply: &str) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).insert(request.to_owned(), reply.to_owned());
    }

    fn asked(&self, request: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|asked| *asked == request).count()
    }
}

/// What RCPT is answered in a session of its own.
fn rcpt(system: &System, recipient: &str) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear)?;
        smtp.command("MAIL FROM:<someone@elsewhere.example>", 2)?;
        smtp.lines.say(&format!("RCPT TO:<{recipient}>"))?;
        Ok(smtp.reply()?.1.trim_end().to_owned())
    };
    talk().map_err(|error| format!("{error}\n{}", system.logs()))
}

fn expect(system: &System, recipient: &str, wanted: &str) -> Result<(), String> {
    let said = rcpt(system, recipient)?;
    if said.starts_with(wanted) { Ok(()) } else { Err(format!("{recipient}: {said}, not {wanted}\n{}", system.logs())) }
}

fn becomes(system: &System, recipient: &str, wanted: &str) -> Result<(), String> {
    let what = format!("{wanted} for {recipient}");
    wait_for(&what, Patience::default(), || rcpt(system, recipient).ok().filter(|said| said.starts_with(wanted)))
        .map(drop)
        .map_err(|error| format!("{error}\n{}", system.logs()))
}

/// smtpd asks for aliases, queue-manager for transports: of servers and of a database, all through authd.
pub fn by_servers() -> Result<(), String> {
    let server = Socketmap::default();
    let map = format!("socketmap:inet:127.0.0.1:{}", server.start()?);
    let lines = format!(
        "virtual_alias_domains = {map}:domains\nvirtual_alias_maps = {map}:virtual, sqlite:{{root}}/etc/aliases.cf\n\
         transport_maps = {map}:transport\n"
    );
    let client = "dbpath = {root}/etc/aliases.db\nquery = SELECT target FROM aliases WHERE name = '%s'\n";
    let mut system = Builder::new("a.example").main_cf(&lines).file("aliases.cf", client).prepare()?;
    let database = system.etc().join("aliases.db");
    let made = std::process::Command::new("sqlite3")
        .arg(&database)
        .arg(
            "CREATE TABLE aliases (name, target); INSERT INTO aliases VALUES ('sales@list.example', 'mary@a.example');",
        )
        .status()
        .map_err(|error| error.to_string())?;
    if !made.success() {
        return Err("sqlite3 failed".to_owned());
    }
    server.say("domains list.example", "OK here");
    server.say("virtual staff@list.example", "OK john@a.example");
    server.say("transport john@a.example", "OK lmtp:unix:private/dovecot-lmtp");
    system.start()?;
    expect(&system, "staff@list.example", "250 ")?;
    expect(&system, "sales@list.example", "250 ")?;
    expect(&system, "nobody@list.example", "550 5.1.1")?;
    system.run(
        &["sendmail", "-f", "x@a.example", "staff@list.example", "sales@list.example"],
        "Subject: to both\n\nhello\n",
    )?;
    for user in ["john", "mary"] {
        system.wait_for_messages(user, 1).map_err(|error| format!("{error}\n{}", system.logs()))?;
    }
    if server.asked("transport john@a.example") == 0 {
        return Err("queue-manager asked for no transport".to_owned());
    }
    server.say("virtual staff@list.example", "TEMP come back later");
    expect(&system, "staff@list.example", "451 4.3.0")?;
    server.say("domains list.example", "PERM no");
    expect(&system, "staff@list.example", "451 4.3.0")
}

/// smtpd asks for the maps of clients, of command lines and of refusals as it asks for those of addresses.
pub fn at_the_door() -> Result<(), String> {
    let server = Socketmap::default();
    let map = format!("socketmap:inet:127.0.0.1:{}", server.start()?);
    let lines = format!(
        "smtpd_discard_ehlo_keyword_address_maps = {map}:ehlo\nsmtpd_command_filter = {map}:filter\n\
         smtpd_reject_footer_maps = {map}:footer\nlocal_header_rewrite_clients = check_address_map {map}:ours\n\
         remote_header_rewrite_domain = away.invalid\nmyorigin = a.example\n"
    );
    server.say("ehlo 127.0.0.1", "OK size, dsn");
    server.say("filter strange*", "OK NOOP");
    server.say("filter broken*", "TEMP later");
    server.say("footer 550 *", "OK \\c. Ask the postmaster");
    server.say("ours 127.0.0.1", "OK yes");
    let system = Builder::new("a.example").main_cf(&lines).start()?;
    let wrong = |error: std::io::Error| format!("{error}\n{}", system.logs());
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    let offered = smtp.command("EHLO client.example", 2).map_err(wrong)?;
    if offered.contains("SIZE") || !offered.contains("PIPELINING") {
        return Err(format!("offered: {offered}"));
    }
    smtp.command("strange words", 2).map_err(wrong)?;
    let refused = smtp.command("broken words", 4).map_err(wrong)?;
    smtp.command("MAIL FROM:<x@elsewhere.example>", 2).map_err(wrong)?;
    let unknown = smtp.command("RCPT TO:<nobody@a.example>", 5).map_err(wrong)?;
    if !refused.starts_with("451 4.3.0") || !unknown.contains("Ask the postmaster") {
        return Err(format!("refused: {refused}, unknown: {unknown}\n{}", system.logs()));
    }
    smtp.command("RCPT TO:<john@a.example>", 2).map_err(wrong)?;
    smtp.command("DATA", 3).map_err(wrong)?;
    let long = "a line of the content\r\n".repeat(5000);
    smtp.command(&format!("From: mary\r\nSubject: ours\r\n\r\n{long}."), 2).map_err(wrong)?;
    let stored = system.wait_for_messages("john", 1)?.concat();
    if !stored.contains("From: mary@a.example") {
        return Err(format!("the header of a client of ours: {:.600}", stored));
    }
    match server.asked("ours 127.0.0.1") {
        1 => Ok(()),
        times => Err(format!("one message asked {times} times whose it is")),
    }
}

/// So are the lists of clients that may speak for others and that no limit holds for, of domains for ETRN, and of what the log shows.
pub fn for_lists() -> Result<(), String> {
    let server = Socketmap::default();
    let map = format!("socketmap:inet:127.0.0.1:{}", server.start()?);
    let lines = format!(
        "smtpd_authorized_xclient_hosts = {map}:xclient\nsmtpd_client_event_limit_exceptions = {map}:unlimited\n\
         smtpd_client_connection_rate_limit = 1\nfast_flush_domains = {map}:flush\nsmtpd_log_access_permit_actions = {map}:shown\n"
    );
    for known in ["xclient 127.0.0.1", "unlimited localhost", "flush ours.example", "shown permit_mynetworks"] {
        server.say(known, "OK yes");
    }
    server.say("flush broken.example", "TEMP later");
    let system = Builder::new("a.example").main_cf(&lines).start()?;
    let wrong = |error: std::io::Error| format!("{error}\n{}", system.logs());
    let connect = || Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong);
    let first = connect()?;
    let mut smtp = connect()?;
    let offered = smtp.command("EHLO client.example", 2).map_err(wrong)?;
    if !offered.contains("XCLIENT") {
        return Err(format!("offered: {offered}"));
    }
    smtp.command("ETRN ours.example", 2).map_err(wrong)?;
    let (other, broken) =
        (smtp.command("ETRN other.example", 4).map_err(wrong)?, smtp.command("ETRN broken.example", 4).map_err(wrong)?);
    if !other.starts_with("459 ") || !broken.starts_with("458 ") {
        return Err(format!("ETRN: {other}{broken}"));
    }
    smtp.command("XCLIENT ADDR=IPV6:2001:db8::1 DESTADDR=IPV6:2001:db8::25", 2).map_err(wrong)?;
    drop((first, smtp));
    server.say("xclient 127.0.0.1", "TEMP later");
    let mut smtp = connect()?;
    let offered = smtp.command("EHLO client.example", 2).map_err(wrong)?;
    if offered.contains("XCLIENT") {
        return Err("a list that cannot say allows XCLIENT".to_owned());
    }
    smtp.command("MAIL FROM:<x@elsewhere.example>", 2).map_err(wrong)?;
    smtp.command("RCPT TO:<john@a.example>", 2).map_err(wrong)?;
    wait_for("the yes in the log", Patience::default(), || {
        system.log("smtpd").contains("action=permit_mynetworks for Client host=localhost[127.0.0.1]").then_some(())
    })
    .map_err(|error| format!("{error}\n{}", system.logs()))?;
    server.say("unlimited localhost", "NOTFOUND ");
    connect()?;
    let limited = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map(drop);
    if limited.is_ok() { Err(format!("no limit holds\n{}", system.logs())) } else { Ok(()) }
}

/// A changed table is taken by itself, a broken one defers with its line in the log, and postmap's word is taken at once.
pub fn by_themselves() -> Result<(), String> {
    let lines = "smtpd_recipient_restrictions = check_recipient_access regexp:{root}/etc/rules, \
                 check_recipient_access cdb:{root}/etc/built, permit_mynetworks, reject_unauth_destination\n";
    let rules = "/^spam@/ REJECT not wanted\n";
    let mut system = Builder::new("a.example")
        .main_cf(lines)
        .file("rules", rules)
        .file("built", "mary@a.example REJECT away\n")
        .prepare()?;
    let built = format!("cdb:{}", system.etc().join("built").display());
    system.run(&["postmap", &built], "")?;
    system.start()?;
    let wrong = |error: std::io::Error| error.to_string();
    expect(&system, "spam@a.example", "554 5.7.1 <spam@a.example>: Recipient address rejected: not wanted")?;
    expect(&system, "mary@a.example", "554 5.7.1 <mary@a.example>: Recipient address rejected: away")?;
    expect(&system, "john@a.example", "250 ")?;
    fs::write(system.etc().join("rules"), "# one\n/^spam@/ REJECT not wanted\n/(/ REJECT\n").map_err(wrong)?;
    // Postfix's words for an access table that cannot say.
    becomes(&system, "john@a.example", "451 4.3.5 <john@a.example>: ")?;
    let line = format!("{}:3", system.etc().join("rules").display());
    wait_for("the line in the log", Patience::default(), || system.log("smtpd").contains(&line).then_some(()))
        .map_err(|error| format!("the log does not name {line}: {error}\n{}", system.logs()))?;
    fs::write(system.etc().join("rules"), "/^john@/ REJECT not he\n").map_err(wrong)?;
    becomes(&system, "john@a.example", "554 5.7.1 <john@a.example>: Recipient address rejected: not he")?;
    fs::write(system.etc().join("built"), "mary@a.example OK\n").map_err(wrong)?;
    system.run(&["postmap", &built], "")?;
    becomes(&system, "mary@a.example", "250 ")
}
