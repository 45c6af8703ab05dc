//! What of the file system and the network a process keeps: the kernel's Landlock, where it has it.
//!
//! Restricting is for ever and for the calling thread and its later children, so it happens while one thread exists.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope,
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

/// The TCP connections that a process may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connections {
    /// To any port.
    Any,
    /// To these ports only; to none if there is none.
    Ports(Vec<u16>),
}

/// What a process keeps. Nothing else can be opened; descriptors that are open stay usable. Running programs, taking a TCP port of one's own choice and
/// signalling processes outside are denied in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Files, and directories with all below, that may be read.
    pub read: Vec<PathBuf>,
    /// The same that may be read, written and changed.
    pub write: Vec<PathBuf>,
    /// Directories in which files may be listed, made, written and removed, but not read: where others keep theirs too.
    pub append: Vec<PathBuf>,
    /// The TCP connections that may be made.
    pub connect: Connections,
}

/// Keeps what the rules name and gives up everything else, for ever. A path that does not exist is skipped: make directories before.
///
/// # Errors
/// The kernel has Landlock but refuses the rules; the process is then unrestricted.
pub fn restrict(rules: &Rules) -> io::Result<Report> {
    // Rights that an older kernel does not know are left out and reported as Partial. V5 of the files brings ioctl on devices, V4 the
    // network, V6 signals.
    let files = AccessFs::from_all(ABI::V5);
    let appending =
        AccessFs::ReadDir | AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::RemoveFile;
    let ruleset = Ruleset::default().handle_access(files).and_then(|ruleset| {
        let network = match rules.connect {
            Connections::Any => AccessNet::BindTcp.into(),
            Connections::Ports(_) => AccessNet::from_all(ABI::V4),
        };
        ruleset.handle_access(network)?.scope(Scope::Signal)?.create()
    });
    let ruleset = allow(ruleset.map_err(other)?, &rules.read, AccessFs::ReadFile | AccessFs::ReadDir)?;
    let ruleset = allow(ruleset, &rules.write, files & !AccessFs::Execute)?;
    let ruleset = allow(ruleset, &rules.append, appending)?;
    let armed: Vec<PathBuf> = crate::points::directory().into_iter().map(PathBuf::from).collect();
    let mut ruleset = allow(ruleset, &armed, files & !AccessFs::Execute)?;
    let ports: Vec<(u16, AccessNet)> = match &rules.connect {
        // A client may name the address it comes from; the port is the kernel's choice.
        Connections::Any => vec![(0, AccessNet::BindTcp)],
        Connections::Ports(ports) => ports.iter().map(|port| (*port, AccessNet::ConnectTcp)).collect(),
    };
    for (port, right) in ports {
        ruleset = ruleset.add_rule(NetPort::new(port, right)).map_err(other)?;
    }
    let status = ruleset.restrict_self().map_err(other)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Report::Full,
        RulesetStatus::PartiallyEnforced => Report::Partial,
        RulesetStatus::NotEnforced => Report::Absent,
    })
}

fn allow(mut ruleset: RulesetCreated, paths: &[PathBuf], rights: BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    for path in paths {
        let (Ok(opened), Ok(metadata)) = (PathFd::new(path), path.metadata()) else { continue };
        // The standard output by its name in /dev may be a pipe or a socket: those have no place in a file system.
        if metadata.file_type().is_fifo() || metadata.file_type().is_socket() {
            continue;
        }
        // A file cannot have the rights of a directory.
        let rights = if metadata.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V5) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, rights)).map_err(other)?;
    }
    Ok(ruleset)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

// Restricting is for ever: the test stands in tests/processes.rs, in a child process.
