//! `sendmail -bv` asks what would become of mail, `sendmail -v` what became of it at first: both answers come as a report.

use std::net::{Ipv4Addr, SocketAddr};

use test_support::remote::{Act, At, Remote, Setup};
use test_support::{Builder, System, free_port};

const TRANSPORT: &str = "lists.example local:\nfar.example smtp:[{far}\ndead.example smtp:[{dead}\n\
     gone.example error:5.1.2 no mail here\ntrap.example discard:into the trap\n";

/// A system with users, lists and routes of every kind, and a server that takes mail for nearly everybody.
fn world() -> Result<(System, Remote), String> {
    let address = |port: std::io::Result<u16>| port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let far = address(free_port(Ipv4Addr::LOCALHOST)).map_err(|error| error.to_string())?;
    let dead = address(free_port(Ipv4Addr::LOCALHOST)).map_err(|error| error.to_string())?;
    let remote = Setup::new("mx.far.example").start(far).map_err(|error| error.to_string())?;
    remote.about("bad@", At::Rcpt, Act::say("550 5.1.1 no such user"));
    remote.about("later@", At::Rcpt, Act::say("450 4.2.0 come back"));
    let bracket = |address: SocketAddr| format!("{}]:{}", address.ip(), address.port());
    let transport = TRANSPORT.replace("{far}", &bracket(far)).replace("{dead}", &bracket(dead));
    let lines = "mydestination = $myhostname, localhost, $mydomain, lists.example\n\
         transport_maps = texthash:{root}/etc/transport\nvirtual_alias_domains = v.example\n\
         virtual_alias_maps = inline:{ { two@v.example = mary@a.example, x@far.example } }\n\
         virtual_mailbox_domains = boxes.example\nvirtual_mailbox_base = {root}/home\n\
         virtual_mailbox_maps = inline:{ box@boxes.example=box/ }\nvirtual_minimum_uid = 1\n\
         virtual_uid_maps = static:1000\nvirtual_gid_maps = static:1000\n";
    let aliases = "team: mary@a.example, y@far.example\nprogram: \"|touch {root}/touched\"\nfile: {root}/touched\n";
    let ours = Builder::new("a.example").main_cf(lines).file("aliases", aliases).file("transport", &transport);
    Ok((ours.start()?, remote))
}

/// The reports that john got, unfolded.
fn reports(system: &System, count: usize) -> Result<Vec<String>, String> {
    let messages = system.wait_for_messages("john", count)?;
    Ok(messages.into_iter().map(|text| text.replace("\r\n", "\n").replace("\n    ", " ")).collect())
}

fn holds(report: &str, recipient: &str, wanted: &str) -> Result<(), String> {
    let start = format!("Final-Recipient: rfc822; {recipient}\n");
    let blocks: Vec<_> = report.split("\n\n").filter(|block| block.starts_with(&start)).collect();
    match blocks.iter().any(|block| wanted.split(" + ").all(|part| block.contains(part))) {
        true => Ok(()),
        false => Err(format!("{recipient}: {wanted:?} is missing in:\n{report}")),
    }
}

