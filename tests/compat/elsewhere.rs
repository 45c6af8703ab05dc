//! What local delivery passes on (`mailbox_transport`, `fallback_transport`, `luser_relay`), and what routes answer at RCPT: the same names to a real
//! Postfix and to us, the same replies, the same ends, the same recipients at the next server.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use test_support::clients::{Lines, Security};
use test_support::remote::{Remote, Setup};
use test_support::{Builder, Patience, wait_for};

use crate::postfix::{Postfix, free_port};

/// Names at the local domain: aliases, users of every machine, and nobody.
const NAMES: [&str; 13] = [
    "daemon",
    "daemon+Ext",
    "Games",
    "man",
    "mail",
    "nobox+x",
    "known",
    "later+y",
    "away",
    "thrown",
    "nobody-at-all+a.b",
    "list",
    "postmaster",
];

/// Sender and recipient of further domains.
const OTHERS: [(&str, &str); 7] = [
    ("eve@x.example", "a@else.example"),
    ("bob@x.example", "a@else.example"),
    ("cat@x.example", "a@else.example"),
    ("", "a@else.example"),
    ("ann@x.example", "a@else.example"),
    ("ann@x.example", "a@relay.example"),
    ("ann@x.example", "a@virtual.example"),
];

fn main_cf(hop: SocketAddr) -> String {
    let sink = format!("smtp:[127.0.0.1]:{}", hop.port());
    format!(
        "compatibility_level = 3.6\nmyhostname = mail.info.net\nmyorigin = info.net\nmydestination = info.net\nmynetworks = 127.0.0.0/8\n\
         local_recipient_maps =\nlocal_transport = local:$myhostname\nrecipient_delimiter = +\nalias_maps = inline:{{{{list = other@relayed.example}}}}\n\
         mailbox_transport_maps = inline:{{{{daemon = {sink}}}, {{games = error:5.2.1 closed}}, {{man = retry:4.2.1 later}}, \
         {{mail = error:}}, {{nobox = {sink}}}}}\n\
         fallback_transport_maps = inline:{{{{known = error:5.2.2 none}}, {{later = retry:4.2.2 not yet}}, {{away = {sink}}}, \
         {{thrown = discard:thrown away}}}}\n\
         luser_relay = x.$user.$local.${{extension?{{$extension}}:{{none}}}}@relayed.example\ntransport_maps = inline:{{{{relayed.example = {sink}}}}}\n\
         sender_dependent_default_transport_maps = inline:{{{{eve@x.example = error:5.7.8 not you}}, {{bob@x.example = retry:4.7.8 later}}, \
         {{cat@x.example = {sink}}}, {{<> = error:5.7.9 no bounces}}}}\ndefault_transport = retry:4.7.9 not yet\n\
         relay_domains = relay.example\nrelay_transport = error:5.7.7 closed\nvirtual_mailbox_domains = virtual.example\n\
         virtual_mailbox_maps = static:x\nvirtual_transport = error:no virtual\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\n"
    )
}

/// What became of the recipients, by what was said of them.
struct Told {
    replies: BTreeMap<String, String>,
    ends: BTreeMap<String, String>,
    taken: Vec<String>,
}

pub fn goes_where_postfix_sends_it() -> Result<(), String> {
    let start_next = || Setup::new("next.example").start(free_port()?).map_err(|error| error.to_string());
    let theirs = {
        let next = start_next()?;
        let postfix = Postfix::start(&main_cf(next.address()))?;
        told(postfix.address, &next, &|| postfix.log())?
    };
    let next = start_next()?;
    let system = Builder::new("info.net").main_cf(&main_cf(next.address())).start()?;
    let logs = || ["local-delivery", "remote-delivery", "queue-manager"].map(|name| system.log(name)).concat();
    let ours = told(system.ports.at(system.ports.smtp), &next, &logs)?;
    let lines = |told: &Told| {
        let pairs = told.replies.iter().chain(&told.ends).map(|(what, said)| format!("{what}: {said}"));
        pairs.chain(told.taken.iter().map(|to| format!("taken: {to}"))).collect::<Vec<_>>()
    };
    let (theirs, ours) = (lines(&theirs), lines(&ours));
    let only =
        |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>();
    if theirs == ours {
        return Ok(());
    }
    Err(format!("Postfix alone {:#?}\nours alone {:#?}", only(&theirs, &ours), only(&ours, &theirs)))
}

