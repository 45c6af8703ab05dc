//! What becomes of a recipient next, and its name in the schedule.

use mail_ipc::delivery::{Destination, TransportKind};
use mail_types::EnhancedStatus;
use queue_store::Hop;

/// What the route of a recipient asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A worker delivers to a destination.
    Worker(Destination),
    /// Thrown away, with this text in the log (`discard:`).
    Discard(String),
    /// Bounced at once (`error:`).
    Error(EnhancedStatus, String),
    /// Deferred at each attempt (`retry:`, or a route that cannot be found now).
    Retry(EnhancedStatus, String),
    /// Not known until a table of another process has answered.
    Asked,
}

/// Who carries out what a hop names: the key of the scheduler's rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// queue-manager itself: routes that are still to be found, `discard`, `error`, `retry`.
    Here,
    /// A worker that announces this kind.
    Worker(TransportKind),
}

const KINDS: [(TransportKind, &str); 5] = [
    (TransportKind::Local, "local"),
    (TransportKind::Virtual, "virtual"),
    (TransportKind::Mailbox, "mailbox"),
    (TransportKind::Smtp, "smtp"),
    (TransportKind::Lmtp, "lmtp"),
];

/// The longest text of a hop in octets; a longer next hop is cut, which only its log line notices.
const TEXT_MAX: usize = 900;

impl Target {
    /// The name in the schedule: kind, transport and next hop, separated by spaces.
    #[must_use]
    pub fn hop(&self) -> Hop {
        let text = match self {
            Self::Worker(to) => format!("{} {} {}", kind_name(to.kind), to.transport, folded(&to.nexthop)),
            Self::Discard(text) => format!("discard - {}", cut(text)),
            Self::Error(status, text) => format!("error {status} {}", cut(text)),
            Self::Retry(status, text) => format!("retry {status} {}", cut(text)),
            Self::Asked => return Hop::default(),
        };
        // A name that cannot be a key is routed again when it is due.
        Hop::new(&text).unwrap_or_default()
    }

    /// Reads the name; none if no route was found yet.
    #[must_use]
    pub fn of(hop: &Hop) -> Option<Self> {
        let mut parts = hop.as_str().splitn(3, ' ');
        let (kind, second, text) = (parts.next()?, parts.next()?, parts.next()?);
        let status = || second.parse().ok();
        match kind {
            "discard" => Some(Self::Discard(text.to_owned())),
            "error" => Some(Self::Error(status()?, text.to_owned())),
            "retry" => Some(Self::Retry(status()?, text.to_owned())),
            _ => {
                let kind = KINDS.iter().find(|(_, name)| *name == kind)?.0;
                Some(Self::Worker(Destination { transport: second.to_owned(), kind, nexthop: text.to_owned() }))
            }
        }
    }
}

/// The name of a hop's transport.
#[must_use]
pub fn service(hop: &Hop) -> Option<&str> {
    hop.as_str().split(' ').nth(1)
}

/// Who carries out a hop.
#[must_use]
pub fn carrier(hop: &Hop) -> Carrier {
    match Target::of(hop) {
        Some(Target::Worker(to)) => Carrier::Worker(to.kind),
        _ => Carrier::Here,
    }
}

fn kind_name(kind: TransportKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("local", |(_, name)| name)
}

/// Names are compared without case; a path of a socket is not.
fn folded(nexthop: &str) -> String {
    if nexthop.starts_with("unix:") { nexthop.to_owned() } else { nexthop.to_ascii_lowercase() }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_says_again_what_it_was_made_of() {
        let to = |kind, transport: &str, nexthop: &str| {
            Target::Worker(Destination { transport: transport.to_owned(), kind, nexthop: nexthop.to_owned() })
        };
        for target in [
            to(TransportKind::Smtp, "relay", "[mail.example.org]:587"),
            to(TransportKind::Local, "local", "example.org"),
            to(TransportKind::Lmtp, "lmtp", "unix:/a path/with Spaces and Capitals"),
            Target::Discard("spam trap".to_owned()),
            Target::Error(EnhancedStatus::of(5, 1, 1), "no such user here".to_owned()),
            Target::Retry(EnhancedStatus::of(4, 3, 5), String::new()),
        ] {
            assert_eq!(Target::of(&target.hop()), Some(target));
        }
        assert_eq!((Target::of(&Hop::default()), carrier(&Hop::default())), (None, Carrier::Here));
    }
}
