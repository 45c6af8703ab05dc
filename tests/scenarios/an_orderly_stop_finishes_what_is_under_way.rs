//! SIGTERM to one daemon, as `systemctl stop` sends it: whoever waits is told to go, what is under way is finished, and nothing is lost or done twice.

use std::fs;

use rustix::process::Signal;
use test_support::clients::{Imap, Lines, Security};
use test_support::remote::{Act, At, Setup};
use test_support::system::signal;
use test_support::{Builder, Patience, System, free_port, wait_for};

/// Asks a daemon to stop; gives its main process.
fn stop(system: &System, daemon: &str) -> Result<u32, String> {
    let pid = system.main_of(daemon).ok_or_else(|| format!("{daemon} does not run"))?;
    signal(pid, Signal::TERM);
    Ok(pid)
}

fn wait_for_the_end_of(pid: u32, system: &System) -> Result<(), String> {
    let gone = || (!fs::exists(format!("/proc/{pid}")).unwrap_or(true)).then_some(());
    wait_for("the end of the daemon", Patience::default(), gone).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn check(good: bool, what: &str, heard: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("{what}: {heard}")) }
}

/// Who is in the middle of a message may finish it and is told that it was taken; who waits is told 421.
pub fn of_smtpd() -> Result<(), String> {
    let system = Builder::new("c.example").start()?;
    let address = system.ports.at(system.ports.smtp);
    let open = || -> Result<Lines, String> {
        let mut lines = Lines::connect(address, Security::Clear).map_err(text)?;
        lines.hear().map_err(text)?;
        lines.say("HELO client.example").map_err(text)?;
        lines.hear().map_err(text)?;
        Ok(lines)
    };
    let (mut idle, mut sending) = (open()?, open()?);
    for command in
        ["MAIL FROM:<x@c.example>", "RCPT TO:<john@c.example>", "DATA", "Subject: half a message\r\n\r\nfirst"]
    {
        sending.say(command).map_err(text)?;
        if !command.starts_with("Subject") {
            sending.hear().map_err(text)?;
        }
    }
    let pid = stop(&system, "smtpd")?;
    let heard = idle.hear().map_err(text)?;
    check(heard.starts_with("421 4.3.2 "), "who waits is told", &heard)?;
    sending.say("second\r\n.").map_err(text)?;
    let heard = sending.hear().map_err(text)?;
    check(heard.starts_with("250 2.0.0 "), "the message is taken", &heard)?;
    let heard = sending.hear().map_err(text)?;
    check(heard.starts_with("421 4.3.2 "), "and that is all", &heard)?;
    wait_for_the_end_of(pid, &system)?;
    let messages = system.wait_for_messages("john", 1)?;
    check(messages[0].contains("first") && messages[0].contains("second"), "the whole message", &messages[0])
}

/// A command that is being carried out is answered to its last octet; then, as who waits, its client hears BYE.
pub fn of_imapd() -> Result<(), String> {
    let system = Builder::new("c.example").start()?;
    let address = system.ports.at(system.ports.imap);
    let open = || -> Result<Imap, String> {
        let mut imap = Imap::connect(address, Security::Clear).map_err(text)?;
        imap.login("john", "secret").map_err(text)?;
        Ok(imap)
    };
    let (mut idle, mut reading) = (open()?, open()?);
    // More than all buffers between the server and this test hold.
    let message = format!("Subject: large\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(600_000));
    reading.command(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len())).map_err(text)?;
    reading.command("SELECT INBOX").map_err(text)?;
    reading.lines.say("f FETCH 1 BODY.PEEK[]").map_err(text)?;
    let first = reading.lines.hear().map_err(text)?;
    check(first.starts_with("* 1 FETCH"), "the command has begun", &first)?;
    let pid = stop(&system, "imapd")?;
    let heard = idle.lines.hear().map_err(text)?;
    check(heard.starts_with("* BYE "), "who waits is told", &heard)?;
    let content = reading.lines.take(message.len()).map_err(text)?;
    check(content == message.as_bytes(), "all of the message", "it differs")?;
    let mut last = reading.lines.hear().map_err(text)?;
    while !last.starts_with("f ") {
        last = reading.lines.hear().map_err(text)?;
    }
    check(last.starts_with("f OK "), "the command is completed", &last)?;
    let heard = reading.lines.hear().map_err(text)?;
    check(heard.starts_with("* BYE "), "and that is all", &heard)?;
    wait_for_the_end_of(pid, &system)
}

/// A message whose final dot the other server has not answered is neither given up nor sent again.
pub fn of_remote_delivery() -> Result<(), String> {
    let remote_address = std::net::Ipv4Addr::LOCALHOST;
    let port = free_port(remote_address).map_err(text)?;
    let remote = Setup::new("mx.other.example").start((remote_address, port).into()).map_err(text)?;
    let system = Builder::new("c.example")
        .main_cf(&format!("relayhost = [{remote_address}]:{port}\nminimal_backoff_time = 1s\nqueue_run_delay = 1s"))
        .start()?;
    remote.on(At::Dot, Act::Wait);
    system.run(&["sendmail", "-f", "x@c.example", "y@other.example"], "Subject: once\n\nonce\n")?;
    wait_for("the message to be on its way", Patience::default(), || (!remote.taken().is_empty()).then_some(()))?;
    let pid = stop(&system, "remote-delivery")?;
    remote.heal();
    wait_for_the_end_of(pid, &system)?;
    system.wait_for_line("remote-delivery", &["status=sent (250 "])?;
    system.wait_for_empty_queue()?;
    check(remote.taken().len() == 1, "sent once", &format!("{} times", remote.taken().len()))
}
