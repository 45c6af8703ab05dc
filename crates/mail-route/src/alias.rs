//! One step of aliases(5), as local(8) takes it. Members that are aliases themselves are expanded when their turn comes.

use decision::Lookup;
use mail_tables::address::{Delimiters, Key, alias_keys};
use mail_tables::aliases::{self, file_members};
use mail_types::{Address, SourceLine};

use crate::class::{Class, resolve};
use crate::complete::complete_text;
use crate::mapping::{propagates, with_extension};
use crate::rewrite::forwarded_recipient;
use crate::world::{Stop, World};

/// A member of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// An address, complete; one of another machine or class after canonical maps and virtual aliases.
    Address(Address),
    /// A file with more members: read it and call [`include()`].
    Include(String),
    /// `|command`.
    Command(String),
    /// `/file`.
    File(String),
    /// A member that is no address; it is refused alone, the others get their mail.
    Wrong(String),
}

/// What an alias expands to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The members, in the order of the alias.
    pub members: Vec<Member>,
    /// The extension that the alias does not have, delimiter included; `:include:` files may pass it on.
    pub unmatched: Option<String>,
    /// The envelope sender of the members' mail: `owner-NAME`, where that is an alias too.
    pub owner: Option<Address>,
    /// The table, such as `hash:/etc/aliases`.
    pub table: String,
    /// The line of the alias.
    pub source: SourceLine,
}

/// The alias of a local recipient; nothing if it has none. `chain` are the addresses whose expansion led here: one of them is
/// not expanded again, so that `john: john, copy@elsewhere` delivers to john.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn alias(
    world: &World<'_>,
    recipient: &Address,
    chain: &[Address],
    lookups: &mut Vec<Lookup>,
) -> Result<Option<Expansion>, Stop> {
    if chain.contains(recipient) {
        return Ok(None);
    }
    let main = world.main;
    let keys = alias_keys(recipient.local(), Delimiters::of(main));
    let Some(hit) = world.search(&main.alias_maps, &keys, lookups)? else { return Ok(None) };
    let unmatched = hit.extension;
    let members = members(world, "alias", aliases::members(&hit.value), unmatched.as_deref(), lookups)?;
    let owner = owner(world, &hit.key, lookups)?;
    Ok(Some(Expansion { members, unmatched, owner, table: hit.table, source: hit.source }))
}

/// The members of an `:include:` file's text. `unmatched` is the extension of [`Expansion`].
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn include(
    world: &World<'_>,
    text: &str,
    unmatched: Option<&str>,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    members(world, "include", file_members(text), unmatched, lookups)
}

/// The members of a list that somebody else has read: their addresses completed and rewritten. `place` is the list's word in
/// `propagate_unmatched_extensions`: alias, forward or include.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn members(
    world: &World<'_>,
    place: &str,
    members: Vec<aliases::Member>,
    unmatched: Option<&str>,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    let unmatched = unmatched.filter(|_| propagates(world, place));
    let mut found: Vec<Member> = Vec::new();
    for member in members {
        let text = match member {
            aliases::Member::Include(path) => {
                found.push(Member::Include(path));
                continue;
            }
            aliases::Member::Command(command) => {
                found.push(Member::Command(command));
                continue;
            }
            aliases::Member::File(path) => {
                found.push(Member::File(path));
                continue;
            }
            aliases::Member::Address(text) => text,
        };
        for member in address(world, text, unmatched, lookups)? {
            if !found.contains(&member) {
                found.push(member);
            }
        }
    }
    Ok(found)
}

/// What an address in a list leads to. One of this machine is delivered as it is; the others pass the maps as new mail does.
fn address(
    world: &World<'_>,
    text: String,
    unmatched: Option<&str>,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    let Ok(address) = complete_text(&text, world.main) else { return Ok(vec![Member::Wrong(text)]) };
    let resolved = resolve(world, &address, lookups)?;
    let address = match unmatched {
        Some(extension) => with_extension(&resolved.address, extension),
        None => Some(resolved.address),
    };
    let Some(address) = address else { return Ok(vec![Member::Wrong(text)]) };
    if resolved.class.class == Class::Local {
        return Ok(vec![Member::Address(address)]);
    }
    Ok(forwarded_recipient(world, &address, lookups)?.into_iter().map(Member::Address).collect())
}

