//! Lookup tables of Postfix: read, watched, asked.
//!
//! [`TableSet`] holds every table that a configuration names, rereads a source that has changed and rested, and gives
//! cheap [`Snapshot`]s. [`address`] has the orders in which maps are asked for addresses, [`access`] those of access(5) with
//! typed results, [`lists`] matches clients and domains, [`aliases`] reads what aliases(5) may hold.
//!
//! It owns the syntax of the table files, and the forms that postmap gives them (cdb, LMDB, Berkeley DB). It asks nobody: a table that another process must answer gives
//! [`Answer::Missing`], and the caller asks, remembers and asks again. It decides nothing about mail.

pub mod access;
pub mod address;
pub mod aliases;
mod cidr;
mod compiled;
pub mod lists;
mod longest;
mod pattern;
mod pcre;
mod posix;
mod regexp;
mod set;
mod source;
mod table;

pub use compiled::{Pairs, read_berkeley, read_cdb, read_lmdb, write_cdb, write_lmdb};
pub use mail_config::main_cf::lists::{TableKind, TableRef};
pub use set::{Asked, Disk, Files, Snapshot, Stamp, TableSet};
pub use source::{Entry, parse_entries, parse_entries_with, parse_lines};

/// Reads `type:name` as a parameter would, with `hash` for a bare path; nothing for a type that may be run without.
///
/// # Errors
/// What is wrong with it.
pub fn parse_table(word: &str) -> Result<Option<TableRef>, String> {
    use mail_config::main_cf::kinds::Context;
    let mut context =
        Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
    TableRef::parse(word, &mut context).map_err(|mistake| mistake.what)
}
pub use table::{Answer, Found, Query, Remote, RemoteAnswer, Scope, Table};
