//! Logins at relay hosts (`smtp_sasl_password_maps`).

use test_support::remote::{Remote, Setup};

use crate::world::{PASSWORDS, World, ensure, world};

/// A server that wants this login, with TLS or without.
fn server(
    world: &World,
    domain: &str,
    tls: bool,
    mechanisms: &str,
    user: &str,
    password: &str,
) -> Result<Remote, String> {
    world.server_with(domain, |setup| {
        let setup = setup.login(mechanisms, user, password);
        if tls { setup.self_signed() } else { Ok(setup) }
    })
}

pub fn before_mail() -> Result<(), String> {
    let world = world()?;
    let mut cases = Vec::new();
    for (domain, tls, mechanisms, user, password) in [
        ("plain.login.example", true, "PLAIN LOGIN", "user", "pass-by-hop"),
        ("host.login.example", true, "PLAIN", "user", "pass-by-host"),
        ("login.login.example", true, "LOGIN", "user", "pass:with:colons"),
        ("cram.login.example", false, "PLAIN CRAM-MD5", "user", "pass-by-cram"),
        ("x.bysender.example", true, "PLAIN", "mary", "pass-by-sender"),
    ] {
        let remote = server(&world, domain, tls, mechanisms, user, password)?;
        cases.push((world.send(&[&format!("x@{domain}")])?, domain, user, remote));
    }
    for (id, domain, user, remote) in &cases {
        world
            .fate(id, &format!("x@{domain}"), 1)?
            .expect("sent", "2.0.0", "taken")
            .map_err(|error| format!("{domain}: {error}"))?;
        let users: Vec<Option<String>> = remote.taken().into_iter().map(|taken| taken.user).collect();
        ensure(users == [Some((*user).to_owned())], || format!("{domain}: logged in as {users:?}"))?;
    }
    Ok(())
}

pub fn never_without() -> Result<(), String> {
    let world = world()?;
    let strange = world.server_with("strange.login.example", Setup::self_signed)?;
    let wrong = server(&world, "wrong.login.example", true, "PLAIN", "user", "right")?;
    let clear = server(&world, "clear.login.example", false, "PLAIN LOGIN", "user", "pass-in-clear")?;
    for (domain, remote, dsn, words) in [
        ("wrong.login.example", &wrong, "4.7.8", "SASL authentication failed; server mx.wrong.login.example"),
        // Passwords leave in clear only where main.cf allows it: noplaintext is the default.
        ("clear.login.example", &clear, "4.7.0", "offered no usable AUTH mechanism: 'PLAIN LOGIN'"),
        ("strange.login.example", &strange, "4.7.0", "offered no usable AUTH mechanism: ''"),
    ] {
        let to = format!("x@{domain}");
        let id = world.send(&[&to])?;
        world.fate(&id, &to, 1)?.expect("deferred", dsn, words).map_err(|error| format!("{domain}: {error}"))?;
        ensure(remote.taken().is_empty() && world.is_queued(&id)?, || format!("{domain}: not queued"))?;
    }
    ensure(!clear.heard().iter().any(|line| line.starts_with("AUTH")), || "the password left in clear".to_owned())?;
    let logs = world.system.logs();
    let passwords = PASSWORDS.lines().filter_map(|line| line.split_once(':').map(|(_, password)| password));
    for password in passwords.filter(|password| password.starts_with("pass")) {
        ensure(!logs.contains(password), || format!("the log has the password {password}"))?;
    }
    Ok(())
}
