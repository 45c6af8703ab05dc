//! Started as root: monitors keep the rights, everything that reads what strangers send has none; mail is written and read by its owner.

use test_support::Machine;

const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    home_mailbox = Maildir/\nalias_maps =\nsmtpd_tls_security_level = may\n\
    relayhost = [127.0.0.1]:2525\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd\n\
    smtp_sasl_security_options = noanonymous\n";
/// Where the passwords of relay hosts are: root's alone, as everybody is told to keep it.
const PASSWORDS: &str = "/etc/postfix/sasl_passwd";
/// A relay host that tells what it hears.
const RELAY: &str = r#"
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1:2525', Listen => 5, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    print $client "220 relay\r\n";
    while (<$client>) {
        print STDERR $_;
        if (/^EHLO/) { print $client "250-relay\r\n250 AUTH PLAIN\r\n" }
        elsif (/^AUTH/) { print $client "235 ok\r\n" }
        elsif (/^DATA/) { print $client "354 go\r\n"; while (<$client>) { last if /^\.\r/ } print $client "250 taken\r\n" }
        elsif (/^QUIT/) { print $client "221 bye\r\n"; last }
        else { print $client "250 ok\r\n" }
    }
}
"#;
/// The front of each daemon; root stays behind as its monitor.
const ROLES: [(&str, &str); 7] = [
    ("smtpd", "postrider-smtpd"),
    ("queue-manager", "postrider"),
    ("local-delivery", "postrider-local"),
    ("remote-delivery", "postrider-remote"),
    ("authd", "postrider-auth"),
    ("pop3d", "postrider-login"),
    ("imapd", "postrider-login"),
];

pub fn story() -> Result<(), String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    machine.add_user("john", 2001, "secret")?;
    machine.add_user("mary", 2002, "secret")?;
    machine.write("/etc/postfix/main.cf", MAIN_CF)?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot")?;
    machine.write(
        "/etc/dovecot/dovecot.conf",
        "protocols = imap pop3\nmail_location = maildir:~/Maildir\nmail_access_groups = sharers 3002\n",
    )?;
    machine.shell("echo sharers:x:3001: >> /etc/group")?;
    machine.write(PASSWORDS, "[127.0.0.1]:2525 user:secret\n")?;
    machine.shell(&format!("chown root:root {PASSWORDS} && chmod 600 {PASSWORDS}"))?;
    machine.write("/run/relay.pl", RELAY)?;
    machine.background("perl /run/relay.pl", "/run/relay.heard")?;
    machine.wait_for_port(2525)?;
    machine.start_up("-c /etc/postfix").map_err(|error| format!("{error}\n{}", logs(&machine)))?;
    for port in [25, 110, 143, 993, 995] {
        machine.wait_for_port(port).map_err(|error| format!("{error}\n{}", logs(&machine)))?;
    }
    let told = processes(&machine).and_then(|()| mail_has_its_owner(&machine));
    let told = told.and_then(|()| relay_host_gets_the_login(&machine)).and_then(|()| doors_are_shut(&machine));
    told.map_err(|error| format!("{error}\n{}", logs(&machine)))
}

/// Fronts have no rights and can gain none; monitors are root.
fn processes(machine: &Machine) -> Result<(), String> {
    for (daemon, user) in ROLES {
        // A port is open before its front has come to be.
        machine.wait_until(&format!("grep -q 'Seccomp:.*2' /proc/$(pgrep -u {user} -x {daemon})/status"))?;
        let found = statuses(machine, daemon)?;
        let fronts: Vec<_> = found.iter().filter(|status| status.user == user).collect();
        let roots = found.iter().filter(|status| status.user == "root").count();
        if fronts.len() != 1 || roots != 1 || found.len() != fronts.len() + roots {
            return Err(format!("{daemon} runs as {found:?}"));
        }
        if !fronts.iter().all(|front| front.has_nothing()) {
            return Err(format!("{daemon} has rights: {found:?}"));
        }
    }
    Ok(())
}

