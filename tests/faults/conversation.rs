//! What a server may do to the conversation.

use std::fs;

use test_support::remote::{Act, At, Remote, Unreachable};

use crate::world::{Fate, World, ensure, world};

const STEPS: [(&str, At); 6] = [
    ("greeting", At::Greeting),
    ("ehlo", At::Ehlo),
    ("mail", At::Mail),
    ("rcpt", At::Rcpt),
    ("data", At::Data),
    ("dot", At::Dot),
];

/// The acts, and the status and words that the log must have for them.
fn acts() -> [(&'static str, Act, &'static str, &'static str); 7] {
    [
        ("closing", Act::say_and_close("421 4.3.2 going down"), "4.3.2", "421 4.3.2 going down"),
        ("later", Act::say("451 4.7.1 come again"), "4.7.1", "451 4.7.1 come again"),
        ("garbage", Act::say("hello, who is there?"), "4.5.0", "hello, who is there?"),
        ("nocode", Act::say("- no code"), "4.5.0", "- no code"),
        ("code999", Act::say("999 what"), "4.5.0", "999 what"),
        ("close", Act::close(), "4.4.2", "lost connection with"),
        ("silent", Act::Silence, "4.4.2", "timed out while"),
    ]
}

struct Case {
    name: String,
    remote: Option<Remote>,
    id: String,
    to: String,
    dsn: &'static str,
    words: &'static str,
}

pub fn queued_after_one_try() -> Result<(), String> {
    let world = world()?;
    let (closed, unreachable) = (world.network.address(), world.network.address());
    let _held = Unreachable::at(unreachable).map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for (step, at) in STEPS {
        for (what, act, dsn, words) in acts() {
            let domain = format!("{what}-{step}.example");
            let remote = world.server(&domain, |setup| setup)?;
            remote.on(at, act);
            cases.push(send(&world, &domain, Some(remote), dsn, words)?);
        }
    }
    for (what, address, words) in
        [("refused", closed, "Connection refused"), ("unreachable", unreachable, "Connection timed out")]
    {
        let domain = format!("{what}.example");
        world.dns.address_of(&domain, address.ip());
        cases.push(send(&world, &domain, None, "4.4.1", words)?);
    }
    let good = world.server("good.example", |setup| setup)?;
    let good_id = world.send(&["x@good.example"])?;
    world.fate(&good_id, "x@good.example", 1)?.expect("sent", "2.0.0", "taken")?;
    // The silent ones are still being waited for, or were given up in the meantime; the good one never waited for any of them.
    for case in &cases {
        let fate = world.fate(&case.id, &case.to, 1)?;
        judge(case, &fate).map_err(|error| format!("{}: {error}", case.name))?;
    }
    let queue = world.queue()?;
    for case in &cases {
        ensure(queue.contains(&case.id), || format!("{} is not queued", case.name))?;
    }
    not_held_up(&world, &good_id, &cases)?;
    ensure(good.taken().len() == 1, || "the good server did not get one message".to_owned())
}

fn send(
    world: &World,
    domain: &str,
    remote: Option<Remote>,
    dsn: &'static str,
    words: &'static str,
) -> Result<Case, String> {
    let to = format!("x@{domain}");
    let id = world.send(&[&to])?;
    Ok(Case { name: domain.to_owned(), remote, id, to, dsn, words })
}

fn judge(case: &Case, fate: &Fate) -> Result<(), String> {
    fate.expect("deferred", case.dsn, case.words)?;
    let Some(remote) = &case.remote else { return Ok(()) };
    ensure(remote.connections() == 1, || format!("{} connections", remote.connections()))
}

/// The good message was sent before the first of the silent servers was given up.
fn not_held_up(world: &World, good: &str, cases: &[Case]) -> Result<(), String> {
    let log = world.system.log("remote-delivery");
    let line = |id: &str| log.lines().position(|line| line.contains(&format!(" {id}: to=")));
    let silent = cases.iter().filter(|case| case.words == "timed out while").filter_map(|case| line(&case.id)).max();
    ensure(line(good) < silent, || format!("the good message waited for the silent servers\n{log}"))
}

/// More than the buffers of both sides take.
fn large() -> String {
    format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(998)).repeat(12_000))
}

pub fn stalled_in_the_content() -> Result<(), String> {
    let world = world()?;
    let stalled = world.server("stalled.example", |setup| setup.keywords(&["PIPELINING"]))?;
    stalled.on(At::Content, Act::Silence);
    let good = world.server("beside.example", |setup| setup)?;
    let id = world.send_with("", &[("x@stalled.example", "")], &large())?;
    let other = world.send(&["x@beside.example"])?;
    world.fate(&other, "x@beside.example", 1)?.expect("sent", "2.0.0", "taken")?;
    world.fate(&id, "x@stalled.example", 1)?.expect("deferred", "4.4.2", "timed out while sending message body")?;
    ensure(stalled.connections() == 1 && stalled.taken().is_empty(), || "more than one try".to_owned())?;
    stalled.heal();
    world.retry(&id)?;
    world.fate(&id, "x@stalled.example", 2)?.expect("sent", "2.0.0", "taken")?;
    ensure(good.taken().len() == 1 && stalled.taken().len() == 1, || "not one copy each".to_owned())
}

