//! Mail that local(8) does not put into a mailbox: what another transport takes, and what becomes of mail for nobody.

use decision::Lookup;
use mail_config::Value;
use mail_config::main_cf::lists::TableRef;
use mail_route::{Routed, Stop, World};
use mail_tables::address::{Key, Search, search};
use mail_tables::aliases;
use mail_types::Address;

use crate::expand::List;
use crate::template::{self, Person};

/// What becomes of mail for a name that is neither an alias nor a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nobody {
    /// Another transport takes it (`fallback_transport_maps`, `fallback_transport`).
    Handed(Routed),
    /// This address takes its place (`luser_relay`).
    Instead(List),
    /// It is for a name that every mail system must have: it is thrown away, and the log warns.
    Required,
    /// There is no such user.
    Unknown,
    /// The configuration cannot be used; the text is for the log.
    Wrong(String),
}

/// The names for which there should always be an alias or a user.
const REQUIRED: [&str; 2] = ["mailer-daemon", "postmaster"];

/// More addresses than this in a chain are a `luser_relay` that leads to itself.
const CHAIN_MAX: usize = 50;

/// The transport that takes a user's mail in place of the mailbox: `mailbox_transport_maps`, then `mailbox_transport`. `user` is the name in lower case
/// without its extension, whether there is such a user or not.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn in_place_of_mailbox(
    world: &World<'_>,
    user: &str,
    address: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Option<Routed>, Stop> {
    let main = world.main;
    let names = ("mailbox_transport_maps", "mailbox_transport");
    transport(world, user, address, names, (main.mailbox_transport_maps.as_slice(), &main.mailbox_transport), lookups)
}

/// What becomes of mail for nobody: `fallback_transport_maps`, `fallback_transport`, `luser_relay`, in this order. `chain` has the addresses that led here.
///
/// # Errors
/// [`Stop`] if a table cannot say or another process must be asked first.
pub fn nobody(
    world: &World<'_>,
    person: Person<'_>,
    chain: &[Address],
    lookups: &mut Vec<Lookup>,
) -> Result<Nobody, Stop> {
    let main = world.main;
    let names = ("fallback_transport_maps", "fallback_transport");
    let parameters = (main.fallback_transport_maps.as_slice(), &main.fallback_transport);
    if let Some(routed) = transport(world, person.name, person.address, names, parameters, lookups)? {
        return Ok(Nobody::Handed(routed));
    }
    let instead = match template::luser(person, main) {
        Ok(instead) => instead,
        Err(why) => return Ok(Nobody::Wrong(why)),
    };
    if let Some(text) = instead {
        let list = relayed(world, text, lookups)?;
        let leads_here = list.members.contains(person.address) || chain.len() > CHAIN_MAX;
        return Ok(if leads_here { Nobody::Unknown } else { Nobody::Instead(list) });
    }
    let required = REQUIRED.iter().any(|name| person.name.eq_ignore_ascii_case(name));
    Ok(if required { Nobody::Required } else { Nobody::Unknown })
}

/// The address of `luser_relay` as a list. Commands and files are not special in it, and no extension is passed on.
fn relayed(world: &World<'_>, text: String, lookups: &mut Vec<Lookup>) -> Result<List, Stop> {
    let source = world.main.luser_relay.source.clone();
    let written = vec![aliases::Member::Address(text)];
    let members = mail_route::members(world, "luser_relay", written, None, lookups)?;
    Ok(List::of_addresses(members, "luser_relay", source))
}

