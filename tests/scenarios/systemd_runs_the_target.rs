//! `cargo xtask install`, then a real systemd: users and directories are made, the target is started, a killed daemon is back, a reload takes the
//! new generation, a socket unit's listener is served, a stop is orderly.

use std::path::Path;
use std::process::Command;

use test_support::{Booted, binaries};

const MAIN_CF: &str = "mydomain = info.net\nmyorigin = $mydomain\ninet_interfaces = 127.0.0.1\nmydestination = $mydomain\n\
    home_mailbox = Maildir/\nalias_maps =\n";
const DAEMONS: [&str; 7] = ["authd", "queue-manager", "local-delivery", "remote-delivery", "smtpd", "pop3d", "imapd"];

pub fn after_an_installation() -> Result<(), String> {
    let installed = tempfile::tempdir().map_err(|error| error.to_string())?;
    install(installed.path())?;
    let machine = Booted::new(installed.path())?;
    let told = story(&machine);
    let journal = || {
        machine.try_shell("systemctl --no-pager status postrider.target 'smtpd*' authd; tail -n 20 /var/spool/postrider/log/*; journalctl --no-pager | tail -n 40", "")
            .map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    told.map_err(|error| format!("{error}\n{}", journal()))
}

/// With the prefix that it will have inside: a mount namespace puts the directory there.
fn install(directory: &Path) -> Result<(), String> {
    let cargo = binaries::cargo();
    let line = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /opt && mkdir /opt/postrider && mount --bind '{}' /opt/postrider && \
         exec '{}' run --quiet --package xtask -- install --prefix /opt/postrider --profile dev",
        directory.display(),
        cargo.get_program().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &line]).current_dir(binaries::workspace());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("xtask install: {}: {said}", output.status)) }
}

fn story(machine: &Booted) -> Result<(), String> {
    prepare(machine)?;
    machine.shell("systemctl start postrider.target")?;
    for daemon in DAEMONS {
        machine.wait_until(&format!("systemctl show -p StatusText {daemon} | grep 'Serving, generation 1'"))?;
    }
    machine.shell_with("/opt/postrider/sbin/sendmail john", "Subject: hello\n\nhello\n")?;
    machine.wait_until("ls /home/john/Maildir/new/* >/dev/null")?;
    machine.wait_until("/opt/postrider/bin/mailq | grep 'Mail queue is empty'")?;
    killed_daemons_come_back(machine)?;
    machine.shell("kill -STOP $(pidof pop3d)")?;
    machine.wait_until("[ $(systemctl show -P NRestarts pop3d) -ge 1 ] && systemctl is-active pop3d")?;
    a_reload_takes_the_new_generation(machine)?;
    machine.shell("systemctl stop postrider.target")?;
    for daemon in DAEMONS {
        // An orderly stop: neither a time-out nor a signal was needed.
        machine.wait_until(&format!(
            "systemctl show {daemon} -p ActiveState -p Result | tr '\\n' ' ' | grep 'Result=success ActiveState=inactive'"
        ))?;
    }
    a_given_socket_is_served(machine)
}

fn prepare(machine: &Booted) -> Result<(), String> {
    let share = "/opt/postrider/lib";
    machine.shell(&format!(
        "systemd-sysusers {share}/sysusers.d/postrider.conf && systemd-tmpfiles --create {share}/tmpfiles.d/postrider.conf && \
         chgrp postdrop /opt/postrider/sbin/postdrop && chmod 2755 /opt/postrider/sbin/postdrop"
    ))?;
    machine.shell("rm -rf /etc/postrider /etc/dovecot && cp -r /opt/postrider/share/postrider/etc /etc/postrider && mkdir /etc/dovecot")?;
    machine.shell_with("cat > /etc/postrider/main.cf", MAIN_CF)?;
    machine.shell_with(
        "cat > /etc/postrider/dovecot.conf",
        "protocols = imap pop3\nlisten = 127.0.0.1\nmail_location = maildir:~/Maildir\n",
    )?;
    machine.shell("useradd --uid 2001 --create-home john")?;
    // So that a hanging daemon is noticed within this test.
    machine.shell_with(
        "mkdir /etc/systemd/system/pop3d.service.d && cat > /etc/systemd/system/pop3d.service.d/test.conf",
        "[Service]\nWatchdogSec=5s\n",
    )?;
    machine.shell(&format!("systemctl link {share}/systemd/system/*.service {share}/systemd/system/*.target")).map(drop)
}

fn killed_daemons_come_back(machine: &Booted) -> Result<(), String> {
    for daemon in ["smtpd", "queue-manager", "imapd"] {
        machine.shell(&format!("kill -9 $(systemctl show -P MainPID {daemon})"))?;
        machine.wait_until(&format!(
            "[ $(systemctl show -P NRestarts {daemon}) -ge 1 ] && systemctl is-active {daemon}"
        ))?;
    }
    machine.wait_until(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; read -r line <&3; case $line in 220*) ;; *) exit 1;; esac'",
    )?;
    machine.shell_with("/opt/postrider/sbin/sendmail john", "Subject: again\n\nagain\n")?;
    machine.wait_until("[ $(ls /home/john/Maildir/new | wc -l) = 2 ]").map(drop)
}

fn a_reload_takes_the_new_generation(machine: &Booted) -> Result<(), String> {
    machine
        .shell("echo 'message_size_limit = 4711' >> /etc/postrider/main.cf && /opt/postrider/sbin/postrider publish")?;
    machine.shell("systemctl reload smtpd queue-manager")?;
    for daemon in ["smtpd", "queue-manager"] {
        machine.wait_until(&format!("systemctl show -p StatusText {daemon} | grep 'Serving, generation 2'"))?;
        machine.wait_until(&format!("systemctl is-active {daemon}"))?;
    }
    machine
        .wait_until("bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; read -r _ <&3; echo EHLO a >&3; while read -r line <&3; do case $line in *\"SIZE 4711\"*) exit 0;; \"250 \"*) exit 1;; esac; done'")
        .map(drop)
}

/// The socket unit listens; the first client starts the daemon, which takes the listener instead of opening its own.
fn a_given_socket_is_served(machine: &Booted) -> Result<(), String> {
    machine.shell_with("cat > /etc/systemd/system/smtpd.socket", "[Socket]\nListenStream=127.0.0.1:25\n")?;
    machine.shell("systemctl daemon-reload && systemctl start smtpd.socket && ! systemctl is-active smtpd.service")?;
    machine.wait_until(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; read -r line <&3; case $line in 220*) ;; *) exit 1;; esac'",
    )?;
    machine.wait_until("systemctl is-active smtpd.service").map(drop)
}
