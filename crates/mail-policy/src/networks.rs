//! Lists of networks: `mynetworks` and its relatives.

use std::net::IpAddr;

use decision::Lookup;
use mail_config::main_cf::lists::{Item, NetworkPattern, Pattern};

use crate::facts::{Facts, Missing, TableFact};

/// Whether a client is in a list of networks; the first item that matches decides. `name` is the verified host name.
///
/// A table that cannot answer ends the list with no: membership only ever gives rights.
///
/// # Errors
/// [`Missing`] where a table must be asked first.
pub fn matches_network(
    list: &[Item<NetworkPattern>],
    client: IpAddr,
    name: Option<&str>,
    facts: &dyn Facts,
    lookups: &mut Vec<Lookup>,
) -> Result<bool, Missing> {
    for item in list {
        let hit = match &item.pattern {
            Pattern::Literal(NetworkPattern::Net(net)) => net.contains(&client),
            Pattern::Literal(NetworkPattern::Name(pattern)) => name.is_some_and(|name| matches_name(pattern, name)),
            Pattern::Table(table) => {
                let key = client.to_string();
                let fact = facts.table(table, &key)?;
                lookups.push(lookup(table.to_string(), key, &fact));
                match fact {
                    TableFact::Found { .. } => true,
                    TableFact::Nothing => false,
                    TableFact::Unavailable(_) => return Ok(false),
                }
            }
            // Files are read in when the tables are; one that is still a file could not be read.
            Pattern::File(_) => return Ok(false),
        };
        if hit {
            return Ok(!item.negated);
        }
    }
    Ok(false)
}

fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(parent) => name.len() > parent.len() && is_below(name, parent),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// Whether `name` is `parent` or a name below it.
pub(crate) fn is_below(name: &str, parent: &str) -> bool {
    let Some(start) = name.len().checked_sub(parent.len()) else { return false };
    let tail = name.get(start..).is_some_and(|tail| tail.eq_ignore_ascii_case(parent));
    tail && (start == 0 || name.as_bytes()[start - 1] == b'.')
}

/// A lookup for the record. Values of access tables are no secrets.
pub(crate) fn lookup(table: String, key: String, fact: &TableFact) -> Lookup {
    let (value, source) = match fact {
        TableFact::Found { value, source } => (Some(value.clone()), source.clone()),
        TableFact::Nothing | TableFact::Unavailable(_) => (None, None),
    };
    Lookup { table, key, value, source }
}
