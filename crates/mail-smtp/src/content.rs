//! Content on the wire: dots and line ends (RFC 5321 sections 2.3.8 and 4.5.2).

mod decode;
mod encode;

pub use decode::{Decoder, StrayCr};
pub use encode::Encoder;
