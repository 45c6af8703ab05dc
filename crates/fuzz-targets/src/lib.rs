//! What the fuzzers run: one function for each decoder of octets that somebody else chose.
//!
//! A [`Target`] takes any octets and panics where something does not hold: not only that nothing breaks, but what the decoder promises
//! (written again it is the same, replies stay well-formed, packets make no difference, every session ends). The programs in `fuzz/` hand
//! libFuzzer's inputs to these functions; the test `bounded` runs them on stable over `fuzz/corpus-seeds/` and mutations of it, and the test `complete` holds
//! their time to the size of the input.
//!
//! Owned here: the targets, the [`mutate`] module. Not here: any decoder.

mod accounts;
mod config;
mod imap;
mod imap_lines;
mod ipc;
mod machine;
mod message;
pub mod mutate;
mod pop3;
mod postfix;
mod smtp;
mod store;
mod tables;

use std::path::{Path, PathBuf};

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its program in `fuzz/` and of its directory of seeds.
    pub name: &'static str,
    /// Runs one input.
    ///
    /// Panics where something that must hold does not.
    pub run: fn(&[u8]),
    /// What its language is made of, for the mutator and for inputs of one thing over and over.
    pub tokens: &'static [&'static str],
    /// How much dearer than the others an input is: it gets so many times fewer mutations.
    pub cost: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    smtp::SERVER,
    smtp::LMTP_SERVER,
    smtp::CLIENT,
    smtp::LMTP_CLIENT,
    smtp::CONTENT,
    smtp::GRAMMAR,
    pop3::LOGIN,
    pop3::MAILBOX,
    imap::LOGIN,
    imap::MAILBOX,
    imap::COMMAND,
    imap::MAILBOX_NAME,
    config::MAIN_CF,
    config::MASTER_CF,
    config::DOVECOT_CONF,
    tables::HASH,
    tables::ALIASES,
    tables::CIDR,
    tables::REGEXP,
    tables::FILES,
    tables::REPLIES,
    tables::ACCESS,
    tables::POLICY,
    store::UIDLIST,
    store::KEYWORDS,
    store::FILE_NAME,
    store::SUBSCRIPTIONS,
    store::INDEX,
    store::CACHE,
    store::LOCATION,
    store::SEGMENT,
    store::KEYS,
    postfix::QUEUE,
    postfix::LOG,
    ipc::FRAMES,
    message::HEADER,
    message::MIME,
    message::ADDRESSES,
    message::DSN,
    accounts::SASL,
    accounts::PASSWD_FILE,
    accounts::VARIABLES,
];

/// The target of a name; for the programs in `fuzz/`.
///
/// # Panics
/// There is none of this name.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// The directory of the fuzzers' own workspace.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, |root| root.join("fuzz"))
}

impl Target {
    /// The seeds, each with its file's name, in the order of their names.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn seeds(&self) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(directory().join("corpus-seeds").join(self.name))? {
            let entry = entry?;
            seeds.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
        }
        seeds.sort();
        Ok(seeds)
    }
}
