//! The open-relay test (DESIGN promise 4): would this listener relay for a stranger?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mail_tables::{Remote, Snapshot};
use mail_types::{Address, Domain, Sender};

use crate::evaluate::evaluate;
use crate::facts::{
    AddressFact, Classified, DnsFact, Fact, Facts, HostsFact, ListFact, Missing, PolicyFact, Question, VerifiedFact,
};
use crate::input::{ClientName, Input};
use crate::plan::{Plan, Stage};
use crate::verdict::{Decision, Effect, Outcome, Verdict};

/// A form in which a stranger may try to relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The client's address: documentation networks, nobody's friends.
    pub client: IpAddr,
    /// The sender.
    pub sender: Sender,
    /// The recipient.
    pub recipient: Address,
    /// The form in words.
    pub form: &'static str,
}

/// An attempt that would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRelay {
    /// The attempt.
    pub attempt: Attempt,
    /// The decision that let it through, if one did; its `source` is what the administrator must change.
    pub reason: Option<Decision>,
}

/// The clients that the test plays: documentation addresses (RFC 5737, RFC 3849).
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Every form of relaying that `doctor --relay` and the start-up test try: plain, null sender, sender of ours, percent, bang, quoted,
/// literals, with `own` a domain that is ours and `address` an address of this machine.
#[must_use]
pub fn attempts(own: &Domain) -> Vec<Attempt> {
    // The texts are constant, so they parse; one that did not would be left out and the test below would see it.
    let foreign = |text: &str| text.parse::<Address>().ok();
    let at_own = |local: &str| Address::new(local, own.clone()).ok();
    let stranger = || foreign("sender@relay-test.example").map_or(Sender::Null, Sender::Address);
    let local = || at_own("postmaster").map_or(Sender::Null, Sender::Address);
    let forms = [
        ("foreign sender and recipient", stranger(), foreign("rcpt@relay-test.example")),
        ("null sender", Sender::Null, foreign("rcpt@relay-test.example")),
        ("sender of ours", local(), foreign("rcpt@relay-test.example")),
        ("percent sign", stranger(), at_own("rcpt%relay-test.example")),
        ("bang path", stranger(), at_own("relay-test.example!rcpt")),
        ("quoted address", stranger(), at_own("rcpt@relay-test.example")),
        ("address literal", stranger(), foreign("rcpt@[198.51.100.1]")),
        ("percent sign at a foreign domain", stranger(), foreign("rcpt%relay-test.example@other.example")),
    ];
    let all = forms.into_iter().filter_map(|(form, sender, recipient)| Some((form, sender, recipient?)));
    let all: Vec<_> = all.collect();
    let each = STRANGERS.iter().flat_map(|client| all.iter().map(move |form| (client, form)));
    each.map(|(client, (form, sender, recipient))| Attempt {
        client: *client,
        sender: sender.clone(),
        recipient: recipient.clone(),
        form,
    })
    .collect()
}

/// Runs every attempt against a plan; what comes back is accepted and must not be. Facts that are missing count as "no answer".
#[must_use]
pub fn open_relay(plan: &Plan, own: &Domain, facts: &dyn Facts) -> Vec<OpenRelay> {
    attempts(own).into_iter().filter_map(|attempt| try_one(plan, attempt, facts)).collect()
}

fn try_one(plan: &Plan, attempt: Attempt, facts: &dyn Facts) -> Option<OpenRelay> {
    let name = ClientName::default();
    let input = Input {
        helo: Some("relay-test.example"),
        sender: Some(&attempt.sender),
        recipient: Some(&attempt.recipient),
        ..Input::new(attempt.client, &name)
    };
    match evaluate(plan, Stage::Recipient, &input, &Harmless(facts)) {
        Outcome::Decided(Verdict::Accept { .. }, decisions) => {
            let reason = decisions.into_iter().rfind(|decision| decision.effect == Effect::Permit);
            Some(OpenRelay { attempt, reason })
        }
        // What is missing then is whether one of our own users exists.
        Outcome::Decided(Verdict::Refuse(_), _) | Outcome::Missing(_) => None,
    }
}

/// What is supposed of somebody about whom nobody has anything to say; none for what users and tables answer.
#[must_use]
pub fn harmless(question: &Question) -> Option<Fact> {
    Some(match question {
        Question::MailDomain(_) | Question::Host(_) => Fact::Dns(DnsFact::Found),
        Question::List(_) => Fact::List(ListFact::NotListed),
        Question::Hosts(..) => Fact::Hosts(HostsFact::Nothing),
        Question::Policy(_) => Fact::Policy(PolicyFact::Action("DUNNO".to_owned())),
        Question::Verified(_) => Fact::Verified(VerifiedFact::Deliverable),
        Question::Pause { .. } => Fact::Paused,
        Question::Address(_) | Question::Table(_) => return None,
    })
}

/// The facts of a stranger about whom nobody has anything to say: no list names it, its names exist, no service objects.
struct Harmless<'a>(&'a dyn Facts);

impl Facts for Harmless<'_> {
    fn tables(&self) -> &Snapshot {
        self.0.tables()
    }

    fn remote(&self) -> &dyn Remote {
        self.0.remote()
    }

    fn class(&self, domain: &Domain) -> Result<Classified, Missing> {
        self.0.class(domain)
    }

    fn address(&self, address: &Address) -> Result<AddressFact, Missing> {
        self.0.address(address)
    }

    fn fetched(&self, question: &Question) -> Option<Fact> {
        harmless(question)
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.0.is_own_address(address)
    }
}
