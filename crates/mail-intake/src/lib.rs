//! What every message passes on its way in.
//!
//! [`Intake::header`] turns the header as it came into the header as it is stored: trace field on top, fields that may not stay removed, missing
//! fields added and incomplete addresses completed for clients of ours. [`LineEnds`] makes the content of local programs end its lines
//! with CRLF. Pure functions: the caller knows client, envelope, queue id and time.
//!
//! Used by `smtpd` for remote and local mail alike: there is one door. Not here: envelope recipients and their rewriting (`mail-route`),
//! who may send (`mail-policy`), reading and storing.

mod addresses;
mod header;
mod line_ends;

pub use addresses::complete_addresses;
pub use header::{HeaderError, Intake, Origin, Prepared};
pub use line_ends::LineEnds;
