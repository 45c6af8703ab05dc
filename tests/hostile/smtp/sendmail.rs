//! What a user of the machine can do with the arguments and the input of `sendmail`, and with `postdrop` behind it.

use std::process::Output;

use test_support::harness::{Test, test};
use test_support::{Patience, wait_for};

use super::{ensure, wrong};
use crate::door::{self, DOMAIN, Door};

pub fn tests() -> Vec<Test> {
    vec![
        // S14
        test("no argument of sendmail forges a header, runs a command or names a file", &[], arguments),
        // F02
        test("sendmail -t takes blind copies out in every spelling", &[], blind_copies),
        test("huge input and floods of headers are refused or taken in whole", &[], floods),
        test("postdrop takes nothing but one whole submission", &[], postdrop),
    ]
}

fn sendmail(door: &Door, arguments: &[&str], input: &[u8]) -> Result<Output, String> {
    let all: Vec<&str> = ["sendmail"].iter().chain(arguments).copied().collect();
    door.system.tool(&all, input).map_err(wrong)
}

/// The message with this subject, once it lies in john's mailbox.
fn arrived(door: &Door, subject: &str) -> Result<String, String> {
    let line = format!("Subject: {subject}\n");
    let found = wait_for(subject, Patience::default(), || {
        door.system.messages("john").into_iter().find(|message| message.contains(&line))
    });
    found.map_err(|error| format!("{error}\n{}", door.system.logs()))
}

