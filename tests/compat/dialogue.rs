//! What an SMTP client hears: the same lines to a real Postfix and to us, the same replies back.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use test_support::system::Builder;

use crate::postfix::{Postfix, free_port};

/// The same for both: one domain of ours, one user, friends only at a documentation address.
const MAIN_CF: &str = "compatibility_level = 3.6\nmyhostname = mail.info.net\nmydomain = info.net\nmyorigin = $mydomain\n\
    mydestination = $myhostname, localhost, $mydomain\nmynetworks = 192.0.2.1/32\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
    alias_maps =\nlocal_recipient_maps = inline:{john=1}\nlocal_transport = discard\nrelay_domains = relay.net\n\
    relay_recipient_maps = inline:{ {a@relay.net = 1} }\nvirtual_alias_domains = alias.net\n\
    virtual_alias_maps = inline:{ {sales@alias.net = john} }\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
    message_size_limit = 20000\nsmtpd_recipient_limit = 3\nsmtpd_tls_security_level = none\nsmtpd_error_sleep_time = 0\n\
    smtpd_hard_error_limit = 100\n";

/// Dialogues, a line of which may hold several lines of the protocol.
const DIALOGUES: &[&[&str]] = &[
    &["HELO", "EHLO", "HELO a b", "EHLO [192.0.2.1]", "ehlo x", "NOOP", "NOOP x", "RSET", "RSET x", "QUIT now"],
    &[
        "MAIL",
        "MAIL foo",
        "MAIL FROM",
        "MAIL FROM:",
        "MAIL FROM:<a b@c.org>",
        "MAIL FROM:<a@b.org",
        "MAIL FROM:<a@>",
        "MAIL FROM:<a@b.org> FOO=bar",
        "MAIL FROM:<a@b.org> SIZE=x",
        "MAIL FROM:<a@b.org> BODY=foo",
        "MAIL FROM:<a@b.org> RET=foo",
        "MAIL FROM:<a@b.org> RET=FULL RET=HDRS",
        "MAIL FROM:<a@b.org> ENVID=",
        "MAIL FROM:<a@b.org> ENVID=a+zz",
        "MAIL FROM:<a@b.org> SMTPUTF8=1",
        "MAIL FROM:a@b.org",
        "MAIL FROM:<>",
        "QUIT",
    ],
    &[
        "RCPT TO:<john@info.net>",
        "DATA",
        "VRFY",
        "VRFY john@info.net",
        "VRFY foo bar",
        "VRFY nobody@info.net",
        "FOO",
        "",
        " ",
        "QUIT",
    ],
    &["STARTTLS", "AUTH PLAIN", "AUTH", "QUIT"],
    &[
        "EHLO x",
        "MAIL FROM:<a@b.org>",
        "RCPT",
        "RCPT foo",
        "RCPT TO",
        "RCPT TO:",
        "RCPT TO:<>",
        "RCPT TO:<jo hn@info.net>",
        "RCPT TO:<john@info.net",
        "RCPT TO:<john@info.net> NOTIFY=foo",
        "RCPT TO:<john@info.net> NOTIFY=NEVER,SUCCESS",
        "RCPT TO:<john@info.net> ORCPT=foo",
        "RCPT TO:<john@info.net> ORCPT=rfc822;a+2",
        "RCPT TO:<john@info.net> FOO=1",
        "RCPT TO:<nobody@info.net>",
        "RCPT TO:<x@y.org>",
        "RCPT TO:<a@relay.net>",
        "RCPT TO:<b@relay.net>",
        "RCPT TO:<nobody@alias.net>",
        "DATA x",
        "RCPT TO:<sales@alias.net>",
        "RCPT TO:<@a.org,@b.org:\"john\"@info.net>",
        "RCPT TO:<john@info.net>",
        "DATA",
        "Subject: x\r\n\r\n..\r\n.",
        "RCPT TO:<john@info.net>",
        "QUIT",
    ],
    &[
        "EHLO x",
        "MAIL FROM:<a@b.org>",
        "RCPT TO:<x@y.org>",
        "DATA",
        "MAIL FROM:<>",
        "EHLO y",
        "RCPT TO:<john@info.net>",
        "QUIT",
    ],
    &[
        "EHLO x",
        "MAIL FROM:<a@b.org>",
        "RCPT TO:<x%y.org@info.net>",
        "RCPT TO:<\"x@y.org\"@info.net>",
        "RCPT TO:<y.org!x@info.net>",
        "RCPT TO:<x@[198.51.100.1]>",
        "QUIT",
    ],
    &[
        "EHLO x",
        "MAIL FROM:<a@b.org> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=1",
        "RCPT TO:<john>",
        "RCPT TO:<Postmaster>",
        "DATA",
        ".",
        "QUIT",
    ],
    &["MAIL FROM:<a@b.org> SIZE=99999999", "QUIT"],
    &["GET / HTTP/1.0"],
    &["{json}"],
];

/// The replies differ only where `docs/differences.md` says so.
pub fn is_the_same() -> Result<(), String> {
    let port = free_port()?;
    let system =
        Builder::new("info.net").main_cf(MAIN_CF).master_cf(&format!("{port} inet n - n - - smtpd")).start()?;
    let postfix = Postfix::start(MAIN_CF)?;
    let mut differences = Vec::new();
    for dialogue in DIALOGUES {
        let (theirs, ours) = (replies(postfix.address, dialogue)?, replies(port, dialogue)?);
        let lines = std::iter::once(&"(connect)").chain(dialogue.iter());
        for (line, (theirs, ours)) in lines.zip(theirs.iter().zip(&ours)) {
            if theirs != ours {
                differences.push(format!("{line:?}\n  Postfix: {theirs:?}\n  ours:    {ours:?}"));
            }
        }
        if theirs.len() != ours.len() {
            differences.push(format!("{dialogue:?}: {} replies and {}", theirs.len(), ours.len()));
        }
    }
    drop(system);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// The reply to the connection and to each line, up to the close.
fn replies(address: SocketAddr, dialogue: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let talk = || {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut stream = BufReader::new(stream);
        let mut all = vec![reply(&mut stream)?];
        for line in dialogue {
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
            all.push(reply(&mut stream)?);
        }
        std::io::Result::Ok(all)
    };
    talk().map_err(|error| format!("{address}: {dialogue:?}: {error}"))
}

/// One reply without what may differ: the id of a message, and the keywords of EHLO that are not built.
fn reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            lines.push("closed".to_owned());
            return Ok(lines);
        }
        let last = line.as_bytes().get(3) != Some(&b'-');
        let text = line.trim_end().replacen("250-", "250 ", 1);
        let text = text.split(" queued as ").next().unwrap_or_default().to_owned();
        if !matches!(text.as_str(), "250 ETRN" | "250 CHUNKING") {
            lines.push(text);
        }
        if last {
            return Ok(lines);
        }
    }
}
