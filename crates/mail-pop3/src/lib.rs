//! POP3 without I/O: grammar, and two session machines.
//!
//! [`login::LoginMachine`] speaks from the greeting to the login (the AUTHORIZATION state of RFC 1939); [`mailbox::MailboxMachine`] speaks from
//! the login to the end (TRANSACTION and UPDATE). They run in different processes: what the first has read and not used is the beginning of
//! the second's input.
//!
//! Owned here: commands and replies (RFC 1939, 2449, 2595, 3206, 5034) in Dovecot's words, their limits, dot-stuffing, the cut that TOP makes,
//! and which messages are marked to be deleted. Asked of the outside: whether a login is good, a message's content, and the deletion at QUIT.
//! Not here: passwords, files, how a UIDL is made, and APOP, which needs the password in clear at the server and is refused.

pub mod command;
pub mod content;
mod dialogue;
pub mod login;
pub mod mailbox;
pub mod reply;

use std::time::Duration;

/// How long a silent client is kept, before and after the login (RFC 1939 section 3: at least ten minutes). P09c
pub const IDLE: Duration = Duration::from_secs(600);