fn arguments() -> Result<(), String> {
    let door = door::open()?;
    let john = format!("john@{DOMAIN}");
    let mark = door.system.root().join("home/by-sendmail");
    let mark = mark.display().to_string();
    let refused: [&[&str]; 13] = [
        &["-f", "mary@c.example\nBcc: evil@outside.example", &john],
        &["-f", "mary@c.example\r\nX: y", &john],
        &["-F", "Mary\nX-Forged: yes", &john],
        &["-F", "Mary\r\n\r\nbody", &john],
        &["-F", "\u{1b}]0;title\u{7}", &john],
        &["-V", "a\nX-Forged: yes", &john],
        &["-r", "a\tb\u{8}", &john],
        &[&format!("{john}\nX-Forged: yes")],
        &["-be", "${run{/bin/sh}}"],
        &["-bt", &john],
        &["-bz"],
        &["-C", "/nonexistent", &john],
        &["--no-such-option", &john],
    ];
    for words in refused {
        let output = sendmail(&door, words, b"Subject: from a hostile argument\n\nhello\n")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(!output.status.success(), || format!("{words:?} was taken"))?;
        ensure(!said.contains('\u{1b}') && !said.contains("panicked"), || format!("{words:?}: {said:?}"))?;
    }
    // Options of other sendmails that name files or commands are without effect; what follows `--` is an address.
    let (log, queue, database) = (format!("-X{mark}"), format!("-oQ{mark}"), format!("-oA{mark}"));
    let harmless: [&[&str]; 4] = [
        &[&log, &queue, "-oi", &john],
        &[&database, "-oP/bin/sh", "-om", &john],
        &["-F", "\"Mary\" <evil@outside.example>, (x", &john],
        &["-f", "", "--", &john],
    ];
    for (number, words) in harmless.iter().enumerate() {
        let subject = format!("harmless {number}");
        let output = sendmail(&door, words, format!("Subject: {subject}\n\nhello\n").as_bytes())?;
        ensure(output.status.success(), || format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let message = arrived(&door, &subject)?;
        let from = message.lines().filter(|line| line.starts_with("From:")).count();
        ensure(from == 1 && !message.contains("\nBcc:"), || message)?;
    }
    let output = sendmail(&door, &["-f", &john, "--", "-oQ/tmp", "-t"], b"Subject: addresses\n\nhello\n")?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let bounce = wait_for("the report about <-t>", Patience::default(), || {
        door.system.messages("john").into_iter().find(|message| message.contains(&format!("<-t@{DOMAIN}>")))
    });
    bounce.map_err(|error| format!("{error}\n{}", door.system.logs()))?;
    ensure(!std::path::Path::new(&mark).exists(), || format!("{mark} was made"))?;
    let forged = door.system.messages("john").iter().any(|message| {
        message.split("\n\n").next().is_some_and(|header| header.contains("X-Forged"))
            || message.contains("from a hostile argument")
    });
    ensure(!forged, || "a refused message arrived".to_owned())
}

fn blind_copies() -> Result<(), String> {
    let door = door::open()?;
    let text = format!(
        "From: mary@{DOMAIN}\nTo: john@{DOMAIN}\nBcc: secret-one@outside.example,\n  secret-two@outside.example\nBCC : secret-three@outside.example\n\
         bcc:\n\tsecret-four@outside.example\nSubject: blind copies\n\nBcc: this line is text\n"
    );
    let output = sendmail(&door, &["-t"], text.as_bytes())?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let message = arrived(&door, "blind copies")?;
    ensure(!message.contains("secret-") && message.contains("\nBcc: this line is text"), || message)?;
    let sent = wait_for("the copies", Patience::default(), || {
        Some(door.next_hop.with(b"Subject: blind copies")).filter(|contents| !contents.is_empty())
    });
    let sent = sent.map_err(|error| format!("{error}\n{}", door.system.logs()))?;
    let leaks = sent.iter().any(|content| String::from_utf8_lossy(content).contains("secret-"));
    ensure(!leaks, || "a blind copy's name went out".to_owned())
}

fn floods() -> Result<(), String> {
    let door = door::open()?;
    let john = format!("john@{DOMAIN}");
    // Postfix's message_size_limit is 10,240,000.
    let output = sendmail(&door, &[&john], &b"0123456789abcdef\n".repeat(700_000))?;
    ensure(output.status.code() == Some(69), || format!("{output:?}"))?;
    let endless = [b"Subject: endless line\n\n".as_slice(), &[b'x'; 9_000_000]].concat();
    let output = sendmail(&door, &[&john], &endless)?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let message = arrived(&door, "endless line")?;
    ensure(message.len() > 9_000_000, || format!("{} octets arrived", message.len()))?;
    let flood = format!("Subject: flood\n{}\nhello\n", "X-Flood: x\n".repeat(100_000));
    let output = sendmail(&door, &["-t", &john], flood.as_bytes())?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    let message = arrived(&door, "flood")?;
    // However long it is, a header stays a header.
    let header = message.split("\n\n").next().unwrap_or_default();
    ensure(header.matches("X-Flood: x\n").count() >= 99_999, || format!("{} octets of header arrived", header.len()))?;
    // Binary input is content.
    let binary: Vec<u8> = b"Subject: binary\n\n".iter().copied().chain((0..=255).cycle().take(10_000)).collect();
    let output = sendmail(&door, &["-oi", &john], &binary)?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    arrived(&door, "binary").map(drop)
}

fn postdrop() -> Result<(), String> {
    let door = door::open()?;
    let maildrop = door.system.state().join("maildrop");
    let inputs: [&[u8]; 4] = [b"", b"From: me\n\nhello\n", &[0xff; 100_000], b"\x10\0\0\0\0{\"id\":1"];
    for input in inputs {
        for arguments in [&[][..], &["-r"], &["-c", "/nonexistent"], &["-x"], &["--help", "x"]] {
            let mut command = door.system.command("postdrop");
            command.args(arguments).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let mut child = command.spawn().map_err(wrong)?;
            if let Some(mut stdin) = child.stdin.take() {
                // It may have refused its arguments already.
                let _ = std::io::Write::write_all(&mut stdin, input);
            }
            let output = child.wait_with_output().map_err(wrong)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let refused = output.status.code().is_some_and(|code| [64, 65, 75].contains(&code));
            ensure(refused && said.starts_with("postdrop: fatal: "), || format!("{arguments:?}: {output:?}"))?;
        }
    }
    // What another story hands in may lie there until smtpd takes it.
    wait_for("an empty maildrop", Patience::default(), || {
        (std::fs::read_dir(&maildrop).ok()?.count() == 0).then_some(())
    })
}
