//! The sandbox of session processes: the kernel's Landlock, where it has it.
//!
//! Restricting is for ever and for the calling thread and its later children, so it happens while one thread exists.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus,
};

/// How much of the restriction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Everything asked for.
    Full,
    /// The kernel knows a part of the rights only; those are restricted.
    Partial,
    /// The kernel has no Landlock, or it is switched off: nothing is restricted.
    Absent,
}

/// Confines the file system to these paths, for ever: `read` may be read, `write` may be read, written and changed below; nothing else can be
/// opened. A path that does not exist is skipped: make directories before. Descriptors already open stay usable. Running programs is denied.
///
/// # Errors
/// The kernel has Landlock but refuses the rules; the process is then unrestricted.
pub fn restrict(read: &[&Path], write: &[&Path]) -> io::Result<Report> {
    // V5 brings ioctl on devices; rights that an older kernel does not know are left out and reported as Partial.
    let abi = ABI::V5;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let changing = AccessFs::from_all(abi) & !AccessFs::Execute;
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(abi)).and_then(Ruleset::create).map_err(other)?;
    let ruleset = allow(ruleset, read, reading)?;
    let ruleset = allow(ruleset, write, changing)?;
    let ruleset = allow(ruleset, crate::points::directory().as_slice(), changing)?;
    let status = ruleset.restrict_self().map_err(other)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Report::Full,
        RulesetStatus::PartiallyEnforced => Report::Partial,
        RulesetStatus::NotEnforced => Report::Absent,
    })
}

fn allow(
    mut ruleset: RulesetCreated,
    paths: &[&Path],
    rights: landlock::BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    for path in paths {
        let Ok(opened) = PathFd::new(path) else { continue };
        // A file cannot have the rights of a directory.
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V5) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, rights)).map_err(other)?;
    }
    Ok(ruleset)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

// Restricting is for ever: the test stands in tests/processes.rs, in a child process.
