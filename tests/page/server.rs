//! The page's server: info.net, with john, mike and charles.

use test_support::{Machine, Patience, wait_for};

/// main.cf as the page has it, with its `...` and its leading zero.
pub const MAIN_CF: &str = "\
# main.cf of info.net
...
mydomain = info.net
myorigin = $mydomain
inet_interfaces = all
mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain, server.$mydomain, mail.$mydomain
mynetworks = 192.168.01.0/24, 127.0.0.0/8
home_mailbox = Maildir/
...
";

/// dovecot.conf as the page has it.
pub const DOVECOT_CONF: &str = "protocols = imap pop3\nmail_location = maildir:~/Maildir\n";

/// The address of the server towards other machines; not in mynetworks.
pub const ADDRESS: [u8; 4] = [192, 168, 7, 1];

/// A machine with the page's files, users and our programs; nothing runs yet. `more` is added to main.cf.
pub fn machine(more: &str) -> Result<Machine, String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    for (name, uid) in [("john", 2001), ("mike", 2002), ("charles", 2003)] {
        machine.add_user(name, uid, "secret")?;
    }
    machine.write("/etc/postfix/main.cf", &format!("{MAIN_CF}{more}"))?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot")?;
    machine.write("/etc/dovecot/dovecot.conf", DOVECOT_CONF)?;
    machine.write("/etc/aliases", "postmaster: root\n")?;
    machine.write("/etc/mailname", "info.net\n")?;
    Ok(machine)
}

/// Starts everything, and waits until SMTP, POP3 and IMAP answer.
pub fn start(machine: &Machine) -> Result<(), String> {
    machine.start_up("-c /etc/postfix").map_err(|error| format!("{error}\n{}", logs(machine)))?;
    for port in [25, 110, 143, 993, 995] {
        machine.wait_for_port(port).map_err(|error| format!("{error}\n{}", logs(machine)))?;
    }
    Ok(())
}

/// A command of ours, typed as the page types it.
pub fn ours(machine: &Machine, line: &str) -> Result<String, String> {
    ours_with(machine, line, "")
}

/// As [`ours`], with standard input.
pub fn ours_with(machine: &Machine, line: &str, input: &str) -> Result<String, String> {
    machine
        .shell_with(&format!("export PATH=/run/postrider:$PATH MAIL_CONFIG=/etc/postfix; {line}"), input)
        .map_err(|error| format!("{error}\n{}", logs(machine)))
}

/// Sends a short message with our sendmail.
pub fn send(machine: &Machine, from: &str, to: &str, text: &str) -> Result<(), String> {
    ours_with(machine, &format!("sendmail -f {from} {to}"), &format!("Subject: {text}\n\n{text}\n")).map(drop)
}

/// Waits until a user's Maildir holds messages with this text, so many of them.
pub fn arrives(machine: &Machine, user: &str, text: &str, count: usize) -> Result<(), String> {
    let line = format!("test $(cat /home/{user}/Maildir/new/* | grep -c '^Subject:.*{text}') -ge {count}");
    machine.wait_until(&line).map(drop).map_err(|error| format!("{error}\n{}", logs(machine)))
}

/// Everything the daemons wrote, for the message of a failure.
pub fn logs(machine: &Machine) -> String {
    machine.read("/run/up.out /var/spool/postrider/log/*")
}

/// Waits until files of the log directory hold all of these: a line is written after the answer that a client hears, and after the mail has arrived.
pub fn logged(machine: &Machine, files: &[&str], wanted: &[&str]) -> Result<(), String> {
    let paths: Vec<String> = files.iter().map(|file| format!("/var/spool/postrider/log/{file}")).collect();
    let read = || machine.read(&paths.join(" "));
    let found = wait_for(&format!("{wanted:?} in {files:?}"), Patience::default(), || {
        let text = read();
        wanted.iter().all(|wanted| text.contains(wanted)).then_some(())
    });
    found.or_else(|error| holds(machine, &read(), wanted).and(Err(error)))
}

/// Fails with the logs unless the text holds all of these.
pub fn holds(machine: &Machine, text: &str, wanted: &[&str]) -> Result<(), String> {
    match wanted.iter().find(|wanted| !text.contains(**wanted)) {
        None => Ok(()),
        Some(missing) => Err(format!("{missing:?} is missing in:\n{text}\n{}", logs(machine))),
    }
}
