//! Whose mail it is: which clients' headers are completed, and who of this machine may hand mail in.

use std::net::IpAddr;

use mail_config::main_cf::kinds::Context;
use mail_config::main_cf::lists::{BARE_TABLE, Rule};
use mail_config::{Config, Main};
use mail_route::Origin;
use mail_tables::lists::match_client;
use mail_tables::{Scope, Snapshot, TableRef};

/// A client, as far as it matters for the header of its mail.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its verified name, or `unknown`.
    pub name: &'a str,
    /// Its address.
    pub address: IpAddr,
    /// Its login.
    pub user: Option<&'a str>,
}

/// Whether headers are completed for a client as for those of this machine (`local_header_rewrite_clients`).
#[must_use]
pub fn is_ours(config: &Config, main: &Main, tables: &Snapshot, peer: Peer<'_>) -> bool {
    let allows = |rule: &Rule| match rule.name.as_str() {
        "permit" => true,
        "permit_inet_interfaces" => {
            peer.address.is_loopback() || mail_route::is_own_address(config, main, peer.address)
        }
        "permit_mynetworks" => match_client(&main.mynetworks, peer.name, peer.address, true, tables, &()).is_in(),
        "permit_sasl_authenticated" => peer.user.is_some(),
        "check_address_map" | BARE_TABLE => rule
            .table
            .as_ref()
            .is_some_and(|table| tables.get(table, &peer.address.to_string(), Scope::Full, &()).found().is_some()),
        _ => false,
    };
    main.local_header_rewrite_clients.iter().any(allows)
}

/// How far the header of a client is touched: as that of a client of ours, as `remote_header_rewrite_domain` says, or not at all.
#[must_use]
pub fn header_origin(ours: bool, main: &Main) -> Option<Origin<'_>> {
    match main.remote_header_rewrite_domain.as_str() {
        _ if ours => Some(Origin::Ours),
        "" => None,
        domain => Some(Origin::Others(domain)),
    }
}

/// Whether a user of this machine may hand mail in (`authorized_submit_users`: names, `static:anyone`, tables). Root always may.
#[must_use]
pub fn may_submit(main: &Main, tables: &Snapshot, uid: u32, name: &str) -> bool {
    let words = &main.authorized_submit_users;
    if uid == 0 || words.iter().any(|word| word == "static:anyone" || word == "static:all") {
        return true;
    }
    let matches = |word: &str| match word.split_once(':') {
        Some(_) => table_lists(word, name, main, tables),
        None => word == name,
    };
    for word in words.iter() {
        match word.strip_prefix('!') {
            Some(word) if matches(word) => return false,
            None if matches(word) => return true,
            _ => {}
        }
    }
    false
}

fn table_lists(word: &str, name: &str, main: &Main, tables: &Snapshot) -> bool {
    let default_table = main.default_database_type.as_str();
    let mut context = Context { default: "", written: true, run_without: &[], default_table, warnings: Vec::new() };
    let Ok(Some(table)) = TableRef::parse(word, &mut context) else { return false };
    tables.get(&table, name, Scope::Full, &()).found().is_some()
}
