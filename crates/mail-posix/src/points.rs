//! Named points at which tests stop a process or look at what it may do. In release builds nothing of it exists.
//!
//! `POSTRIDER_POINTS` names points with actions, separated by commas:
//! - `NAME=kill` ends the process with SIGKILL when it reaches the point, `NAME=kill:3` the third time;
//! - `NAME=probe` makes it try what a process that was taken over would try, and write what came of it to standard error.
//!
//! `POSTRIDER_POINTS_DIRECTORY` names a directory for a system of many lives: who reaches `NAME` and finds a file of that name there removes it
//! and ends with SIGKILL, so each file is one death of one process. Text in the file is the number of passages that are let through first.
//!
//! `POSTRIDER_PROBES` lists the tries, separated by blanks: `read:PATH`, `list:PATH`, `write:PATH`, `connect:ADDRESS:PORT`, `exec:PATH`.
//! Each gives one line `probe NAME TRY: RESULT`, where the result is `done` or the name of the error. `POSTRIDER_SANDBOX=no` leaves the
//! sandbox out, so that a test can show that the tries would succeed without it.

/// Says that this process has reached the point.
#[cfg(debug_assertions)]
pub fn reached(name: &str) {
    planted::reached(name);
}

/// Says that this process has reached the point: nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn reached(_name: &str) {}

/// The directory of armed points, where a test named one: sandboxes leave it writable. Never in a release build.
#[must_use]
pub fn directory() -> Option<&'static std::path::Path> {
    #[cfg(debug_assertions)]
    return planted::directory();
    #[cfg(not(debug_assertions))]
    None
}

/// Whether the sandbox is left out, so that a test can see what it is good for. Never in a release build.
#[must_use]
pub fn without_sandbox() -> bool {
    cfg!(debug_assertions) && std::env::var_os("POSTRIDER_SANDBOX").is_some_and(|value| value == "no")
}

#[cfg(debug_assertions)]
mod planted {
    use std::collections::HashMap;
    use std::fmt::Write as _;
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write as _};
    use std::net::TcpStream;
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    static PLAN: OnceLock<Vec<(String, Action)>> = OnceLock::new();
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    static PASSED: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

    #[derive(Clone, Copy)]
    enum Action {
        Kill(u64),
        Probe,
    }

    pub(super) fn directory() -> Option<&'static Path> {
        DIRECTORY.get_or_init(|| std::env::var_os("POSTRIDER_POINTS_DIRECTORY").map(PathBuf::from)).as_deref()
    }

    /// Dies if a file says so.
    fn look(directory: &Path, name: &str) {
        let file = directory.join(name);
        let Ok(text) = std::fs::read_to_string(&file) else { return };
        let passages = text.trim().parse::<u32>().unwrap_or(0);
        if passages > 0 {
            // Two processes may pass at once: then one passage counts for both.
            let _ = std::fs::write(&file, (passages - 1).to_string());
        } else if std::fs::remove_file(&file).is_ok() {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    pub(super) fn reached(name: &str) {
        if let Some(directory) = directory() {
            look(directory, name);
        }
        let plan = PLAN.get_or_init(|| plan(&std::env::var("POSTRIDER_POINTS").unwrap_or_default()));
        let Some((_, action)) = plan.iter().find(|(point, _)| point == name) else { return };
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.get_or_insert_default().entry(name.to_owned()).or_default();
        *times += 1;
        match *action {
            Action::Kill(at) if *times == at => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            Action::Probe if *times == 1 => probe(name),
            Action::Kill(_) | Action::Probe => {}
        }
    }

    fn plan(text: &str) -> Vec<(String, Action)> {
        let entry = |entry: &str| {
            let (name, action) = entry.split_once('=')?;
            let action = match action.split_once(':').unwrap_or((action, "1")) {
                ("kill", times) => Action::Kill(times.parse().ok()?),
                ("probe", _) => Action::Probe,
                _ => return None,
            };
            Some((name.to_owned(), action))
        };
        text.split(',').filter_map(entry).collect()
    }

    /// Tries everything; one write, so that lines of several processes do not mix.
    fn probe(name: &str) {
        let tries = std::env::var("POSTRIDER_PROBES").unwrap_or_default();
        let mut report = String::new();
        for one in tries.split_whitespace() {
            let result = match attempt(one) {
                Ok(()) => "done".to_owned(),
                Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), errno_name),
            };
            let _ = writeln!(report, "probe {name} {one}: {result}");
        }
        let _ = writeln!(report, "probe {name} end");
        let _ = io::stderr().write_all(report.as_bytes());
    }

    fn errno_name(number: i32) -> String {
        match rustix::io::Errno::from_raw_os_error(number) {
            rustix::io::Errno::ACCESS => "EACCES".to_owned(),
            rustix::io::Errno::PERM => "EPERM".to_owned(),
            rustix::io::Errno::NOENT => "ENOENT".to_owned(),
            rustix::io::Errno::NOSYS => "ENOSYS".to_owned(),
            other => other.to_string(),
        }
    }

    fn attempt(one: &str) -> io::Result<()> {
        let (what, path) = one.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        match what {
            "read" => File::open(path).map(drop),
            "list" => std::fs::read_dir(path).map(drop),
            "write" => OpenOptions::new().append(true).create(true).open(path).map(drop),
            "connect" => TcpStream::connect(path).map(drop),
            // Only a try that fails comes back.
            "exec" => Err(Command::new(path).exec()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    // What really ends needs a process of its own: see tests/processes.rs.

    #[test]
    fn a_point_that_nobody_asked_for_does_nothing() {
        super::reached("nowhere");
        assert!(!super::without_sandbox());
    }
}
