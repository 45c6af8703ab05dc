//! What of a message may go to a server, and in which form.

use test_support::remote::{Act, At};
use test_support::{Patience, wait_for};

use crate::world::{ensure, world};

pub fn lines() -> Result<(), String> {
    let world = world()?;
    let remote = world.server("lines.example", |setup| setup)?;
    let message = format!("Subject: lines\n\n.\n..dots\nlone\rreturn\n{}\nlast", "w".repeat(2_500));
    world.system.run(&["sendmail", "-i", "-f", "mary@ours.example", "x@lines.example"], &message)?;
    let taken = wait_for("the message", Patience::default(), || remote.taken().into_iter().next());
    let raw = taken.map_err(|error| format!("{error}\n{}", world.system.logs()))?.raw;
    let body = String::from_utf8_lossy(&raw).into_owned();
    for line in body.split("\r\n") {
        ensure(!line.contains(['\r', '\n']), || format!("a bare CR or LF in {line:?}"))?;
        ensure(line.len() <= 998, || format!("a line of {} octets", line.len()))?;
    }
    ensure(body.ends_with("\r\nlast\r\n"), || format!("the end is {body:?}"))?;
    // Dots are doubled once: what the server undoes is what was sent.
    ensure(body.contains("\r\n..\r\n...dots\r\n"), || format!("the dots are wrong: {body:?}"))
}

pub fn dsn() -> Result<(), String> {
    let world = world()?;
    let knows = world.server("dsn.example", |setup| setup)?;
    let ignores = world.server("no-dsn.example", |setup| setup.keywords(&["PIPELINING"]))?;
    ignores.about("never@", At::Rcpt, Act::say("550 5.1.1 nobody"));
    let mail = "RET=HDRS ENVID=id+2B17+3Dx";
    let rcpt = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first+2Blast@old.example";
    let message = "Subject: dsn\r\n\r\nhello";
    let id = world.send_with(mail, &[("x@dsn.example", rcpt), ("y@dsn.example", "NOTIFY=NEVER")], message)?;
    world.fate(&id, "x@dsn.example", 1)?.expect("sent", "2.0.0", "taken")?;
    let heard = knows.heard();
    let said = |verb: &str, words: &[&str]| {
        heard.iter().any(|line| line.starts_with(verb) && words.iter().all(|word| line.contains(word)))
    };
    ensure(said("MAIL", &[" RET=HDRS", " ENVID=id+2B17+3Dx"]), || format!("{heard:#?}"))?;
    ensure(said("RCPT TO:<x@", &[" NOTIFY=SUCCESS,DELAY", " ORCPT=rfc822;first+2Blast@old.example"]), || {
        format!("{heard:#?}")
    })?;
    ensure(said("RCPT TO:<y@", &[" NOTIFY=NEVER"]), || format!("{heard:#?}"))?;
    world.gone(&id)?;
    // The other server reports success itself now.
    ensure(world.notices("x@dsn.example").is_empty(), || "a notice from us".to_owned())?;

    let id = world.send_with(mail, &[("x@no-dsn.example", rcpt), ("never@no-dsn.example", "NOTIFY=NEVER")], message)?;
    world.fate(&id, "x@no-dsn.example", 1)?.expect("sent", "2.0.0", "taken")?;
    world.fate(&id, "never@no-dsn.example", 1)?.expect("bounced", "5.1.1", "nobody")?;
    let heard = ignores.heard();
    ensure(
        !heard.iter().any(|line| ["RET=", "ENVID=", "NOTIFY=", "ORCPT="].iter().any(|word| line.contains(word))),
        || format!("{heard:#?}"),
    )?;
    let found =
        wait_for("the notice of success", Patience::default(), || world.notices("x@no-dsn.example").into_iter().next());
    let notice = found.map_err(|error| format!("{error}\n{}", world.system.logs()))?;
    for wanted in
        ["Action: relayed", "Original-Envelope-Id: id+17=x", "Original-Recipient: rfc822;first+last@old.example"]
    {
        ensure(notice.contains(wanted), || format!("{wanted:?} is missing in:\n{notice}"))?;
    }
    world.gone(&id)?;
    ensure(world.notices("never@no-dsn.example").is_empty(), || "a bounce although NEVER".to_owned())
}

