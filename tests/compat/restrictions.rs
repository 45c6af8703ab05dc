//! Restriction lists and access tables, generated: the same sessions with a real Postfix and with us, replies compared octet for octet and the log
//! lines about decisions as well.
//!
//! Each case is one `inet` service of master.cf with lists of its own; XCLIENT says who the client is. `POSTRIDER_POLICY_SERVICES` is how many
//! services are made, `POSTRIDER_POLICY_SEED` where the generator begins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use test_support::system::Builder;
use test_support::{Patience, wait_for};

use crate::postfix::{Postfix, free_port};

/// How many services there are where nobody says otherwise.
const SERVICES: u64 = 60;
/// How many sessions each hears.
const SESSIONS: usize = 14;

/// The same for both. Friends are 10.0.0.0/8.
const MAIN_CF: &str = "compatibility_level = 3.6\nmyhostname = mail.info.net\nmydomain = info.net\nmyorigin = $mydomain\n\
    mydestination = $myhostname, localhost, $mydomain\nmynetworks = 10.0.0.0/8\ninet_interfaces = 127.0.0.1\n\
    alias_maps =\nlocal_recipient_maps = inline:{john=1}\nlocal_transport = discard\ndefault_transport = discard\nrelay_transport = discard\n\
    virtual_transport = discard\nrelay_domains = relay.net\nrelay_recipient_maps = inline:{ {a@relay.net = 1} }\nvirtual_alias_domains = alias.net\n\
    virtual_alias_maps = inline:{ {sales@alias.net = john} }\nvirtual_mailbox_domains = box.net\n\
    virtual_mailbox_maps = inline:{ {box@box.net = box} }\nrecipient_delimiter = +\nsmtpd_tls_security_level = none\n\
    smtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 100000\nsmtpd_junk_command_limit = 100000\nsmtpd_peername_lookup = no\n\
    smtpd_authorized_xclient_hosts = 0.0.0.0/0, [::]/0\nsmtpd_client_connection_count_limit = 0\nmaximal_queue_lifetime = 1d\n\
    smtpd_restriction_classes = strict, lenient, nested\nstrict = reject_non_fqdn_sender, reject_invalid_helo_hostname, reject\n\
    lenient = permit_mynetworks, reject_unlisted_recipient, permit\nnested = warn_if_reject strict, lenient\n\
    access_map_defer_code = 451\nunknown_client_reject_code = 550\nreject_code = 555\n";

/// A generator of numbers that are the same in every run (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(mixed).unwrap_or(0) % limit
    }

    fn one<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn is_once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

