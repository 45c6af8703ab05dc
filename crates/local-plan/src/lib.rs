//! What a recipient on this machine stands for: its list, its user, its mailbox, its program.
//!
//! [`expand`] takes aliases and forward files apart into members, [`elsewhere`] knows which mail another transport or address takes, [`route`] says which mailbox a user has and as whom it is written,
//! [`virtual_mailbox`] does so for `virtual_mailbox_maps`, [`template`] expands what is expanded for each delivery, [`forward`] reads a user's
//! own file, and [`job`] has the words for the result: target, owner, report.
//!
//! Pure functions over the configuration, the tables and the users that somebody else has looked up; only `:include:` and forward files are
//! read here, with the rights of the caller. `local-delivery` carries out what they say, and `postrider explain` shows it.
//! Nothing here writes, runs a program, or asks another process.

pub mod elsewhere;
pub mod expand;
pub mod forward;
pub mod job;
pub mod route;
pub mod template;
pub mod virtual_mailbox;
