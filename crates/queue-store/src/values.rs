//! Values of the index: what is kept of each message and of each recipient, in few octets.
//!
//! A queue that is full of mail for a dead host holds as many of them as messages, and `mailq` reads them all. Numbers are LEB128, texts have
//! their length before them, and the first number says which of the optional parts are there. Nothing else reads this form: an index of
//! another version of the table of keys is thrown away and made anew from the segments.

use mail_types::{Address, Purpose, Recipient, Sender, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hop::Hop;
use crate::index::Value;
use crate::message::{Location, MessageState};
use crate::record::{LastReply, Place, RecipientState, Remote};

const PURPOSES: [Purpose; 4] = [Purpose::Deliver, Purpose::Trace, Purpose::Verify, Purpose::Probe];

/// A message as a value.
pub fn of_message(message: &MessageState) -> Value {
    let MessageState { location, place, sender, arrival, size, open, next, hold, corrupt, deferred, purpose } = message;
    let (in_file, length) = match place {
        Place::Segment => (false, 0),
        Place::File(length) => (true, *length),
    };
    let mut out = Writer::new([*hold, *corrupt, *deferred, in_file]);
    out.number(PURPOSES.iter().position(|known| known == purpose).unwrap_or(0) as u64);
    let Location { segment, offset, meta, content } = location;
    for number in [*segment, *offset, u64::from(*meta), *content, length, arrival.0, *size] {
        out.number(number);
    }
    out.number(u64::from(*open));
    out.number(u64::from(*next));
    out.text(&sender.to_string());
    out.0.into()
}

/// The message that a value holds; none if it is not what [`of_message`] writes.
pub fn message(value: &[u8]) -> Option<MessageState> {
    let mut from = Reader(value);
    let [hold, corrupt, deferred, in_file] = from.flags()?;
    let purpose = *PURPOSES.get(usize::try_from(from.number()?).ok()?)?;
    let location =
        Location { segment: from.number()?, offset: from.number()?, meta: from.short()?, content: from.number()? };
    let length = from.number()?;
    let place = if in_file { Place::File(length) } else { Place::Segment };
    let (arrival, size) = (UnixTime(from.number()?), from.number()?);
    let (open, next) = (from.short()?, from.short()?);
    let sender = from.sender()?;
    from.ended(MessageState { location, place, sender, arrival, size, open, next, hold, corrupt, deferred, purpose })
}

/// A recipient as a value.
pub fn of_recipient(state: &RecipientState) -> Value {
    let RecipientState { recipient, owner, chain, part, next, attempts, last, report, warned, traced, via, hop } =
        state;
    let Recipient { address, original, orcpt, notify } = recipient;
    let mut out = Writer::new([
        original.is_some(),
        orcpt.is_some(),
        notify.is_some(),
        owner.is_some(),
        part.is_some(),
        last.is_some(),
        report.is_some(),
        *warned,
        *traced,
        via.is_some(),
    ]);
    out.text(&address.to_string());
    out.number(next.0);
    out.number(u64::from(*attempts));
    out.text(hop.as_str());
    out.number(chain.len() as u64);
    chain.iter().for_each(|address| out.text(&address.to_string()));
    [original, orcpt].into_iter().flatten().for_each(|text| out.text(text));
    notify.iter().for_each(|notify| out.rare(notify));
    owner.iter().for_each(|owner| out.text(&owner.to_string()));
    part.iter().for_each(|part| out.number(u64::from(*part)));
    report.iter().for_each(|report| out.rare(report));
    via.iter().for_each(|via| out.text(via.as_str()));
    last.iter().for_each(|last| out.reply(last));
    out.0.into()
}

/// The recipient that a value holds; none if it is not what [`of_recipient`] writes.
pub fn recipient(value: &[u8]) -> Option<RecipientState> {
    let mut from = Reader(value);
    let [original, orcpt, notify, owner, part, last, report, warned, traced, via] = from.flags()?;
    let mut state = RecipientState::new(Recipient::new(from.address()?), UnixTime(from.number()?));
    (state.warned, state.traced) = (warned, traced);
    state.attempts = from.short()?;
    state.hop = from.hop()?;
    for _ in 0..from.number()? {
        state.chain.push(from.address()?);
    }
    state.recipient.original = from.optional(original, Reader::owned)?;
    state.recipient.orcpt = from.optional(orcpt, Reader::owned)?;
    state.recipient.notify = from.optional(notify, Reader::rare)?;
    state.owner = from.optional(owner, Reader::sender)?;
    state.part = from.optional(part, Reader::short)?;
    state.report = from.optional(report, Reader::rare)?;
    state.via = from.optional(via, Reader::hop)?;
    state.last = from.optional(last, Reader::reply)?;
    from.ended(state)
}

struct Writer(Vec<u8>);

impl Writer {
    /// Begins with what is there.
    fn new<const N: usize>(flags: [bool; N]) -> Self {
        let mut out = Self(Vec::with_capacity(160));
        out.flags(flags);
        out
    }

    fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        self.number(flags.iter().enumerate().map(|(bit, flag)| u64::from(*flag) << bit).sum());
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// What few messages have, as JSON.
    fn rare<T: Serialize>(&mut self, value: &T) {
        // Types without maps always serialise; an empty text would be refused by the reader.
        self.text(&serde_json::to_string(value).unwrap_or_default());
    }

    fn reply(&mut self, reply: &LastReply) {
        let LastReply { status, text, mta, at } = reply;
        let name = mta.as_ref().and_then(|mta| mta.name.as_ref());
        let diagnostic = mta.as_ref().and_then(|mta| mta.diagnostic.as_ref());
        self.flags([status.is_some(), mta.is_some(), name.is_some(), diagnostic.is_some()]);
        self.number(at.0);
        self.text(text);
        status.iter().for_each(|status| self.text(&status.to_string()));
        [name, diagnostic].into_iter().flatten().for_each(|text| self.text(text));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn flags<const N: usize>(&mut self) -> Option<[bool; N]> {
        let bits = self.number()?;
        (bits >> N == 0).then(|| std::array::from_fn(|bit| bits >> bit & 1 == 1))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&octet, rest) = self.0.split_first()?;
            self.0 = rest;
            let part = u64::from(octet & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn short(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn owned(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn address(&mut self) -> Option<Address> {
        self.text()?.parse().ok()
    }

    fn sender(&mut self) -> Option<Sender> {
        Sender::try_from(self.owned()?).ok()
    }

    fn hop(&mut self) -> Option<Hop> {
        Hop::new(self.text()?).ok()
    }

    fn rare<T: DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_str(self.text()?).ok()
    }

    fn reply(&mut self) -> Option<LastReply> {
        let [status, mta, name, diagnostic] = self.flags()?;
        let (at, text) = (UnixTime(self.number()?), self.owned()?);
        let status = self.optional(status, |from| from.text()?.parse().ok())?;
        let remote =
            Remote { name: self.optional(name, Self::owned)?, diagnostic: self.optional(diagnostic, Self::owned)? };
        Some(LastReply { status, text, mta: mta.then_some(remote), at })
    }

    /// A part that is there or not.
    fn optional<T>(&mut self, there: bool, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if there { read(self).map(Some) } else { Some(None) }
    }

    /// The value, if nothing follows it.
    fn ended<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use mail_types::{EnhancedStatus, Notify};
    use proptest::prelude::*;

    use super::*;
    use crate::record::Fate;

    fn address() -> impl Strategy<Value = Address> {
        ("[ -~]{1,20}", "[a-z]{1,9}(\\.[a-z]{1,9}){0,2}").prop_filter_map("an address", |(local, domain)| {
            Address::new(&local, mail_types::Domain::new(&domain).ok()?).ok()
        })
    }

    fn sender() -> impl Strategy<Value = Sender> {
        prop_oneof![Just(Sender::Null), address().prop_map(Sender::Address)]
    }

    fn hop() -> impl Strategy<Value = Hop> {
        "[a-z:. \\[\\]ä]{0,30}".prop_map(|text| Hop::new(&text).expect("no NUL"))
    }

    fn text() -> impl Strategy<Value = String> {
        "\\PC{0,200}"
    }

    prop_compose! {
        fn messages()(
            (segment, offset, meta, content) in any::<(u64, u64, u32, u64)>(),
            place in prop_oneof![Just(Place::Segment), any::<u64>().prop_map(Place::File)],
            sender in sender(),
            (arrival, size, open, next) in any::<(u64, u64, u32, u32)>(),
            (hold, corrupt, deferred) in any::<(bool, bool, bool)>(),
            purpose in 0..PURPOSES.len(),
        ) -> MessageState {
            let location = Location { segment, offset, meta, content };
            let (arrival, purpose) = (UnixTime(arrival), PURPOSES[purpose]);
            MessageState { location, place, sender, arrival, size, open, next, hold, corrupt, deferred, purpose }
        }
    }

    prop_compose! {
        fn replies()(
            status in prop::option::of((0..3_usize, 0..1000_u16, 0..1000_u16)),
            text in text(),
            mta in prop::option::of((prop::option::of(text()), prop::option::of(text()))),
            at in any::<u64>(),
        ) -> LastReply {
            let status = status.map(|(class, subject, detail)| EnhancedStatus::of([2, 4, 5][class], subject, detail));
            LastReply { status, text, mta: mta.map(|(name, diagnostic)| Remote { name, diagnostic }), at: UnixTime(at) }
        }
    }

    prop_compose! {
        fn recipients()(
            address in address(),
            (original, orcpt) in (prop::option::of(text()), prop::option::of(text())),
            notify in prop::option::of(any::<(bool, bool, bool)>()),
            owner in prop::option::of(sender()),
            chain in prop::collection::vec(self::address(), 0..4),
            (part, next, attempts) in any::<(Option<u32>, u64, u32)>(),
            last in prop::option::of(replies()),
            report in prop::option::of(prop_oneof![Just(Fate::Bounced), any::<u64>().prop_map(|at| Fate::Deferred(UnixTime(at)))]),
            (warned, traced) in any::<(bool, bool)>(),
            (via, hop) in (prop::option::of(hop()), hop()),
        ) -> RecipientState {
            let notify = notify.map(|(success, failure, delay)| Notify { success, failure, delay });
            let recipient = Recipient { address, original, orcpt, notify };
            let next = UnixTime(next);
            RecipientState { recipient, owner, chain, part, next, attempts, last, report, warned, traced, via, hop }
        }
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(state in messages()) {
            prop_assert_eq!(message(&of_message(&state)), Some(state));
        }

        #[test]
        fn a_recipient_is_read_as_it_was_written(state in recipients()) {
            prop_assert_eq!(recipient(&of_recipient(&state)), Some(state));
        }

        #[test]
        fn damage_is_no_message_and_no_panic(octets: Vec<u8>, state in recipients(), cut in any::<prop::sample::Index>()) {
            let _ = (message(&octets), recipient(&octets));
            let whole = of_recipient(&state);
            prop_assert_eq!(recipient(&whole[..cut.index(whole.len())]), None);
        }
    }

    #[test]
    fn a_waiting_recipient_takes_little_more_than_its_texts() {
        let mut state = RecipientState::new(
            Recipient::new("user@example.org".parse().expect("an address")),
            UnixTime(1_790_000_000_000),
        );
        state.hop = Hop::new("smtp:example.org").expect("no NUL");
        state.last =
            Some(LastReply { status: None, text: "timed out".to_owned(), mta: None, at: UnixTime(1_790_000_000_000) });
        assert!(of_recipient(&state).len() <= 16 + 16 + 9 + 24, "{}", of_recipient(&state).len());
    }
}
