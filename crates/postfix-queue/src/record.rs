//! Records: one octet of type, the length in groups of seven bits with the lowest first, and the data.

use nom::IResult;
use nom::bytes::complete::take;
use nom::error::{Error, ErrorKind};
use nom::number::complete::u8;

/// The size of the content and the number of recipients; the first record.
pub const SIZE: u8 = b'C';
/// When the message came.
pub const TIME: u8 = b'T';
/// The base of the message's lifetime, as Postfix before 2.3 wrote it.
pub const CREATED: u8 = b'c';
/// The full name of the submitter.
pub const FULL_NAME: u8 = b'F';
/// A content inspector.
pub const INSPECTOR: u8 = b'I';
/// A content filter (in an envelope).
pub const FILTER: u8 = b'L';
/// The sender.
pub const SENDER: u8 = b'S';
/// A recipient that is done.
pub const DONE: u8 = b'D';
/// A recipient.
pub const RECIPIENT: u8 = b'R';
/// What the client wrote for the recipient that follows.
pub const ORIGINAL: u8 = b'O';
/// A recipient that a milter took back.
pub const CANCELLED: u8 = b'/';
/// When the sender is warned of the delay; negative: was warned.
pub const WARN: u8 = b'W';
/// `name=value`.
pub const ATTRIBUTE: u8 = b'A';
/// A record that does not count any more.
pub const KILLED: u8 = b'K';
/// The one recipient that takes the place of all.
pub const REDIRECT: u8 = b'>';
/// The content begins.
pub const CONTENT: u8 = b'M';
/// A part of a line (in the content).
pub const PART: u8 = b'L';
/// A line or its last part.
pub const LINE: u8 = b'N';
/// Padding in the content.
pub const PADDING: u8 = b'w';
/// The records from headers begin.
pub const EXTRACTED: u8 = b'X';
/// Return-Receipt-To, which nothing reads.
pub const RETURN_RECEIPT: u8 = b'r';
/// Errors-To, which nothing reads.
pub const ERRORS_TO: u8 = b'e';
/// A priority, which nothing reads.
pub const PRIORITY: u8 = b'P';
/// Go on at this offset.
pub const POINTER: u8 = b'p';
/// The delimiters of VERP.
pub const VERP: u8 = b'V';
/// RET.
pub const RET: u8 = b'<';
/// ENVID.
pub const ENVID: u8 = b'i';
/// ORCPT of the recipient that follows.
pub const ORCPT: u8 = b'o';
/// NOTIFY of the recipient that follows.
pub const NOTIFY: u8 = b'n';
/// The end.
pub const END: u8 = b'E';

/// Takes one record: its type and its data.
///
/// # Errors
/// The input ends within the record, or the length has more than 28 bits.
pub fn record(input: &[u8]) -> IResult<&[u8], (u8, &[u8])> {
    let (input, kind) = u8(input)?;
    let (input, length) = length(input)?;
    let (input, data) = take(length)(input)?;
    Ok((input, (kind, data)))
}

fn length(mut input: &[u8]) -> IResult<&[u8], usize> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (rest, octet) = u8(input)?;
        input = rest;
        length |= usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok((input, length));
        }
    }
    Err(nom::Err::Failure(Error::new(input, ErrorKind::TooLarge)))
}

/// Appends a record.
pub fn put(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.push(kind);
    let mut rest = data.len();
    loop {
        // Seven bits; the mask makes the conversion exact.
        let octet = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(if rest > 0 { octet | 0x80 } else { octet });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_record_has_a_length_of_several_octets() {
        let mut file = Vec::new();
        put(&mut file, LINE, &[b'x'; 300]);
        assert_eq!(&file[..3], &[b'N', 0xac, 0x02]);
        assert_eq!(record(&file).expect("a record"), (&b""[..], (LINE, &[b'x'; 300][..])));
    }

    #[test]
    fn a_record_that_is_cut_short_or_endless_is_none() {
        for file in [&b""[..], b"N", b"N\x05abcd", b"N\x80", b"N\xff\xff\xff\xff\x01"] {
            assert!(record(file).is_err(), "{file:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_put_is_taken(kind: u8, data: Vec<u8>) {
            let mut file = Vec::new();
            put(&mut file, kind, &data);
            file.extend_from_slice(b"rest");
            proptest::prop_assert_eq!(record(&file).expect("a record"), (&b"rest"[..], (kind, &data[..])));
        }
    }
}
