//! Recipients whose mail does not end in a mailbox here: another transport takes it, another address, or nobody.

use mail_ipc::delivery::{Destination, Fate, LeaseRecipient, TransportKind};
use mail_route::{Kind, Routed, reason};
use mail_types::EnhancedStatus;

use crate::attempt::{End, Tools, Work};
use crate::elsewhere_plan::{self, Nobody};
use crate::headers::Scan;
use crate::template::Person;

impl Tools {
    /// The transport that takes a user's mail in place of the mailbox (`mailbox_transport`).
    pub(crate) async fn in_place_of_mailbox(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        person: Person<'_>,
    ) -> Result<Option<Routed>, End> {
        let (name, address) = (person.name.to_lowercase(), &recipient.address);
        let found = self
            .decide(work, |world, lookups| elsewhere_plan::in_place_of_mailbox(world, &name, address, lookups))
            .await;
        found.map(|(routed, _)| routed).map_err(|text| End::deferred(3, 0, text))
    }

    /// Mail for a name that is neither an alias nor a user.
    pub(crate) async fn nobody(&self, work: &Work, recipient: &LeaseRecipient, person: Person<'_>, scan: &Scan) -> End {
        let unknown = || End::bounced(1, 1, format!("unknown user: \"{}\"", person.name));
        if recipient.part.is_some() {
            return unknown();
        }
        match self.in_place_of_mailbox(work, recipient, person).await {
            Ok(Some(routed)) => return self.hand_on(&routed),
            Ok(None) => {}
            Err(end) => return end,
        }
        let decided =
            self.decide(work, |world, lookups| elsewhere_plan::nobody(world, person, &recipient.chain, lookups));
        match decided.await {
            Ok((Nobody::Handed(routed), _)) => self.hand_on(&routed),
            Ok((Nobody::Instead(list), lookups)) => {
                let text = format!("<{}> is nobody here; luser_relay takes its mail", recipient.address);
                self.log_list(work, &text, "luser_relay", &list, &lookups);
                self.listed(work, recipient, &list, None, scan).await
            }
            Ok((Nobody::Required, _)) => {
                self.log.warning(&work.ident, &format!("required alias not found: {}", person.name));
                delivered("discarded".to_owned())
            }
            Ok((Nobody::Unknown, _)) => unknown(),
            Ok((Nobody::Wrong(text), _)) => End::deferred(3, 5, format!("mail system configuration error: {text}")),
            Err(text) => End::deferred(3, 0, text),
        }
    }

    /// Gives a recipient to another transport. What returns mail, keeps it waiting or throws it away is carried out here.
    pub(crate) fn hand_on(&self, routed: &Routed) -> End {
        let kind = match &routed.kind {
            Kind::Virtual => TransportKind::Virtual,
            Kind::Mailbox => TransportKind::Mailbox,
            Kind::Smtp => TransportKind::Smtp,
            Kind::Lmtp => TransportKind::Lmtp,
            Kind::Local => {
                let text = format!("mail system configuration error: {} leads back to local delivery", routed.rule);
                return End::deferred(3, 5, text);
            }
            Kind::Discard => return delivered(routed.nexthop.clone()),
            Kind::Error(text) => {
                let (status, text) = reason(text, EnhancedStatus::of(5, 0, 0));
                return End { status, ..End::bounced(0, 0, text) };
            }
            Kind::Retry(text) => {
                let (status, text) = reason(text, EnhancedStatus::of(4, 0, 0));
                return End { status, ..End::deferred(0, 0, text) };
            }
        };
        let text = format!("handed on to {}:{}", routed.transport, routed.nexthop);
        let destination = Destination { transport: routed.transport.clone(), kind, nexthop: routed.nexthop.clone() };
        End { fate: Fate::Redirected { destination }, status: EnhancedStatus::of(2, 0, 0), text, login: None }
    }
}

fn delivered(text: String) -> End {
    End { fate: Fate::Delivered, status: EnhancedStatus::of(2, 0, 0), text, login: None }
}
