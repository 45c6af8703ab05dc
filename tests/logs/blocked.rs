//! R8: the log sink must never block the mail path.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use test_support::clients::{Imap, Security, Smtp};
use test_support::{Builder, Patience, wait_for};

/// `maillog_file` is a FIFO whose reader reads nothing, `log_path` a disk without room.
pub fn stops_nobody() -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut system = Builder::new("info.net")
        .main_cf("maillog_file = {root}/log/fifo\nsmtpd_hard_error_limit = 100000\nsmtpd_error_sleep_time = 0")
        .dovecot("log_path = /dev/full")
        .prepare()?;
    let fifo = system.root().join("log/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0)
        .map_err(|e| wrong(e.into()))?;
    rustix::fs::chmod(&fifo, 0o666.into()).map_err(|error| wrong(error.into()))?;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(|error| error.to_string())?;
    let mut reader = File::options().read(true).custom_flags(flags).open(&fifo).map_err(wrong)?;
    system.start()?;
    let ports = system.ports;
    // More than FIFO and buffer hold together: 64 KiB and 1 MiB.
    let recipient = format!("{}@elsewhere.example", "x".repeat(60));
    let mut smtp = Smtp::connect(ports.at(ports.submission), Security::Clear).map_err(wrong)?;
    smtp.start_tls().map_err(wrong)?;
    smtp.command(&format!("MAIL FROM:<{}@info.net>", "y".repeat(60)), 2).map_err(wrong)?;
    let line = format!("RCPT TO:<{recipient}>\r\n");
    for _ in 0..50 {
        smtp.lines.send(line.repeat(100).as_bytes()).map_err(wrong)?;
        for _ in 0..100 {
            let reply = smtp.lines.hear().map_err(wrong)?;
            if !reply.starts_with("554 ") {
                return Err(format!("a stranger's relaying: {reply}"));
            }
        }
    }
    smtp.command("QUIT", 2).map_err(wrong)?;
    system.run(&["sendmail", "-f", "mary@info.net", "john@info.net"], "Subject: through\n\nhello\n")?;
    system.wait_for_messages("john", 1)?;
    let mut imap = Imap::connect(ports.at(ports.imaps), Security::Tls).map_err(wrong)?;
    imap.login("john", "secret").map_err(wrong)?;
    imap.command("LOGOUT").map_err(wrong)?;
    // The own logs have every line meanwhile.
    let refused = |log: &str| log.lines().filter(|line| line.contains("NOQUEUE: reject: RCPT from")).count();
    wait_for("the lines in the daemon's own log", Patience::default(), || {
        (refused(&system.log("smtpd")) == 5000).then_some(())
    })?;
    let gap = drain_until_gap(&mut reader)?;
    let shown = gap.lines().filter(|line| line.contains("NOQUEUE: reject: RCPT from")).count();
    if shown >= 5000 {
        return Err("nothing was dropped, so nothing was tested".to_owned());
    }
    // Whoever waited for the FIFO would never end.
    system.stop()
}

fn drain_until_gap(reader: &mut File) -> Result<String, String> {
    let mut got = Vec::new();
    wait_for("the gap in the FIFO", Patience::default(), || {
        let mut piece = [0; 65536];
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            got.extend_from_slice(&piece[..count]);
        }
        let text = String::from_utf8_lossy(&got);
        text.contains(" log lines dropped: the log is too slow or full").then(|| text.into_owned())
    })
}
