//! Canonical maps, masquerading and virtual aliases, as cleanup(8) applies them.

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_types::{Address, Sender};

use crate::complete::{Origin, complete_header};
use crate::mapping::{addresses, propagates, same};
use crate::masquerade::masquerade;
use crate::virtual_alias::expand;
use crate::world::{Stop, World};

/// How often a canonical map may rewrite its own result.
const CANONICAL_DEPTH: usize = 10;

/// Rewrites an envelope sender: canonical maps, then masquerading.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn rewrite_sender(world: &World<'_>, sender: &Sender, lookups: &mut Vec<Lookup>) -> Result<Sender, Stop> {
    match sender {
        Sender::Address(address) if !maps_are_off(world) => {
            Ok(Sender::Address(mapped(world, address, Role::Sender, "envelope_sender", lookups)?))
        }
        sender => Ok(sender.clone()),
    }
}

/// Rewrites an envelope recipient without virtual aliases: canonical maps, then masquerading.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn canonical_recipient(world: &World<'_>, address: &Address, lookups: &mut Vec<Lookup>) -> Result<Address, Stop> {
    if maps_are_off(world) {
        return Ok(address.clone());
    }
    mapped(world, address, Role::Recipient, "envelope_recipient", lookups)
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
    if maps_are_off(world) { Ok(vec![address.clone()]) } else { forwarded_recipient(world, address, lookups) }
}

/// The same for mail that this machine forwards: `receive_override_options` is about what comes in.
pub(crate) fn forwarded_recipient(
    world: &World<'_>,
    address: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Vec<Address>, Stop> {
    let first = mapped(world, address, Role::Recipient, "envelope_recipient", lookups)?;
    expand(world, first, lookups)
}

/// Whose address a header field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// From, Sender, Reply-To and their like.
    Sender,
    /// To, Cc and their like.
    Recipient,
}

/// Rewrites an address of a header field, without comments and blanks: completes it, then canonical maps and masquerading. Nothing
/// comes back where it stays as it is.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn rewrite_header(
    world: &World<'_>,
    origin: Origin<'_>,
    role: Role,
    text: &str,
    lookups: &mut Vec<Lookup>,
) -> Result<Option<String>, Stop> {
    let whole = complete_header(text, origin, world.main, lookups);
    let class = if role == Role::Sender { "header_sender" } else { "header_recipient" };
    let rewritten = match whole.parse::<Address>() {
        Ok(address) if !maps_are_off(world) => {
            let next = mapped(world, &address, role, class, lookups)?;
            if next == address { whole } else { next.to_string() }
        }
        _ => whole,
    };
    Ok((rewritten != text).then_some(rewritten))
}

/// Whether what comes in here is not to be mapped (`receive_override_options = no_address_mappings`).
pub(crate) fn maps_are_off(world: &World<'_>) -> bool {
    world.main.receive_override_options.iter().any(|word| word == "no_address_mappings")
}