fn transport(
    world: &World<'_>,
    user: &str,
    address: &Address,
    (maps_name, name): (&'static str, &'static str),
    (maps, parameter): (&[TableRef], &Value<String>),
    lookups: &mut Vec<Lookup>,
) -> Result<Option<Routed>, Stop> {
    match search(maps, &[Key::full(user)], world.tables, world.facts.remote()) {
        Search::Found { found, .. } => {
            let routed = mail_route::handed_on(world, maps_name, &found.value, &found.source, address);
            let (value, source) = (Some(found.value), Some(found.source));
            lookups.push(Lookup { table: found.table, key: found.key, value, source });
            return Ok(Some(routed));
        }
        Search::NotFound => {}
        Search::Temporary(why) => return Err(Stop::Temporary(why)),
        Search::Missing(query) => return Err(Stop::Missing(mail_route::Question::Table(query))),
    }
    let text = parameter.trim();
    Ok((!text.is_empty()).then(|| mail_route::handed_on(world, name, text, &parameter.source, address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_config::{Config, Machine};
    use mail_route::{Answers, Kind};
    use mail_tables::Snapshot;

    fn config(lines: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        let text = format!(
            "myhostname = mail.info.net\nmyorigin = info.net\nmydestination = info.net\nrecipient_delimiter = +\n{lines}"
        );
        std::fs::write(dir.path().join("main.cf"), text).expect("written");
        let loaded = Config::load_on(dir.path(), Some(&dir.path().join("dovecot.conf")), Machine::named("server"));
        loaded.unwrap_or_else(|errors| panic!("{errors}")).config
    }

    fn with<T>(lines: &str, run: impl FnOnce(&World<'_>) -> Result<T, Stop>) -> T {
        let config = config(lines);
        let main = &config.main;
        let tables: Vec<TableRef> =
            main.mailbox_transport_maps.iter().chain(main.fallback_transport_maps.iter()).cloned().collect();
        let (tables, facts) = (Snapshot::default().with_tables(&tables), Answers::default());
        run(&World { config: &config, main, tables: &tables, facts: &facts }).expect("decided")
    }

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    /// What becomes of mail for nobody at an address that these led to.
    fn nobody_at(lines: &str, text: &str, chain: &[&str]) -> Nobody {
        let address = address(text);
        let name = address.local().split('+').next().unwrap_or_default().to_lowercase();
        let extension = address.local().split_once('+').map(|(_, extension)| extension);
        let person = Person { address: &address, name: &name, extension, user: None };
        let chain: Vec<Address> = chain.iter().map(|text| text.parse().expect("an address")).collect();
        with(lines, |world| nobody(world, person, &chain, &mut Vec::new()))
    }

    #[test]
    fn a_map_goes_before_the_transport_of_all_and_local_mail_gives_the_next_hop() {
        let lines = "mailbox_transport_maps = inline:{{john = smtp:[a.example]:26}, {mary = error:}}\nmailbox_transport = lmtp:unix:box\n";
        let taken = |user: &str| {
            let to = address("Who+x@info.net");
            with(lines, |world| in_place_of_mailbox(world, user, &to, &mut Vec::new())).expect("another transport")
        };
        let john = taken("john");
        assert_eq!(
            (john.kind, john.nexthop.as_str(), john.rule),
            (Kind::Smtp, "[a.example]:26", "mailbox_transport_maps")
        );
        assert_eq!(taken("mary").kind, Kind::Error("mail.info.net".to_owned()));
        let other = taken("anybody");
        assert_eq!((other.kind, other.nexthop.as_str(), other.rule), (Kind::Lmtp, "unix:box", "mailbox_transport"));
        assert_eq!(other.address, address("Who+x@info.net"));
        assert_eq!(with("", |world| in_place_of_mailbox(world, "john", &address("a@info.net"), &mut Vec::new())), None);
    }

    #[test]
    fn mail_for_nobody_goes_to_the_fallback_then_to_luser_relay() {
        let lines =
            "fallback_transport_maps = inline:{away=smtp:[a.example]}\nluser_relay = x.$user.$local@far.example\n";
        assert!(
            matches!(nobody_at(lines, "Away+x@info.net", &[]), Nobody::Handed(routed) if routed.kind == Kind::Smtp)
        );
        let Nobody::Instead(list) = nobody_at(lines, "Who+X@info.net", &[]) else { panic!("luser_relay") };
        assert_eq!(list.members, [address("x.who.Who+X@far.example")]);
        let Nobody::Instead(list) = nobody_at("luser_relay = |/bin/x\n", "who@info.net", &[]) else {
            panic!("an address")
        };
        assert!(list.rest.is_empty(), "a command is nothing special there");
    }

    #[test]
    fn a_relay_that_leads_to_itself_ends() {
        let itself = "luser_relay = nosuch@info.net\n";
        assert!(matches!(nobody_at(itself, "who@info.net", &[]), Nobody::Instead(_)));
        assert_eq!(nobody_at(itself, "nosuch@info.net", &["who@info.net"]), Nobody::Unknown);
        let chain = vec!["a@info.net"; CHAIN_MAX + 1];
        assert_eq!(nobody_at("luser_relay = x$user@info.net\n", "xxx@info.net", &chain), Nobody::Unknown);
    }

    #[test]
    fn names_that_must_be_there_are_not_returned() {
        assert_eq!(nobody_at("", "Postmaster@info.net", &[]), Nobody::Required);
        assert_eq!(nobody_at("", "MAILER-DAEMON@info.net", &[]), Nobody::Required);
        assert_eq!(nobody_at("", "who@info.net", &[]), Nobody::Unknown);
    }
}
