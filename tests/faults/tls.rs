//! TLS that does not come about.

use test_support::remote::{Act, At, Remote};

use crate::world::{World, ensure, world};

/// What goes wrong, and how the server that insists is told of in the log.
fn faults() -> [(&'static str, At, Act, &'static str); 7] {
    [
        ("refused", At::Starttls, Act::say("454 4.7.0 not now"), "refused to start TLS: 454 4.7.0 not now"),
        ("garbage", At::Starttls, Act::say("what?"), "STARTTLS"),
        ("closed", At::Starttls, Act::close(), "STARTTLS"),
        ("silent", At::Starttls, Act::Silence, "STARTTLS"),
        ("no-handshake", At::Handshake, Act::say("250 what is this?"), "Cannot start TLS"),
        ("broken-handshake", At::Handshake, Act::close(), "Cannot start TLS"),
        ("silent-handshake", At::Handshake, Act::Silence, "Cannot start TLS"),
    ]
}

pub fn broken() -> Result<(), String> {
    let world = world()?;
    let mut cases: Vec<(Remote, String, Option<&str>)> = Vec::new();
    for (what, at, act, words) in faults() {
        for (domain, must) in [(format!("{what}.may.example"), None), (format!("{what}.must.example"), Some(words))] {
            let remote = world.server_with(&domain, test_support::remote::Setup::self_signed)?;
            remote.on(at, act.clone());
            cases.push((remote, domain, must));
        }
    }
    cases.push((
        world.server("plain.must.example", |setup| setup)?,
        "plain.must.example".to_owned(),
        Some("TLS is required, but was not offered"),
    ));
    let sent: Result<Vec<_>, String> =
        cases.iter().map(|(_, domain, _)| world.send(&[&format!("x@{domain}")])).collect();
    for ((remote, domain, must), id) in cases.iter().zip(sent?) {
        judge(&world, remote, domain, *must, &id).map_err(|error| format!("{domain}: {error}"))?;
    }
    Ok(())
}

fn judge(world: &World, remote: &Remote, domain: &str, must: Option<&str>, id: &str) -> Result<(), String> {
    let fate = world.fate(id, &format!("x@{domain}"), 1)?;
    let taken = remote.taken();
    match must {
        Some(words) => {
            fate.expect("deferred", "4.", words)?;
            ensure(taken.is_empty() && remote.connections() == 1, || {
                format!("{} connections, {taken:?}", remote.connections())
            })
        }
        None => {
            fate.expect("sent", "2.0.0", "taken")?;
            ensure(taken.len() == 1 && !taken[0].tls, || format!("{taken:?}"))?;
            ensure(remote.connections() <= 2, || format!("{} connections", remote.connections()))
        }
    }
}

pub fn self_signed() -> Result<(), String> {
    let world = world()?;
    for domain in ["signed.may.example", "signed.must.example"] {
        let remote = world.server_with(domain, test_support::remote::Setup::self_signed)?;
        let to = format!("x@{domain}");
        let id = world.send(&[&to])?;
        world.fate(&id, &to, 1)?.expect("sent", "2.0.0", "taken")?;
        let taken = remote.taken();
        ensure(taken.len() == 1 && taken[0].tls, || format!("{domain}: {taken:?}"))?;
        // RFC 3207 section 4.2: what was said before the handshake is forgotten, EHLO is said again.
        let hellos = remote.heard().iter().filter(|line| line.starts_with("EHLO")).count();
        ensure(hellos == 2, || format!("{domain}: {hellos} EHLO"))?;
    }
    Ok(())
}

pub fn policies() -> Result<(), String> {
    let world = world()?;
    let mut cases = Vec::new();
    for (name, wanted) in [
        ("trusted", Ok(true)),
        ("verify", Ok(true)),
        ("print", Ok(true)),
        ("none", Ok(false)),
        ("other-name", Err("Server certificate not verified: it has another name")),
        ("other-print", Err("Server certificate not verified: unknown fingerprint")),
        ("untrusted", Err("Server certificate not trusted")),
        ("dane", Err("DANE")),
        ("odd", Err("`exclude=aNULL' in a TLS policy is not built")),
        ("a.below", Err("TLS is required, but was not offered")),
    ] {
        let domain = format!("{name}.policy.example");
        let remote = world.server_with(&domain, |setup| match name {
            "a.below" => Ok(setup),
            "untrusted" => setup.self_signed(),
            _ => setup.starttls(&world.trusted.certificate, &world.trusted.key),
        })?;
        let id = world.send(&[&format!("x@{domain}")])?;
        cases.push((domain, remote, id, wanted));
    }
    for (domain, remote, id, wanted) in &cases {
        let fate = world.fate(id, &format!("x@{domain}"), 1)?;
        let taken = remote.taken();
        let judged = match wanted {
            Ok(tls) => fate
                .expect("sent", "2.0.0", "taken")
                .and_then(|()| ensure(taken.len() == 1 && taken[0].tls == *tls, || format!("{taken:?}"))),
            Err(words) => fate.expect("deferred", "4.7.", words).and_then(|()| {
                ensure(taken.is_empty() && !remote.heard().iter().any(|line| line.starts_with("MAIL")), || {
                    format!("{taken:?}")
                })
            }),
        };
        judged.map_err(|error| format!("{domain}: {error}"))?;
    }
    Ok(())
}
