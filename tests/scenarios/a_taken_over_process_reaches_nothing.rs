//! A process that reads what strangers send is taken over: what can it reach? The daemons of a debug build try it themselves, at named points
//! behind their sandbox (`mail_posix::points`), and write down what came of each try. The same again without the sandbox shows which tries the
//! users' permissions alone would have let through.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use test_support::clients::{Imap, Security, Smtp};
use test_support::{Builder, Machine, Patience, System, wait_for};

const STATE: &str = "/var/spool/postrider";
const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    alias_maps =\nlocal_transport = lmtp:unix:private/dovecot-lmtp\nsmtpd_tls_security_level = may\n\
    smtpd_tls_cert_file = /etc/postfix/certificate.pem\nsmtpd_tls_key_file = /etc/postfix/key.pem\n";
/// Two users of one uid, as virtual mailbox users mostly are.
const DOVECOT_CONF: &str = "protocols = imap pop3 lmtp\nmail_location = maildir:~/Maildir\nssl = no\n\
    disable_plaintext_auth = no\nauth_username_format = %Ln\n\
    passdb {\n  driver = passwd-file\n  args = /etc/dovecot/users\n}\n\
    userdb {\n  driver = passwd-file\n  args = /etc/dovecot/users\n}\n\
    service lmtp {\n  unix_listener /var/spool/postfix/private/dovecot-lmtp {\n    mode = 0600\n  }\n}\n";
const USERS: &str =
    "john:{PLAIN}secret:5000:5000::/srv/vmail/john::\nmary:{PLAIN}secret:5000:5000::/srv/vmail/mary::\n";

/// What nobody who serves strangers may reach: mailboxes, the queue, keys (those of its own listeners came as descriptors), other users' secrets.
const FORBIDDEN: [&str; 8] = [
    "read:/srv/vmail/mary/Maildir/new/1.host",
    "list:/srv/vmail/mary/Maildir/new",
    "list:/var/spool/postrider/segments",
    "list:/var/spool/postrider/content",
    "read:/var/spool/postrider/tls/key.pem",
    "read:/etc/postfix/key.pem",
    "read:/etc/shadow",
    "write:/var/spool/postrider/generation/99.json",
];
/// What the permissions of users do not forbid and the sandbox does.
const SANDBOXED: [&str; 2] = ["connect:127.0.0.1:143", "exec:/bin/true"];
/// Every process keeps this.
const ALLOWED: &str = "read:/var/spool/postrider/generation/current";
const POINTS: &str = "smtpd.front=probe,smtpd.message=probe,imapd.front=probe,pop3d.front=probe,imap.session=probe,\
    local.deliverer=probe";
/// The points where a message or a user's commands are read.
const PROBED: [&str; 3] = ["smtpd.message", "imap.session", "local.deliverer"];

pub fn of_root_s_system() -> Result<(), String> {
    let told = run_on_machine("yes", &SANDBOXED)?;
    for point in ["smtpd.front", "smtpd.message", "imapd.front", "pop3d.front"] {
        told.denied(point, FORBIDDEN.iter().chain(&SANDBOXED))?;
        told.done(point, ALLOWED)?;
    }
    // Another user's mail is closed to the session process and to who writes the mailbox, although the uid is the same; its own is not.
    for point in ["imap.session", "local.deliverer"] {
        told.denied(point, FORBIDDEN.iter().chain(&SANDBOXED))?;
        told.done(point, "read:/srv/vmail/john/Maildir/new/1.host")?;
        told.denied(point, &[ALLOWED])?;
    }
    // Without the sandbox: the same tries, as far as they do not end the process.
    let control = run_on_machine("no", &SANDBOXED[..1])?;
    control.done("imap.session", FORBIDDEN[0])?;
    control.done("local.deliverer", FORBIDDEN[0])?;
    control.done("imapd.front", SANDBOXED[0])?;
    for point in ["smtpd.front", "smtpd.message", "imapd.front", "pop3d.front"] {
        control.denied(point, &FORBIDDEN)?;
    }
    Ok(())
}

fn run_on_machine(sandbox: &str, more: &[&str]) -> Result<Told, String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    machine.write("/etc/postfix/main.cf", MAIN_CF)?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot && mount -t tmpfs -o mode=755 tmpfs /srv")?;
    machine.write("/etc/dovecot/dovecot.conf", DOVECOT_CONF)?;
    machine.write("/etc/dovecot/users", USERS)?;
    machine.shell(
        "cd /etc/postfix && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=info.net \
         -keyout key.pem -out certificate.pem 2>/dev/null && chmod 600 key.pem",
    )?;
    for user in ["john", "mary"] {
        let maildir = format!("/srv/vmail/{user}/Maildir");
        machine.write(&format!("{maildir}/new/1.host"), "Subject: private\n\nhello\n")?;
        machine.shell(&format!("mkdir {maildir}/cur {maildir}/tmp"))?;
    }
    machine.shell("chown -R 5000:5000 /srv/vmail && chmod -R go= /srv/vmail/*")?;
    let mut probes = FORBIDDEN.join(" ") + " " + ALLOWED + " read:/srv/vmail/john/Maildir/new/1.host";
    more.iter().for_each(|probe| {
        let _ = write!(probes, " {probe}");
    });
    machine.background(
        &format!(
            "POSTRIDER_SANDBOX={sandbox} POSTRIDER_POINTS={POINTS} POSTRIDER_PROBES=\"{probes}\" postrider up -c /etc/postfix"
        ),
        "/run/up.out",
    )?;
    let told = machine.wait_until("grep -q '^postrider: ready' /run/up.out").and_then(|_| visit(&machine));
    let logs = machine.read(&format!("/run/up.out {STATE}/log/*"));
    told.map_err(|error| format!("{error}\n{logs}"))?;
    Ok(Told(logs))
}