fn told(address: SocketAddr, next: &Remote, log: &dyn Fn() -> String) -> Result<Told, String> {
    let mut smtp = Lines::connect(address, Security::Clear).map_err(|error| error.to_string())?;
    heard(&mut smtp).and_then(|_| say(&mut smtp, "EHLO h.example")).map_err(|error| error.to_string())?;
    let local = NAMES.into_iter().map(|name| ("a@x.example".to_owned(), format!("{name}@info.net")));
    let others = OTHERS.into_iter().map(|(from, to)| (from.to_owned(), to.to_owned()));
    let (mut replies, mut wanted) = (BTreeMap::new(), Vec::new());
    for (from, to) in local.chain(others) {
        let reply = one(&mut smtp, &from, &to).map_err(|error| format!("{from} to {to}: {error}"))?;
        if reply.starts_with("250") {
            wanted.push(to.clone());
        }
        replies.insert(format!("{from} to {to}"), reply);
    }
    // Everything has an end, or waits, before anything is compared; whom luser_relay and the alias lead to are known by the next server.
    let ends = wait_for("an end of each recipient", Patience::default(), || {
        let ends = ends(&log(), next);
        let there = |to: &String| ends.contains_key(to) || is_passed_on(to);
        // The line of the log comes after the mail.
        let taken = next.taken();
        let logged = taken.iter().flat_map(|mail| &mail.to).all(|to| ends.contains_key(bare(to)));
        (wanted.iter().all(there) && taken.len() >= 8 && logged).then_some(ends)
    });
    let ends = ends.map_err(|error| format!("{error}: {wanted:?}\n{:?}\n{}", next.taken(), log()))?;
    let address = |to: &String| to.split(' ').next().unwrap_or_default().to_owned();
    let mut taken: Vec<String> =
        next.taken().iter().flat_map(|mail| mail.to.iter().map(address).collect::<Vec<_>>()).collect();
    taken.sort();
    Ok(Told { replies, ends, taken })
}

/// The address of a RCPT argument.
fn bare(argument: &str) -> &str {
    argument.split(['<', '>']).nth(1).unwrap_or(argument)
}

/// Whether another address takes the place of a recipient, so that its own line is Postfix's alone.
fn is_passed_on(to: &str) -> bool {
    ["nobody-at-all", "list@", "postmaster@"].iter().any(|name| to.starts_with(name))
}

/// One message; the reply to its RCPT.
fn one(smtp: &mut Lines, from: &str, to: &str) -> std::io::Result<String> {
    say(smtp, &format!("MAIL FROM:<{from}>"))?;
    let reply = say(smtp, &format!("RCPT TO:<{to}>"))?;
    let rest = if reply.starts_with("250") { &["DATA", "Subject: elsewhere\r\n\r\nhello\r\n."][..] } else { &["RSET"] };
    rest.iter().try_for_each(|command| say(smtp, command).map(drop))?;
    Ok(reply)
}

fn say(smtp: &mut Lines, command: &str) -> std::io::Result<String> {
    smtp.say(command)?;
    heard(smtp)
}

/// The last line of a reply.
fn heard(smtp: &mut Lines) -> std::io::Result<String> {
    loop {
        let line = smtp.hear()?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line);
        }
    }
}

/// The first end of each recipient in the log: its status and its words.
fn ends(log: &str, next: &Remote) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("status=") && !line.contains("(forwarded as")) {
        let to = line.split("to=<").nth(1).and_then(|rest| rest.split('>').next());
        let end = line.split(" dsn=").nth(1);
        if let (Some(to), Some(end)) = (to, end) {
            let end = end.replace(&next.address().port().to_string(), "PORT");
            found.entry(to.to_owned()).or_insert(end);
        }
    }
    // Bounces have no next hop here; that is the same for both, but their ends come when they come.
    found.retain(|to, _| !to.ends_with("@x.example"));
    found
}
