//! `transport_maps` that only root may read: queue-manager's monitor opens it, and mail moves; also after the table was changed, replaced,
//! closed to others, or named by a reload.

use test_support::Machine;

const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    alias_maps =\nsmtpd_tls_security_level = none\ntransport_maps = hash:/etc/postfix/";
const DIRECTORY: &str = "/etc/postfix";

/// After each step, which word of the table is to be in the log.
const STEPS: [(&str, &str); 5] = [
    ("", "first"),
    // Another file in its place, as an editor writes it.
    ("echo far.example discard:second > new && chmod 600 new && mv new transport", "second"),
    ("echo far.example discard:third of all > transport", "third of all"),
    // Now a table that everybody may read at first.
    (
        "echo far.example discard:fourth > open && chmod 644 open && sed -i s/transport$/open/ main.cf && \
         postfix -c /etc/postfix reload",
        "fourth",
    ),
    ("echo far.example discard:fifth > new && chmod 640 new && mv new open", "fifth"),
];

pub fn and_mail_moves() -> Result<(), String> {
    let machine = Machine::new("server.info.net")?;
    machine.install()?;
    machine.write("/etc/postfix/main.cf", &format!("{MAIN_CF}transport\n"))?;
    machine.shell("rm -rf /etc/dovecot && mkdir /etc/dovecot && echo protocols = > /etc/dovecot/dovecot.conf")?;
    machine.write("/etc/postfix/transport", "far.example discard:first\n")?;
    machine.shell("chown root:root /etc/postfix/transport && chmod 600 /etc/postfix/transport")?;
    machine.start_up("-c /etc/postfix").map_err(|error| format!("{error}\n{}", logs(&machine)))?;
    machine.wait_for_port(25).map_err(|error| format!("{error}\n{}", logs(&machine)))?;
    let told = STEPS.iter().try_for_each(|(line, word)| {
        machine.shell(&format!(
            "cd {DIRECTORY} && PATH=/run/postrider:$PATH && {}",
            if line.is_empty() { "true" } else { line }
        ))?;
        shows(&machine, word)
    });
    told.map_err(|error| format!("{error}\n{}", logs(&machine)))?;
    for table in ["transport", "open"] {
        let read = format!("setpriv --reuid postrider --regid postrider --clear-groups cat {DIRECTORY}/{table}");
        if machine.try_shell(&read, "")?.status.success() {
            return Err(format!("queue-manager's user may read {table}"));
        }
    }
    Ok(())
}

/// Mail goes where the table says now; a change is taken within seconds.
fn shows(machine: &Machine, word: &str) -> Result<(), String> {
    let line = format!(
        "/run/postrider/sendmail -C /etc/postfix x@far.example </dev/null && grep -q 'status=sent ({word})' /var/spool/postrider/log/queue-manager.log"
    );
    machine.wait_until(&line).map(drop)?;
    // None of it is deferred.
    machine.wait_until("/run/postrider/mailq -C /etc/postfix | grep 'Mail queue is empty'").map(drop)
}

fn logs(machine: &Machine) -> String {
    machine.read("/run/up.out /var/spool/postrider/log/*")
}
