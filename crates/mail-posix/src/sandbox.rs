//! The whole sandbox of a process: files and network by Landlock, system calls by seccomp.
//!
//! It comes after [`crate::become_user()`], while the process has one thread, and before it reads anything from a stranger. A kernel that lacks
//! one of the two leaves the other, and the permissions of the user.

use std::io;

use crate::{landlock, points, seccomp};

/// What a process keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Files and connections.
    pub rules: landlock::Rules,
    /// System calls.
    pub calls: &'static [seccomp::Calls],
}

/// How much of it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Files and connections.
    pub landlock: landlock::Report,
    /// System calls.
    pub seccomp: seccomp::Report,
}

impl Report {
    /// What the kernel could not do, as a sentence for the log; none if it did everything.
    #[must_use]
    pub fn lack(self) -> Option<&'static str> {
        use landlock::Report::{Absent, Full, Partial};
        match (self.landlock, self.seccomp) {
            (Full, seccomp::Report::Full) => None,
            (Partial, seccomp::Report::Full) => {
                Some("this kernel knows a part of Landlock only: the sandbox is weaker")
            }
            (Absent, seccomp::Report::Full) => {
                Some("this kernel has no Landlock: only file permissions and seccomp confine this process")
            }
            (Full | Partial, seccomp::Report::Absent) => {
                Some("this kernel takes no seccomp filter: system calls are not confined")
            }
            (Absent, seccomp::Report::Absent) => Some(
                "this kernel has no Landlock and takes no seccomp filter: only file permissions confine this process",
            ),
        }
    }
}

/// Enters the sandbox, for ever.
///
/// # Errors
/// The kernel refuses what it knows; the process must end.
pub fn enter(sandbox: &Sandbox) -> io::Result<Report> {
    if points::without_sandbox() {
        return Ok(Report { landlock: landlock::Report::Absent, seccomp: seccomp::Report::Absent });
    }
    Ok(Report { landlock: landlock::restrict(&sandbox.rules)?, seccomp: seccomp::restrict(sandbox.calls)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_told_in_one_sentence() {
        let report = |landlock, seccomp| Report { landlock, seccomp };
        assert_eq!(report(landlock::Report::Full, seccomp::Report::Full).lack(), None);
        let lacking = [
            report(landlock::Report::Partial, seccomp::Report::Full),
            report(landlock::Report::Absent, seccomp::Report::Full),
            report(landlock::Report::Full, seccomp::Report::Absent),
            report(landlock::Report::Absent, seccomp::Report::Absent),
        ];
        let told: std::collections::BTreeSet<_> = lacking.into_iter().filter_map(Report::lack).collect();
        assert_eq!(told.len(), lacking.len());
    }
}
