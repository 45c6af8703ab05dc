//! `virtual_alias_maps`: one recipient becomes several.

use std::collections::HashSet;

use decision::Lookup;
use mail_types::Address;

use crate::mapping::{addresses, folded, propagates};
use crate::world::{Stop, World};

/// Expands virtual aliases to the end. The first address of a value takes the place of the alias, the others are looked up after
/// all that stand before them; an address that expands to itself is expanded once.
///
/// # Errors
/// [`Stop`] if a table cannot say, or if the expansion goes over one of its limits.
pub(crate) fn expand(world: &World<'_>, first: Address, lookups: &mut Vec<Lookup>) -> Result<Vec<Address>, Stop> {
    let main = world.main;
    if main.virtual_alias_maps.is_empty() {
        return Ok(vec![first]);
    }
    let too = |what: String| Stop::Temporary(format!("unreasonable virtual_alias_maps {what} for {first}"));
    let limit = usize::try_from(*main.virtual_alias_expansion_limit).unwrap_or(usize::MAX);
    let length_limit = usize::try_from(*main.virtual_alias_address_length_limit).unwrap_or(usize::MAX);
    let propagate = propagates(world, "virtual");
    let mut all = vec![first.clone()];
    let mut kept = HashSet::new();
    let mut at = 0;
    while at < all.len() {
        let mut depth = 0;
        while !kept.contains(&folded(&all[at])) {
            if depth >= *main.virtual_alias_recursion_limit {
                return Err(too("nesting".to_owned()));
            }
            let Some(hit) = world.ask(&all[at], &main.virtual_alias_maps, lookups)? else { break };
            let before = folded(&all[at]);
            for (number, next) in addresses(world, &all[at].clone(), &hit, propagate)?.into_iter().enumerate() {
                if next.to_string().len() > length_limit {
                    return Err(too("result".to_owned()));
                }
                if folded(&next) == before {
                    kept.insert(before.clone());
                }
                if number == 0 {
                    all[at] = next;
                } else {
                    all.push(next);
                }
            }
            if all.len() > limit {
                return Err(too("expansion size".to_owned()));
            }
            depth += 1;
        }
        at += 1;
    }
    let mut seen = HashSet::new();
    all.retain(|address| seen.insert(folded(address)));
    Ok(all)
}
