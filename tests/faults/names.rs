//! What a name server may say.

use std::net::Ipv4Addr;

use crate::world::{World, ensure, world};

fn attempt(world: &World, domain: &str, status: &str, dsn: &str, words: &str) -> Result<String, String> {
    let to = format!("x@{domain}");
    let id = world.send(&[&to])?;
    world.fate(&id, &to, 1)?.expect(status, dsn, words).map_err(|error| format!("{domain}: {error}"))?;
    Ok(id)
}

pub fn bounced() -> Result<(), String> {
    let world = world()?;
    let address = Ipv4Addr::LOCALHOST.into();
    world.dns.exists("empty.example");
    world.dns.mx("null-mx.example", 0, ".")?;
    // A null MX is the last word even where the domain has an address.
    world.dns.address_of("null-mx.example", address);
    world.dns.mx_of_octets("hostile.example", b"a status=sent (250 ok)\r\n", address)?;
    world.dns.mx_of_octets("hostile.example", b"-oX/tmp/x", address)?;
    world.dns.mx("no-hosts.example", 10, "nowhere.no-hosts.example")?;
    world.dns.mx("empty-host.example", 10, "empty.example")?;
    for (domain, dsn, words) in [
        ("nowhere.example", "5.1.2", "Host unknown"),
        ("empty.example", "5.4.4", "Host or domain name not found"),
        ("null-mx.example", "5.1.10", "does not accept mail"),
        ("hostile.example", "5.4.4", "no mail server of hostile.example has an address"),
        ("no-hosts.example", "5.4.4", "no mail server of no-hosts.example has an address"),
        ("empty-host.example", "5.4.4", "no mail server of empty-host.example has an address"),
    ] {
        let id = attempt(&world, domain, "bounced", dsn, words)?;
        world.bounce(&id, &format!("x@{domain}"), &[&format!("Status: {dsn}")])?;
    }
    let log = world.system.log("remote-delivery");
    ensure(!log.contains("status=sent (250 ok)"), || "the hostile name is in the log".to_owned())
}

pub fn ourselves() -> Result<(), String> {
    let world = world()?;
    let ours = world.ours.ip();
    world.dns.address_of("us.example", ours);
    world.dns.mx("ours-best.example", 10, "us.example")?;
    world.dns.mx("ours-best.example", 20, "worse.example")?;
    world.dns.mx("ours-backup.example", 10, "better.example")?;
    world.dns.mx("ours-backup.example", 20, "us.example")?;
    world.dns.mx("ours-backup.example", 20, "worse.example")?;
    world.dns.mx("ours-lonely.example", 10, "nowhere.ours-lonely.example")?;
    world.dns.mx("ours-lonely.example", 20, "us.example")?;
    let worse = world.host("worse.example", Ok)?;
    let better = world.host("better.example", Ok)?;
    let loops = "loops back to myself";
    attempt(&world, "ours-best.example", "bounced", "5.4.6", loops)?;
    // By address, under whatever name and without any MX.
    attempt(&world, "us.example", "bounced", "5.4.6", loops)?;
    attempt(&world, "ours-lonely.example", "deferred", "4.4.4", "no better mail server")?;
    attempt(&world, "ours-backup.example", "sent", "2.0.0", "taken")?;
    ensure(better.taken().len() == 1 && worse.connections() == 0, || "the list was not cut".to_owned())?;
    // Where addresses cannot tell (address translation), the name in the greeting does.
    let mirror = world.server("mirror.example", |_| test_support::remote::Setup::new("mail.ours.example"))?;
    attempt(&world, "mirror.example", "bounced", "5.4.6", loops)?;
    ensure(mirror.connections() == 1, || format!("{} connections", mirror.connections()))?;
    let backup = world.host("mirror.backup.example", |_| Ok(test_support::remote::Setup::new("mail.ours.example")))?;
    world.dns.address_of("dead.backup.example", world.network.address().ip());
    world.dns.mx("backup.example", 10, "dead.backup.example")?;
    world.dns.mx("backup.example", 20, "mirror.backup.example")?;
    attempt(&world, "backup.example", "deferred", "4.4.6", "with my own hostname")?;
    ensure(backup.taken().is_empty(), || "the mail came back".to_owned())
}

pub fn queued() -> Result<(), String> {
    let world = world()?;
    world.dns.fails("servfail.example");
    world.dns.refuses("dns-refused.example");
    world.dns.is_silent_about("dns-silent.example");
    world.dns.mx("half-known.example", 10, "half.half-known.example")?;
    world.dns.fails("half.half-known.example");
    world.dns.cname("loop-a.example", "loop-b.example")?;
    world.dns.cname("loop-b.example", "loop-a.example")?;
    let domains =
        ["servfail.example", "dns-refused.example", "dns-silent.example", "half-known.example", "loop-a.example"];
    let sent: Result<Vec<String>, String> =
        domains.iter().map(|domain| world.send(&[&format!("x@{domain}")])).collect();
    for (domain, id) in domains.iter().zip(sent?) {
        let fate = world.fate(&id, &format!("x@{domain}"), 1)?;
        fate.expect("deferred", "4.4.3", "try again").map_err(|error| format!("{domain}: {error}"))?;
        ensure(world.is_queued(&id)?, || format!("{domain} is not queued"))?;
    }
    Ok(())
}

pub fn delivered() -> Result<(), String> {
    let world = world()?;
    let mut remotes = Vec::new();
    // An alias at the domain leads to the servers of what it stands for.
    remotes.push(world.server("canonical.example", |setup| setup)?);
    world.dns.cname("alias.example", "canonical.example")?;
    // An alias as the name of a server, which RFC 2181 forbids and everybody accepts.
    remotes.push(world.host("real.example", Ok)?);
    world.dns.cname("mx-alias.example", "real.example")?;
    world.dns.mx("by-alias.example", 10, "mx-alias.example")?;
    // A server that does not exist, then one that does.
    remotes.push(world.host("here.example", Ok)?);
    world.dns.mx("missing-first.example", 10, "nowhere.missing-first.example")?;
    world.dns.mx("missing-first.example", 20, "here.example")?;
    // Two dead addresses and 28 unknown names before the good one.
    remotes.push(world.host("last.example", Ok)?);
    for _ in 0..2 {
        world.dns.address_of("dead.example", world.network.address().ip());
    }
    world.dns.mx("long-way.example", 1, "dead.example")?;
    for number in 2..30 {
        world.dns.mx("long-way.example", number, &format!("unknown{number}.example"))?;
    }
    world.dns.mx("long-way.example", 30, "last.example")?;
    // An answer that UDP cannot hold.
    remotes.push(world.server("truncated.example", |setup| setup)?);
    world.dns.is_large("truncated.example");
    world.dns.is_large("mx.truncated.example");
    // An address where a name should stand.
    let number = world.host("number.example", Ok)?;
    world.dns.mx("by-number.example", 10, &number.address().ip().to_string())?;
    remotes.push(number);
    for domain in [
        "alias.example",
        "by-alias.example",
        "missing-first.example",
        "long-way.example",
        "truncated.example",
        "by-number.example",
    ] {
        attempt(&world, domain, "sent", "2.0.0", "taken")?;
    }
    let counts: Vec<usize> = remotes.iter().map(|remote| remote.taken().len()).collect();
    ensure(counts.iter().all(|&count| count == 1), || format!("copies: {counts:?}"))
}