pub fn early_refusal() -> Result<(), String> {
    let world = world()?;
    for (domain, act) in [
        ("early-reset.example", Act::Reset(b"552 5.3.4 too much\r\n".to_vec())),
        ("early-close.example", Act::say_and_close("552 5.3.4 too much")),
    ] {
        let remote = world.server(domain, |setup| setup.keywords(&["PIPELINING"]))?;
        remote.on(At::Content, act);
        let to = format!("x@{domain}");
        let id = world.send_with("", &[(&to, "")], &large())?;
        let fate = world.fate(&id, &to, 1)?;
        fate.expect("bounced", "5.3.4", "552 5.3.4 too much").map_err(|error| format!("{domain}: {error}"))?;
        ensure(remote.connections() == 1, || format!("{domain}: {} connections", remote.connections()))?;
    }
    Ok(())
}

pub fn unfriendly_greeting() -> Result<(), String> {
    let world = world()?;
    let alone = world.server("no-service.example", |setup| setup)?;
    alone.on(At::Greeting, Act::say("554 5.3.2 no mail here"));
    let second = world.host("second.no-first.example", Ok)?;
    let first = world.host("first.no-first.example", Ok)?;
    first.on(At::Greeting, Act::say("554 5.3.2 no mail here"));
    world.dns.mx("no-first.example", 10, "first.no-first.example")?;
    world.dns.mx("no-first.example", 20, "second.no-first.example")?;
    let (waits, goes) = (world.send(&["x@no-service.example"])?, world.send(&["x@no-first.example"])?);
    let words = "refused to talk to me: 554 5.3.2 no mail here";
    world.fate(&waits, "x@no-service.example", 1)?.expect("deferred", "4.3.2", words)?;
    world.fate(&goes, "x@no-first.example", 1)?.expect("sent", "2.0.0", "taken")?;
    ensure(first.connections() == 1 && second.taken().len() == 1, || "not the second server".to_owned())
}

pub fn odd_ehlo() -> Result<(), String> {
    let world = world()?;
    let many = "250-X-NOISE-NOISE-NOISE\r\n".repeat(20_000) + "250 PIPELINING\r\n";
    let wide = format!("250-mx\r\n250-{}\r\n250 PIPELINING\r\n", "X".repeat(1 << 20));
    let before = memory(&world)?;
    for (domain, act, hello) in [
        ("no-ehlo.example", Act::say("502 5.5.1 what?"), "HELO "),
        ("many-lines.example", Act::Say(many.into_bytes()), "EHLO "),
        ("wide-line.example", Act::Say(wide.into_bytes()), "EHLO "),
    ] {
        let remote = world.server(domain, |setup| setup)?;
        remote.on(At::Ehlo, act);
        let to = format!("x@{domain}");
        let id = world.send(&[&to])?;
        let fate = world.fate(&id, &to, 1)?;
        fate.expect("sent", "2.0.0", "taken").map_err(|error| format!("{domain}: {error}"))?;
        let taken = remote.taken();
        ensure(taken.len() == 1 && taken[0].hello.starts_with(hello), || format!("{domain}: {taken:?}"))?;
    }
    let grown = memory(&world)?.saturating_sub(before);
    ensure(grown < 32 * 1024, || format!("remote-delivery grew by {grown} KiB"))
}

/// The most memory that remote-delivery ever held, in KiB.
fn memory(world: &World) -> Result<u64, String> {
    let pids = world.system.pids_of("remote-delivery");
    let peak = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
    };
    pids.iter().filter_map(peak).max().ok_or_else(|| "remote-delivery does not run".to_owned())
}

pub fn odd_replies() -> Result<(), String> {
    let world = world()?;
    let remote = world.server("odd-replies.example", |setup| setup)?;
    remote.on(At::Greeting, Act::Say(b"220-550 not what it seems\r\n220\r\n".to_vec()));
    remote.on(At::Mail, Act::say("298 fine"));
    remote.about("yes@", At::Rcpt, Act::Say(b"250-550 5.1.1 no such user\r\n250-421 closing\r\n250 Ok\r\n".to_vec()));
    remote.about("no@", At::Rcpt, Act::say("597 5.9.9 no, said oddly"));
    remote.about("later@", At::Rcpt, Act::Say(b"499-\r\n499 later, said oddly\r\n".to_vec()));
    remote.on(At::Dot, Act::say("260"));
    let id = world.send(&["yes@odd-replies.example", "no@odd-replies.example", "later@odd-replies.example"])?;
    world.fate(&id, "yes@odd-replies.example", 1)?.expect("sent", "2.0.0", "260")?;
    world.fate(&id, "no@odd-replies.example", 1)?.expect("bounced", "5.9.9", "597 5.9.9 no, said oddly")?;
    world.fate(&id, "later@odd-replies.example", 1)?.expect("deferred", "4.0.0", "later, said oddly")?;
    // 354 is no yes to the final dot: nothing was delivered.
    let remote = world.server("three.example", |setup| setup)?;
    remote.on(At::Dot, Act::say("354 still more?"));
    let id = world.send(&["x@three.example"])?;
    world.fate(&id, "x@three.example", 1)?.expect("deferred", "4.5.0", "354 still more?")
}
