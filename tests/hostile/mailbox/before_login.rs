//! Attack classes STARTTLS injection, long lines, literals and nesting before login, malformed SASL, HTTP: on imapd's front.

use test_support::clients::Security;
use test_support::{Builder, System};

use super::dialogue::{Raw, check};

pub fn nothing_but_a_login_gets_through() -> Result<(), String> {
    let system =
        Builder::new("info.net").dovecot("auth_failure_delay = 0\nlogin_trusted_networks = 127.0.0.0/8").start()?;
    injected_behind_starttls(&system)?;
    lines_and_tags(&system)?;
    literals(&system)?;
    nonsense(&system)?;
    sasl(&system)?;
    // After all that somebody logs in as ever.
    let mut client = connect(&system, "the next client")?;
    client.send(b"a LOGIN john secret\r\n")?;
    let heard = client.until("a ")?;
    check(heard.concat().contains("a OK"), || format!("the next client is refused: {heard:?}"))
}

fn connect(system: &System, what: &'static str) -> Result<Raw, String> {
    Raw::connect(system.ports.at(system.ports.imap), Security::Clear, what)
}

/// CVE-2011-0411, CVE-2021-33515: what came in clear behind the command is never answered inside TLS.
fn injected_behind_starttls(system: &System) -> Result<(), String> {
    for injected in [&b"b LOGIN john secret\r\nc CAPABILITY\r\n"[..], b"b NOOP", b"{5+}\r\nabcde\r\n"] {
        let mut client = connect(system, "STARTTLS injection")?;
        client.send(&[b"a STARTTLS\r\n", injected].concat())?;
        let reply = client.hear()?;
        check(reply.starts_with("a OK"), || format!("STARTTLS: {reply}"))?;
        // The injected octets are thrown away before the handshake or make it fail: both are safe.
        if client.start_tls().is_err() || !client.try_send(b"d CAPABILITY\r\n") {
            continue;
        }
        let Ok(heard) = client.until("d ") else { continue };
        check(heard.len() == 2 && heard[0].starts_with("* CAPABILITY"), || format!("inside TLS: {heard:?}"))?;
        check(!heard[0].contains("STARTTLS"), || format!("STARTTLS is offered twice: {heard:?}"))?;
        client.send(b"e STARTTLS\r\n")?;
        let again = client.until("e ")?;
        check(again.concat().contains("e BAD"), || format!("TLS within TLS: {again:?}"))?;
    }
    let mut client = connect(system, "STARTTLS with an argument")?;
    client.send(b"a STARTTLS now\r\nb NOOP\r\n")?;
    let heard = client.until("b ")?;
    check(heard.concat().contains("a BAD"), || format!("STARTTLS with an argument: {heard:?}"))
}

fn lines_and_tags(system: &System) -> Result<(), String> {
    // A long line with an end is one error, and the next command is read.
    let mut client = connect(system, "a long line")?;
    client.send(&[b"a1 NOOP ", &b"x".repeat(300_000)[..], b"\r\nb NOOP\r\n"].concat())?;
    let heard = client.until("b ")?;
    check(heard.len() == 2 && heard[0].starts_with("a1 BAD"), || format!("a long line: {heard:?}"))?;
    // A tag beyond reason is never echoed, nor is one with octets that are none of a tag's.
    for tag in [vec![b't'; 10_000], b"a\x1b[31m".to_vec(), b"a\0b".to_vec(), b"a{3}".to_vec(), "\u{fc}".into()] {
        let mut client = connect(system, "a tag")?;
        client.send(&[&tag[..], b" NOOP\r\nz NOOP\r\n"].concat())?;
        let heard = client.until("z ")?;
        check(heard.len() == 2 && heard[0].starts_with("* BAD"), || {
            format!("the tag {}: {heard:?}", tag[..tag.len().min(40)].escape_ascii())
        })?;
    }
    Ok(())
}

/// `+` invites nobody to send more than a user name needs; nothing is kept of what comes all the same.
fn literals(system: &System) -> Result<(), String> {
    for command in [
        "a LOGIN {2000}",
        "a LOGIN {4294967296}",
        "a LOGIN {99999999999999999999}",
        "a LOGIN john {1000000}",
        "a SELECT {5}",
        "a APPEND INBOX {5}",
        "a AUTHENTICATE PLAIN {5}",
        "{5}",
        "a ID ({3000}",
    ] {
        let mut client = connect(system, "a literal before login")?;
        client.send(format!("{command}\r\n").as_bytes())?;
        let reply = client.hear()?;
        check(reply.contains(" BAD ") && !reply.starts_with('+'), || format!("{command}: {reply}"))?;
    }
    // Sizes that are none are part of the line, and the line is wrong.
    for command in ["a LOGIN {-1}", "a LOGIN {5++}", "a LOGIN {}", "a LOGIN {0x10}", "a LOGIN {5"] {
        let mut client = connect(system, "a brace")?;
        client.send(format!("{command}\r\n").as_bytes())?;
        let reply = client.hear()?;
        check(reply.starts_with("a BAD"), || format!("{command}: {reply}"))?;
    }
    // One without waiting is swallowed whole, and only the command behind it is read.
    let mut client = connect(system, "a literal+ before login")?;
    let swallowed = [&b"a LOGIN {70000+}\r\n"[..], &b"x LOGOUT\r\n".repeat(7000), b" secret\r\nb NOOP\r\n"].concat();
    client.send(&swallowed)?;
    let heard = client.until("b ")?;
    check(heard.len() == 2 && heard[0].starts_with("a BAD"), || format!("a literal+: {heard:?}"))?;
    // NUL in a literal, in a quoted string, anywhere.
    for command in [
        &b"a LOGIN {4+}\r\njo\0n {6+}\r\nsecret\r\n"[..],
        b"a LOGIN \"jo\0hn\" secret\r\n",
        b"a LOGIN john sec\0ret\r\n",
        b"a\0 NOOP\r\n",
    ] {
        let mut client = connect(system, "NUL")?;
        client.send(command)?;
        let reply = client.hear()?;
        check(reply.contains(" BAD "), || format!("NUL: {reply}"))?;
    }
    Ok(())
}

