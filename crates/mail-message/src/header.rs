//! The header of a message (RFC 5322 section 2.2): a linear scanner over octets, and the trace fields that we write.
//!
//! The scanner keeps offsets, never copies, reads LF and CRLF alike, and takes any octets: hostile headers are ordinary input.

mod scan;
mod trace;

pub use scan::{Field, Header};
pub use trace::{CertificateTrace, Received, TlsTrace, date, delivered_to, return_path, x_original_to};
