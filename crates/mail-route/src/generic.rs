//! `smtp_generic_maps`: what leaves this machine shows other addresses (generic(5)).

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_types::Address;

use crate::mapping::{addresses, propagates};
use crate::world::{Stop, World};

/// What an address becomes on its way out: one look, whose result is not looked up again.
///
/// # Errors
/// [`Stop`] if a table cannot say or holds what is no address.
pub fn generic(
    world: &World<'_>,
    maps: &[TableRef],
    address: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Address, Stop> {
    let Some(hit) = world.ask(address, maps, lookups)? else { return Ok(address.clone()) };
    let next = addresses(world, address, &hit, propagates(world, "generic"))?.into_iter().next();
    Ok(next.unwrap_or_else(|| address.clone()))
}

/// The same for an address as a header field holds it; nothing if it stays as it is.
///
/// # Errors
/// As [`generic`].
pub fn generic_header(
    world: &World<'_>,
    maps: &[TableRef],
    text: &str,
    lookups: &mut Vec<Lookup>,
) -> Result<Option<String>, Stop> {
    // What is no address is in no table.
    let Ok(address) = text.parse::<Address>() else { return Ok(None) };
    let next = generic(world, maps, &address, lookups)?;
    Ok((next != address).then(|| next.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    fn rewritten(more: &str, text: &str) -> String {
        let main = format!(
            "myhostname = pc.localdomain.local\nmydestination = localdomain.local\nrecipient_delimiter = +\nsmtp_generic_maps = hash:/generic\n{more}"
        );
        let table = "his@localdomain.local hisaccount@isp.example\n@localdomain.local me+local@isp.example\n\
                     hisaccount@isp.example never@looked.up\nuser keep\n";
        let made = Made::new(main_cf(&main), &[("/generic", table)]);
        let maps = &made.config.main.smtp_generic_maps;
        generic(&made.world(), maps, &address(text), &mut Vec::new()).expect("decided").to_string()
    }

    #[test]
    fn what_leaves_is_looked_up_once() {
        let cases = [
            ("his@localdomain.local", "hisaccount@isp.example"),
            ("his+x@localdomain.local", "hisaccount@isp.example"),
            ("her@localdomain.local", "me+local@isp.example"),
            ("user@localdomain.local", "keep@pc.localdomain.local"),
            ("a@b.org", "a@b.org"),
        ];
        for (text, wanted) in cases {
            assert_eq!(rewritten("", text), wanted, "{text}");
        }
        let more = "propagate_unmatched_extensions = generic\n";
        assert_eq!(rewritten(more, "his+x@localdomain.local"), "hisaccount+x@isp.example");
    }
}
