//! The server's time zone, in which INTERNALDATE is shown and its day counted, as in Dovecot.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mail_imap::grammar::date::DateTime;

/// A point in time on the server's clock.
#[must_use]
pub fn local(seconds: i64) -> DateTime {
    let offset = Timestamp::from_second(seconds).map_or(0, |at| TimeZone::system().to_offset(at).seconds());
    DateTime { seconds, offset_minutes: offset / 60 }
}
