//! What is installed beside the binaries: `etc/` and `systemd/` of the repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use mail_config::{Config, Level};

const DAEMONS: [&str; 7] = ["authd", "queue-manager", "local-delivery", "remote-delivery", "smtpd", "pop3d", "imapd"];

fn main() -> ExitCode {
    let verify = Command::new("systemd-analyze").arg("--version").output().is_ok();
    // On a laptop without systemd the check is a counted skip; in CI its absence is a failure.
    let skip = !verify && std::env::var_os("CI").is_none();
    let trials = vec![
        Trial::test("the_shipped_configuration_is_read_without_a_remark", configuration),
        Trial::test("each_daemon_has_a_unit_that_brings_it_back", units),
        Trial::test("every_role_has_its_user", users),
        Trial::test("systemd_finds_nothing_wrong_with_the_units", verified).with_ignored_flag(skip),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn check(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(text().into()) }
}

fn configuration() -> Result<(), Failed> {
    let directory = repository("etc");
    let loaded = Config::load(&directory, None).map_err(|errors| errors.to_string())?;
    let remarks: Vec<String> =
        loaded.reports.iter().filter(|report| report.level >= Level::Warning).map(ToString::to_string).collect();
    check(remarks.is_empty(), || remarks.join("\n"))?;
    let config = loaded.config;
    check(config.dovecot.serves("imap") && config.dovecot.serves("pop3"), || "both protocols".into())?;
    check(config.listeners().len() == 3, || format!("{} listeners", config.listeners().len()))?;
    check(config.state_dir() == Path::new("/var/spool/postrider"), || config.state_dir().display().to_string())
}

fn unit_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository("systemd")).expect("the directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|kind| kind == "service" || kind == "target")).collect()
}

fn units() -> Result<(), Failed> {
    for daemon in DAEMONS {
        let text = fs::read_to_string(repository(&format!("systemd/{daemon}.service")))?;
        for line in [
            "Type=notify",
            "Restart=always",
            "RestartSec=100ms",
            "StartLimitIntervalSec=0",
            "RestartPreventExitStatus=78",
        ] {
            check(text.lines().any(|found| found == line), || format!("{daemon}: no {line}"))?;
        }
    }
    for template in ["local-delivery@.service", "remote-delivery@.service", "postrider.target"] {
        check(repository("systemd").join(template).exists(), || template.into())?;
    }
    Ok(())
}

fn users() -> Result<(), Failed> {
    let text = fs::read_to_string(repository("systemd/sysusers.d/postrider.conf"))?;
    for name in [
        mail_daemon::state::QUEUE_USER,
        "postrider-smtpd",
        "postrider-local",
        "postrider-remote",
        "postrider-login",
        "postrider-auth",
    ] {
        let found = text.lines().any(|line| line.split_whitespace().take(2).eq(["u", name]));
        check(found, || format!("no user {name}"))?;
    }
    Ok(())
}

/// A tree with our units, the system's own, and empty programs where the units expect programs.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    let path = |path: &str| root.path().join(path);
    for directory in ["etc/systemd/system", "usr/lib/postrider", "usr/sbin", "bin", "lib/systemd/system"] {
        fs::create_dir_all(path(directory)).expect("made");
    }
    for unit in unit_files() {
        let name = unit.file_name().expect("a name");
        fs::copy(&unit, path("etc/systemd/system").join(name)).expect("copied");
    }
    let daemons = DAEMONS.iter().map(|daemon| path("usr/lib/postrider").join(daemon));
    for program in daemons.chain([path("usr/sbin/postrider"), path("bin/kill")]) {
        fs::write(&program, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    }
    for entry in fs::read_dir("/lib/systemd/system").into_iter().flatten().flatten() {
        if entry.path().is_file() {
            let _ = fs::copy(entry.path(), path("lib/systemd/system").join(entry.file_name()));
        }
    }
    root
}

fn verified() -> Result<(), Failed> {
    let root = tree();
    let names = unit_files().into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.replace("@.", "@2.")));
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(format!("--root={}", root.path().display()))
        .args(names)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The system's own units may name programs that the tree has not.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| DAEMONS.iter().any(|daemon| line.contains(daemon)) || line.contains("postrider"))
        .collect();
    check(ours.is_empty(), || ours.join("\n"))
}
