//! The header of a case on its way in: what its addresses become, and the fields as they are stored.

use admission::facts::Fetched;
use mail_intake::{Intake, Rewrites, Role};
use mail_message::header::Header as Scanned;
use mail_policy::Actions;
use mail_route::Origin;
use mail_types::{QueueId, Sender, UnixTime};

use super::explanation::{Header, Rewritten};
use super::session::QUEUE_ID;
use super::setting::Route;

/// The header as it was given and as the message is queued with it.
pub struct Made {
    /// For the explanation.
    pub shown: Header,
    /// Its octets.
    pub stored: Vec<u8>,
    /// The Message-ID, where the header had one.
    pub message_id: Option<String>,
}

/// Why a message is not taken in because of its header.
pub enum Refused {
    /// What the client hears.
    TooManyHops,
    /// A table cannot say what becomes of this address, for this reason.
    Unavailable(String, String),
}

/// What of a message its header is made with.
pub struct Plan<'a> {
    /// How far addresses are completed; none: the header stays as it came.
    pub origin: Option<Origin<'a>>,
    /// The envelope sender as it is queued.
    pub sender: &'a Sender,
    /// `PREPEND` of access tables.
    pub prepend: &'a [String],
}

/// Takes the header in as smtpd does.
///
/// # Errors
/// [`Refused`].
pub async fn take_in(route: &Route<'_>, fetched: &mut Fetched, octets: &[u8], plan: Plan<'_>) -> Result<Made, Refused> {
    let (mut rewrites, mut addresses) = (Rewrites::default(), Vec::new());
    if let Some(origin) = plan.origin {
        for (role, text) in mail_intake::addresses(octets) {
            let whose = if role == Role::Sender { mail_route::Role::Sender } else { mail_route::Role::Recipient };
            let asked = route
                .decide(fetched, |world, lookups| mail_route::rewrite_header(world, origin, whose, &text, lookups));
            let (next, lookups) = asked.await.map_err(|why| Refused::Unavailable(text.clone(), why))?;
            let to = vec![next.clone().unwrap_or_else(|| text.clone())];
            addresses.push(Rewritten { from: text.clone(), to, lookups, error: None });
            if let Some(next) = next {
                rewrites.insert((role, text), next);
            }
        }
    }
    let main = route.main;
    // Zeros are in range; the id is shown as a word.
    let Ok(id) = QueueId::new(0, 0, 0) else { return Err(Refused::TooManyHops) };
    let intake = Intake {
        hostname: &main.myhostname,
        software: &main.mail_name,
        id,
        when: UnixTime::from_system(std::time::SystemTime::now()),
        received: None,
        rewrites: &rewrites,
        adds: plan.origin.is_some() || *main.always_add_missing_headers,
        sender: plan.sender,
        full_name: None,
        hopcount_limit: usize::try_from(*main.hopcount_limit).unwrap_or(usize::MAX),
        header_size_limit: usize::try_from(*main.header_size_limit).unwrap_or(usize::MAX),
        drop_headers: &main.message_drop_headers,
        undisclosed: &main.undisclosed_recipients_header,
    };
    let prepared = intake.header(octets).map_err(|_| Refused::TooManyHops)?;
    let mut stored = Actions::prepended(plan.prepend);
    stored.extend(prepared.header);
    let text = |field: String| field.replace(&id.to_string(), QUEUE_ID);
    let shown = Header {
        origin: match plan.origin {
            Some(Origin::Ours) => "ours",
            Some(Origin::Others(_)) => "others",
            None => "untouched",
        }
        .to_owned(),
        addresses,
        stored: fields(&stored).into_iter().map(text).collect(),
    };
    let had_one = Scanned::scan(octets).fields().iter().any(|field| field.is("Message-ID"));
    Ok(Made { shown, stored, message_id: prepared.message_id.filter(|_| had_one) })
}

/// The fields of a header, each on one line.
pub fn fields(octets: &[u8]) -> Vec<String> {
    let line = |raw: &[u8]| {
        let text = String::from_utf8_lossy(raw).into_owned();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    };
    Scanned::scan(octets).fields().iter().map(|field| line(field.raw())).collect()
}
