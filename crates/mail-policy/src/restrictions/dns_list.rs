//! DNS lists of addresses (`reject_rbl_client`, `permit_dnswl_client`) and of names (`reject_rhsbl_*`, `permit_rhswl_client`).
//!
//! `zen.example.org=127.0.0.[2..11]` counts only answers that the pattern after the `=` allows: each of four octets is a number or, in brackets,
//! numbers and ranges separated by semicolons.

use std::net::{IpAddr, Ipv4Addr};

use decision::Lookup;
use mail_tables::{Answer, Scope};

use super::Applied;
use crate::evaluate::Run;
use crate::facts::{ListFact, Missing, Question, list};
use crate::plan::Stage;
use crate::replies::{Subject, fail, refusal};
use crate::templates;
use crate::verdict::Effect;

/// What of a client or envelope is looked up.
enum What {
    Address(IpAddr),
    Name(String),
}

/// What a list says.
enum Listing {
    Listed(String),
    NotListed,
    /// The restriction is written wrongly.
    Wrong(Effect),
    /// Nobody knows for now.
    Unknown,
}

pub(super) fn reject_client(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let (what, subject) = client(run);
    reject(run, zone, Some(what), subject)
}

/// `reject_maps_rbl`, which names its lists in `maps_rbl_domains`.
pub(super) fn reject_all(run: &mut Run<'_>) -> Result<Effect, Missing> {
    for zone in run.plan.main.maps_rbl_domains.iter() {
        match reject_client(run, zone)? {
            Applied::Effect(Effect::Neutral) => {}
            Applied::Effect(effect) => return Ok(effect),
            Applied::Rules { .. } => {}
        }
    }
    Ok(Effect::Neutral)
}

pub(super) fn permit_client(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let (what, subject) = client(run);
    permit(run, zone, Some(what), &subject)
}

pub(super) fn reject_client_name(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let what = run.input.name.verified.clone().map(What::Name);
    reject(run, zone, what, Subject::of(Stage::Client, run.input).with("Client host", run.input.name.shown()))
}

pub(super) fn permit_client_name(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let what = run.input.name.verified.clone().map(What::Name);
    let subject = Subject::of(Stage::Client, run.input).with("Client host", run.input.name.shown());
    permit(run, zone, what, &subject)
}

pub(super) fn reject_reverse_client_name(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let what = run.input.name.reverse.clone().map(What::Name);
    let subject = Subject { name: run.input.name.shown_reverse().to_owned(), class: "Unverified Client host" };
    reject(run, zone, what, subject)
}

pub(super) fn reject_helo(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let what = run.input.helo.map(|name| What::Name(name.to_owned()));
    reject(run, zone, what, Subject::of(Stage::Helo, run.input))
}

pub(super) fn reject_sender(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let domain = run.input.sender_address().map(mail_types::Address::domain);
    let what = domain.filter(|domain| !domain.is_literal()).map(|domain| What::Name(domain.key()));
    reject(run, zone, what, Subject::of(Stage::Sender, run.input))
}

pub(super) fn reject_recipient(run: &mut Run<'_>, zone: &str) -> Result<Applied, Missing> {
    let domain = run.input.recipient.map(mail_types::Address::domain);
    let what = domain.filter(|domain| !domain.is_literal()).map(|domain| What::Name(domain.key()));
    reject(run, zone, what, Subject::of(Stage::Recipient, run.input))
}

fn client(run: &Run<'_>) -> (What, Subject) {
    let address = run.input.client.to_canonical();
    (What::Address(address), Subject { name: address.to_string(), class: "Client host" })
}

impl Subject {
    fn with(self, class: &'static str, name: &str) -> Self {
        Self { name: name.to_owned(), class }
    }
}

/// A list that cannot be asked refuses nobody: all mail would depend on somebody else's name server.
fn reject(run: &mut Run<'_>, zone: &str, what: Option<What>, subject: Subject) -> Result<Applied, Missing> {
    let Some(what) = what else { return Ok(Effect::Neutral.into()) };
    Ok(match ask(run, zone, what)? {
        Listing::Listed(reason) => Effect::Refuse(reply(run, zone, &subject, &reason)?).into(),
        Listing::NotListed | Listing::Unknown => Effect::Neutral.into(),
        Listing::Wrong(effect) => effect.into(),
    })
}

/// A list that cannot be asked might have said yes, so nothing is refused for ever then.
fn permit(run: &mut Run<'_>, zone: &str, what: Option<What>, subject: &Subject) -> Result<Applied, Missing> {
    let Some(what) = what else { return Ok(Effect::Neutral.into()) };
    // A white list gives no right to relay.
    if relays(run)? {
        return Ok(Effect::Neutral.into());
    }
    let effect = match ask(run, zone, what)? {
        Listing::Listed(_) => Effect::Permit,
        Listing::NotListed => Effect::Neutral,
        Listing::Wrong(effect) => effect,
        Listing::Unknown => {
            let text = subject.text("Service unavailable");
            Effect::DeferIfReject(refusal(450, (7, 1), text))
        }
    };
    Ok(effect.into())
}

/// Whether the command would have mail relayed to others.
fn relays(run: &Run<'_>) -> Result<bool, Missing> {
    Ok(run.input.recipient.is_some() && !super::relay::is_for_us(run)?)
}

