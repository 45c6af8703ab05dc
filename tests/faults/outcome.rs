//! What the sender hears, and how many copies arrive.

use test_support::remote::{Act, At};

use crate::world::{ensure, world};

pub fn one_bounce() -> Result<(), String> {
    let world = world()?;
    let mut cases = Vec::new();
    for (step, at) in [("mail", At::Mail), ("rcpt", At::Rcpt), ("data", At::Data), ("dot", At::Dot)] {
        let domain = format!("refuses-{step}.example");
        let remote = world.server(&domain, |setup| setup)?;
        remote.on(at, Act::Say(format!("550-5.7.25 not at {step},\r\n550 5.7.25 never\r\n").into_bytes()));
        let to = format!("x@{domain}");
        cases.push((world.send(&[&to])?, to, remote, step));
    }
    for (id, to, remote, step) in &cases {
        let said = format!("550 5.7.25 not at {step}, never");
        world.fate(id, to, 1)?.expect("bounced", "5.7.25", "550")?;
        let (diagnostic, host) =
            (format!("Diagnostic-Code: smtp; {said}"), format!("Remote-MTA: dns; mx.refuses-{step}.example"));
        let words = ["Reporting-MTA: dns; mail.ours.example", "Status: 5.7.25", &diagnostic, &host, "Subject: faults"];
        let bounce = world.bounce(id, to, &words).map_err(|error| format!("{step}: {error}"))?;
        ensure(bounce.starts_with("Return-Path: <>"), || format!("not from the null sender:\n{bounce}"))?;
        ensure(remote.connections() == 1 && remote.taken().is_empty(), || format!("{step}: more than one try"))?;
    }
    let small = world.server("small.example", |setup| setup.keywords(&["SIZE 10"]))?;
    let id = world.send(&["x@small.example"])?;
    world.fate(&id, "x@small.example", 1)?.expect(
        "bounced",
        "5.3.4",
        "exceeds size limit 10 of server mx.small.example",
    )?;
    world.bounce(&id, "x@small.example", &["Status: 5.3.4"])?;
    ensure(!small.heard().iter().any(|line| line.starts_with("MAIL")), || "the message was begun".to_owned())
}

pub fn returned() -> Result<(), String> {
    let world = world()?;
    let remote = world.server("returns.example", |setup| setup)?;
    remote.on(At::Rcpt, Act::say("550 5.1.1 nobody"));
    for (name, mail, whole) in [("hdrs", "RET=HDRS", false), ("full", "RET=FULL", true), ("unsaid", "", true)] {
        let to = format!("{name}@returns.example");
        let id = world.send_with(mail, &[(&to, "")], &format!("Subject: {name}\r\n\r\nthe body of {name}"))?;
        let kind = if whole { "Content-Type: message/rfc822" } else { "Content-Type: text/rfc822-headers" };
        let bounce = world.bounce(&id, &to, &[kind, &format!("Subject: {name}")])?;
        ensure(bounce.contains(&format!("the body of {name}")) == whole, || format!("{name}:\n{bounce}"))?;
    }
    Ok(())
}

pub fn two_copies() -> Result<(), String> {
    let world = world()?;
    let mut cases = Vec::new();
    for (what, act) in [("closed", Act::close()), ("reset", Act::Reset(Vec::new())), ("silent", Act::Silence)] {
        let domain = format!("{what}-after.example");
        let remote = world.server(&domain, |setup| setup)?;
        remote.times(1, At::Dot, act);
        let to = format!("x@{domain}");
        cases.push((world.send(&[&to])?, to, remote));
    }
    for (id, to, remote) in &cases {
        let words = "while sending end of data -- message may be sent more than once";
        world.fate(id, to, 1)?.expect("deferred", "4.4.2", words)?;
        ensure(remote.taken().len() == 1, || format!("{to}: {} copies", remote.taken().len()))?;
        world.retry(id)?;
        world.fate(id, to, 2)?.expect("sent", "2.0.0", "taken")?;
        world.gone(id)?;
        ensure(remote.taken().len() == 2, || format!("{to}: {} copies", remote.taken().len()))?;
        ensure(world.notices(to).is_empty(), || format!("a notice about {to}"))?;
    }
    Ok(())
}

pub fn delivered_once() -> Result<(), String> {
    let world = world()?;
    let mut cases = Vec::new();
    for (what, at, act) in [
        ("reset", At::Dot, Act::Reset(b"250 2.0.0 taken\r\n".to_vec())),
        ("no-bye", At::Quit, Act::Silence),
        ("odd-bye", At::Quit, Act::say("550 5.0.0 no, stay")),
        ("rset", At::Rset, Act::close()),
    ] {
        let domain = format!("once-{what}.example");
        let remote = world.server(&domain, |setup| setup)?;
        remote.on(at, act);
        remote.about("bad@", At::Rcpt, Act::say("550 5.1.1 nobody"));
        cases.push((remote, domain));
    }
    for (remote, domain) in &cases {
        let (bad, good) = (format!("bad@{domain}"), format!("good@{domain}"));
        // A transaction without recipients ends with RSET; the next message follows on its heels.
        let (first, second) = (world.send(&[&bad])?, world.send(&[&good])?);
        world.fate(&first, &bad, 1)?.expect("bounced", "5.1.1", "nobody")?;
        world.fate(&second, &good, 1)?.expect("sent", "2.0.0", "taken")?;
        world.gone(&second)?;
        ensure(remote.taken().len() == 1, || format!("{domain}: {} copies", remote.taken().len()))?;
    }
    Ok(())
}

pub fn good_bad_later() -> Result<(), String> {
    let world = world()?;
    let remote = world.server("mixed.example", |setup| setup)?;
    remote.about("bad@", At::Rcpt, Act::say("550 5.1.1 nobody of that name"));
    remote.about("later@", At::Rcpt, Act::say("450 4.2.1 not now"));
    let (good, bad, later) = ("good@mixed.example", "bad@mixed.example", "later@mixed.example");
    let id = world.send(&[good, bad, later])?;
    world.fate(&id, good, 1)?.expect("sent", "2.0.0", "taken")?;
    world.fate(&id, bad, 1)?.expect("bounced", "5.1.1", "550 5.1.1 nobody of that name")?;
    world.fate(&id, later, 1)?.expect("deferred", "4.2.1", "450 4.2.1 not now")?;
    remote.heal();
    world.retry(&id)?;
    world.fate(&id, later, 2)?.expect("sent", "2.0.0", "taken")?;
    world.bounce(&id, bad, &["Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1 nobody of that name"])?;
    let to: Vec<Vec<String>> = remote.taken().into_iter().map(|taken| taken.to).collect();
    ensure(to == [[format!("<{good}>")], [format!("<{later}>")]], || format!("taken for {to:?}"))?;
    ensure(world.notices(good).is_empty() && world.notices(later).is_empty(), || "a notice too many".to_owned())
}
