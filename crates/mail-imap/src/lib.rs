//! IMAP4rev1 (RFC 3501) with IDLE, NAMESPACE, UIDPLUS, MOVE, UNSELECT, ID, SASL-IR, LITERAL+, CHILDREN, SPECIAL-USE and ENABLE.
//!
//! Two machines without I/O: [`Login`] speaks before authentication, in a process that can read no mailbox; [`Mailbox`] speaks after it.
//! Between them goes a [`HandOver`]. A machine knows syntax, order, limits, message numbers and when a client may hear of changes;
//! it asks for everything else: who may log in ([`LoginQuestion`]), what a mailbox holds ([`Question`]).
//! Data of FETCH is written by whoever has the messages, with the writers of [`response`], and passes through the machine in chunks.
//!
//! Owned here: the grammar ([`grammar`]), names in modified UTF-7, the rules of LIST, response texts. Not here: sockets, files, threads, clocks, MIME.

pub mod grammar;
mod list;
mod login;
mod mailbox;
mod mailbox_name;
mod output;
mod reader;
pub mod response;

pub use list::{Folder, Folders};
pub use login::{AuthFailure, HandOver, Login, LoginAnswer, LoginEvent, LoginQuestion, LoginSettings, Mechanism};
pub use mailbox::{
    Answer, Changes, Event, Mailbox, MailboxSettings, MailboxStatus, Messages, Namespaces, Opened, Question, Refusal,
    ResponseCode,
};
pub use mailbox_name::{
    MailboxName, NAME_LIMIT, NameError, decode as decode_mailbox_name, encode as encode_mailbox_name,
};
pub use reader::ReaderLimits;

/// What is built and announced before login, without what depends on TLS and SASL (I01, I25).
pub const LOGIN_CAPABILITIES: &str = "IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+";

/// What is built and announced after login.
pub const MAILBOX_CAPABILITIES: &str =
    "IMAP4rev1 SASL-IR ID ENABLE IDLE UNSELECT CHILDREN NAMESPACE UIDPLUS MOVE LITERAL+ SPECIAL-USE";
