//! Runs system tests: each may be skipped for a missing program or right, which is shown and counted, and is a failure with `CI=true`.

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs beside our own binaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A program in the path (or in a `sbin`), such as `mutt`.
    Program(&'static str),
    /// The rights of root.
    Root,
    /// The right to make a network namespace.
    NetworkNamespace,
    /// A file or device, such as `/dev/fuse`.
    File(&'static str),
    /// systemd, and a cgroup of version 2 that it can be started in as the first process of a namespace.
    Systemd,
}

impl Need {
    /// Why the need is not met; none if it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => program(name).is_none().then(|| format!("the program {name} is not installed")),
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
            Self::File(path) => (!std::path::Path::new(path).exists()).then(|| format!("there is no {path}")),
            Self::NetworkNamespace => {
                let tried = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
                (!tried.is_ok_and(|status| status.success())).then(|| "no right to make a network namespace".to_owned())
            }
            Self::Systemd => crate::booted::missing(),
        }
    }
}

/// Where a program lies.
#[must_use]
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into));
    directories.map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// A test: its sentence, what it needs, what it does.
pub struct Test {
    name: &'static str,
    needs: &'static [Need],
    run: fn() -> Result<(), String>,
}

/// Declares a test. An error is the message of its failure.
#[must_use]
pub const fn test(name: &'static str, needs: &'static [Need], run: fn() -> Result<(), String>) -> Test {
    Test { name, needs, run }
}

/// Runs the tests of a target; the return value of its `main`.
#[must_use]
pub fn main(tests: Vec<Test>) -> ExitCode {
    // Inside a machine the same program is started as its name server.
    let own: Vec<String> = std::env::args().skip(1).collect();
    if let [first, address] = &own[..]
        && first == crate::dns::SERVE
    {
        return match crate::dns::serve_lines(address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    // Whole systems share two processors: more of them at once only makes each slower.
    arguments.test_threads.get_or_insert(2);
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let trials = tests.into_iter().map(|test| trial(test, ci)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(test: Test, ci: bool) -> Trial {
    let missing = test.needs.iter().find_map(|need| need.missing());
    let run = test.run;
    match missing {
        Some(why) if ci => Trial::test(test.name, move || Err(Failed::from(format!("not skipped in CI: {why}")))),
        Some(why) => {
            eprintln!("skipped: {}: {why}", test.name);
            Trial::test(test.name, || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(test.name, move || run().map_err(Failed::from)),
    }
}
