//! The fields of ENVELOPE (RFC 3501 section 7.4.2).

use std::borrow::Cow;

use super::address::{ADDRESS_LIMIT, MailAddress, parse_addresses};
use super::{fields, unfolded};

/// ENVELOPE of a header. Of repeated fields the last counts; repeated addresses are all shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// Date, as it is.
    pub date: Option<Vec<u8>>,
    /// Subject, white space folded together, not decoded.
    pub subject: Option<Vec<u8>>,
    /// From
    pub from: Vec<MailAddress>,
    /// Sender, From where it is missing or empty.
    pub sender: Vec<MailAddress>,
    /// Reply-To, From where it is missing or empty.
    pub reply_to: Vec<MailAddress>,
    /// To
    pub to: Vec<MailAddress>,
    /// Cc
    pub cc: Vec<MailAddress>,
    /// Bcc
    pub bcc: Vec<MailAddress>,
    /// In-Reply-To
    pub in_reply_to: Option<Vec<u8>>,
    /// Message-ID
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// Reads a header.
    #[must_use]
    pub fn parse(header: &[u8]) -> Self {
        let mut envelope = Self::default();
        for field in fields(header) {
            match &field.name.to_ascii_lowercase()[..] {
                b"date" => envelope.date = Some(text(field.value)),
                b"subject" => envelope.subject = Some(squeezed(&without_nul(field.value))),
                b"from" => add(&mut envelope.from, field.value),
                b"sender" => add(&mut envelope.sender, field.value),
                b"reply-to" => add(&mut envelope.reply_to, field.value),
                b"to" => add(&mut envelope.to, field.value),
                b"cc" => add(&mut envelope.cc, field.value),
                b"bcc" => add(&mut envelope.bcc, field.value),
                b"in-reply-to" => envelope.in_reply_to = Some(text(field.value)),
                b"message-id" => envelope.message_id = Some(text(field.value)),
                _ => {}
            }
        }
        // I15: servers fill these two in, so that clients need not know the rule.
        if envelope.sender.is_empty() {
            envelope.sender.clone_from(&envelope.from);
        }
        if envelope.reply_to.is_empty() {
            envelope.reply_to.clone_from(&envelope.from);
        }
        envelope
    }
}

/// Addresses of one more field of a name. A header may repeat a field a million times.
fn add(known: &mut Vec<MailAddress>, value: &[u8]) {
    if known.len() < ADDRESS_LIMIT {
        known.extend(parse_addresses(value));
        known.truncate(ADDRESS_LIMIT);
    }
}

/// A value without folds.
fn text(value: &[u8]) -> Vec<u8> {
    without_nul(&unfolded(value)).into_owned()
}

/// NUL becomes U+FFFD, as in Dovecot: no IMAP string holds one.
fn without_nul(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&0) {
        return Cow::Borrowed(value);
    }
    let replacement = "\u{fffd}".as_bytes();
    Cow::Owned(
        value.iter().flat_map(|b| if *b == 0 { replacement } else { std::slice::from_ref(b) }).copied().collect(),
    )
}

/// Runs of white space become one space.
pub(super) fn squeezed(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for word in value.split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
    out
}

/// The day of the Date field in its own zone, as days since 1970-01-01: what SENTBEFORE, SENTON and SENTSINCE compare.
#[must_use]
pub fn sent_date(header: &[u8]) -> Option<i64> {
    let date = fields(header).filter(|f| f.name.eq_ignore_ascii_case(b"date")).last()?;
    let date = mail_parser::DateTime::parse_rfc822(std::str::from_utf8(&unfolded(date.value)).ok()?)?;
    (date.year > 0 && (1..=12).contains(&date.month) && (1..=31).contains(&date.day))
        .then(|| days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day)))
}

/// Years begin in March, so that the leap day ends one; 146,097 days are 400 years.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_reply_to_are_from_where_they_are_missing_or_empty() {
        // I15
        let envelope = Envelope::parse(
            b"From: a@b\r\nReply-To:\r\nSubject: x\r\n\ty  z \r\nDate:\r\nSubject: last \r\n\tone\r\n\r\n",
        );
        assert_eq!(envelope.sender, envelope.from);
        assert_eq!(envelope.reply_to, envelope.from);
        assert_eq!(envelope.subject.as_deref(), Some(&b"last one"[..]));
        assert_eq!((envelope.date.as_deref(), envelope.message_id), (Some(&b""[..]), None));
    }

    #[test]
    fn the_sent_date_is_the_day_of_its_own_zone() {
        // I17
        assert_eq!(sent_date(b"Date: Thu, 1 Jan 1970 23:30:00 -0500\r\n\r\n"), Some(0));
        assert_eq!(sent_date(b"Date: 2 Jan 1970 00:10:00 +0500\r\n\r\n"), Some(1));
        assert_eq!(sent_date(b"Date: nonsense\r\n\r\n"), None);
        assert_eq!(sent_date(b"Subject: x\r\n\r\n"), None);
    }
}
