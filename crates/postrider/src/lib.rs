//! The commands, in one binary: `postrider NAME ...`, or NAME as a link to it.
//!
//! Two kinds. Those that administrators and programs have typed for decades (`sendmail`, `mailq`, `postqueue`, `postsuper`, `postcat`,
//! `postconf`, `postmap`, `postalias`, `newaliases`, `postfix`, `doveconf`) with the options, outputs and exit codes of Postfix and
//! Dovecot; and our own (`up`, `check`, `publish`, `reload`, `doctor`, `adopt`, `leave`). One module per command; [`arguments`] reads option clusters for
//! all of them, [`commands`] is the table.
//!
//! A command finds the running system from the configuration directory alone, asks the daemons over `mail-ipc`, prints, and ends.
//! It decides nothing: what may be relayed, delivered or listed is the daemons' business. The one command that stays is `up`, which
//! starts the daemons and keeps them alive.

mod adopt;
pub mod arguments;
mod check;
pub mod commands;
pub mod conversation;
mod daemons;
mod doctor;
mod doveconf;
pub mod exit;
mod explain;
mod journal;
mod leave;
pub mod manual;
mod ours;
mod own_log;
mod postcat;
mod postconf;
mod postfix;
mod postmap;
mod postqueue;
mod postsuper;
mod queue;
mod rewrite;
mod sendmail;
mod spool;
mod system;
mod terminal;
mod up;

pub use commands::run;