fn nonsense(system: &System) -> Result<(), String> {
    // Nesting and braces cost no more than their line.
    for line in [
        "a ID ".to_owned() + &"(".repeat(10_000),
        "a ID ".to_owned() + &"(\"\" ".repeat(3_000),
        "{".repeat(10_000),
        "\\".repeat(10_000),
    ] {
        let mut client = connect(system, "nesting")?;
        client.send(format!("{line}\r\nb NOOP\r\n").as_bytes())?;
        let heard = client.until("b ")?;
        check(heard.len() == 2 && heard[0].contains(" BAD "), || format!("nesting: {heard:?}"))?;
    }
    // A browser, and whoever babbles, is hung up on after three lines.
    for babble in [
        &b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\na LOGIN john secret\r\n"[..],
        b"\r\n\r\n\r\na LOGIN john secret\r\n",
        b"\x16\x03\x01\n\xff\xfe\n\0\n\na LOGIN john secret\r\n",
    ] {
        let mut client = connect(system, "babble")?;
        client.send(babble)?;
        let heard = client.rest()?;
        check(heard.iter().any(|line| line.starts_with("* BYE")), || format!("no goodbye: {heard:?}"))?;
        check(!heard.iter().any(|line| line.contains("Logged in")), || format!("a login behind babble: {heard:?}"))?;
    }
    // Nothing of a later state is executed.
    let mut client = connect(system, "later states")?;
    client.send(b"a SELECT INBOX\r\nb LIST \"\" *\r\nc NOOP\r\n")?;
    let heard = client.until("c ")?;
    check(heard.len() == 3 && heard[0].starts_with("a BAD") && heard[1].starts_with("b BAD"), || {
        format!("before login: {heard:?}")
    })
}

/// A01c, A04c seen from IMAP: nothing but a right password in a right exchange logs in.
fn sasl(system: &System) -> Result<(), String> {
    let exchanges = [
        // Not base64, too much of it, an exchange given up.
        "a AUTHENTICATE PLAIN !!!!",
        "a AUTHENTICATE PLAIN\r\n*",
        "a AUTHENTICATE PLAIN\r\n=",
        "a AUTHENTICATE PLAIN\r\nAGpvaG4Ac2VjcmV0 x",
        "a AUTHENTICATE LOGIN\r\nam9obg==\r\n*",
        // john NUL NUL secret; NUL NUL secret; john's password under mary's authorisation; a third NUL.
        "a AUTHENTICATE PLAIN am9obgAAc2VjcmV0",
        "a AUTHENTICATE PLAIN AABzZWNyZXQ=",
        "a AUTHENTICATE PLAIN bWFyeQBqb2huAHNlY3JldA==",
        "a AUTHENTICATE PLAIN AGpvaG4Ac2VjcmV0AA==",
        // Mechanisms that are none, and one with an argument it does not take.
        "a AUTHENTICATE %s",
        "a AUTHENTICATE EXTERNAL =",
        "a AUTHENTICATE CRAM-MD5",
        // Templates of a database are no part of a name.
        "a LOGIN \"john' OR '1'='1\" x",
        "a LOGIN \"%u\" secret",
        "a LOGIN \"*)(uid=*\" secret",
        "a LOGIN \"../john\" secret",
        "a LOGIN \"\" \"\"",
    ];
    for exchange in exchanges {
        let mut client = connect(system, "SASL")?;
        client.send(format!("{exchange}\r\n").as_bytes())?;
        let heard = client.until("a ")?;
        let reply = heard.concat();
        check(reply.contains("a NO") || reply.contains("a BAD"), || format!("{exchange}: {heard:?}"))?;
        check(!reply.to_ascii_lowercase().contains("sql"), || format!("{exchange} tells of insides: {heard:?}"))?;
    }
    // CVE-2025-59028: bad base64 of one hurts no other login that is under way.
    let mut other = connect(system, "another login")?;
    other.send(b"a AUTHENTICATE PLAIN\r\n")?;
    other.hear()?;
    let mut bad = connect(system, "bad base64")?;
    bad.send(b"a AUTHENTICATE PLAIN\r\n\xff\xff\xff\r\n")?;
    bad.until("a ")?;
    other.send(b"AGpvaG4Ac2VjcmV0\r\n")?;
    let heard = other.until("a ")?;
    check(heard.concat().contains("a OK"), || format!("a login beside bad base64: {heard:?}"))
}