const CLIENTS: [(&str, &str); 8] = [
    ("host.example.org", "192.0.2.1"),
    ("[UNAVAILABLE]", "192.0.2.99"),
    ("[TEMPUNAVAIL]", "198.51.100.7"),
    ("mail.sub.example.net", "198.51.100.7"),
    ("friend.example.org", "10.1.2.3"),
    ("[UNAVAILABLE]", "10.9.9.9"),
    ("six.example.org", "IPV6:2001:db8::1"),
    ("host.example.com", "203.0.113.4"),
];
const HELOS: [&str; 10] = [
    "HELO mx.example.org",
    "EHLO mx.example.org",
    "EHLO host.example.org",
    "EHLO localhost",
    "HELO a..b",
    "EHLO [192.0.2.1]",
    "EHLO [nonsense]",
    "HELO 192.0.2.1",
    "EHLO under_score.example.net",
    "NOOP",
];
const SENDERS: [&str; 11] = [
    "",
    "a@example.org",
    "user+ext@sub.example.net",
    "john@info.net",
    "nobody@info.net",
    "plain",
    "b@short",
    "a@[192.0.2.1]",
    "c@relay.net",
    "nobody@alias.net",
    "d@box.net",
];
const RECIPIENTS: [&str; 13] = [
    "john@info.net",
    "john+tag@info.net",
    "nobody@info.net",
    "x@y.org",
    "a@relay.net",
    "b@relay.net",
    "sales@alias.net",
    "nobody@alias.net",
    "box@box.net",
    "nobody@box.net",
    "john",
    "postmaster",
    "z@sub.example.net",
];
const RULES: [&str; 28] = [
    "permit_mynetworks",
    "permit_mynetworks",
    "reject_unauth_destination",
    "permit_auth_destination",
    "defer_unauth_destination",
    "permit_sasl_authenticated",
    "permit_tls_clientcerts",
    "reject_invalid_helo_hostname",
    "reject_non_fqdn_helo_hostname",
    "reject_non_fqdn_sender",
    "reject_non_fqdn_recipient",
    "reject_unknown_client_hostname",
    "reject_unknown_reverse_client_hostname",
    "reject_unlisted_recipient",
    "reject_unauth_pipelining",
    "reject_plaintext_session",
    "reject_multi_recipient_bounce",
    "reject_sender_login_mismatch",
    "permit",
    "reject",
    "defer",
    "defer_if_permit",
    "defer_if_reject",
    "strict",
    "lenient",
    "nested",
    "no_such_restriction",
    "warn_if_reject",
];
const CHECKS: [&str; 6] = [
    "check_client_access",
    "check_reverse_client_hostname_access",
    "check_helo_access",
    "check_sender_access",
    "check_recipient_access",
    "",
];
const KEYS: [&str; 34] = [
    "host.example.org",
    "example.org",
    ".example.org",
    "org",
    "net",
    "sub.example.net",
    "unknown",
    "192.0.2.1",
    "192.0.2",
    "192.0",
    "198",
    "10",
    "2001:db8::1",
    "2001:db8",
    "mx.example.org",
    "localhost",
    "a..b",
    "[192.0.2.1]",
    "<>",
    "a@example.org",
    "user+ext@sub.example.net",
    "user@sub.example.net",
    "user@",
    "user+ext@",
    "info.net",
    "john@info.net",
    "john@",
    "john+tag@",
    "nobody@",
    "relay.net",
    "a@",
    "y.org",
    "x@y.org",
    "alias.net",
];
const ACTIONS: [&str; 41] = [
    "OK",
    "OK with text",
    "RELAY",
    "DUNNO",
    "dunno whatever",
    "REJECT",
    "reject",
    "REJECT go away",
    "REJECT 5.7.2 go away",
    "550 no",
    "550 5.1.0 no",
    "550 5.1.2 no",
    "550 5.1.3 no",
    "550 5.1.4 no",
    "550 5.1.6 no",
    "550 5.1.8 no",
    "550 5.1.10 no",
    "550 5.1.1 no such user",
    "550 5.1.7 bad sender",
    "554 5.7.2 policy, of ours",
    "450 4.1.2 later",
    "450 wait",
    "DEFER",
    "DEFER 4.2.0 busy",
    "DEFER_IF_PERMIT",
    "DEFER_IF_PERMIT 4.1.1 perhaps",
    "DEFER_IF_REJECT",
    "DEFER_IF_REJECT perhaps not",
    "HOLD",
    "HOLD for inspection",
    "WARN take note",
    "INFO take note",
    "PREPEND X-Note: yes",
    "REDIRECT john@info.net",
    "1234567890",
    "permit_mynetworks, reject",
    "reject_unauth_destination",
    "strict",
    "nested",
    "no_such_action",
    "DISCARD",
];

/// An access table: its name and its lines.
fn tables(chance: &mut Chance) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for number in 0..8 {
        let mut lines = String::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10 {
            let key = chance.one(&KEYS);
            if seen.insert(key) {
                let _ = writeln!(lines, "{key} {}", chance.one(&ACTIONS));
            }
        }
        all.push((format!("table{number}"), lines));
    }
    all.push(("networks".to_owned(), "192.0.2.0/25 REJECT\n192.0.2.0/24 OK\n2001:db8::/32 450 six\n".to_owned()));
    all.push(("patterns".to_owned(), "/^user\\+/ 550 5.1.1 extension\n/example\\.org$/ DUNNO\n/^x@/ OK\n".to_owned()));
    all
}

