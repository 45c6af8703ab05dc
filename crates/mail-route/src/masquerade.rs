//! `masquerade_domains`: the hosts of a domain hide behind it.

use decision::Lookup;
use mail_tables::lists::{Match, match_name};
use mail_types::{Address, Domain};

use crate::complete::note;
use crate::world::{Question, Stop, World};

/// Hides the subdomains of `masquerade_domains` where `masquerade_classes` names the role. The first entry that holds the domain decides; one
/// with `!` keeps it.
pub(crate) fn masquerade(
    world: &World<'_>,
    address: Address,
    role: &str,
    lookups: &mut Vec<Lookup>,
) -> Result<Address, Stop> {
    let main = world.main;
    if main.masquerade_domains.is_empty() || !main.masquerade_classes.iter().any(|class| class == role) {
        return Ok(address);
    }
    let Some(parent) = main.masquerade_domains.iter().find_map(|item| parent_of(item, address.domain())) else {
        return Ok(address);
    };
    let hidden = parent.and_then(|parent| Address::new(address.local(), Domain::new(parent).ok()?).ok());
    let Some(hidden) = hidden else { return Ok(address) };
    if is_exception(world, address.local())? {
        return Ok(address);
    }
    let source = &main.masquerade_domains.source;
    note(lookups, "masquerade_domains", &address.to_string(), &hidden.to_string(), source);
    Ok(hidden)
}

/// What an entry makes of a domain: nothing if it is about others; else the domain that hides it, if one does.
fn parent_of<'a>(item: &'a str, domain: &Domain) -> Option<Option<&'a str>> {
    let parent = item.trim_start_matches('!');
    let hides = (item.len() - parent.len()).is_multiple_of(2);
    if parent.is_empty() {
        return None;
    }
    if domain.as_str().eq_ignore_ascii_case(parent) {
        return Some(None);
    }
    let (key, parent_key) = (domain.key(), parent.to_ascii_lowercase());
    let below = key.strip_suffix(&parent_key).is_some_and(|rest| rest.ends_with('.'));
    below.then_some(hides.then_some(parent))
}

fn is_exception(world: &World<'_>, local: &str) -> Result<bool, Stop> {
    let exceptions = &world.main.masquerade_exceptions;
    match match_name(exceptions, &local.to_lowercase(), world.tables, world.facts.remote()) {
        Match::Decided { is_in, .. } => Ok(is_in),
        Match::No => Ok(false),
        Match::Temporary(why) => Err(Stop::Temporary(why)),
        Match::Missing(query) => Err(Stop::Missing(Question::Table(query))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    #[test]
    fn the_first_domain_that_holds_an_address_decides() {
        let main = "myhostname = a.info.net\nmasquerade_domains = keep.info.net !open.info.net Info.NET\n\
                    masquerade_exceptions = root, hash:/except\n";
        let made = Made::new(main_cf(main), &[("/except", "admin x\n")]);
        let cases = [
            ("john@www.info.net", "john@Info.NET"),
            ("john@info.net", "john@info.net"),
            ("john@INFO.net", "john@INFO.net"),
            ("john@www.keep.info.net", "john@keep.info.net"),
            ("john@keep.info.net", "john@keep.info.net"),
            ("john@www.open.info.net", "john@www.open.info.net"),
            ("john@notinfo.net", "john@notinfo.net"),
            ("Root@www.info.net", "Root@www.info.net"),
            ("admin@www.info.net", "admin@www.info.net"),
        ];
        for (text, wanted) in cases {
            let found = masquerade(&made.world(), address(text), "envelope_sender", &mut Vec::new()).expect("decided");
            assert_eq!(found.to_string(), wanted, "{text}");
        }
        let kept = address("john@www.info.net");
        assert_eq!(masquerade(&made.world(), kept.clone(), "envelope_recipient", &mut Vec::new()), Ok(kept));
    }
}
