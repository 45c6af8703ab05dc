//! One step of aliases(5), as local(8) takes it. Members that are aliases themselves are expanded when their turn comes.

use decision::Lookup;
use mail_tables::address::{Delimiters, Key, alias_keys};
use mail_tables::aliases::{self, file_members};
use mail_types::{Address, SourceLine};

use crate::complete::complete_text;
use crate::rewrite::rewrite_recipient;
use crate::world::{Stop, World};

/// A member of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// An address, complete, after canonical maps and virtual aliases.
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
    let members = members(world, aliases::members(&hit.value), lookups)?;
    let owner = owner(world, &hit.key, lookups)?;
    Ok(Some(Expansion { members, owner, table: hit.table, source: hit.source }))
}

/// The members of an `:include:` file's text.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn include(world: &World<'_>, text: &str, lookups: &mut Vec<Lookup>) -> Result<Vec<Member>, Stop> {
    members(world, file_members(text), lookups)
}

/// The members of a list that somebody else has read: their addresses completed and rewritten.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn members(
    world: &World<'_>,
    members: Vec<aliases::Member>,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Member>, Stop> {
    let mut found: Vec<Member> = Vec::new();
    for member in members {
        match member {
            aliases::Member::Include(path) => found.push(Member::Include(path)),
            aliases::Member::Command(command) => found.push(Member::Command(command)),
            aliases::Member::File(path) => found.push(Member::File(path)),
            aliases::Member::Address(text) => match complete_text(&text, world.main) {
                Err(_) => found.push(Member::Wrong(text)),
                Ok(address) => {
                    for address in rewrite_recipient(world, &address, lookups)? {
                        let member = Member::Address(address);
                        if !found.contains(&member) {
                            found.push(member);
                        }
                    }
                }
            },
        }
    }
    Ok(found)
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
    fn an_included_file_gives_members_too() {
        let made = made("");
        let members = include(&made.world(), "# list\nx\ny@gmail.com, z\n", &mut Vec::new()).expect("decided");
        assert_eq!(members, ["x@info.net", "y@gmail.com", "z@info.net"].map(to));
    }

    #[test]
    fn a_missing_alias_table_never_says_that_there_is_no_alias() {
        let made = Made::new(main_cf(MAIN), &[]);
        let result = alias(&made.world(), &address("root@info.net"), &[], &mut Vec::new());
        assert!(matches!(result, Err(Stop::Temporary(_))));
    }
}