pub fn eight_bits() -> Result<(), String> {
    let world = world()?;
    let full = world.server("full.example", |setup| setup)?;
    let old = world.server("old.example", |setup| setup.keywords(&["PIPELINING"]))?;
    let eight = "Subject: eight\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\u{fc}\u{df}e";
    let id = world.send_with("BODY=8BITMIME", &[("x@full.example", ""), ("x@old.example", "")], eight)?;
    world.fate(&id, "x@full.example", 1)?.expect("sent", "2.0.0", "taken")?;
    world.fate(&id, "x@old.example", 1)?.expect("bounced", "5.6.3", "8BITMIME is required, but was not offered")?;
    let heard = full.heard();
    ensure(heard.iter().any(|line| line.contains(" BODY=8BITMIME")), || format!("{heard:#?}"))?;
    ensure(full.taken()[0].raw.windows(4).any(|octets| octets == "\u{fc}\u{df}".as_bytes()), || {
        "the octets changed".to_owned()
    })?;

    // An address that needs UTF-8; its domain is looked up as A-labels, under which the zone has it.
    let bucher = world.server("xn--bcher-kva.example", |setup| setup)?;
    let id = world.send_with(
        "SMTPUTF8",
        &[("j\u{f6}rg@b\u{fc}cher.example", ""), ("j\u{f6}rg@old.example", "")],
        "Subject: x\r\n\r\nx",
    )?;
    world.fate(&id, "j\u{f6}rg@b\u{fc}cher.example", 1)?.expect("sent", "2.0.0", "taken")?;
    world.fate(&id, "j\u{f6}rg@old.example", 1)?.expect(
        "bounced",
        "5.6.7",
        "SMTPUTF8 is required, but was not offered",
    )?;
    let heard = bucher.heard();
    ensure(heard.iter().any(|line| line.starts_with("MAIL") && line.contains(" SMTPUTF8")), || format!("{heard:#?}"))?;
    ensure(old.taken().is_empty(), || "the old server got something".to_owned())?;
    // The same domain written in A-labels is the same server, and needs no SMTPUTF8.
    let id = world.send(&["ascii@xn--bcher-kva.example"])?;
    world.fate(&id, "ascii@xn--bcher-kva.example", 1)?.expect("sent", "2.0.0", "taken")?;
    ensure(bucher.taken().len() == 2, || format!("{:?}", bucher.taken()))
}

pub fn limits() -> Result<(), String> {
    let world = world()?;
    let remote =
        world.server("limits.example", |setup| setup.keywords(&["PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=1"]))?;
    remote.about("bad@", At::Rcpt, Act::say("550 5.1.1 nobody"));
    let to = ["a@limits.example", "bad@limits.example", "c@limits.example", "d@limits.example", "e@limits.example"];
    let id = world.send(&to)?;
    for to in to {
        let (status, dsn) = if to.starts_with("bad") { ("bounced", "5.1.1") } else { ("sent", "2.0.0") };
        world.fate(&id, to, 1)?.expect(status, dsn, "")?;
    }
    world.gone(&id)?;
    let taken = remote.taken();
    let mut copies: Vec<&str> = taken.iter().flat_map(|taken| &taken.to).map(String::as_str).collect();
    copies.sort_unstable();
    let wanted = ["<a@limits.example>", "<c@limits.example>", "<d@limits.example>", "<e@limits.example>"];
    ensure(copies == wanted, || format!("copies for {copies:?}"))?;
    ensure(taken.iter().all(|taken| taken.to.len() <= 2), || format!("{taken:?}"))?;
    let mails = remote.heard().iter().filter(|line| line.starts_with("MAIL")).count();
    ensure(mails == 3 && remote.connections() == 3, || format!("{mails} MAIL in {} sessions", remote.connections()))
}
