//! A real journald, in a machine of the test's own: each line arrives under its ident, with its priority, and fail2ban counts it there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;
use test_support::Machine;
use test_support::harness::Need;

use crate::readers::fail2ban;

pub const NEEDS: &[Need] = &[
    Need::Root,
    Need::NetworkNamespace,
    Need::Program("swaks"),
    Need::Program("curl"),
    Need::Program("journalctl"),
    Need::Program("fail2ban-regex"),
];

const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    mynetworks = 127.0.0.1/32\nhome_mailbox = Maildir/\nalias_maps =\n";

/// A /dev of the machine's own, so that /dev/log leads to its own journal.
const JOURNAL: &str = "mkdir -p /run/devices/shm /run/systemd/journal /run/log/journal && cd /run/devices && \
    for f in null zero random urandom full tty; do touch $f && mount --bind /dev/$f $f; done && \
    ln -s /proc/self/fd fd && ln -s /proc/self/fd/1 stdout && ln -s /proc/self/fd/2 stderr && \
    ln -s /run/systemd/journal/dev-log log && mount --rbind /run/devices /dev";

pub fn has_each_line_under_its_ident() -> Result<(), String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    machine.add_user("john", 2001, "secret")?;
    machine.shell(JOURNAL)?;
    machine.background("/lib/systemd/systemd-journald", "/run/journald.out")?;
    machine.wait_until("test -S /run/systemd/journal/dev-log")?;
    machine.write("/etc/postfix/main.cf", MAIN_CF)?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot")?;
    machine.write("/etc/dovecot/dovecot.conf", "protocols = imap\nmail_location = maildir:~/Maildir\n")?;
    let told = machine.start_up("-c /etc/postfix").and_then(|()| story(&machine));
    told.map_err(|error| {
        format!("{error}\n{}", machine.read("/run/up.out /run/journald.out /var/spool/postrider/log/*"))
    })
}

fn story(machine: &Machine) -> Result<(), String> {
    for port in [25, 993] {
        machine.wait_for_port(port)?;
    }
    machine.shell(
        "swaks --server 127.0.0.1 --local-interface 127.66.0.1 --from a@b.example --to x@elsewhere.example >/dev/null || true; \
         curl -sk --interface 127.66.0.2 -u john:wrong imaps://127.0.0.1/ || true",
    )?;
    let journal = "journalctl -q -D /run/log/journal -o json";
    machine.wait_until(&format!("{journal} -t postfix/smtpd | grep -q 'Relay access denied'"))?;
    machine.wait_until(&format!("{journal} -t dovecot | grep -q 'auth failed, 1 attempts'"))?;
    let entries = machine.shell(journal)?;
    let entries: Vec<Value> = entries.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let has = |ident: &str, command: &str, priority: &str, text: &str| {
        entries.iter().any(|entry| {
            let is = |key: &str, wanted: &str| entry[key] == wanted;
            is("SYSLOG_IDENTIFIER", ident)
                && is("_COMM", command)
                && is("PRIORITY", priority)
                && is("SYSLOG_FACILITY", "2")
                && entry["MESSAGE"].as_str().is_some_and(|message| message.contains(text))
        })
    };
    if !has("postfix/smtpd", "smtpd", "6", "NOQUEUE: reject: RCPT from")
        || !has("dovecot", "imapd", "6", "imap-login: Disconnected")
    {
        return Err(format!("not as it should be: {entries:?}"));
    }
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path().join("journal");
    fs::write(&path, entries.iter().filter_map(as_fail2ban_sees_it).collect::<String>()).map_err(|e| e.to_string())?;
    let stranger = |last| IpAddr::from(Ipv4Addr::new(127, 66, 0, last));
    for (filter, expected) in [("postfix[mode=extra,logtype=journal]", 1), ("dovecot[mode=normal,logtype=journal]", 2)]
    {
        let found = fail2ban(&path, filter, Ipv4Addr::LOCALHOST.into())?;
        if found != [stranger(expected)] {
            return Err(format!("{filter} finds {found:?}"));
        }
    }
    Ok(())
}

/// fail2ban's journal backend shows a filter `HOST IDENT[PID]: MESSAGE`, and has the time beside it.
fn as_fail2ban_sees_it(entry: &Value) -> Option<String> {
    let text = |key: &str| entry[key].as_str();
    let pid = text("SYSLOG_PID").or_else(|| text("_PID"))?;
    let (host, ident, message) = (text("_HOSTNAME")?, text("SYSLOG_IDENTIFIER")?, text("MESSAGE")?);
    Some(format!("{} {host} {ident}[{pid}]: {message}\n", text("SYSLOG_TIMESTAMP").unwrap_or("Nov 22 10:00:00").trim()))
}
