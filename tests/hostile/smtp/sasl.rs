//! SASL nonsense (CVE-2011-1720, CVE-2023-27582, CVE-2025-59028 and their kin): broken encodings, too much, too little, somebody else's identity, and what
//! can be learned from a refusal.

use std::time::{Duration, Instant};

use test_support::Builder;
use test_support::clients::{Security, Smtp};
use test_support::harness::{Test, test};

use super::starttls::base64;
use super::{ensure, wrong};
use crate::door::{self, DOMAIN, Door, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // A01c, A02c, A04c
        test("no nonsense in AUTH logs anybody in or disturbs the next login", &[], nonsense),
        // A01c, M01
        test("AUTH has its place: once, outside a transaction, after TLS", &[], in_its_place),
        test("a refusal says and costs the same for unknown users and wrong passwords", &[], enumeration),
    ]
}

fn secure(door: &Door) -> Result<Smtp, String> {
    let address = door.system.ports.at(door.system.ports.submissions);
    Smtp::connect_from(STRANGER, address, Security::Tls).map_err(wrong)
}

/// Initial responses of PLAIN that must fail, with the codes that are right.
fn plain_nonsense() -> Vec<(String, [&'static str; 2])> {
    let refused = ["535 5.7.8", "501 5.5.2"];
    let broken = ["501 5.5.2", "501 5.5.2"];
    let encoded = [
        b"\0".as_slice(),
        b"\0\0",
        b"\0mary",
        b"\0mary\0",
        b"mary\0secret",
        b"mary secret",
        b"\0mary\0secret\0",
        b"\0\0mary\0secret",
        b"\0mary\0secret\0\0\0",
        b"john\0mary\0secret",
        b"root\0mary\0secret",
        b"\0mary\n\0secret",
        b"\0mary\r\nX: y\0secret",
        b"\0\xff\xfe\0secret",
        b"\0mary\0\xff\xff",
        b"\0mar\xc3\0secret",
        b"\0%u%d%n\0secret",
        b"\0../mary\0secret",
        b"\0*\0secret",
        b"\0' OR 1=1 --\0secret",
        b"\0mary*john\0secret",
        b"\0mary:x\0secret",
        b"\0\0secret",
    ];
    let mut all: Vec<_> = encoded.iter().map(|octets| (base64(octets), refused)).collect();
    all.push((base64(&[b"\0".as_slice(), &[b'u'; 4000], b"\0secret"].concat()), refused));
    all.push((base64(&[b"\0mary\0".as_slice(), &[b'p'; 8000]].concat()), refused));
    all.push((base64(&[0; 9000]), refused));
    for text in ["!", "====", "AA", "AA=A", "AAA", "A===", "AG1hcnkAc2VjcmV0=", "AG1h\tcnkA", "\u{e4}", "*", "=A"] {
        all.push((text.to_owned(), broken));
    }
    all
}

fn nonsense() -> Result<(), String> {
    let door = door::open()?;
    for (response, codes) in plain_nonsense() {
        let shown = &response[..response.len().min(60)];
        let mut smtp = secure(&door)?;
        for line in [format!("AUTH PLAIN {response}"), response.clone()] {
            if line == response {
                smtp.command("AUTH PLAIN", 3).map_err(wrong)?;
            }
            smtp.lines.say(&line).map_err(wrong)?;
            let (_, reply) = smtp.reply().map_err(|error| format!("{shown}: {error}"))?;
            let aborted = response == "*" && reply.starts_with("501 5.7.0");
            let good = aborted || codes.iter().any(|code| reply.starts_with(code)) || reply.starts_with("501 5.5.4");
            ensure(good, || format!("AUTH PLAIN {shown}: {reply}"))?;
        }
        smtp.command(&format!("MAIL FROM:<mary@{DOMAIN}>"), 2).map_err(wrong)?;
        let reply = smtp.command("RCPT TO:<user@outside.example>", 5).map_err(|error| format!("{shown}: {error}"))?;
        ensure(reply.starts_with("554 5.7.1"), || format!("{shown} opened the door: {reply}"))?;
    }
    too_long(&door)?;
    // Whoever is right gets in, in the same session and beside it.
    let mut smtp = secure(&door)?;
    smtp.command("AUTH LOGIN", 3).map_err(wrong)?;
    smtp.command("*", 5).map_err(wrong)?;
    smtp.command(&format!("AUTH LOGIN {}", base64(b"mary")), 3).map_err(wrong)?;
    smtp.command("%%%", 5).map_err(wrong)?;
    smtp.command(&format!("AUTH PLAIN {}", base64(b"mary\0mary\0secret")), 2).map(drop).map_err(wrong)
}

fn too_long(door: &Door) -> Result<(), String> {
    let mut smtp = secure(door)?;
    let reply = smtp.command(&format!("AUTH PLAIN {}", "A".repeat(200_000)), 5).map_err(wrong)?;
    ensure(reply.starts_with("500 5.5.2"), || reply)?;
    smtp.command("AUTH LOGIN", 3).map_err(wrong)?;
    let reply = smtp.command(&"A".repeat(200_000), 5).map_err(wrong)?;
    ensure(reply.starts_with("500 5.5.6"), || reply)
}

fn in_its_place() -> Result<(), String> {
    let door = door::open()?;
    let login = format!("AUTH PLAIN {}", base64(b"\0mary\0secret"));
    let address = door.system.ports.at(door.system.ports.submission);
    let mut smtp = Smtp::connect_from(STRANGER, address, Security::Clear).map_err(wrong)?;
    let clear = smtp.command(&login, 5).map_err(wrong)?;
    ensure(clear.starts_with("530 5.7.0"), || clear)?;
    smtp.start_tls().map_err(wrong)?;
    smtp.command(&format!("MAIL FROM:<mary@{DOMAIN}>"), 2).map_err(wrong)?;
    let unknown = smtp.command(&format!("RCPT TO:<john@{DOMAIN}>"), 5).map_err(wrong)?;
    let inside = smtp.command(&login, 5).map_err(wrong)?;
    smtp.command("RSET", 2).map_err(wrong)?;
    let mechanism = smtp.command("AUTH GSSAPI", 5).map_err(wrong)?;
    smtp.command(&login, 2).map_err(wrong)?;
    let twice = smtp.command(&login, 5).map_err(wrong)?;
    let good = unknown.starts_with("554 5.7.1")
        && inside.starts_with("503 5.5.1")
        && mechanism.starts_with("504 5.5.4")
        && twice.starts_with("503 5.5.1");
    ensure(good, || format!("{unknown}\n{inside}\n{mechanism}\n{twice}"))?;
    // Port 25 of the shared system offers no AUTH at all.
    let reply = door.smtp(STRANGER)?.command(&login, 5).map_err(wrong)?;
    ensure(reply.starts_with("503 5.5.1"), || reply)
}

/// `secret`, hashed dearly enough that its cost shows.
const DEAR: &str = "dear:{SHA512-CRYPT}$6$rounds=60000$saltsaltsalt$";

fn enumeration() -> Result<(), String> {
    // Without the delay of failed logins only the cost of the hash is left.
    let builder = Builder::new("logins.example")
        .main_cf("smtpd_client_connection_count_limit = 0\nsmtpd_error_sleep_time = 0")
        .dovecot("auth_failure_delay = 0\nlogin_trusted_networks = 127.0.0.0/8")
        .file("dear-users", &format!("{DEAR}{}:1000:1000::/nonexistent::\n", "x".repeat(86)))
        .dovecot("passdb {\n  driver = passwd-file\n  args = {root}/etc/dear-users\n}");
    let system = builder.start()?;
    let address = system.ports.at(system.ports.submissions);
    let attempt = |user: &str| -> Result<(String, Duration), String> {
        let mut smtp = Smtp::connect(address, Security::Tls).map_err(wrong)?;
        let began = Instant::now();
        let line = format!("AUTH PLAIN {}", base64(format!("\0{user}\0wrong").as_bytes()));
        let reply = smtp.command(&line, 5).map_err(wrong)?;
        Ok((reply, began.elapsed()))
    };
    // The best of several, so that a busy machine does not matter.
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for number in 0..20 {
        let (first, second) = (attempt("dear")?, attempt("nobody-here")?);
        let same = first.0 == second.0 && first.0.starts_with("535 5.7.8");
        ensure(same, || format!("{first:?} {second:?}\n{}", system.logs()))?;
        (known, unknown) = (known.min(first.1), unknown.min(second.1));
        if number >= 4 && unknown * 3 > known && known * 3 > unknown {
            return Ok(());
        }
    }
    Err(format!("a wrong password took {known:?}, an unknown user {unknown:?}\n{}", system.logs()))
}
