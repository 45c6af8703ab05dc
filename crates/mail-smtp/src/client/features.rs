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
    /// LIMITS (RFC 9422).
    pub limits: Limits,
}

/// What a peer takes at most (RFC 9422 section 4); nothing where it does not say, or says what is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// MAIL commands in one session (MAILMAX).
    pub mail: Option<u64>,
    /// Recipients in one transaction (RCPTMAX).
    pub rcpt: Option<u64>,
    /// Different domains among them (RCPTDOMAINMAX).
    pub rcpt_domain: Option<u64>,
}

impl Limits {
    fn read(text: &str) -> Self {
        let mut limits = Self::default();
        for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            // RFC 9422 section 3: one to six digits, never zero; anything else is ignored.
            let good = (1..=6).contains(&value.len()) && value.bytes().all(|digit| digit.is_ascii_digit());
            let value = value.parse().ok().filter(|&value| good && value > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => limits.mail = value,
                "RCPTMAX" => limits.rcpt = value,
                "RCPTDOMAINMAX" => limits.rcpt_domain = value,
                _ => {}
            }
        }
        limits
    }
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
            "LIMITS" => self.limits = Limits::read(rest),
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

    #[test]
    fn limits_are_numbers_or_nothing() {
        // M06
        let limits = Features::read("mx\nLIMITS RCPTMAX=2 mailmax=1 RCPTDOMAINMAX=0 X=Y", false, &[]).limits;
        assert_eq!(limits, Limits { mail: Some(1), rcpt: Some(2), rcpt_domain: None });
        assert_eq!(Features::read("mx\nLIMITS RCPTMAX=1000000 MAILMAX=+1", false, &[]).limits, Limits::default());
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,80}(\nAUTH[ =]\\PC{0,20}|\nSIZE \\PC{0,9}){0,3}") {
            let _ = Features::read(&text, false, &[]);
        }
    }
}
