//! The tables that servers answer: what is wrong with the files that describe them, and which servers do not answer now.

use std::collections::BTreeSet;
use std::sync::Arc;

use mail_config::{Config, Level, Report};
use mail_tables::{Disk, TableKind, TableRef};
use table_clients::Clients;
use tokio::task::JoinSet;

use super::dangers::named_by;

/// What is to be said about each such table of a configuration.
pub(super) fn remarks(config: &Config) -> Vec<Report> {
    let tables = tables(config);
    let clients = Arc::new(Clients::new(Arc::clone(&config.main), Arc::new(Disk)));
    let mut reports = Vec::new();
    for table in &tables {
        let (parameter, _) = named_by(config, table);
        reports.extend(clients.check(table).into_iter().map(|report| report.of(&parameter)));
    }
    for (table, why) in unreachable(&clients, tables) {
        let (parameter, source) = named_by(config, &table);
        let hint = "start the server, or mend its address or login; until then mail that needs the table waits";
        reports.push(Report::new(Level::Warning, source, format!("{table}: {why}"), hint).of(parameter));
    }
    reports
}

/// Each table that a server answers, once.
fn tables(config: &Config) -> Vec<TableRef> {
    let named = config.tables().into_iter().map(|(table, _)| table).chain(config.secret_tables());
    let mut seen = BTreeSet::new();
    named
        .map(|table| TableRef { proxy: false, ..table })
        .filter(|table| table.kind.is_remote() && table.kind != TableKind::UnixPasswd && seen.insert(table.to_string()))
        .collect()
}

/// The tables with a server that does not answer, and why; all are tried at once.
fn unreachable(clients: &Arc<Clients>, tables: Vec<TableRef>) -> Vec<(TableRef, String)> {
    if tables.is_empty() {
        return Vec::new();
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let mut found: Vec<(TableRef, String)> = runtime.block_on(async {
        let mut tried = JoinSet::new();
        for table in tables {
            let clients = Arc::clone(clients);
            tried.spawn(async move { (clients.reach(&table).await, table) });
        }
        let all = tried.join_all().await;
        all.into_iter().flat_map(|(wrong, table)| wrong.into_iter().map(move |why| (table.clone(), why))).collect()
    });
    found.sort_by_key(|(table, why)| (table.to_string(), why.clone()));
    found
}