/// Canonical maps, then masquerading.
fn mapped(
    world: &World<'_>,
    address: &Address,
    role: Role,
    class: &str,
    lookups: &mut Vec<Lookup>,
) -> Result<Address, Stop> {
    let main = world.main;
    let own = match role {
        Role::Sender => (&main.sender_canonical_maps, &main.sender_canonical_classes),
        Role::Recipient => (&main.recipient_canonical_maps, &main.recipient_canonical_classes),
    };
    let mut address = address.clone();
    for (maps, classes) in [own, (&main.canonical_maps, &main.canonical_classes)] {
        if !maps.is_empty() && classes.iter().any(|word| word == class) {
            address = canonical_map(world, address, maps, lookups)?;
        }
    }
    masquerade(world, address, class, lookups)
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
        let Some(hit) = world.ask(&address, maps, lookups)? else { return Ok(address) };
        let Some(next) = addresses(world, &address, &hit, propagate)?.into_iter().next() else { return Ok(address) };
        let ended = same(&next, &address);
        address = next;
        if ended {
            return Ok(address);
        }
    }
    Err(Stop::Temporary(format!("{address}: canonical maps rewrite in a circle")))
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
    fn an_extension_is_not_doubled_where_the_domain_alone_changes() {
        let tables = [("/virtual", "john@example.net @example.com\n")];
        assert_eq!(recipients("", &tables, "john+x@example.net"), Ok(vec!["john+x@example.com".into()]));
        let off = "propagate_unmatched_extensions =\n";
        assert_eq!(recipients(off, &tables, "john+x@example.net"), Ok(vec!["john@example.com".into()]));
    }

    #[test]
    fn an_address_too_long_waits() {
        let tables = [("/virtual", "a@example.net a-rather-long-name@example.com\n")];
        let found = recipients("virtual_alias_address_length_limit = 20\n", &tables, "a@example.net");
        assert!(matches!(found, Err(Stop::Temporary(_))));
    }

    #[test]
    fn a_listener_may_leave_the_maps_out() {
        let tables = [("/virtual", "@example.net all@example.com\n")];
        let off = "receive_override_options = no_address_mappings\n";
        assert_eq!(recipients(off, &tables, "x@example.net"), Ok(vec!["x@example.net".into()]));
    }

    #[test]
    fn header_addresses_are_completed_and_mapped_as_their_role_says() {
        let more = "canonical_maps = hash:/canonical\nsender_canonical_maps = hash:/senders\nmasquerade_domains = info.net\n\
                    sender_canonical_classes = header_sender\n";
        let tables = [("/virtual", "x y\n"), ("/canonical", "jd John.Doe\n"), ("/senders", "root admin@info.net\n")];
        let made = Made::new(main_cf(&format!("{MAIN}{more}")), &tables);
        let of = |role, text: &str| {
            rewrite_header(&made.world(), Origin::Ours, role, text, &mut Vec::new()).expect("decided")
        };
        assert_eq!(of(Role::Sender, "jd").as_deref(), Some("John.Doe@info.net"));
        assert_eq!(of(Role::Sender, "root").as_deref(), Some("admin@info.net"));
        assert_eq!(of(Role::Recipient, "root").as_deref(), Some("root@info.net"));
        assert_eq!(of(Role::Recipient, "a@www.info.net").as_deref(), Some("a@info.net"));
        assert_eq!(of(Role::Recipient, "a@x.org"), None);
        assert_eq!(of(Role::Recipient, "a@"), None, "what is broken stays");
        let others = rewrite_header(&made.world(), Origin::Others("x.invalid"), Role::Sender, "jd", &mut Vec::new());
        assert_eq!(others, Ok(Some("jd@x.invalid".into())));
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
    fn a_canonical_address_that_is_its_own_is_left_alone_and_a_circle_waits() {
        let more = "canonical_maps = hash:/canonical\n";
        let tables = [
            ("/virtual", "x y\n"),
            ("/canonical", "john@info.net john@info.net\n@info.net rest@info.net\na@x.org b@x.org\nb@x.org a@x.org\n"),
        ];
        assert_eq!(recipients(more, &tables, "john@info.net"), Ok(vec!["john@info.net".into()]));
        assert_eq!(recipients(more, &tables, "mary@info.net"), Ok(vec!["rest@info.net".into()]));
        assert!(matches!(recipients(more, &tables, "a@x.org"), Err(Stop::Temporary(_))));
    }

    #[test]
    fn every_lookup_is_written_down() {
        let made = Made::new(main_cf(MAIN), &[("/virtual", "# c\njohn x@y.org\n")]);
        let mut lookups = Vec::new();
        rewrite_recipient(&made.world(), &address("john@info.net"), &mut lookups).expect("decided");
        let found = lookups.iter().find(|l| l.table.starts_with("hash:")).expect("found");
        assert_eq!((found.table.as_str(), found.key.as_str()), ("hash:/virtual", "john"));
        assert_eq!(found.source.as_ref().map(ToString::to_string).as_deref(), Some("/virtual:2"));
    }
}