fn ask(run: &mut Run<'_>, zone: &str, what: What) -> Result<Listing, Missing> {
    let (domain, pattern) = match zone.split_once('=') {
        Some((domain, pattern)) => match Pattern::read(pattern) {
            Some(pattern) => (domain, Some(pattern)),
            None => return Ok(Listing::Wrong(fail(format!("`{pattern}' is no pattern of d.d.d.d")))),
        },
        None => (zone, None),
    };
    if domain.is_empty() {
        return Ok(Listing::Wrong(fail("the restriction needs the domain of a DNS list")));
    }
    let Some(name) = query(&what, domain) else { return Ok(Listing::NotListed) };
    let fact = list(run.facts, Question::List(name.clone()))?;
    let value = match &fact {
        ListFact::Listed { codes, .. } => Some(codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
        ListFact::NotListed | ListFact::Temporary => None,
    };
    run.lookups.push(Lookup { table: format!("dns:{domain}"), key: name, value, source: None });
    Ok(match fact {
        ListFact::Listed { codes, reason } => {
            let counts = pattern.is_none_or(|pattern| codes.iter().any(|code| pattern.allows(*code)));
            if counts { Listing::Listed(reason) } else { Listing::NotListed }
        }
        ListFact::NotListed => Listing::NotListed,
        ListFact::Temporary => Listing::Unknown,
    })
}

/// The name that is looked up: the octets or nibbles of an address in reverse, or the name, below the list's domain.
fn query(what: &What, domain: &str) -> Option<String> {
    Some(match what {
        What::Address(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.{domain}")
        }
        What::Address(IpAddr::V6(v6)) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            name.push_str(domain);
            name
        }
        What::Name(name) if name.is_empty() || name.starts_with('[') => return None,
        What::Name(name) => format!("{}.{domain}", name.trim_end_matches('.')),
    })
}

/// The reply of `rbl_reply_maps` or `default_rbl_reply`.
fn reply(run: &mut Run<'_>, zone: &str, subject: &Subject, reason: &str) -> Result<mail_types::Reply, Missing> {
    let main = &run.plan.main;
    let key = zone.to_ascii_lowercase();
    let found = match run.facts.tables().search(&main.rbl_reply_maps, &key, Scope::Full, run.facts.remote()) {
        Answer::Found(found) => {
            run.lookups.push(crate::access::record(&found));
            Some(found.value)
        }
        Answer::Missing(query) => return Err(Missing(Question::Table(query))),
        Answer::NotFound | Answer::Temporary(_) => None,
    };
    let own = found.and_then(|text| templates::dns_list(run, &text, zone, subject, reason));
    let made = own.or_else(|| templates::dns_list(run, &main.default_rbl_reply, zone, subject, reason));
    Ok(made.unwrap_or_else(|| refusal(450, (7, 1), "Service unavailable")))
}

/// Which answers of a list count.
#[derive(Debug, PartialEq, Eq)]
struct Pattern([Vec<(u8, u8)>; 4]);

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut octets: [Vec<(u8, u8)>; 4] = Default::default();
        for (at, octet) in octets.iter_mut().enumerate() {
            let (word, after) = match rest.strip_prefix('[') {
                Some(inside) => inside.split_once(']')?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            *octet = word.split(';').map(range).collect::<Option<_>>()?;
            rest = if at < 3 { after.strip_prefix('.')? } else { after };
        }
        rest.is_empty().then_some(Self(octets))
    }

    fn allows(&self, address: Ipv4Addr) -> bool {
        let octets = address.octets();
        self.0
            .iter()
            .zip(octets)
            .all(|(ranges, octet)| ranges.iter().any(|(low, high)| (*low..=*high).contains(&octet)))
    }
}

/// `2` or `2..11`.
fn range(text: &str) -> Option<(u8, u8)> {
    match text.split_once("..") {
        Some((low, high)) => Some((low.parse().ok()?, high.parse().ok()?)).filter(|(low, high)| low <= high),
        None => text.parse().ok().map(|one| (one, one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_says_which_answers_count() {
        let allows = |pattern: &str, code: [u8; 4]| Pattern::read(pattern).map(|p| p.allows(code.into()));
        assert_eq!(allows("127.0.0.2", [127, 0, 0, 2]), Some(true));
        assert_eq!(allows("127.0.0.[2..11]", [127, 0, 0, 11]), Some(true));
        assert_eq!(allows("127.0.0.[2..11]", [127, 0, 0, 12]), Some(false));
        assert_eq!(allows("127.[0..255].0.[1;4;6..8]", [127, 9, 0, 7]), Some(true));
        assert_eq!(allows("127.[0..255].0.[1;4;6..8]", [127, 9, 0, 5]), Some(false));
        for wrong in
            ["", "127.0.0", "127.0.0.2.3", "127.0.0.[5..2]", "127.0.0.[2", "127.0.0.256", "127.0.0.x", "[].0.0.1"]
        {
            assert_eq!(Pattern::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_asked_in_reverse() {
        let name = |address: &str| query(&What::Address(address.parse().expect("address")), "zen.example.org");
        assert_eq!(name("192.0.2.1").as_deref(), Some("1.2.0.192.zen.example.org"));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example.org";
        assert_eq!(name("2001:db8::1").as_deref(), Some(six));
    }
}
