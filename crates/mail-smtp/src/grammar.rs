//! The grammars of commands, their parameters, and replies.
//!
//! Every parser works on one complete line, bears the name of its ABNF rule and never allocates before it has matched.

mod number;
pub(crate) mod params;
pub(crate) mod path;
mod reply;
mod verb;
mod xtext;

pub use number::size_value;
pub use params::{Param, params};
pub use path::{Mailbox, Path, PathError, path_argument};
pub(crate) use reply::ehlo_line;
pub use reply::{ReplyLine, ReplyParser};
pub use verb::verb;
pub use xtext::{xtext_decode, xtext_encode};
