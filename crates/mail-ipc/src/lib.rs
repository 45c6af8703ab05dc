//! Every message between our processes: types and codec, no I/O.
//!
//! One module per conversation, with both directions, its socket and who may connect. The doc comment of a reply says who is responsible
//! for the message from then on. [`frame`] is the common envelope: length, count of passed descriptors, one JSON object; content follows
//! as raw bytes of a length that the object states. [`hello`] opens every conversation.
//!
//! Growth: a new field has a default; a changed meaning is a new major version in [`hello::Versions`]; a message whose meaning must not be
//! missed names what it needs in `requires`, and a reader that does not know an entry answers `NotUnderstood`.
//! `wire/` keeps one example of each message for ever; a test decodes them all.
//!
//! The sockets themselves (tokio, descriptors) are in `mail-net`.

pub mod auth;
pub mod control;
pub mod delivery;
pub mod deposit;
pub mod frame;
pub mod hello;
pub mod intake;
pub mod lookup;
pub mod mailbox;
pub mod maildrop;
pub mod sockets;
pub mod submit;

pub use frame::{Frame, FrameDecoder, FrameError, Raw};
