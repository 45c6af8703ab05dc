//! Rewriting of the envelope as it comes in, with the functions that smtpd calls at the same points.

use admission::facts::Fetched;
use decision::Lookup;
use mail_types::{Address, Sender};

use super::explanation::Rewritten;
use super::setting::Route;

/// A recipient that was accepted.
pub struct Accepted {
    /// What the client wrote.
    pub text: String,
    /// The address, complete.
    pub address: Address,
    /// Those who get the mail, after canonical maps and virtual aliases.
    pub to: Vec<Address>,
    /// The same for the explanation.
    pub rewritten: Rewritten,
    /// Copies that `recipient_bcc_maps` wants.
    pub copies: Vec<Copy>,
}

/// Who gets a copy.
pub struct Copy {
    /// Who wants it.
    pub rule: &'static str,
    /// The address as it is written.
    pub text: String,
    /// Those who get it.
    pub to: Vec<Address>,
    /// The same for the explanation.
    pub rewritten: Rewritten,
}

/// The sender as it is queued, and the copies that it brings.
pub struct From {
    /// The sender.
    pub sender: Sender,
    /// The same for the explanation.
    pub rewritten: Rewritten,
    /// `sender_bcc_maps`, `always_bcc`.
    pub copies: Vec<Copy>,
}

/// Takes a recipient in. `noted` is what completed its address.
///
/// # Errors
/// Why that cannot be done now.
pub async fn recipient(
    route: &Route<'_>,
    fetched: &mut Fetched,
    address: &Address,
    text: &str,
    noted: Vec<Lookup>,
) -> Result<Accepted, String> {
    let asked = route.decide(fetched, |world, lookups| mail_route::rewrite_recipient(world, address, lookups));
    let (to, lookups) = asked.await?;
    let asked = route.decide(fetched, |world, lookups| mail_route::recipient_copies(world, address, lookups));
    let (copies, of_copies) = asked.await?;
    let rewritten = rewritten(text, &to, [noted, lookups].concat());
    // Who is copied to nobody is told of the tables that say so.
    let rewritten = if copies.is_empty() {
        Rewritten { lookups: [rewritten.lookups, of_copies.clone()].concat(), ..rewritten }
    } else {
        rewritten
    };
    let copies = copies.into_iter().map(|copy| copied("recipient_bcc_maps", copy, of_copies.clone())).collect();
    Ok(Accepted { text: text.to_owned(), address: address.clone(), to, rewritten, copies })
}

/// Takes the sender in.
///
/// # Errors
/// Why that cannot be done now.
pub async fn sender(route: &Route<'_>, fetched: &mut Fetched, sender: &Sender) -> Result<From, String> {
    let asked = route.decide(fetched, |world, lookups| mail_route::rewrite_sender(world, sender, lookups));
    let (queued, lookups) = asked.await?;
    let asked = route.decide(fetched, |world, lookups| mail_route::sender_copies(world, &queued, lookups));
    let (copies, of_copies) = asked.await?;
    let mut rewritten = Rewritten { from: sender.to_string(), to: vec![queued.to_string()], lookups, error: None };
    if copies.is_empty() {
        rewritten.lookups.extend(of_copies.clone());
    }
    let (count, always) = (copies.len(), !route.main.always_bcc.is_empty());
    // `always_bcc` comes last.
    let rule = |at: usize| if always && at + 1 == count { "always_bcc" } else { "sender_bcc_maps" };
    let own = |rule: &str| {
        let is_always = |lookup: &&Lookup| lookup.table == "always_bcc";
        of_copies.iter().filter(|lookup| is_always(lookup) == (rule == "always_bcc")).cloned().collect::<Vec<_>>()
    };
    let copies = copies.into_iter().enumerate().map(|(at, copy)| copied(rule(at), copy, own(rule(at)))).collect();
    Ok(From { sender: queued, rewritten, copies })
}

/// `BCC` of an access table.
///
/// # Errors
/// Why that cannot be done now.
pub async fn bcc(route: &Route<'_>, fetched: &mut Fetched, address: &Address) -> Result<Copy, String> {
    let asked = route.decide(fetched, |world, lookups| mail_route::rewrite_recipient(world, address, lookups));
    let (to, lookups) = asked.await?;
    let text = address.to_string();
    Ok(Copy { rule: "BCC", rewritten: rewritten(&text, &to, lookups), text, to })
}

/// `REDIRECT` of an access table.
pub fn redirect(address: &Address) -> Copy {
    let (text, to) = (address.to_string(), vec![address.clone()]);
    Copy { rule: "REDIRECT", rewritten: rewritten(&text, &to, Vec::new()), text, to }
}

fn copied(rule: &'static str, copy: mail_route::Copy, lookups: Vec<Lookup>) -> Copy {
    let rewritten = rewritten(&copy.text, &copy.to, lookups);
    Copy { rule, text: copy.text, to: copy.to, rewritten }
}

fn rewritten(from: &str, to: &[Address], lookups: Vec<Lookup>) -> Rewritten {
    let to = to.iter().map(ToString::to_string).collect();
    Rewritten { from: from.to_owned(), to, lookups, error: None }
}