/// A message comes in and a user logs in, so that every point is reached.
fn visit(machine: &Machine) -> Result<(), String> {
    for port in [25, 110, 143] {
        machine.wait_for_port(port)?;
    }
    machine.shell(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; read -r _ <&3; printf \"HELO a\\r\\nMAIL FROM:<>\\r\\nRCPT TO:<john@info.net>\\r\\nDATA\\r\\n\" >&3; \
         for i in 1 2 3 4; do read -r line <&3; done; printf \"Subject: x\\r\\n\\r\\nx\\r\\n.\\r\\n\" >&3; read -r line <&3; case $line in 250*) ;; *) echo $line; exit 1;; esac'",
    )?;
    machine.shell(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/143; read -r _ <&3; printf \"a LOGIN john secret\\r\\n\" >&3; \
         while read -r line <&3; do case \"$line\" in \"a OK\"*) exit 0;; a*) echo $line; exit 1;; esac; done; exit 1'",
    )?;
    for point in POINTS.split(',').filter_map(|point| point.split('=').next()) {
        machine.wait_until(&format!("grep -q 'probe {point} end' {STATE}/log/*"))?;
    }
    Ok(())
}

/// Without root every daemon is the same user, to whom all mail, the queue and the keys belong: the sandbox alone stands between.
pub fn of_a_system_without_root() -> Result<(), String> {
    let forbidden =
        ["list:{root}/home/mary", "list:{root}/queue/postrider/segments", "list:{root}/queue/postrider/tls"];
    for (sandbox, result) in [("yes", "EACCES"), ("no", "done")] {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let root = directory.path().join("system");
        let forbidden = forbidden.map(|probe| probe.replace("{root}", &root.display().to_string()));
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        let system = Builder::new("c.example")
            .path(&root)
            .environment("POSTRIDER_SANDBOX", sandbox)
            .environment("POSTRIDER_POINTS", POINTS)
            .environment("POSTRIDER_PROBES", &forbidden.join(" "))
            .start()?;
        let told = use_it(&system).map_err(|error| format!("{error}\n{}", system.logs()))?;
        for point in PROBED {
            for probe in &forbidden {
                told.is(point, probe, result)?;
            }
        }
    }
    Ok(())
}

fn use_it(system: &System) -> Result<Told, String> {
    let wrong = |error: std::io::Error| error.to_string();
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(wrong)?;
    for user in ["mary", "john"] {
        smtp.send("x@c.example", &[&format!("{user}@c.example")], "Subject: x\r\n\r\nx").map_err(wrong)?;
        system.wait_for_messages(user, 1)?;
    }
    let mut imap = Imap::connect(system.ports.at(system.ports.imaps), Security::Tls).map_err(wrong)?;
    imap.login("john", "secret").map_err(wrong)?;
    imap.command("LOGOUT").map_err(wrong)?;
    wait_for("the end of the probes", Patience::default(), || {
        let logs = system.logs();
        PROBED.iter().all(|point| logs.contains(&format!("probe {point} end"))).then_some(Told(logs))
    })
}

/// What the daemons wrote down.
struct Told(String);

impl Told {
    fn result(&self, point: &str, probe: &str) -> Result<&str, String> {
        let start = format!("probe {point} {probe}: ");
        let line = self.0.lines().find_map(|line| line.strip_prefix(&start));
        line.ok_or_else(|| format!("no word of {start}\n{}", self.0))
    }

    fn is(&self, point: &str, probe: &str, wanted: &str) -> Result<(), String> {
        let result = self.result(point, probe)?;
        if result == wanted { Ok(()) } else { Err(format!("{point}, {probe}: {result}, not {wanted}")) }
    }

    fn done(&self, point: &str, probe: &str) -> Result<(), String> {
        self.is(point, probe, "done")
    }

    fn denied<'a>(&self, point: &str, probes: impl IntoIterator<Item = &'a &'a str>) -> Result<(), String> {
        for probe in probes {
            let result = self.result(point, probe)?;
            if !["EACCES", "EPERM", "ENOSYS"].contains(&result) {
                return Err(format!("{point} may {probe}: {result}"));
            }
        }
        Ok(())
    }
}
