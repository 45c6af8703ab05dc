//! What every message passes on its way in.
//!
//! [`Intake::header`] turns the header as it came into the header as it is stored: trace field on top, fields that may not stay removed, missing
//! fields added where the caller says so, addresses replaced as it says: [`addresses()`] names them. [`LineEnds`] makes the content of local programs end its lines
//! with CRLF. Pure functions: the caller knows client, envelope, queue id and time.
//!
//! Used by `smtpd` for remote and local mail alike: there is one door. Not here: what addresses become (`mail-route`),
//! who may send (`mail-policy`), reading and storing.

mod addresses;
mod header;
mod line_ends;

pub use addresses::{Rewrites, Role, addresses, rewrite};
pub use header::{HeaderError, Intake, Prepared};
pub use line_ends::LineEnds;
