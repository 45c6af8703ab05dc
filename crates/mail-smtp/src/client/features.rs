//! What a peer offers.

use crate::grammar::ehlo_line;

/// What the reply to EHLO or LHLO said; empty after HELO.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// The first word of the first line: the peer's name, to notice a loop to ourselves.
    pub name: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870), and its limit in octets; 0 is no fixed limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// The mechanisms of AUTH (RFC 4954), in upper case.
    pub auth: Vec<String>,
    /// Whether TLS is up.
    pub tls: bool,
}

impl Features {
    /// Reads the text of the reply; keywords that `discard` names are not seen.
    #[must_use]
    pub(super) fn read(text: &str, tls: bool, discard: &[String]) -> Self {
        let mut lines = text.lines();
        let name = lines.next().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        let mut features = Self { name, tls, ..Self::default() };
        for line in lines {
            let (keyword, rest) = ehlo_line(line);
            if !discard.contains(&keyword) {
                features.add(&keyword, rest);
            }
        }
        features
    }

    fn add(&mut self, keyword: &str, rest: &str) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(rest.parse().unwrap_or(0)),
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "AUTH" => self.auth = rest.split_whitespace().map(str::to_ascii_uppercase).collect(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read_in_any_case() {
        let text = "mx.example hello\npipelining\nSIZE 1000\n8bitmime\nAUTH=login plain\nDSN\nX-UNKNOWN y";
        let features = Features::read(text, true, &["DSN".to_owned()]);
        assert_eq!(features.name, "mx.example");
        assert_eq!((features.size, features.pipelining, features.eight_bit_mime), (Some(1000), true, true));
        assert_eq!(features.auth, ["LOGIN", "PLAIN"]);
        assert!(!features.dsn && features.tls);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,80}(\nAUTH[ =]\\PC{0,20}|\nSIZE \\PC{0,9}){0,3}") {
            let _ = Features::read(&text, false, &[]);
        }
    }
}