/// `owner-NAME`, if it is an alias: with `expand_owner_alias` what it stands for, else its own name.
fn owner(world: &World<'_>, name: &str, lookups: &mut Vec<Lookup>) -> Result<Option<Address>, Stop> {
    let main = world.main;
    let owner = format!("owner-{name}");
    let Some(hit) = world.search(&main.alias_maps, &[Key::full(owner.as_str())], lookups)? else { return Ok(None) };
    let text = match aliases::members(&hit.value).as_slice() {
        [aliases::Member::Address(address)] if *main.expand_owner_alias => address.clone(),
        _ => owner,
    };
    Ok(complete_text(&text, main).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    const MAIN: &str = "myhostname = server.info.net\nmyorigin = info.net\nmydestination = info.net\nrecipient_delimiter = +\nalias_maps = hash:/aliases\n";
    // The user's page, row 9, and more.
    const ALIASES: &str = "root: john\nsales: charles,john,mike\ncharles: charles@gmail.com\nlist: a, :include:/etc/list, |/bin/x, /var/log/all, bad@\n\
                           owner-list: eve\njohn: john, copy@gmail.com\n";

    fn made(more: &str) -> Made {
        Made::new(main_cf(&format!("{MAIN}{more}")), &[("/aliases", ALIASES)])
    }

    fn expand(made: &Made, text: &str, chain: &[Address]) -> Option<Expansion> {
        alias(&made.world(), &address(text), chain, &mut Vec::new()).expect("decided")
    }

    fn to(text: &str) -> Member {
        Member::Address(address(text))
    }

    #[test]
    fn members_are_completed_in_order() {
        let found = expand(&made(""), "Sales@info.net", &[]).expect("an alias");
        assert_eq!(found.members, ["charles@info.net", "john@info.net", "mike@info.net"].map(to));
        assert_eq!((found.source.to_string().as_str(), found.owner), ("/aliases:2", None));
        assert_eq!(expand(&made(""), "nobody@info.net", &[]), None);
    }

    #[test]
    fn a_name_in_its_own_alias_is_a_mailbox() {
        let made = made("");
        let found = expand(&made, "john@info.net", &[]).expect("an alias");
        assert_eq!(found.members, ["john@info.net", "copy@gmail.com"].map(to));
        assert_eq!(expand(&made, "john@info.net", &[address("john@info.net")]), None);
    }

    #[test]
    fn the_owner_of_a_list_is_its_sender() {
        let found = expand(&made(""), "list+x@info.net", &[]).expect("an alias");
        assert_eq!(found.owner, Some(address("owner-list@info.net")));
        let wanted = [
            to("a@info.net"),
            Member::Include("/etc/list".into()),
            Member::Command("/bin/x".into()),
            Member::File("/var/log/all".into()),
            Member::Wrong("bad@".into()),
        ];
        assert_eq!(found.members, wanted);
        let found = expand(&made("expand_owner_alias = yes\n"), "list@info.net", &[]).expect("an alias");
        assert_eq!(found.owner, Some(address("eve@info.net")));
    }

    #[test]
    fn an_extension_goes_on_where_main_cf_says_so() {
        let made = made("propagate_unmatched_extensions = alias, include\n");
        let found = expand(&made, "sales+x@info.net", &[]).expect("an alias");
        assert_eq!(found.members, ["charles+x@info.net", "john+x@info.net", "mike+x@info.net"].map(to));
        assert_eq!(found.unmatched.as_deref(), Some("+x"));
        let members = include(&made.world(), "x\ny@gmail.com\n", Some("+x"), &mut Vec::new()).expect("decided");
        assert_eq!(members, ["x+x@info.net", "y+x@gmail.com"].map(to));
    }

    #[test]
    fn members_of_this_machine_pass_no_maps() {
        let more = "virtual_alias_maps = inline:{{john=other@gmail.com}, {@gmail.com=all@gmail.org}}\n";
        let found = expand(&made(more), "sales@info.net", &[]).expect("an alias");
        assert_eq!(found.members, ["charles@info.net", "john@info.net", "mike@info.net"].map(to));
        let found = expand(&made(more), "charles@info.net", &[]).expect("an alias");
        assert_eq!(found.members, [to("all@gmail.org")]);
    }

    #[test]
    fn an_included_file_gives_members_too() {
        let made = made("");
        let members = include(&made.world(), "# list\nx\ny@gmail.com, z\n", None, &mut Vec::new()).expect("decided");
        assert_eq!(members, ["x@info.net", "y@gmail.com", "z@info.net"].map(to));
    }

    #[test]
    fn a_missing_alias_table_never_says_that_there_is_no_alias() {
        let made = Made::new(main_cf(MAIN), &[]);
        let result = alias(&made.world(), &address("root@info.net"), &[], &mut Vec::new());
        assert!(matches!(result, Err(Stop::Temporary(_))));
    }
}
