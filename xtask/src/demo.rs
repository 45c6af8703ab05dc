//! `cargo xtask demo`: a whole system on loopback, and one message through it.

use std::net::SocketAddr;

use test_support::clients::{Imap, Pop3, Security};
use test_support::{Builder, System};

const MESSAGE: &str = "Subject: Test subject\n\nTest message\n";

/// Runs the demo; with `--once` it ends after the story.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let (once, profile) = options(arguments)?;
    println!("Building in the profile {profile} ...");
    let mut system = Builder::new("demo.example").profile(&profile).start()?;
    let ports = system.ports;
    println!(
        "Started authd, queue-manager, local-delivery, remote-delivery, smtpd, pop3d and imapd in {}",
        system.root().display()
    );
    tell(&system)?;
    if once {
        return system.stop();
    }
    println!(
        "\nIt keeps serving until you press Ctrl-C. To connect a mail client:\n  \
           accounts      john and mary, password `secret'\n  \
           IMAP          {} (STARTTLS), {} (TLS)\n  \
           POP3          {} (STLS), {} (TLS)\n  \
           SMTP          {} (submission, STARTTLS), {} (submissions, TLS), {} (no login)\n  \
           certificate   self-signed, {}\n  \
           logs          {}\n  \
           commands      MAIL_CONFIG={} {} mailq",
        ports.at(ports.imap),
        ports.at(ports.imaps),
        ports.at(ports.pop3),
        ports.at(ports.pop3s),
        ports.at(ports.submission),
        ports.at(ports.submissions),
        ports.at(ports.smtp),
        system.etc().join("certificate.pem").display(),
        system.root().join("log").display(),
        system.etc().display(),
        system.root().join("bin/postrider").display(),
    );
    system.wait();
    Ok(())
}

fn options(arguments: &[String]) -> Result<(bool, String), String> {
    let (mut once, mut profile) = (false, "release".to_owned());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--once" => once = true,
            "--profile" => profile = rest.next().ok_or("--profile needs a name")?.clone(),
            other => return Err(format!("demo: unknown argument `{other}'")),
        }
    }
    Ok((once, profile))
}

/// Sends the message and follows it to both clients.
fn tell(system: &System) -> Result<(), String> {
    println!("\nSending `Test message' to john@demo.example with our sendmail ...");
    system.run(
        &["sendmail", "-C", &system.etc().display().to_string(), "-f", "mary@demo.example", "john@demo.example"],
        MESSAGE,
    )?;
    let messages = system.wait_for_messages("john", 1)?;
    let message = messages.first().ok_or("no message")?;
    must_hold(message, "the message")?;
    println!("It lies in {}/new, with these lines on top:", system.maildir("john").display());
    for line in message.lines().take_while(|line| !line.is_empty()) {
        println!("    {line}");
    }
    let ports = system.ports;
    read_imap(ports.at(ports.imaps)).map_err(|error| format!("IMAPS: {error}\n{}", system.logs()))?;
    read_pop3(ports.at(ports.pop3s)).map_err(|error| format!("POP3S: {error}\n{}", system.logs()))?;
    println!("\nWhat the logs say about it:");
    for daemon in ["smtpd", "queue-manager", "local-delivery", "imapd", "pop3d"] {
        for line in system.log(daemon).lines().filter(|line| !line.contains("onnect from")) {
            println!("    {line}");
        }
    }
    Ok(())
}

fn must_hold(text: &str, what: &str) -> Result<(), String> {
    if text.contains("Test message") { Ok(()) } else { Err(format!("{what} does not hold the text: {text}")) }
}

fn read_imap(address: SocketAddr) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut imap = Imap::connect(address, Security::Tls).map_err(wrong)?;
    imap.login("john", "secret").map_err(wrong)?;
    imap.command("SELECT INBOX").map_err(wrong)?;
    let fetched = imap.command("FETCH 1 (FLAGS BODY.PEEK[])").map_err(wrong)?;
    must_hold(&fetched.join("\n"), "FETCH")?;
    imap.command("LOGOUT").map_err(wrong)?;
    println!("\nIMAPS on {address}: logged in as john, SELECT INBOX, FETCH 1: `Test message' is there.");
    Ok(())
}

fn read_pop3(address: SocketAddr) -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut pop3 = Pop3::connect(address, Security::Tls).map_err(wrong)?;
    pop3.login("john", "secret").map_err(wrong)?;
    let message = pop3.listing("RETR 1").map_err(wrong)?;
    must_hold(&message.join("\n"), "RETR")?;
    pop3.command("QUIT").map_err(wrong)?;
    println!("POP3S on {address}: logged in as john, RETR 1: `Test message' is there.");
    Ok(())
}
