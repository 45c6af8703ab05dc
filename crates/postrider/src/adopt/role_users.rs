//! The users and groups that the daemons run as, made as the package makes them.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::exit::{Failure, UNAVAILABLE};

/// One line for each user, group and membership (sysusers.d(5)).
const LINES: &str = include_str!("../../../../systemd/sysusers.d/postrider.conf");

/// useradd(8) and groupadd(8): the name is taken.
const TAKEN: i32 = 9;

/// Makes what is missing in the machine whose `/` this directory is: by systemd-sysusers, or without it by groupadd and useradd. What is there stays.
///
/// # Errors
/// Neither can do it; the text says what the last one said.
pub fn make(root: &Path) -> Result<(), Failure> {
    match by_sysusers(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => by_useradd(root),
        other => other,
    }
    .map_err(|error| Failure::new(UNAVAILABLE, format!("the users of the daemons cannot be made: {error}")))
}

fn by_sysusers(root: &Path) -> io::Result<()> {
    let mut child = Command::new("systemd-sysusers")
        .arg(format!("--root={}", root.display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(LINES.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(()) } else { Err(refused("systemd-sysusers", &output.stderr)) }
}

/// The same line by line.
fn by_useradd(root: &Path) -> io::Result<()> {
    let words = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = LINES.lines().filter(|line| !line.starts_with('#')).map(words).collect();
    let of_kind =
        |kind: &str| lines.iter().filter(|line| line.first().is_some_and(|first| first == kind)).collect::<Vec<_>>();
    for line in of_kind("g") {
        if let [_, name, ..] = line.as_slice() {
            run("groupadd", root, &["--system", name])?;
        }
    }
    for line in of_kind("u") {
        let [_, name, id] = line.as_slice() else { continue };
        let mut arguments =
            vec!["--system", "--no-create-home", "--home-dir", "/var/spool/postrider", "--shell", "/usr/sbin/nologin"];
        let member =
            of_kind("m").into_iter().find(|member| member.get(1) == Some(name)).and_then(|member| member.get(2));
        // `-:GROUP` names the group of the user; without one it has its own.
        match (id.split_once(':'), member) {
            (Some((_, group)), _) => arguments.extend(["--gid", group]),
            (None, Some(group)) => arguments.extend(["--user-group", "--groups", group]),
            (None, None) => arguments.push("--user-group"),
        }
        arguments.push(name);
        run("useradd", root, &arguments)?;
    }
    Ok(())
}

fn run(program: &str, root: &Path, arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(program);
    if root != Path::new("/") {
        command.arg("--prefix").arg(root);
    }
    let output = command.args(arguments).output()?;
    if output.status.success() || output.status.code() == Some(TAKEN) {
        Ok(())
    } else {
        Err(refused(program, &output.stderr))
    }
}

fn refused(program: &str, said: &[u8]) -> io::Error {
    io::Error::other(format!("{program}: {}", String::from_utf8_lossy(said).trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(root: &Path, file: &str) -> Vec<String> {
        let text = fs::read_to_string(root.join("etc").join(file)).unwrap_or_default();
        let first = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        text.lines().map(first).filter(|name| name.starts_with("post")).collect()
    }

    /// Making users is root's.
    #[test]
    fn the_users_of_the_daemons_are_made_once_by_either_program() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for make in [by_sysusers, by_useradd] {
            let root = tempfile::tempdir().expect("a directory");
            fs::create_dir(root.path().join("etc")).expect("made");
            for file in ["passwd", "group", "shadow", "gshadow"] {
                fs::write(root.path().join("etc").join(file), "").expect("written");
            }
            match make(root.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                done => done.expect("made"),
            }
            let first = (names(root.path(), "passwd"), names(root.path(), "group"));
            for user in [
                "postrider",
                "postrider-smtpd",
                "postrider-local",
                "postrider-remote",
                "postrider-login",
                "postrider-auth",
            ] {
                assert!(first.0.iter().any(|name| name == user), "{user} is not among {first:?}");
            }
            assert!(first.1.iter().any(|name| name == "postdrop"), "{first:?}");
            let group = fs::read_to_string(root.path().join("etc/group")).expect("read");
            let ours = group.lines().find(|line| line.starts_with("postrider:")).expect("our group");
            assert!(ours.contains("postrider-smtpd") && ours.contains("postrider-auth"), "{ours}");
            make(root.path()).expect("again");
            assert_eq!((names(root.path(), "passwd"), names(root.path(), "group")), first);
        }
    }
}