fn mail_has_its_owner(machine: &Machine) -> Result<(), String> {
    machine.shell_with("/run/postrider/sendmail -C /etc/postfix john", "Subject: for john\n\nhello\n")?;
    machine.wait_until("ls /home/john/Maildir/new/* >/dev/null")?;
    let written = machine.shell("stat -c '%U %a' /home/john/Maildir/new/*")?;
    if written.trim() != "john 600" {
        return Err(format!("the message is of {written}"));
    }
    // The session lives as long as descriptor 3 of this shell.
    let session = machine.shell(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/143; read -r _ <&3; echo \"a LOGIN john secret\" >&3; \
         while read -r line <&3; do case \"$line\" in a*) break;; esac; done; ps -C imapd -o user:20= | sort -u; \
         grep ^Groups: /proc/$(pgrep -u john -x imapd)/status'",
    )?;
    let told: Vec<&str> = session.split_whitespace().collect();
    // Further groups are those of `mail_access_groups`, by name and by number.
    let wanted = ["john", "postrider-login", "root", "Groups:", "2001", "3001", "3002"];
    if told == wanted { Ok(()) } else { Err(format!("imapd runs as {told:?}")) }
}

/// The monitor read the password; the process that talks to the relay host could not.
fn relay_host_gets_the_login(machine: &Machine) -> Result<(), String> {
    machine.shell_with("/run/postrider/sendmail -C /etc/postfix x@elsewhere.example", "Subject: out\n\nhello\n")?;
    machine.wait_until("grep -q '^DATA' /run/relay.heard")?;
    // PLAIN with user and secret.
    machine.shell("grep -q '^AUTH PLAIN AHVzZXIAc2VjcmV0' /run/relay.heard").map(drop)
}

/// What belongs to root or to a role is closed to the others.
fn doors_are_shut(machine: &Machine) -> Result<(), String> {
    let state = "/var/spool/postrider";
    let closed = [
        ("john", format!("ls {state}/private")),
        ("john", format!("ls {state}/segments")),
        ("mary", "ls /home/john/Maildir/new".to_owned()),
        ("postrider-smtpd", format!("cat {state}/tls/key.pem")),
        ("postrider-smtpd", format!("ls {state}/segments")),
        ("postrider-remote", format!("cat {PASSWORDS}")),
        ("postrider-login", format!("touch {state}/generation/x")),
        ("postrider", format!("mv {state}/generation {state}/other")),
    ];
    for (user, line) in closed {
        let groups = if user.starts_with("postrider") { "--groups postrider" } else { "--clear-groups" };
        let tried = machine.try_shell(&format!("setpriv --reuid {user} --regid {user} {groups} {line}"), "")?;
        if tried.status.success() {
            return Err(format!("{user} may: {line}"));
        }
    }
    Ok(())
}

/// What /proc tells of a process.
#[derive(Debug)]
struct Status {
    user: String,
    /// Inheritable, permitted, effective, bounding and ambient.
    capabilities: Vec<String>,
    no_new_privileges: String,
    seccomp: String,
}

impl Status {
    fn has_nothing(&self) -> bool {
        let none = self.capabilities.len() == 5 && self.capabilities.iter().all(|set| set == "0000000000000000");
        none && self.no_new_privileges == "1" && self.seccomp == "2"
    }
}

fn statuses(machine: &Machine, daemon: &str) -> Result<Vec<Status>, String> {
    let line = format!(
        "for p in $(ps -C {daemon} -o pid=); do echo \"$(ps -p $p -o user:20=) \
         $(awk '/^Cap/ {{ print $2 }} /^NoNewPrivs/ {{ print $2 }} /^Seccomp:/ {{ print $2 }}' /proc/$p/status | tr '\\n' ' ')\"; done"
    );
    let text = machine.shell(&line)?;
    let status = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let user = words.next()?;
        let capabilities = words.by_ref().take(5).collect();
        Some(Status { user, capabilities, no_new_privileges: words.next()?, seccomp: words.next()? })
    };
    Ok(text.lines().filter_map(status).collect())
}

fn logs(machine: &Machine) -> String {
    machine.read("/run/up.out /run/relay.heard /var/spool/postrider/log/*")
}
