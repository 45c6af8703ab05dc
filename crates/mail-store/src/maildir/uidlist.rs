//! The text of `dovecot-uidlist`, version 3: `3 V<validity> N<next> G<guid>`, then `uid [fields] :filename`.
//!
//! Fields that we do not know, of the header and of records, are kept octet for octet.

use std::io::Write as _;

/// Lines beyond this are no uidlist.
const LINE_MAX: usize = 8192;

/// A parsed uidlist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UidList {
    /// UIDVALIDITY; 0 if the header does not say.
    pub uid_validity: u32,
    /// The next UID that the header promises; the true one is at least one more than the last record's.
    pub next_uid: u32,
    /// Every other header field (`G<guid>`, `P<pop3 uidl format>` and unknown ones), separated by spaces.
    pub header_fields: Vec<u8>,
    /// The records in rising order of UIDs.
    pub records: Vec<Record>,
}

/// One message of a uidlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The UID, at least 1.
    pub uid: u32,
    /// The fields between UID and name, such as `W1234 P<uidl>`, separated by spaces.
    pub fields: Vec<u8>,
    /// The base name of the file.
    pub base: Vec<u8>,
}

/// What the reader of a uidlist found besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Everything was understood.
    Sound,
    /// The last line has no end: a writer died before it had synced, so nobody was told about it. The rest is sound.
    TornTail,
    /// A line is no record, UIDs do not rise, or the header is unreadable.
    Damaged,
}

impl Record {
    /// The value of a field, by its one-letter key.
    #[must_use]
    pub fn field(&self, key: u8) -> Option<&[u8]> {
        field(&self.fields, key)
    }

    /// Adds a field; the value holds no space.
    pub(super) fn set_field(&mut self, key: u8, value: &[u8]) {
        append_field(&mut self.fields, &[&[key], value].concat());
    }
}

fn field(fields: &[u8], key: u8) -> Option<&[u8]> {
    fields.split(|&byte| byte == b' ').find_map(|field| field.strip_prefix(&[key]))
}

impl UidList {
    /// Reads a uidlist of version 3, or 1 (which a rewrite turns into 3).
    #[must_use]
    pub fn parse(text: &[u8]) -> (Self, Health) {
        let mut list = Self::default();
        let (complete, tail) =
            text.iter().rposition(|&byte| byte == b'\n').map_or((&[][..], text), |at| text.split_at(at + 1));
        let mut lines = complete.split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1]);
        let version = lines.next().and_then(|header| list.read_header(header));
        let Some(version) = version else { return (Self::default(), Health::Damaged) };
        let sound = list.read_records(lines, version);
        let health = match (sound, tail.is_empty()) {
            (false, _) => Health::Damaged,
            (true, false) => Health::TornTail,
            (true, true) => Health::Sound,
        };
        (list, health)
    }

    /// Reads lines that were appended to a list that is known already; false if one of them is no record.
    pub fn extend(&mut self, lines: &[u8]) -> bool {
        let lines = lines.split_inclusive(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        self.read_records(lines, b'3')
    }

    fn read_header(&mut self, line: &[u8]) -> Option<u8> {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        match words.next()? {
            b"3" => {
                for word in words {
                    match word[0] {
                        b'V' => self.uid_validity = number(&word[1..])?,
                        b'N' => self.next_uid = number(&word[1..])?,
                        _ => append_field(&mut self.header_fields, word),
                    }
                }
            }
            b"1" => {
                self.uid_validity = number(words.next()?)?;
                self.next_uid = number(words.next()?)?;
            }
            _ => return None,
        }
        (self.uid_validity != 0).then_some(line[0])
    }

    fn read_records<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>, version: u8) -> bool {
        let mut sound = true;
        for line in lines {
            match read_record(line, version) {
                Some(record) if record.uid > self.records.last().map_or(0, |last| last.uid) => {
                    self.records.push(record)
                }
                _ => sound = false,
            }
        }
        sound
    }

    /// The UID that the next message gets.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next_uid.max(self.records.last().map_or(0, |last| last.uid).saturating_add(1))
    }

    /// The value of a header field, by its one-letter key.
    #[must_use]
    pub fn header_field(&self, key: u8) -> Option<&[u8]> {
        field(&self.header_fields, key)
    }

    /// The text of the whole list, version 3.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = format!("3 V{} N{}", self.uid_validity, self.next()).into_bytes();
        if !self.header_fields.is_empty() {
            text.push(b' ');
            text.extend_from_slice(&self.header_fields);
        }
        text.push(b'\n');
        self.records.iter().for_each(|record| record.write(&mut text));
        text
    }
}

impl Record {
    /// Appends the record's line.
    pub fn write(&self, text: &mut Vec<u8>) {
        let _ = write!(text, "{} ", self.uid);
        if !self.fields.is_empty() {
            text.extend_from_slice(&self.fields);
            text.push(b' ');
        }
        text.push(b':');
        text.extend_from_slice(&self.base);
        text.push(b'\n');
    }
}

