//! `newaliases`: has changed tables taken at once. No file is written: daemons read the sources themselves.

use std::path::Path;

use mail_ipc::control::{DaemonRequest, DaemonResponse};

use crate::daemons;
use crate::exit::{Failure, Outcome, TEMPORARY};
use crate::system::System;

/// Tells the daemons that a source has changed. Daemons that cannot be reached notice it by themselves when the file has rested.
fn announce(state: &Path, path: &str) -> Result<(), Failure> {
    for said in daemons::ask(state, &DaemonRequest::TableChanged { path: path.to_owned() }) {
        if let Ok(DaemonResponse::Failed { text }) = said.answer {
            return Err(Failure::new(TEMPORARY, format!("{}: {text}", said.instance)));
        }
    }
    Ok(())
}

/// `newaliases`: every file of `alias_database`, or the one that `-oA` names.
///
/// # Errors
/// A daemon could not take the table and keeps the old one.
pub fn new_aliases(system: &System, named: Option<&str>) -> Outcome {
    let configured = system.config.main.alias_database.iter().map(|table| table.name.clone());
    let files = named.map_or_else(|| configured.collect(), |named| vec![plain(named).to_owned()]);
    for file in files {
        announce(&system.config.state_dir(), &file)?;
    }
    Ok(0)
}

/// A table's path without its type.
fn plain(table: &str) -> &str {
    table.split_once(':').map_or(table, |(_, path)| path)
}