/// One list, mostly with some rules that let pass, so that later ones are reached.
fn list(chance: &mut Chance, directory: &Path) -> String {
    let mut rules = Vec::new();
    for _ in 0..chance.below(5) {
        if chance.is_once_in(2) {
            let check = chance.one(&CHECKS);
            let shown = directory.display();
            let table = match chance.below(12) {
                0 => format!("cidr:{shown}/networks"),
                1 => format!("regexp:{shown}/patterns"),
                2 => "static:DUNNO".to_owned(),
                other => format!("texthash:{shown}/table{}", other % 8),
            };
            rules.push(format!("{check} {table}").trim().to_owned());
        } else {
            rules.push(chance.one(&RULES).to_owned());
        }
    }
    // A warning needs something to warn of.
    if rules.last().is_some_and(|rule| rule == "warn_if_reject") {
        rules.push("reject".to_owned());
    }
    rules.join(", ")
}

/// The overrides of one service.
fn overrides(chance: &mut Chance, directory: &Path) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: String| {
        let _ = writeln!(text, "  -o {{ {name} = {value} }}");
    };
    for name in ["client", "helo", "sender", "recipient", "data", "end_of_data"] {
        if !matches!(name, "data" | "end_of_data") || chance.is_once_in(3) {
            set(&format!("smtpd_{name}_restrictions"), list(chance, directory));
        }
    }
    // A list that permits everybody first would keep Postfix from starting.
    let relay = list(chance, directory);
    let relay = relay.split(", ").filter(|rule| *rule != "permit").collect::<Vec<_>>().join(", ");
    set(
        "smtpd_relay_restrictions",
        format!("{relay}{}reject_unauth_destination", if relay.is_empty() { "" } else { ", " }),
    );
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    set("smtpd_delay_reject", yes_no(!chance.is_once_in(3)));
    set("smtpd_helo_required", yes_no(chance.is_once_in(6)));
    set("soft_bounce", yes_no(chance.is_once_in(8)));
    set("smtpd_reject_unlisted_sender", yes_no(chance.is_once_in(4)));
    set("smtpd_relay_before_recipient_restrictions", yes_no(!chance.is_once_in(4)));
    if chance.is_once_in(4) {
        set("parent_domain_matches_subdomains", String::new());
    }
    match chance.below(6) {
        0 => {
            set("smtpd_log_access_permit_actions", "permit_mynetworks, permit, permit_auth_destination, OK".to_owned())
        }
        1 => set("smtpd_log_access_permit_actions", "!permit, static:all".to_owned()),
        2 => set("smtpd_log_access_permit_actions", "static:all".to_owned()),
        _ => {}
    }
    if chance.is_once_in(5) {
        set("smtpd_delay_open_until_valid_rcpt", "no".to_owned());
    }
    text
}

/// What a client says in one session, line by line.
fn session(chance: &mut Chance) -> Vec<String> {
    let (name, address) = CLIENTS[chance.below(CLIENTS.len())];
    let mut lines = vec!["RSET".to_owned(), format!("XCLIENT NAME={name} ADDR={address} PROTO=ESMTP")];
    // Postfix keeps the reverse name of the client before where none is given.
    let reverse = if chance.is_once_in(4) { "reverse.example.org" } else { name };
    lines[1].push_str(&format!(" REVERSE_NAME={reverse}"));
    lines.push(chance.one(&HELOS).to_owned());
    lines.push(format!("MAIL FROM:<{}>", chance.one(&SENDERS)));
    for _ in 0..=chance.below(3) {
        lines.push(format!("RCPT TO:<{}>", chance.one(&RECIPIENTS)));
    }
    if chance.is_once_in(3) {
        lines.push("DATA".to_owned());
        lines.push("Subject: x\r\n\r\nx\r\n.".to_owned());
    }
    lines
}

