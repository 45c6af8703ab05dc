//! Named points at which tests stop a process or look at what it may do. In release builds nothing of it exists.
//!
//! `POSTRIDER_POINTS` names points with actions, separated by commas:
//! - `NAME=kill` ends the process with SIGKILL when it reaches the point, `NAME=kill:3` the third time;
//! - `NAME=probe` makes it try what a process that was taken over would try, and write what came of it to standard error.
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
    use std::process::Command;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    static PLAN: OnceLock<Vec<(String, Action)>> = OnceLock::new();
    static PASSED: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

    #[derive(Clone, Copy)]
    enum Action {
        Kill(u64),
        Probe,
    }

    pub(super) fn reached(name: &str) {
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
