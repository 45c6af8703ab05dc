//! main.cf, master.cf and dovecot.conf as this mail system reads them.
//!
//! [`Config::load`] reads the files of one directory, checks everything, and gives typed values that remember their line.
//! Each parameter of main.cf is declared once, in `main_cf/parameters.rs`; what Postfix or Dovecot has beyond that is data
//! under `data/`, with the effect of writing it. A [`Config`] as JSON is a generation: what was written and the facts of
//! the machine; daemons read that and type it again.
//!
//! It owns the syntax of the three files, `$name` expansion, defaults and the reports about mistakes. It reads no table
//! (mail-tables does), decides nothing about mail, and keeps nothing open.

mod agreement;
mod config;
pub mod dovecot;
pub mod expand;
pub mod lines;
mod machine;
pub mod main_cf;
pub mod master_cf;
mod report;
mod unbuilt;
mod views;
pub mod words;

pub use config::{Config, Loaded};
pub use dovecot::Dovecot;
pub use machine::Machine;
pub use main_cf::{Main, Value};
pub use master_cf::{Listener, ListenerMode, Master, Service, TransportKind};
pub use report::{Errors, Excerpt, Level, Report, Status, nearest};
pub use views::Views;