/// The replies and the log are Postfix's.
pub fn are_the_same() -> Result<(), String> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("POSTRIDER_POLICY_SERVICES").unwrap_or(SERVICES);
    let seed = number("POSTRIDER_POLICY_SEED").unwrap_or(20_261_122);
    let mut chance = Chance(seed | 1);
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    for (name, lines) in tables(&mut chance) {
        fs::write(directory.path().join(name), lines).map_err(|error| error.to_string())?;
    }
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let overrides = overrides(&mut chance, directory.path());
        theirs.push((free_port()?, overrides.clone()));
        ours.push((free_port()?, overrides));
    }
    let services = |all: &[(SocketAddr, String)]| -> String {
        all.iter().map(|(port, text)| format!("{port} inet n - n - 1 smtpd\n{text}")).collect()
    };
    let system = Builder::new("info.net")
        .main_cf(MAIN_CF)
        .master_cf(&services(&ours).replace("- 1 smtpd", "- - smtpd"))
        .start()?;
    let postfix = Postfix::start_with(free_port()?, MAIN_CF, &services(&theirs))?;
    let mut differences = Vec::new();
    let mut compared = 0;
    for (their, our) in theirs.iter().zip(&ours) {
        let sessions: Vec<_> = (0..SESSIONS).map(|_| session(&mut chance)).collect();
        let tell = |error: String| {
            format!("{error}\n{}\n{}", their.1, postfix.log().lines().rev().take(20).collect::<Vec<_>>().join("\n"))
        };
        let (left, right) = (talk(their.0, &sessions).map_err(tell)?, talk(our.0, &sessions).map_err(tell)?);
        for ((session, left), right) in sessions.iter().zip(&left).zip(&right) {
            compared += left.len();
            if left != right {
                differences.push(difference(&their.1, session, left, right));
            }
        }
    }
    if compared == 0 {
        return Err("no reply was compared".to_owned());
    }
    let logs = compare_logs(&|| postfix.log(), &|| system.log("smtpd"));
    drop(system);
    if differences.is_empty() {
        return logs;
    }
    let mut kinds = BTreeMap::new();
    for (kind, text) in &differences {
        let (count, _) = kinds.entry(kind).or_insert((0, text));
        *count += 1;
    }
    let shown: String =
        kinds.iter().take(25).map(|(kind, (count, text))| format!("##{count} {kind}\n{text}")).collect();
    let tables = (0..8).map(|number| {
        let name = format!("table{number}");
        format!("== {name}\n{}", fs::read_to_string(directory.path().join(&name)).unwrap_or_default())
    });
    Err(format!(
        "{} sessions of {} differ\n{shown}\n{}",
        differences.len(),
        count * SESSIONS as u64,
        tables.collect::<String>()
    ))
}

/// The first difference in short, and the whole session.
fn difference(overrides: &str, session: &[String], left: &[String], right: &[String]) -> (String, String) {
    let mut text = format!("---\n{overrides}");
    let mut kind = String::new();
    for (at, line) in session.iter().enumerate() {
        let (left, right) = (left.get(at), right.get(at));
        let mark = if left == right { " " } else { "!" };
        let _ = writeln!(text, "{mark} {line:?}\n     Postfix: {left:?}");
        if left != right {
            let _ = writeln!(text, "     ours:    {right:?}");
            if kind.is_empty() {
                kind = format!("{} | {}", without_names(left), without_names(right));
            }
        }
    }
    (kind, text)
}

/// A reply without what stands in angle brackets.
fn without_names(reply: Option<&String>) -> String {
    let reply = reply.map(String::as_str).unwrap_or_default();
    match (reply.find('<'), reply.rfind('>')) {
        (Some(start), Some(end)) => format!("{}<>{}", &reply[..start], &reply[end + 1..]),
        _ => reply.to_owned(),
    }
}

