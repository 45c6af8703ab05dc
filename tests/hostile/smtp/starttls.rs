//! STARTTLS: commands slipped in before the handshake (CVE-2011-0411), a state that survives it, old versions, ciphers without encryption.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use test_support::clients::{Security, Smtp};
use test_support::harness::{Test, test};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, Door, STRANGER};

pub fn tests() -> Vec<Test> {
    vec![
        // T01, S03
        test("what is sent along with STARTTLS is never read", &[], what_comes_before_is_forgotten),
        // T01
        test("garbage instead of a handshake costs one connection", &[], garbage_instead_of_a_handshake),
        // T02, T03
        test("old versions of TLS and ciphers without encryption are refused", &[], old_versions_and_null_ciphers),
    ]
}

fn submission(door: &Door) -> Result<Smtp, String> {
    let address = door.system.ports.at(door.system.ports.submission);
    Smtp::connect_from(STRANGER, address, Security::Clear).map_err(wrong)
}

fn what_comes_before_is_forgotten() -> Result<(), String> {
    let door = door::open()?;
    let plain = [b"".as_slice(), b"mary", b"secret"].join(&0);
    let login = base64(&plain);
    for injected in [
        format!("MAIL FROM:<evil@{DOMAIN}>\r\nRCPT TO:<john@{DOMAIN}>\r\n"),
        format!("AUTH PLAIN {login}\r\n"),
        "EHLO evil.example\r\nHELP\r\n".to_owned(),
        "HELP\n".to_owned(),
        "HEL".to_owned(),
        "x".repeat(20_000),
    ] {
        let mut smtp = submission(&door)?;
        smtp.lines.send(format!("STARTTLS\r\n{injected}").as_bytes()).map_err(wrong)?;
        let (code, text) = smtp.reply().map_err(wrong)?;
        ensure(code == 220, || text)?;
        // The octets behind the command may still break the handshake; what they may not do is be carried out.
        if smtp.lines.start_tls().is_err() || smtp.lines.say("P HELP").is_err() {
            continue;
        }
        let Ok((code, text)) = smtp.reply() else { continue };
        ensure(code == 500, || format!("{injected:?} was carried out: {text}"))?;
        let text = smtp.command(&format!("RCPT TO:<john@{DOMAIN}>"), 5).map_err(wrong)?;
        ensure(text.starts_with("503 5.5.1"), || format!("{injected:?}: {text}"))?;
    }
    state_is_reset(&door)
}

fn state_is_reset(door: &Door) -> Result<(), String> {
    let address = door.system.ports.at(door.system.ports.smtp);
    let mut smtp = Smtp::connect_from(STRANGER, address, Security::Clear).map_err(wrong)?;
    smtp.command("MAIL FROM:<somebody@elsewhere.example>", 2).map_err(wrong)?;
    smtp.command(&format!("RCPT TO:<john@{DOMAIN}>"), 2).map_err(wrong)?;
    smtp.command("STARTTLS now", 5).map_err(wrong)?;
    smtp.command("STARTTLS", 2).map_err(wrong)?;
    smtp.lines.start_tls().map_err(wrong)?;
    let data = smtp.command("DATA", 5).map_err(wrong)?;
    let ehlo = smtp.command("EHLO client.example", 2).map_err(wrong)?;
    let again = smtp.command("STARTTLS", 5).map_err(wrong)?;
    let good = data.starts_with("503 5.5.1") && !ehlo.contains("STARTTLS") && again.starts_with("554 5.5.1");
    ensure(good, || format!("{data}\n{ehlo}\n{again}"))
}

fn garbage_instead_of_a_handshake() -> Result<(), String> {
    let door = door::open()?;
    for garbage in [b"MAIL FROM:<evil@x>\r\n".as_slice(), b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x00\x02", &[0; 4000]]
    {
        let mut smtp = submission(&door)?;
        smtp.command("STARTTLS", 2).map_err(wrong)?;
        smtp.lines.send(garbage).map_err(wrong)?;
        // The server may have hung up already.
        let _ = smtp.lines.socket().shutdown(std::net::Shutdown::Write);
        let answer = smtp.lines.rest(10_000);
        ensure(!answer.starts_with(b"2") && !answer.starts_with(b"5"), || {
            format!("{garbage:?} was answered in clear: {}", String::from_utf8_lossy(&answer))
        })?;
    }
    submission(&door)?.start_tls().map_err(wrong)
}

/// A ClientHello for one version with these cipher suites and nothing else.
fn client_hello(version: [u8; 2], suites: &[[u8; 2]]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    let length = |count: usize| u16::try_from(count).unwrap_or(0).to_be_bytes();
    body.extend(length(suites.len() * 2));
    body.extend(suites.concat());
    body.extend([1, 0]);
    let mut handshake = vec![1, 0];
    handshake.extend(length(body.len()));
    handshake.extend(body);
    let mut record = vec![0x16, 3, 1];
    record.extend(length(handshake.len()));
    record.extend(handshake);
    record
}

fn old_versions_and_null_ciphers() -> Result<(), String> {
    let door = door::open()?;
    let strong = [[0xc0, 0x2f], [0xc0, 0x2b], [0x00, 0x9c], [0x00, 0x2f]];
    let null_and_anonymous =
        [[0x00, 0x01], [0x00, 0x02], [0x00, 0x3b], [0xc0, 0x06], [0xc0, 0x10], [0x00, 0x34], [0xc0, 0x15]];
    for (name, hello) in [
        ("SSL 3", client_hello([3, 0], &strong)),
        ("TLS 1.0", client_hello([3, 1], &strong)),
        ("TLS 1.1", client_hello([3, 2], &strong)),
        ("NULL and anonymous ciphers", client_hello([3, 3], &null_and_anonymous)),
    ] {
        let mut stream = TcpStream::connect(door.system.ports.at(door.system.ports.submissions)).map_err(wrong)?;
        stream.write_all(&hello).map_err(wrong)?;
        let mut answer = Vec::new();
        // A reset after the alert is an end as well.
        let _ = stream.read_to_end(&mut answer);
        // An alert, or nothing at all: never a ServerHello.
        ensure(answer.first().is_none_or(|&kind| kind == 0x15), || format!("{name}: {answer:?}"))?;
    }
    let address = door.system.ports.at(door.system.ports.submissions);
    Smtp::connect(address, Security::Tls).map(drop).map_err(wrong)
}

/// Base64 with padding, as SASL wants it.
pub fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = octets.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0u32, |bits, &octet| bits << 8 | u32::from(octet)) << (8 * (3 - chunk.len()));
        (0..4).map(move |at| match at <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]),
            false => '=',
        })
    });
    letters.collect()
}
