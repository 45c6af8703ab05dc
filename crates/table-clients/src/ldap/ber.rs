//! The basic encoding rules as LDAP uses them (RFC 4511 section 5.1): tags of one octet, definite lengths. Nothing here descends by itself, so that
//! no nesting of a server's is deeper than what is asked for.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Writes an element.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().position(|octet| *octet != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    if content.len() >= 0x80 {
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
    }
    out.extend_from_slice(digits);
    out.extend_from_slice(content);
    out
}

/// Writes an octet string.
pub(super) fn text(text: &str) -> Vec<u8> {
    element(OCTETS, text.as_bytes())
}

/// Writes an `INTEGER` or `ENUMERATED`.
pub(super) fn number(tag: u8, number: u32) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let mut digits = &octets[octets.iter().position(|octet| *octet != 0).unwrap_or(3)..];
    let padded = [&[0], digits].concat();
    if digits[0] >= 0x80 {
        digits = &padded;
    }
    element(tag, digits)
}

/// The first element of what came: its tag, its content, and how many octets it takes; none until it is complete.
///
/// # Errors
/// It is longer than `most`, or no such element.
#[expect(clippy::type_complexity, reason = "a decoder gives what it found and how many octets that took")]
pub(super) fn first(octets: &[u8], most: usize) -> Result<Option<(u8, &[u8], usize)>, String> {
    let [tag, length, rest @ ..] = octets else { return Ok(None) };
    if tag & 0x1f == 0x1f {
        return Err("a tag of more than one octet".to_owned());
    }
    let digits = match length {
        0x80 => return Err("an element of no stated length".to_owned()),
        0..0x80 => 0,
        more => usize::from(more & 0x7f),
    };
    if digits > 8 {
        return Err("an element that is too long".to_owned());
    }
    let Some(stated) = rest.get(..digits) else { return Ok(None) };
    let length = match digits {
        0 => u64::from(*length),
        _ => stated.iter().fold(0, |length, octet| length << 8 | u64::from(*octet)),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| format!("an element of more than {most} octets"))?;
    Ok(rest.get(digits..digits + length).map(|content| (*tag, content, 2 + digits + length)))
}

/// The elements in the content of one.
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The next element; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let found = first(self.0, self.0.len())?;
        let (tag, content, used) = found.ok_or("an element is cut off")?;
        self.0 = &self.0[used..];
        Ok(Some((tag, content)))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], String> {
        match self.next()? {
            Some((found, content)) if found == tag => Ok(content),
            Some((found, _)) => Err(format!("an element {found:#04x} where {tag:#04x} must stand")),
            None => Err("an element is missing".to_owned()),
        }
    }

    /// The next element as a number that is not negative.
    pub(super) fn number(&mut self, tag: u8) -> Result<u32, String> {
        let digits = self.take(tag)?;
        let small = !digits.is_empty() && digits.len() <= 5 && digits[0] < 0x80;
        let number = digits.iter().fold(0u64, |number, octet| number << 8 | u64::from(*octet));
        u32::try_from(number).ok().filter(|_| small).ok_or_else(|| "a number out of range".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let written = element(OCTETS, &content);
            assert_eq!(first(&written, 100_000), Ok(Some((OCTETS, content.as_slice(), written.len()))));
            assert_eq!(first(&written[..written.len() - 1], 100_000), Ok(None));
        }
        for wanted in [0, 1, 127, 128, 255, 256, u32::MAX] {
            assert_eq!(Elements(&number(INTEGER, wanted)).number(INTEGER), Ok(wanted));
        }
        assert_eq!(number(INTEGER, 128), [2, 2, 0, 128]);
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for wrong in [&b"\x30\x80"[..], b"\x1f\x81\x01", b"\x04\x89111111111", b"\x04\x84\xff\xff\xff\xff", b"\x04\x05"]
        {
            let read = first(wrong, 4);
            assert!(read.is_err(), "{wrong:?} {read:?}");
        }
        assert!(Elements(b"\x02\x01\xff").number(INTEGER).is_err(), "it is negative");
        assert!(Elements(b"\x02\x00").number(INTEGER).is_err() && Elements(b"").take(SET).is_err());
        assert!(Elements(b"\x04\x05ab").next().is_err(), "it is cut off");
    }

    proptest::proptest! {
        #[test]
        fn no_octets_break_the_reader(octets: Vec<u8>, most in 0usize..100) {
            if let Ok(Some((_, content, used))) = first(&octets, most) {
                proptest::prop_assert!(used <= octets.len() && content.len() <= most);
            }
            let mut elements = Elements(&octets);
            while let Ok(Some(_)) = elements.next() {}
        }
    }
}
