//! Maildir++: one directory per mailbox, one file per message, flags in the file's name.

mod account;
mod append;
mod cache;
mod change;
mod deliver;
mod dir;
mod dotlock;
pub mod file_name;
mod index;
mod keywords;
mod open;
mod records;
mod scan;
mod subscriptions;
mod uidlist;
mod uids;
mod uidvalidity;

pub use account::{MaildirAccount, Notice};
pub use cache::places as cache_places;
pub use deliver::{Batch, DeliveryName, Incoming, Maildir};
pub use index::reread as reread_index;
pub use keywords::{parse as parse_keywords, to_text as keywords_text};
pub use subscriptions::{changed as changed_subscriptions, parse as parse_subscriptions};
pub use uidlist::{Health, Record, UidList};