/// What `-bv` reports: the recipient that an address leads to, and what stands in its fields.
const EXPECTED: &[(&str, &str)] = &[
    (
        "mary@a.example",
        "Action: deliverable + Status: 2.0.0 + delivery via mail.a.example[private/dovecot-lmtp]: 250 2.1.5 OK",
    ),
    ("mary@a.example", "Original-Recipient: rfc822;two@v.example + Action: deliverable"),
    ("mary@a.example", "Original-Recipient: rfc822;team@lists.example + Action: deliverable"),
    (
        "x@far.example",
        "Original-Recipient: rfc822;two@v.example + Action: deliverable + Diagnostic-Code: smtp; 250 2.1.5",
    ),
    ("y@far.example", "Original-Recipient: rfc822;team@lists.example + Action: deliverable"),
    ("nosuch@a.example", "Action: undeliverable + Status: 5.1.1"),
    ("bad@far.example", "Action: undeliverable + Status: 5.1.1 + Diagnostic-Code: smtp; 550 5.1.1 no such user"),
    ("later@far.example", "Action: undeliverable + Status: 4.2.0"),
    ("d@dead.example", "Action: undeliverable + Status: 4.4.1 + Connection refused"),
    ("g@gone.example", "Action: undeliverable + Status: 5.1.2 + no mail here"),
    ("t@trap.example", "Action: deliverable + into the trap"),
    ("program@lists.example", "Action: deliverable + delivery via local: delivers to command: touch "),
    ("file@lists.example", "Action: deliverable + delivery via local: delivers to file: "),
    ("box@boxes.example", "Action: deliverable + delivery via virtual: delivers to maildir"),
    ("other@boxes.example", "Action: undeliverable + Status: 5.1.1 + unknown user: \"other@boxes.example\""),
];

pub fn and_nothing_is_delivered() -> Result<(), String> {
    let (system, remote) = world()?;
    let mut asked: Vec<&str> =
        EXPECTED.iter().map(|(to, _)| *to).filter(|to| !matches!(*to, "x@far.example" | "y@far.example")).collect();
    asked.dedup();
    asked.extend(["two@v.example", "team@lists.example"]);
    let said = system.run(&[&["sendmail", "-bv", "-f", "john@a.example"][..], &asked].concat(), "")?;
    if said != "Mail Delivery Status Report will be mailed to <john@a.example>.\n" {
        return Err(format!("it said {said:?}"));
    }
    let report = reports(&system, 1).map_err(|error| format!("{error}\n{}", system.logs()))?.remove(0);
    for wanted in ["Subject: Mail Delivery Status Report\n", "Subject: probe\n", "From: MAILER-DAEMON@"] {
        if !report.contains(wanted) {
            return Err(format!("{wanted:?} is missing in:\n{report}"));
        }
    }
    EXPECTED.iter().try_for_each(|(to, wanted)| holds(&report, to, wanted))?;
    let heard = remote.heard();
    if !remote.taken().is_empty() || heard.iter().any(|line| line.starts_with("DATA")) {
        return Err(format!("the other server got more than a question: {heard:?}"));
    }
    let touched = ["touched", "home/box", "home/mary/Maildir"].iter().find(|path| system.root().join(path).exists());
    if let Some(path) = touched {
        return Err(format!("{path} was made"));
    }
    let status = format!("to=<bad@far.example>, relay=127.0.0.1[127.0.0.1]:{}, ", remote.address().port());
    system.wait_for_line("remote-delivery", &[&status, "status=undeliverable (host "])?;
    system.wait_for_empty_queue()
}

pub fn and_a_traced_message_arrives() -> Result<(), String> {
    let (system, remote) = world()?;
    let recipients = ["mary@a.example", "x@far.example", "bad@far.example", "later@far.example"];
    system
        .run(&[&["sendmail", "-v", "-f", "john@a.example"][..], &recipients].concat(), "Subject: traced\n\nhello\n")?;
    let all = reports(&system, 2).map_err(|error| format!("{error}\n{}", system.logs()))?;
    let status = all.iter().find(|text| text.contains("Subject: Mail Delivery Status Report\n"));
    let status = status.ok_or_else(|| format!("no status report in {all:?}"))?;
    for (to, action) in recipients.iter().zip(["delivered", "relayed", "failed", "delayed"]) {
        holds(status, to, &format!("Action: {action}"))?;
    }
    if !all.iter().any(|text| text.contains("Subject: Undelivered Mail Returned to Sender\n")) {
        return Err(format!("no bounce in {all:?}"));
    }
    system.wait_for_messages("mary", 1)?;
    if remote.taken().len() == 1 { Ok(()) } else { Err(format!("{:?}", remote.taken())) }
}
