//! Canonical maps, masquerading and virtual aliases, as cleanup(8) applies them.

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_tables::address::{Delimiters, map_keys};
use mail_tables::aliases::{Member, members};
use mail_types::{Address, Domain, Sender};

use crate::class::{Class, class};
use crate::complete::complete_text;
use crate::world::{Hit, Stop, World};

/// How often a canonical map may rewrite its own result.
const CANONICAL_DEPTH: usize = 10;

/// Rewrites an envelope sender: canonical maps, then masquerading.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn rewrite_sender(world: &World<'_>, sender: &Sender, lookups: &mut Vec<Lookup>) -> Result<Sender, Stop> {
    let Sender::Address(address) = sender else { return Ok(Sender::Null) };
    let address = canonical(world, address, "envelope_sender", lookups)?;
    Ok(Sender::Address(masquerade(world, address, "envelope_sender")))
}

/// Rewrites an envelope recipient without virtual aliases: canonical maps, then masquerading.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn canonical_recipient(world: &World<'_>, address: &Address, lookups: &mut Vec<Lookup>) -> Result<Address, Stop> {
    let address = canonical(world, address, "envelope_recipient", lookups)?;
    Ok(masquerade(world, address, "envelope_recipient"))
}

/// Rewrites an envelope recipient to those who get the mail: canonical maps, masquerading, virtual aliases.
///
/// # Errors
/// [`Stop`] if a table cannot say, or if the expansion is larger or deeper than its limits.
pub fn rewrite_recipient(
    world: &World<'_>,
    address: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Address>, Stop> {
    let first = canonical_recipient(world, address, lookups)?;
    virtual_aliases(world, first, lookups)
}

fn canonical(world: &World<'_>, address: &Address, role: &str, lookups: &mut Vec<Lookup>) -> Result<Address, Stop> {
    let main = world.main;
    let is_sender = role.ends_with("_sender");
    let own = if is_sender {
        (&main.sender_canonical_maps, &main.sender_canonical_classes)
    } else {
        (&main.recipient_canonical_maps, &main.recipient_canonical_classes)
    };
    let mut address = address.clone();
    for (maps, classes) in [own, (&main.canonical_maps, &main.canonical_classes)] {
        if !maps.is_empty() && classes.iter().any(|class| class == role) {
            address = canonical_map(world, address, maps, lookups)?;
        }
    }
    Ok(address)
}

/// One canonical map, applied until it changes nothing.
fn canonical_map(
    world: &World<'_>,
    mut address: Address,
    maps: &[TableRef],
    lookups: &mut Vec<Lookup>,
) -> Result<Address, Stop> {
    let propagate = propagates(world, "canonical");
    for _ in 0..CANONICAL_DEPTH {
        let Some(hit) = ask(world, &address, maps, lookups)? else { return Ok(address) };
        let results = results(world, &address, &hit, propagate)?;
        let Some(next) = results.into_iter().next().filter(|next| *next != address) else { return Ok(address) };
        address = next;
    }
    Err(Stop::Temporary(format!("{address}: canonical maps rewrite in a circle")))
}

/// Expands virtual aliases to the end.
fn virtual_aliases(world: &World<'_>, first: Address, lookups: &mut Vec<Lookup>) -> Result<Vec<Address>, Stop> {
    let main = world.main;
    if main.virtual_alias_maps.is_empty() {
        return Ok(vec![first]);
    }
    let limit = usize::try_from(*main.virtual_alias_expansion_limit).unwrap_or(usize::MAX);
    let depth_limit = *main.virtual_alias_recursion_limit;
    let propagate = propagates(world, "virtual");
    let mut done: Vec<Address> = Vec::new();
    let mut open = vec![(first.clone(), 0u64)];
    while let Some((address, depth)) = open.pop() {
        let Some(hit) = ask(world, &address, &main.virtual_alias_maps, lookups)? else {
            push_new(&mut done, address);
            continue;
        };
        if depth >= depth_limit {
            return Err(Stop::Temporary(format!("{first}: virtual aliases are nested deeper than {depth_limit}")));
        }
        // The last is taken first, so the order of the table is kept.
        for next in results(world, &address, &hit, propagate)?.into_iter().rev() {
            if next == address {
                push_new(&mut done, next);
            } else {
                open.push((next, depth + 1));
            }
        }
        if done.len() + open.len() > limit {
            return Err(Stop::Temporary(format!("{first}: virtual aliases expand to more than {limit} addresses")));
        }
    }
    Ok(done)
}

fn push_new(done: &mut Vec<Address>, address: Address) {
    if !done.contains(&address) {
        done.push(address);
    }
}

fn propagates(world: &World<'_>, what: &str) -> bool {
    world.main.propagate_unmatched_extensions.iter().any(|word| word == what)
}

fn ask(
    world: &World<'_>,
    address: &Address,
    maps: &[TableRef],
    lookups: &mut Vec<Lookup>,
) -> Result<Option<Hit>, Stop> {
    let keys = map_keys(address, Delimiters::of(world.main), is_here(world, address.domain(), lookups)?);
    world.search(maps, &keys, lookups)
}

/// Whether a map is also asked for the local part alone: the domain is `myorigin` or one of ours.
fn is_here(world: &World<'_>, domain: &Domain, lookups: &mut Vec<Lookup>) -> Result<bool, Stop> {
    if domain.as_str().eq_ignore_ascii_case(&world.main.myorigin) {
        return Ok(true);
    }
    let mut quiet = Vec::new();
    let found = class(world, domain, &mut quiet).map(|found| found.class == Class::Local);
    if found.is_err() {
        lookups.append(&mut quiet);
    }
    found
}

/// The addresses of a value: `@domain` keeps the local part, others are completed; an extension that the key left out is
/// added where `propagate` says so.
fn results(world: &World<'_>, address: &Address, hit: &Hit, propagate: bool) -> Result<Vec<Address>, Stop> {
    let wrong =
        |text: &str| Stop::Temporary(format!("{}: {} ({}): `{text}' is no address", hit.source, hit.table, hit.key));
    let mut found = Vec::new();
    for member in members(&hit.value) {
        let Member::Address(text) = member else { return Err(wrong(&hit.value)) };
        if let Some(domain) = text.strip_prefix('@') {
            let whole = Domain::new(domain).and_then(|domain| Address::new(address.local(), domain));
            found.push(whole.map_err(|_| wrong(&text))?);
            continue;
        }
        let mut next = complete_text(&text, world.main).map_err(|_| wrong(&text))?;
        if let Some(extension) = hit.extension.as_deref().filter(|_| propagate) {
            let local = format!("{}{extension}", next.local());
            next = Address::new(&local, next.domain().clone()).map_err(|_| wrong(&text))?;
        }
        found.push(next);
    }
    if found.is_empty() { Err(wrong(&hit.value)) } else { Ok(found) }
}

/// Hides the subdomains of `masquerade_domains`.
fn masquerade(world: &World<'_>, address: Address, role: &str) -> Address {
    let main = world.main;
    if main.masquerade_domains.is_empty() || !main.masquerade_classes.iter().any(|class| class == role) {
        return address;
    }
    if main.masquerade_exceptions.iter().any(|user| user.eq_ignore_ascii_case(address.local())) {
        return address;
    }
    let domain = address.domain().key();
    for item in main.masquerade_domains.iter() {
        let (keep, parent) = match item.strip_prefix('!') {
            Some(parent) => (true, parent.to_ascii_lowercase()),
            None => (false, item.to_ascii_lowercase()),
        };
        if domain == parent || domain.strip_suffix(&parent).is_some_and(|rest| rest.ends_with('.')) {
            let hidden = Domain::new(&parent).and_then(|parent| Address::new(address.local(), parent));
            return if keep { address } else { hidden.unwrap_or(address) };
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    const MAIN: &str = "myhostname = server.info.net\nmyorigin = info.net\nmydestination = info.net, localhost\n\
                        recipient_delimiter = +\nvirtual_alias_domains = example.net\nvirtual_alias_maps = hash:/virtual\n";

    fn recipients(more: &str, tables: &[(&str, &str)], text: &str) -> Result<Vec<String>, Stop> {
        let made = Made::new(main_cf(&format!("{MAIN}{more}")), tables);
        let found = rewrite_recipient(&made.world(), &address(text), &mut Vec::new())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    // The user's page, row 8.
    #[test]
    fn a_catch_all_takes_every_address_of_its_domain() {
        let tables = [("/virtual", "@example.net infonetaccount@example.com\n")];
        assert_eq!(recipients("", &tables, "anyone@Example.NET"), Ok(vec!["infonetaccount@example.com".into()]));
    }

    #[test]
    fn aliases_expand_in_order_and_once() {
        let text = "sales@example.net john, mike@gmail.com, all@example.net\nall@example.net sales@example.net, eve\njohn john@example.org\n";
        let wanted = ["john@example.org", "mike@gmail.com", "eve@info.net"].map(str::to_owned).to_vec();
        let found = recipients("virtual_alias_recursion_limit = 5\n", &[("/virtual", text)], "sales@example.net");
        assert!(matches!(found, Err(Stop::Temporary(_))), "a circle: {found:?}");
        let text = text.replace("sales@example.net, eve", "eve");
        assert_eq!(recipients("", &[("/virtual", &text)], "sales@example.net"), Ok(wanted));
    }

    #[test]
    fn an_address_that_keeps_itself_is_no_circle() {
        let tables = [("/virtual", "john@info.net john@info.net, copy@gmail.com\n")];
        assert_eq!(recipients("", &tables, "john@info.net"), Ok(vec!["john@info.net".into(), "copy@gmail.com".into()]));
    }

    #[test]
    fn extensions_follow_what_does_not_match_them() {
        let tables = [("/virtual", "john@example.net j@gmail.com\n@example.net @example.com\n")];
        assert_eq!(recipients("", &tables, "john+x@example.net"), Ok(vec!["j+x@gmail.com".into()]));
        assert_eq!(recipients("", &tables, "mike+x@example.net"), Ok(vec!["mike+x@example.com".into()]));
        let off = "propagate_unmatched_extensions =\n";
        assert_eq!(recipients(off, &tables, "john+x@example.net"), Ok(vec!["j@gmail.com".into()]));
    }

    #[test]
    fn too_many_addresses_wait_instead_of_vanishing() {
        let tables = [("/virtual", "a@example.net b, c, d, e\n")];
        let found = recipients("virtual_alias_expansion_limit = 3\n", &tables, "a@example.net");
        assert!(matches!(found, Err(Stop::Temporary(_))));
    }

    #[test]
    fn canonical_maps_rewrite_what_their_classes_name() {
        let more =
            "canonical_maps = hash:/canonical\nsender_canonical_maps = hash:/senders\nmasquerade_domains = info.net\n";
        let tables = [
            ("/virtual", "x y\n"),
            ("/canonical", "jd John.Doe\n@old.net @info.net\n"),
            ("/senders", "root admin@info.net\n"),
        ];
        let made = Made::new(main_cf(&format!("{MAIN}{more}")), &tables);
        let sender = |text: &str| {
            let sender = Sender::Address(address(text));
            rewrite_sender(&made.world(), &sender, &mut Vec::new()).map(|s| s.to_string())
        };
        assert_eq!(sender("jd@info.net"), Ok("John.Doe@info.net".into()));
        assert_eq!(sender("root@info.net"), Ok("admin@info.net".into()));
        assert_eq!(sender("a@www.info.net"), Ok("a@info.net".into()));
        assert_eq!(recipients(more, &tables, "a@old.net"), Ok(vec!["a@info.net".into()]));
        assert_eq!(recipients(more, &tables, "a@www.info.net"), Ok(vec!["a@www.info.net".into()]));
        assert_eq!(rewrite_sender(&made.world(), &Sender::Null, &mut Vec::new()), Ok(Sender::Null));
    }

    #[test]
    fn every_lookup_is_written_down() {
        let made = Made::new(main_cf(MAIN), &[("/virtual", "# c\njohn x@y.org\n")]);
        let mut lookups = Vec::new();
        rewrite_recipient(&made.world(), &address("john@info.net"), &mut lookups).expect("decided");
        let found = lookups.iter().find(|l| l.value.is_some()).expect("found");
        assert_eq!((found.table.as_str(), found.key.as_str()), ("hash:/virtual", "john"));
        assert_eq!(found.source.as_ref().map(ToString::to_string).as_deref(), Some("/virtual:2"));
    }
}
