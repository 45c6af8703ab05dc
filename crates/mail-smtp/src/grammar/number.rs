//! Numbers as parameters hold them.

/// Reads the value of SIZE.
///
/// ```abnf
/// size-value = 1*20DIGIT
/// ```
/// RFC 1870 section 5. A number that does not fit is the largest there is, and so too big for every limit.
#[must_use]
pub fn size_value(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::size_value;

    #[test]
    fn a_size_is_digits_only() {
        assert_eq!(size_value("0"), Some(0));
        assert_eq!(size_value("10240000"), Some(10_240_000));
        assert_eq!(size_value("99999999999999999999999999"), Some(u64::MAX));
        for text in ["", "-1", "+1", "1k", " 1"] {
            assert_eq!(size_value(text), None, "{text:?}");
        }
    }
}
