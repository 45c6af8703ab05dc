//! What a value of an address table stands for (canonical(5), virtual(5), generic(5)).

use mail_tables::aliases::{Member, members};
use mail_types::{Address, Domain};

use crate::complete::complete_text;
use crate::world::{Hit, Stop, World};

/// Whether a kind of table keeps an extension that its key leaves out (`propagate_unmatched_extensions`).
pub(crate) fn propagates(world: &World<'_>, what: &str) -> bool {
    world.main.propagate_unmatched_extensions.iter().any(|word| word == what)
}

/// The addresses of a value: `@domain` keeps the local part, others are completed; an extension that the key left out is
/// added where `propagate` says so.
///
/// # Errors
/// [`Stop::Temporary`] where the value holds what is no address.
pub(crate) fn addresses(
    world: &World<'_>,
    address: &Address,
    hit: &Hit,
    propagate: bool,
) -> Result<Vec<Address>, Stop> {
    let wrong =
        |text: &str| Stop::Temporary(format!("{}: {} ({}): `{text}' is no address", hit.source, hit.table, hit.key));
    let extension = hit.extension.as_deref();
    let bare = extension.and_then(|extension| address.local().strip_suffix(extension)).unwrap_or(address.local());
    let mut found = Vec::new();
    for member in members(&hit.value) {
        let Member::Address(text) = member else { return Err(wrong(&hit.value)) };
        let next = match text.strip_prefix('@') {
            Some(domain) => Domain::new(domain).and_then(|domain| Address::new(bare, domain)),
            None => complete_text(&text, world.main),
        };
        let next = next.map_err(|_| wrong(&text))?;
        let next = match extension.filter(|_| propagate) {
            Some(extension) => with_extension(&next, extension).ok_or_else(|| wrong(&text))?,
            None => next,
        };
        found.push(next);
    }
    if found.is_empty() { Err(wrong(&hit.value)) } else { Ok(found) }
}

/// An address with an extension behind its local part.
pub(crate) fn with_extension(address: &Address, extension: &str) -> Option<Address> {
    Address::new(&format!("{}{extension}", address.local()), address.domain().clone()).ok()
}

/// Whether two addresses are the same to a table, which knows no upper case.
pub(crate) fn same(one: &Address, other: &Address) -> bool {
    one == other || folded(one) == folded(other)
}

/// An address as a table sees it.
pub(crate) fn folded(address: &Address) -> String {
    address.to_string().to_lowercase()
}
