//! Netstrings (D. J. Bernstein, 1997): `5:hello,`.

/// The most digits of a length; ten would pass any limit.
const DIGITS_MAX: usize = 9;

/// Writes one.
pub(crate) fn encode(octets: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", octets.len()).into_bytes();
    out.extend_from_slice(octets);
    out.push(b',');
    out
}

/// Reads the first one of what came, and says how many octets it took; none until it is complete.
///
/// # Errors
/// It is none, or longer than `limit`.
pub fn decode(input: &[u8], limit: usize) -> Result<Option<(Vec<u8>, usize)>, String> {
    let digits = input.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits > DIGITS_MAX || (digits == 0 && !input.is_empty()) {
        return Err("the reply does not begin with the length of a netstring".to_owned());
    }
    let Some(after) = input.get(digits) else { return Ok(None) };
    let length = std::str::from_utf8(&input[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
    let (Some(length), b':') = (length, after) else {
        return Err("the length of a netstring must end in a colon".to_owned());
    };
    if length > limit {
        return Err(format!("a reply of {length} octets is longer than {limit}"));
    }
    let begin = digits + 1;
    match input.get(begin + length) {
        None => Ok(None),
        Some(b',') => Ok(Some((input[begin..begin + length].to_vec(), begin + length + 1))),
        Some(_) => Err("a netstring must end in a comma".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring_is_read_when_it_is_complete() {
        let whole = b"5:hello,rest";
        assert_eq!(decode(whole, 10), Ok(Some((b"hello".to_vec(), 8))));
        for cut in 0..8 {
            assert_eq!(decode(&whole[..cut], 10), Ok(None), "{cut}");
        }
        assert_eq!(decode(&encode(b""), 10), Ok(Some((Vec::new(), 3))));
        for wrong in ["x", ":", "5;", "11:", "5:hello;", "99999999999999999999:"] {
            decode(wrong.as_bytes(), 10).expect_err(wrong);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read(octets: Vec<u8>) {
            let encoded = encode(&octets);
            proptest::prop_assert_eq!(decode(&encoded, octets.len()), Ok(Some((octets, encoded.len()))));
        }

        #[test]
        fn no_input_breaks_the_decoder(octets in proptest::collection::vec(proptest::sample::select(b"0123456789:,ab".to_vec()), 0..20)) {
            let _ = decode(&octets, 100);
        }
    }
}
