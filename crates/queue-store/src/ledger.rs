//! The ledger: one line for each recipient's end, taken from the log before the log forgets it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mail_types::{Address, EnhancedStatus, QueueId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::record::{Fate, Record, Remote};
use crate::segment::sync_directory;

/// Octets at the end of a day's file in which its last line is looked for.
const TAIL: u64 = 256 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The sequence number of the record: a line is never written twice.
    pub sequence: u64,
    /// When.
    pub at: UnixTime,
    /// The message.
    pub id: QueueId,
    /// The recipient's number.
    pub recipient: u32,
    /// The recipient.
    pub to: Address,
    /// How it ended: `delivered`, `relayed`, `discarded`, `bounced`, `deliverable`, `undeliverable`, `expanded`, `deleted`.
    pub end: String,
    /// The status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The remote server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta: Option<Remote>,
}

/// The lines that a record gives.
#[must_use]
pub fn lines(sequence: u64, record: &Record) -> Vec<Line> {
    let line = |id, at, (recipient, to): &(u32, Address), end: &str| Line {
        sequence,
        at,
        id,
        recipient: *recipient,
        to: to.clone(),
        end: end.to_owned(),
        status: None,
        text: String::new(),
        mta: None,
    };
    match record {
        Record::Outcome(outcome) => {
            let end = match outcome.result {
                Fate::Delivered => "delivered",
                Fate::Relayed => "relayed",
                Fate::Discarded => "discarded",
                Fate::Bounced => "bounced",
                Fate::Deliverable => "deliverable",
                Fate::Undeliverable => "undeliverable",
                Fate::Deferred(_) | Fate::Redirected | Fate::Warned | Fate::Reported | Fate::Traced => {
                    return Vec::new();
                }
            };
            let words = |plain: Line| Line {
                status: outcome.status,
                text: outcome.text.clone(),
                mta: outcome.mta.clone(),
                ..plain
            };
            outcome.recipients.iter().map(|rcpt| words(line(outcome.id, outcome.at, rcpt, end))).collect()
        }
        Record::Expanded(expanded) => {
            vec![line(expanded.id, expanded.at, &(expanded.recipient, expanded.address.clone()), "expanded")]
        }
        Record::Deleted(deleted) => {
            deleted.recipients.iter().map(|rcpt| line(deleted.id, deleted.at, rcpt, "deleted")).collect()
        }
        _ => Vec::new(),
    }
}

/// Appends lines to the files of their days, synced. Lines that an interrupted try wrote are not repeated.
///
/// # Errors
/// Any of the file system.
pub fn append(dir: &Path, lines: Vec<Line>) -> io::Result<()> {
    let dir = dir.join("ledger");
    let mut days: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines {
        days.entry(day(line.at)).or_default().push(line);
    }
    for (name, lines) in days {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(dir.join(name))?;
        let (written, torn) = last_sequence(&mut file)?;
        let mut text = if torn { b"\n".to_vec() } else { Vec::new() };
        for line in lines.iter().filter(|line| written.is_none_or(|last| line.sequence > last)) {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.sync_data()?;
    }
    sync_directory(&dir)
}

/// The sequence number of the last complete line, and whether an incomplete one follows it.
fn last_sequence(file: &mut File) -> io::Result<(Option<u64>, bool)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = tail.last().is_some_and(|&octet| octet != b'\n');
    let last = tail.split(|&octet| octet == b'\n').rev().find_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok((last.map(|line| line.sequence), torn))
}

/// The day of a time in UTC, as `2026-11-22`.
fn day(at: UnixTime) -> String {
    // Days since 0000-03-01, in eras of 400 years (the usual civil calendar arithmetic).
    let days = at.seconds() / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, name) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_795_305_600, "2026-11-22"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(UnixTime(seconds * 1000)), name);
        }
    }

    #[test]
    fn a_line_is_never_written_twice() {
        let dir = tempfile::tempdir().expect("directory");
        std::fs::create_dir(dir.path().join("ledger")).expect("ledger");
        let line = |sequence| Line {
            sequence,
            at: UnixTime(1000),
            id: QueueId::new(1, 2, 3).expect("in range"),
            recipient: 0,
            to: "a@b".parse().expect("address"),
            end: "delivered".to_owned(),
            status: None,
            text: String::new(),
            mta: None,
        };
        append(dir.path(), vec![line(1), line(2)]).expect("first");
        let name = dir.path().join("ledger/1970-01-01");
        let mut text = std::fs::read(&name).expect("read");
        text.extend_from_slice(b"{\"sequence\":3,\"at"); // what a power cut leaves
        std::fs::write(&name, text).expect("write");
        append(dir.path(), vec![line(1), line(2), line(3)]).expect("again");
        let text = std::fs::read_to_string(&name).expect("read");
        let sequences: Vec<u64> =
            text.lines().filter_map(|l| serde_json::from_str::<Line>(l).ok()).map(|l| l.sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
    }
}