fn append_field(fields: &mut Vec<u8>, word: &[u8]) {
    if !fields.is_empty() {
        fields.push(b' ');
    }
    fields.extend_from_slice(word);
}

fn number(digits: &[u8]) -> Option<u32> {
    let good = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    good.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Reads `uid [fields] :filename`; version 1 has neither fields nor the colon.
fn read_record(line: &[u8], version: u8) -> Option<Record> {
    if line.len() > LINE_MAX {
        return None;
    }
    let space = line.iter().position(|&byte| byte == b' ')?;
    let uid = number(&line[..space]).filter(|&uid| uid != 0 && uid != u32::MAX)?;
    let mut rest = &line[space + 1..];
    let mut fields = Vec::new();
    if version != b'1' {
        while *rest.first()? != b':' {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            if end > 0 {
                append_field(&mut fields, &rest[..end]);
            }
            rest = &rest[end + 1..];
        }
        rest = &rest[1..];
    }
    let base = super::file_name::base(rest);
    let good = !base.is_empty() && base.len() <= 255 && !base.iter().any(|&byte| byte == b'/' || byte == 0);
    good.then(|| Record { uid, fields, base: base.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_as_dovecot_writes_it_is_read_and_written_back() {
        let text = b"3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1 Xfoo\n\
            25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394\n\
            25017 W2481 P000001 Znew :1276533073.M242911P3632.kurkku\n";
        let (list, health) = UidList::parse(text);
        assert_eq!(health, Health::Sound);
        assert_eq!((list.uid_validity, list.next()), (1_275_660_208, 25022));
        assert_eq!(list.header_field(b'G'), Some(&b"3085f01b7f11094c501100008c4a11c1"[..]));
        assert_eq!(list.records[1].field(b'P'), Some(&b"000001"[..]));
        assert_eq!(list.records[1].field(b'W'), Some(&b"2481"[..]));
        assert_eq!(list.to_text(), text);
    }

    #[test]
    fn version_one_is_read() {
        let (list, health) = UidList::parse(b"1 123 7\n5 a.b:2,S\n6 c\n");
        assert_eq!(health, Health::Sound);
        assert_eq!(list.to_text(), b"3 V123 N7\n5 :a.b\n6 :c\n");
    }

    #[test]
    fn damage_is_noticed_and_the_rest_is_kept() {
        let good = "3 V1 N4\n1 :a\n2 :b\n";
        for (text, health, records) in [
            (good.to_owned(), Health::Sound, 2),
            (format!("{good}3 :c"), Health::TornTail, 2),
            (format!("{good}3 :"), Health::TornTail, 2),
            (format!("{good}\u{0}\u{0}\n3 :c\n"), Health::Damaged, 3),
            (format!("{good}2 :c\n"), Health::Damaged, 2),
            (format!("{good}0 :c\n"), Health::Damaged, 2),
            (format!("{good}4294967295 :c\n"), Health::Damaged, 2),
            (format!("{good}3 :a/b\n"), Health::Damaged, 2),
            (String::new(), Health::Damaged, 0),
            ("3 N4\n1 :a\n".to_owned(), Health::Damaged, 0),
            ("9 V1 N4\n".to_owned(), Health::Damaged, 0),
        ] {
            let (list, found) = UidList::parse(text.as_bytes());
            assert_eq!((found, list.records.len()), (health, records), "{text:?}");
        }
    }

    #[test]
    fn the_next_uid_never_falls_behind_a_record() {
        let (list, _) = UidList::parse(b"3 V1 N2\n9 :a\n");
        assert_eq!(list.next(), 10);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic(text: Vec<u8>) {
            let _ = UidList::parse(&text);
        }

        #[test]
        fn unknown_fields_are_kept(
            validity in 1u32.., header in proptest::collection::vec("[A-MO-UW-Za-z][!-~]{0,9}", 0..4),
            records in proptest::collection::vec((proptest::collection::vec("[A-Za-z][!-~]{0,9}", 0..4), "[!-.0-9;-~]{1,30}"), 0..9),
        ) {
            let list = UidList {
                uid_validity: validity, next_uid: 1, header_fields: header.join(" ").into_bytes(),
                records: records.iter().zip(1u32..).map(|((fields, base), uid)| Record {
                    uid, fields: fields.join(" ").into_bytes(), base: base.clone().into_bytes(),
                }).collect(),
            };
            let text = list.to_text();
            let (read, health) = UidList::parse(&text);
            prop_assert_eq!(health, Health::Sound);
            prop_assert_eq!(&read.header_fields, &list.header_fields);
            prop_assert_eq!(&read.records, &list.records);
            prop_assert_eq!(read.to_text(), text);
        }
    }
}
