//! Automatic copies: `always_bcc`, `sender_bcc_maps`, `recipient_bcc_maps`.

use decision::Lookup;
use mail_types::{Address, Sender};

use crate::complete::{complete_text, note};
use crate::rewrite::{canonical_recipient, maps_are_off, rewrite_recipient};
use crate::world::{Stop, World};

/// A copy that nobody asked for in the envelope. Nobody is told of its fate: it goes with NOTIFY=NEVER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The address as it is written.
    pub text: String,
    /// Those who get it, after canonical maps and virtual aliases.
    pub to: Vec<Address>,
}

/// The copies of every new message of a sender, which has been rewritten: `always_bcc` and `sender_bcc_maps`.
///
/// # Errors
/// [`Stop`] if a table cannot say or holds what is no address.
pub fn sender_copies(world: &World<'_>, sender: &Sender, lookups: &mut Vec<Lookup>) -> Result<Vec<Copy>, Stop> {
    let main = world.main;
    let mut copies = Vec::new();
    if maps_are_off(world) {
        return Ok(copies);
    }
    if let Sender::Address(sender) = sender
        && let Some(hit) = world.ask(sender, &main.sender_bcc_maps, lookups)?
    {
        copies.push(copy(world, &hit.value, lookups)?);
    }
    let always = main.always_bcc.as_str();
    if !always.is_empty() {
        note(lookups, "always_bcc", "", always, &main.always_bcc.source);
        copies.push(copy(world, always, lookups)?);
    }
    Ok(copies)
}

/// The copy of every new message to a recipient: `recipient_bcc_maps`, asked for what canonical maps make of it.
///
/// # Errors
/// As [`sender_copies`].
pub fn recipient_copies(world: &World<'_>, recipient: &Address, lookups: &mut Vec<Lookup>) -> Result<Vec<Copy>, Stop> {
    let main = world.main;
    if main.recipient_bcc_maps.is_empty() || maps_are_off(world) {
        return Ok(Vec::new());
    }
    let recipient = canonical_recipient(world, recipient, &mut Vec::new())?;
    match world.ask(&recipient, &main.recipient_bcc_maps, lookups)? {
        Some(hit) => Ok(vec![copy(world, &hit.value, lookups)?]),
        None => Ok(Vec::new()),
    }
}

fn copy(world: &World<'_>, text: &str, lookups: &mut Vec<Lookup>) -> Result<Copy, Stop> {
    let address = complete_text(text, world.main);
    let address = address.map_err(|error| Stop::Temporary(format!("copy for `{text}': {error}")))?;
    Ok(Copy { text: text.to_owned(), to: rewrite_recipient(world, &address, lookups)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    const MAIN: &str = "myhostname = info.net\nmydestination = info.net\nrecipient_delimiter = +\nalways_bcc = archive\n\
                        sender_bcc_maps = hash:/senders\nrecipient_bcc_maps = hash:/recipients\nvirtual_alias_maps = hash:/virtual\n\
                        recipient_canonical_maps = hash:/canonical\n";
    const TABLES: [(&str, &str); 4] = [
        ("/senders", "boss@info.net audit\n@far.org far\n"),
        ("/recipients", "john keeper@info.net\n"),
        ("/virtual", "archive@info.net a@arch.org, b@arch.org\n"),
        ("/canonical", "jd@info.net john@info.net\n"),
    ];

    fn texts(copies: Vec<Copy>) -> Vec<String> {
        copies.iter().flat_map(|copy| copy.to.iter().map(|to| format!("{} {to}", copy.text))).collect()
    }

    #[test]
    fn each_table_adds_its_copy() {
        let made = Made::new(main_cf(MAIN), &TABLES);
        let of_sender = |text: &str| {
            let sender = if text.is_empty() { Sender::Null } else { Sender::Address(address(text)) };
            sender_copies(&made.world(), &sender, &mut Vec::new()).map(texts)
        };
        let always = ["archive a@arch.org", "archive b@arch.org"].map(str::to_owned);
        assert_eq!(of_sender(""), Ok(always.to_vec()));
        assert_eq!(of_sender("boss+x@info.net"), Ok([&["audit audit@info.net".to_owned()][..], &always].concat()));
        let of_recipient =
            |text: &str| recipient_copies(&made.world(), &address(text), &mut Vec::new()).map(texts).expect("decided");
        assert_eq!(of_recipient("jd@info.net"), ["keeper@info.net keeper@info.net"]);
        assert!(of_recipient("mike@info.net").is_empty());
    }

    #[test]
    fn a_listener_may_leave_the_copies_out() {
        let main = format!("{MAIN}receive_override_options = no_address_mappings\n");
        let made = Made::new(main_cf(&main), &TABLES);
        let sender = Sender::Address(address("boss@info.net"));
        assert_eq!(sender_copies(&made.world(), &sender, &mut Vec::new()), Ok(Vec::new()));
        assert_eq!(recipient_copies(&made.world(), &address("john@info.net"), &mut Vec::new()), Ok(Vec::new()));
    }

    #[test]
    fn a_copy_that_is_no_address_makes_the_mail_wait() {
        let made = Made::new(main_cf("myhostname = info.net\nalways_bcc = a@\n"), &[]);
        assert!(matches!(sender_copies(&made.world(), &Sender::Null, &mut Vec::new()), Err(Stop::Temporary(_))));
    }
}
