//! `local_name`, `remote` and `protocol` in dovecot.conf: certificates by the name that a client asks for, greetings, limits, clear text and mail by address
//! and name. `openssl s_client` is the client that names a server.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use test_support::clients::{Imap, Lines, Security};
use test_support::{Builder, System};

const DOVECOT: &str = "local_name \"second.example *.third.example\" {\n  ssl_cert = <{root}/etc/second.pem\n  ssl_key = <{root}/etc/second.key\n  \
    login_greeting = Second at your service.\n  protocol imap {\n    mail_location = maildir:~/second\n  }\n}\n\
    remote 127.0.0.9 {\n  disable_plaintext_auth = no\n  login_greeting = Hello, neighbour.\n  mail_max_userip_connections = 1\n}\n\
    remote 127.0.0.10 {\n  ssl = no\n}\nlogin_log_format_elements = who=<%Lu> %k sni=%{local_name} from=%r\nlogin_log_format = [%s] %$\n";

pub fn by_its_addresses_and_the_name_it_asks_for() -> Result<(), String> {
    let pair = mail_net::tls::self_signed("second.example").map_err(|error| error.to_string())?;
    let builder = Builder::new("c.example").dovecot(DOVECOT);
    let system = builder.file("second.pem", &pair.certificate).file("second.key", &pair.key).start()?;
    story(&system).map_err(|error| format!("{error}\n{}", system.logs()))
}

fn story(system: &System) -> Result<(), String> {
    certificates(system)?;
    mail(system)?;
    addresses(system).map_err(|error| error.to_string())?;
    let pair = mail_net::tls::self_signed("second.example").map_err(|error| error.to_string())?;
    let etc = system.etc();
    for (name, text) in [("second.pem", &pair.certificate), ("second.key", &pair.key)] {
        fs::write(etc.join(name), text).map_err(|error| error.to_string())?;
    }
    system.run(&["postfix", "reload"], "")?;
    certificates(system)
}

/// Each name has its certificate, on every port that speaks TLS.
fn certificates(system: &System) -> Result<(), String> {
    let ports = system.ports;
    let ways = [(ports.imaps, None), (ports.imap, Some("imap")), (ports.pop3s, None), (ports.pop3, Some("pop3"))];
    let names = [
        (None, "certificate.pem"),
        (Some("other.example"), "certificate.pem"),
        (Some("second.example"), "second.pem"),
        (Some("SECOND.example"), "second.pem"),
        (Some("mail.third.example"), "second.pem"),
        (Some("third.example"), "certificate.pem"),
    ];
    for (port, starttls) in ways {
        for (name, file) in names {
            let shown = openssl(ports.at(port), name, starttls, &["-showcerts"], "")?;
            let wanted = fs::read_to_string(system.etc().join(file)).map_err(|error| error.to_string())?;
            if certificate(&shown) != certificate(&wanted) || certificate(&wanted).is_empty() {
                return Err(format!("{port} {starttls:?} {name:?}: not {file}:\n{shown}"));
            }
        }
    }
    Ok(())
}

/// Who asks for the name sees the mail of that name, greeted by it; POP3 and everybody else see the other.
fn mail(system: &System) -> Result<(), String> {
    let ports = system.ports;
    let dialogue = "a LOGIN john secret\r\nb CREATE there\r\nc LOGOUT\r\n";
    let talk = openssl(ports.at(ports.imaps), Some("second.example"), None, &["-quiet"], dialogue)?;
    if !talk.contains("Second at your service.") || !talk.contains("b OK") {
        return Err(format!("the session of the second name: {talk}"));
    }
    // STARTTLS: the greeting came before the name.
    let dialogue = "a LOGIN john secret\r\nb STATUS there (MESSAGES)\r\nc LOGOUT\r\n";
    let talk = openssl(ports.at(ports.imap), Some("second.example"), Some("imap"), &["-quiet"], dialogue)?;
    if !talk.contains("* STATUS there (MESSAGES 0)") {
        return Err(format!("after STARTTLS: {talk}"));
    }
    let john = system.root().join("home/john");
    if !john.join("second/.there").is_dir() || john.join("Maildir/.there").exists() {
        return Err("the mailbox is not where it should be".to_owned());
    }
    let form = "imap-login: [who=<john>, TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits), sni=second.example, from=127.0.0.1] Login";
    system.wait_for_line("imapd", &[form])?;
    let mut other = Imap::connect(ports.at(ports.imaps), Security::Tls).map_err(|error| error.to_string())?;
    other.login("john", "secret").map_err(|error| error.to_string())?;
    let listed = other.command("LIST \"\" there").map_err(|error| error.to_string())?;
    if listed.len() != 1 {
        return Err(format!("another mailbox: {listed:?}"));
    }
    Ok(())
}

/// Clear text, the greeting, the limit and TLS itself depend on where a client comes from.
fn addresses(system: &System) -> std::io::Result<()> {
    let from = |last: u8| -> std::io::Result<Imap> {
        let client = Ipv4Addr::new(127, 0, 0, last);
        Imap::over(Lines::connect_from(client, system.ports.at(system.ports.imap), Security::Clear)?)
    };
    let must = |is: bool, what: &str| if is { Ok(()) } else { Err(std::io::Error::other(what.to_owned())) };
    let capability = |imap: &mut Imap| Ok::<_, std::io::Error>(imap.command("CAPABILITY")?.join(" "));
    let mut stranger = from(8)?;
    must(stranger.login("john", "secret").is_err(), "a password went in clear")?;
    must(capability(&mut stranger)?.contains("STARTTLS"), "no STARTTLS for others")?;
    let mut neighbour = from(9)?;
    must(neighbour.greeting.contains("Hello, neighbour."), "another greeting")?;
    neighbour.login("john", "secret")?;
    must(from(9)?.login("john", "secret").is_err(), "a second session of the one neighbour")?;
    let mut without = from(10)?;
    must(!capability(&mut without)?.contains("STARTTLS"), "STARTTLS where TLS is off")?;
    must(without.login("john", "secret").is_err(), "a password went in clear where TLS is off")
}

/// What `openssl s_client` prints.
fn openssl(
    address: SocketAddr,
    name: Option<&str>,
    starttls: Option<&str>,
    options: &[&str],
    input: &str,
) -> Result<String, String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]).args(options);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    command.args(starttls.iter().flat_map(|protocol| ["-starttls", protocol]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first certificate of a text, without its line ends.
fn certificate(text: &str) -> String {
    let inside = text.split_once("-----BEGIN CERTIFICATE-----").and_then(|(_, rest)| rest.split_once("-----END"));
    inside.map_or(String::new(), |(body, _)| body.split_ascii_whitespace().collect())
}