/// The replies to each line of each session. A connection that was closed is opened again for the next session.
fn talk(address: SocketAddr, sessions: &[Vec<String>]) -> Result<Vec<Vec<String>>, String> {
    let wrong = |error: std::io::Error| format!("{address}: {error}");
    let mut open: Option<BufReader<TcpStream>> = None;
    let mut all = Vec::new();
    for session in sessions {
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).map_err(wrong)?;
                stream.set_read_timeout(Some(Duration::from_secs(120))).map_err(wrong)?;
                stream.set_nodelay(true).map_err(wrong)?;
                let mut stream = BufReader::new(stream);
                reply(&mut stream).map_err(wrong)?;
                stream
            }
        };
        let mut replies = Vec::new();
        let mut content = false;
        for line in session {
            // Content follows only where it is waited for.
            if line.ends_with("\r\n.") && !std::mem::take(&mut content) {
                continue;
            }
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).map_err(wrong)?;
            let answer = reply(&mut stream).map_err(|error| format!("{address}: {line:?} of {session:?}: {error}"))?;
            content = answer.starts_with("354");
            let closed = answer.ends_with("closed");
            replies.push(answer);
            if closed {
                break;
            }
        }
        if !replies.last().is_some_and(|reply| reply.ends_with("closed")) {
            open = Some(stream);
        }
        all.push(replies);
    }
    Ok(all)
}

/// One reply, without the id of a message and the keywords of EHLO.
fn reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            text.push_str("closed");
            return Ok(text);
        }
        // soft_bounce turns 503 into 403 in Postfix; what is about the order of commands keeps its code here.
        let line = line.trim_end().split(" queued as ").next().unwrap_or_default();
        let line = line.strip_prefix("403 4.5.1").map_or(line.to_owned(), |rest| format!("503 5.5.1{rest}"));
        let line = line.strip_prefix("454 4.5.1").map_or(line.clone(), |rest| format!("554 5.5.1{rest}"));
        let line = line.strip_prefix("403 4.7.0").map_or(line.clone(), |rest| format!("503 5.7.0{rest}"));
        let line = line.as_str();
        let last = line.as_bytes().get(3) != Some(&b'-');
        if line.starts_with("250-") || (text.starts_with("250-") && last) {
            text = "250-".to_owned();
        } else {
            text.push_str(line);
        }
        if last {
            // These codes end the session; the close follows.
            if text.starts_with("421") || text.starts_with("521") {
                text.push_str(" closed");
            }
            return Ok(text);
        }
    }
}

/// Lines about decisions, without time, process and queue id, and how often each comes.
fn decisions(log: &str) -> BTreeMap<String, i64> {
    const WORDS: [&str; 8] =
        ["reject: ", "reject_warning: ", "hold: ", "discard: ", "redirect: ", "warn: ", "info: ", "permit: "];
    let mut all = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("/smtpd[")) {
        let Some((_, text)) = line.split_once("]: ") else { continue };
        let text = text.split_once(": ").map_or(text, |(_, rest)| rest);
        if WORDS.iter().any(|word| text.starts_with(word)) {
            // A client that XCLIENT names connects for us; in Postfix it keeps the protocol that XCLIENT names, whether it says HELO or EHLO.
            let text = text.replacen(": XCLIENT from ", ": CONNECT from ", 1).replace(" proto=SMTP", " proto=ESMTP");
            *all.entry(text).or_insert(0) += 1;
        }
    }
    all
}

/// Both logs hold the same decisions as often; the last lines may be on their way.
fn compare_logs(theirs: &dyn Fn() -> String, ours: &dyn Fn() -> String) -> Result<(), String> {
    let mut difference = String::new();
    wait_for("the same decisions in both logs", Patience::default(), || {
        let mut counts = decisions(&theirs());
        for (line, count) in decisions(&ours()) {
            *counts.entry(line).or_insert(0) -= count;
        }
        difference.clear();
        for (line, count) in counts.iter().filter(|(_, count)| **count != 0) {
            let _ = writeln!(difference, "{count:+} {line}");
        }
        difference.is_empty().then_some(())
    })
    .map_err(|error| format!("{error}\n{}", difference.lines().take(40).collect::<Vec<_>>().join("\n")))
}
