//! `check_policy_service` with a real policy daemon: postgrey defers the first attempt and marks the second.

use std::process::{Child, Command, Stdio};

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Patience, System, free_port, harness, wait_for};

/// postgrey, until it is dropped.
struct Postgrey {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Postgrey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Postgrey {
    fn start(port: u16) -> Result<Self, String> {
        let wrong = |error: std::io::Error| error.to_string();
        let directory = tempfile::tempdir().map_err(wrong)?;
        std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).map_err(wrong)?;
        for name in ["clients", "recipients"] {
            std::fs::write(directory.path().join(name), "").map_err(wrong)?;
        }
        let in_it = |option: &str, name: &str| format!("--{option}={}", directory.path().join(name).display());
        let child = Command::new(harness::program("postgrey").ok_or("postgrey is not installed")?)
            .arg(format!("--inet=127.0.0.1:{port}"))
            .args(["--user=nobody", "--group=nogroup", "--delay=1", "--auto-whitelist-clients=0"])
            .arg(format!("--dbdir={}", directory.path().display()))
            .arg(in_it("whitelist-clients", "clients"))
            .arg(in_it("whitelist-recipients", "recipients"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(wrong)?;
        let postgrey = Self { child, _directory: directory };
        wait_for("postgrey", Patience::default(), || std::net::TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(postgrey)
    }
}

pub fn and_mail_comes_at_the_second_attempt() -> Result<(), String> {
    let port = free_port(std::net::Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let service = format!("{{ inet:127.0.0.1:{port}, timeout = 100s }}");
    let system = Builder::new("info.net")
        .main_cf(&format!(
            "mynetworks = 192.0.2.0/24\nsmtpd_policy_service_retry_delay = 1s\nsmtpd_recipient_restrictions = check_policy_service {service}"
        ))
        .start()?;
    story(&system, port).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System, port: u16) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    smtp.command("MAIL FROM:<a@outside.example>", 2).map_err(wrong)?;
    // Nobody is there to ask: the default action.
    let absent = smtp.command("RCPT TO:<john@info.net>", 4).map_err(wrong)?;
    if absent != "451 4.3.5 <john@info.net>: Recipient address rejected: Server configuration problem" {
        return Err(format!("without a service: {absent}"));
    }
    let mut postgrey = Postgrey::start(port)?;
    let first = smtp.command("RCPT TO:<john@info.net>", 4).map_err(wrong)?;
    if !first.starts_with("450 4.2.0 <john@info.net>: Recipient address rejected: Greylisted") {
        return Err(format!("the first attempt: {first}"));
    }
    wait_for("the end of the grey time", Patience::default(), || smtp.command("RCPT TO:<john@info.net>", 2).ok())?;
    smtp.command("DATA", 3).map_err(wrong)?;
    smtp.lines.send(b"Subject: grey\r\n\r\nhello\r\n.\r\n").map_err(wrong)?;
    smtp.reply().map_err(wrong)?;
    let messages = system.wait_for_messages("john", 1)?;
    if !messages[0].contains("X-Greylist: delayed") {
        return Err(format!("no mark of postgrey: {}", messages[0]));
    }
    // A service that went away and came back is asked over a new connection.
    let _ = postgrey.child.kill();
    let _ = postgrey.child.wait();
    let _again = Postgrey::start(port)?;
    smtp.command("MAIL FROM:<b@outside.example>", 2).map_err(wrong)?;
    let again = smtp.command("RCPT TO:<john@info.net>", 4).map_err(wrong)?;
    if !again.contains("Greylisted") {
        return Err(format!("after a restart of the service: {again}"));
    }
    Ok(())
}
