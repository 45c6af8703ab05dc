//! Addresses that no table lists: `reject_unlisted_recipient`, `reject_unlisted_sender`.

use mail_types::Address;

use crate::evaluate::Run;
use crate::facts::{DomainClass, Existence, Missing};
use crate::replies::{lookup_failure, refusal};
use crate::verdict::Effect;

/// Refuses a recipient that its class does not list. Mail to postmaster is for the class's own table as any other (S12 is alias and
/// [`crate::Facts::address`]'s business).
pub(crate) fn recipient(run: &mut Run<'_>) -> Result<Effect, Missing> {
    run.recipient_checked = true;
    let Some(address) = run.input.recipient else { return Ok(Effect::Neutral) };
    let name = run.input.recipient_name();
    check(run, address, &name, "Recipient address", (1, 1))
}

/// Refuses a sender in one of our domains that its class does not list.
pub(crate) fn sender(run: &mut Run<'_>) -> Result<Effect, Missing> {
    run.sender_checked = true;
    let Some(address) = run.input.sender_address() else { return Ok(Effect::Neutral) };
    check(run, address, &run.input.sender_name(), "Sender address", (1, 0))
}

fn check(run: &Run<'_>, address: &Address, name: &str, what: &str, status: (u16, u16)) -> Result<Effect, Missing> {
    let fact = run.facts.address(address)?;
    let main = &run.plan.main;
    if let Existence::Undeliverable { text, permanent } = &fact.existence {
        let code = if *permanent { 550 } else { 450 };
        let (status, text) = stated(text, status);
        return Ok(Effect::Refuse(refusal(code, status, format!("<{name}>: {what} rejected: {text}"))));
    }
    let (code, table) = match fact.class {
        DomainClass::Local => (*main.unknown_local_recipient_reject_code, "local recipient table"),
        DomainClass::VirtualAlias => (*main.unknown_virtual_alias_reject_code, "virtual alias table"),
        DomainClass::VirtualMailbox => (*main.unknown_virtual_mailbox_reject_code, "virtual mailbox table"),
        DomainClass::Relay => (*main.unknown_relay_recipient_reject_code, "relay recipient table"),
        DomainClass::Foreign => return Ok(Effect::Neutral),
    };
    // Postfix says it of a sender with the status of its virtual alias table.
    let is_alias_sender = fact.class == DomainClass::VirtualAlias && status == (1, 0);
    let status = if is_alias_sender { (1, 7) } else { status };
    Ok(match fact.existence {
        Existence::Listed | Existence::Undeliverable { .. } => Effect::Neutral,
        Existence::Unavailable(why) => lookup_failure(name, why),
        Existence::Unknown => {
            let table = if *main.show_user_unknown_table_name { format!(" in {table}") } else { String::new() };
            Effect::Refuse(refusal(code, status, format!("<{name}>: {what} rejected: User unknown{table}")))
        }
    })
}

/// The subject and detail of the enhanced status that a text may begin with, and the rest of the text.
fn stated(text: &str, otherwise: (u16, u16)) -> ((u16, u16), &str) {
    let first = text.split_once(' ').and_then(|(first, rest)| {
        let mut numbers = first.split('.').map(str::parse::<u16>);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(_)), Some(Ok(subject)), Some(Ok(detail)), None) => Some(((subject, detail), rest.trim_start())),
            _ => None,
        }
    });
    first.unwrap_or((otherwise, text))
}

#[cfg(test)]
mod tests {
    use super::stated;

    #[test]
    fn a_reason_may_begin_with_its_status() {
        assert_eq!(stated("5.1.6 User has moved to x", (1, 1)), ((1, 6), "User has moved to x"));
        assert_eq!(stated("no mail here", (1, 1)), ((1, 1), "no mail here"));
        assert_eq!(stated("5.1 no", (1, 1)), ((1, 1), "5.1 no"));
    }
}
