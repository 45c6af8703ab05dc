//! Whose mail it is: which clients' headers are completed, and who of this machine may hand mail in.

use std::net::IpAddr;

use mail_config::main_cf::lists::{BARE_TABLE, Rule};
use mail_config::{Config, Main};
use mail_route::Origin;
use mail_tables::lists::{Match, match_client, match_name};
use mail_tables::{Answer, Query, Remote, Scope, Snapshot};

use crate::clients::means_subdomains;

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

/// Why something cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsaid {
    /// Another process must be asked first.
    Missing(Query),
    /// A table cannot say; the text is for the log.
    Temporary(String),
}

/// Whether headers are completed for a client as for those of this machine (`local_header_rewrite_clients`).
///
/// # Errors
/// What must be asked first, or the table that cannot say.
pub fn is_ours(
    config: &Config,
    main: &Main,
    tables: &Snapshot,
    peer: Peer<'_>,
    remote: &dyn Remote,
) -> Result<bool, Unsaid> {
    let allows = |rule: &Rule| match rule.name.as_str() {
        "permit" => Ok(true),
        "permit_inet_interfaces" => {
            Ok(peer.address.is_loopback() || mail_route::is_own_address(config, main, peer.address))
        }
        "permit_mynetworks" => {
            let parents = means_subdomains(main, "mynetworks");
            listed(match_client(&main.mynetworks, peer.name, peer.address, parents, tables, remote))
        }
        "permit_sasl_authenticated" => Ok(peer.user.is_some()),
        "check_address_map" | BARE_TABLE => match &rule.table {
            Some(table) => match tables.get(table, &peer.address.to_string(), Scope::Full, remote) {
                Answer::Found(_) => Ok(true),
                Answer::NotFound => Ok(false),
                Answer::Temporary(why) => Err(Unsaid::Temporary(why)),
                Answer::Missing(query) => Err(Unsaid::Missing(query)),
            },
            None => Ok(false),
        },
        _ => Ok(false),
    };
    for rule in main.local_header_rewrite_clients.iter() {
        if allows(rule)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a list holds something, as far as it can be said.
pub(crate) fn listed(found: Match) -> Result<bool, Unsaid> {
    match found {
        Match::Decided { is_in, .. } => Ok(is_in),
        Match::No => Ok(false),
        Match::Temporary(why) => Err(Unsaid::Temporary(why)),
        Match::Missing(query) => Err(Unsaid::Missing(query)),
    }
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

/// Whether a user of this machine may hand mail in (`authorized_submit_users`: names, files, tables). Root always may.
///
/// # Errors
/// What must be asked first, or the table that cannot say.
pub fn may_submit(main: &Main, tables: &Snapshot, uid: u32, name: &str, remote: &dyn Remote) -> Result<bool, Unsaid> {
    if uid == 0 { Ok(true) } else { listed(match_name(&main.authorized_submit_users, name, tables, remote)) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use mail_config::Machine;
    use mail_tables::{RemoteAnswer, TableSet};

    use super::*;

    fn config(main_cf: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("main.cf"), main_cf).expect("written");
        let dovecot = dir.path().join("dovecot.conf");
        let loaded = Config::load_on(dir.path(), Some(&dovecot), Machine::named("server.info.net"));
        loaded.unwrap_or_else(|errors| panic!("{errors}")).config
    }

    #[test]
    fn who_may_submit_stands_in_names_and_tables_of_any_kind() {
        let config = config("authorized_submit_users = !anna, John, inline:{mike=x}, tcp:localhost:1\n");
        let (tables, _) = TableSet::open(&config, Box::new(mail_tables::Disk));
        let tables = tables.snapshot();
        let may =
            |name: &str, answers: &HashMap<Query, RemoteAnswer>| may_submit(&config.main, &tables, 1000, name, answers);
        let none = HashMap::new();
        assert_eq!((may("john", &none), may("mike", &none), may("anna", &none)), (Ok(true), Ok(true), Ok(false)));
        let Err(Unsaid::Missing(query)) = may("mary", &none) else { panic!("the server must be asked") };
        for (answer, wanted) in [
            (RemoteAnswer::Found("x".to_owned()), Ok(true)),
            (RemoteAnswer::NotFound, Ok(false)),
            (RemoteAnswer::Temporary("down".to_owned()), Err(Unsaid::Temporary("down".to_owned()))),
        ] {
            assert_eq!(may("mary", &HashMap::from([(query.clone(), answer)])), wanted);
        }
        assert_eq!(may_submit(&config.main, &tables, 0, "root", &()), Ok(true));
    }
}
