//! Where lines go for a system started as root, and for a service of systemd's.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use test_support::clients::{Security, Smtp};
use test_support::{Builder, Machine, Patience, wait_for};

const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    home_mailbox = Maildir/\nalias_maps =\nmaillog_file = /var/log/mail.log\n";

/// Daemons without rights write the files that root opened for them, and what logrotate(8) puts in their place.
pub fn as_root_the_logs_are_written_and_rotated() -> Result<(), String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    machine.add_user("john", 2001, "secret")?;
    machine.write("/etc/postfix/main.cf", MAIN_CF)?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot && rm -f /var/log/mail.log /var/log/dovecot.log")?;
    let dovecot = "protocols = imap pop3\nmail_location = maildir:~/Maildir\nlog_path = /var/log/dovecot.log\n";
    machine.write("/etc/dovecot/dovecot.conf", dovecot)?;
    machine.start_up("-c /etc/postfix")?;
    for port in [25, 143] {
        machine.wait_for_port(port).map_err(|error| format!("{error}\n{}", machine.read("/run/up.out")))?;
    }
    let story = || -> Result<(), String> {
        deliver(&machine, "first")?;
        machine.wait_until("grep -q 'postfix/local.*status=sent' /var/log/mail.log")?;
        machine.wait_until("grep -q 'imap-login: Info: Disconnected' /var/log/dovecot.log")?;
        let modes = machine.shell("stat -c '%U:%G %a' /var/log/mail.log /var/log/dovecot.log")?;
        if modes.lines().any(|line| line != "root:postrider 660") {
            return Err(format!("the logs are of {modes}"));
        }
        machine.shell(
            "cd /var/log && for f in mail.log dovecot.log; do mv $f $f.1 && install -m 660 -o root -g postrider /dev/null $f; done",
        )?;
        machine.shell("/run/postrider/postrider reload -c /etc/postfix")?;
        deliver(&machine, "second")?;
        machine.wait_until("grep -q 'postfix/local.*status=sent' /var/log/mail.log")?;
        machine.shell("test $(grep -c status=sent /var/log/mail.log.1) = 1").map(drop)
    };
    story()
        .map_err(|error| format!("{error}\n{}", machine.read("/run/up.out /var/log/*.log* /var/spool/postrider/log/*")))
}

fn deliver(machine: &Machine, subject: &str) -> Result<(), String> {
    machine.shell_with("/run/postrider/sendmail -C /etc/postfix john", &format!("Subject: {subject}\n\nhello\n"))?;
    machine.wait_until(&format!("grep -qr 'Subject: {subject}' /home/john/Maildir/new")).map(drop)
}

/// systemd gives a service a stream to the journal as its standard error, and says so in JOURNAL_STREAM.
pub fn a_service_writes_to_the_journal_stream_with_priorities() -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let system = Builder::new("info.net").prepare()?;
    let path = system.root().join("stream");
    let stream = File::create(&path).map_err(wrong)?;
    let metadata = stream.metadata().map_err(wrong)?;
    let mut command = system.command("smtpd");
    command.arg("-c").arg(system.etc()).env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()));
    let mut smtpd = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stream).spawn().map_err(wrong)?;
    let port = system.ports.at(system.ports.smtp);
    let shown = wait_for("the lines in the journal's stream", Patience::default(), || {
        Smtp::connect(port, Security::Clear).ok()?;
        let text = fs::read_to_string(&path).ok()?;
        let has = |start: &str, end: &str| text.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        has("<6>postfix/smtpd[", ": connect from localhost[127.0.0.1]").then_some(())
    });
    test_support::system::signal(smtpd.id(), rustix::process::Signal::TERM);
    smtpd.wait().map_err(wrong)?;
    shown.map_err(|error| format!("{error}\n{}", fs::read_to_string(&path).unwrap_or_default()))?;
    // A mistake is an error there too.
    fs::write(system.etc().join("main.cf"), "mynetworks = nonsense/99\n").map_err(wrong)?;
    let stream = File::create(&path).map_err(wrong)?;
    let metadata = stream.metadata().map_err(wrong)?;
    let mut command = system.command("smtpd");
    command.arg("-c").arg(system.etc()).env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino()));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stream).status().map_err(wrong)?;
    let text = fs::read_to_string(&path).map_err(wrong)?;
    let good = status.code() == Some(78) && text.lines().all(|line| line.starts_with("<3>smtpd: ")) && !text.is_empty();
    if good { Ok(()) } else { Err(format!("{status}: {text}")) }
}
