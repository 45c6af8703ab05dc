//! The types of Dovecot's settings.

use std::path::PathBuf;
use std::time::Duration;

/// A type of setting; reads a value or says what to write instead.
pub trait Kind {
    /// What daemons see.
    type Value;
    /// The name of the type in manual pages.
    const NAME: &'static str;

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    fn parse(text: &str) -> Result<Self::Value, (String, String)>;
}

/// Any text.
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";

    fn parse(text: &str) -> Result<String, (String, String)> {
        Ok(text.to_owned())
    }
}

/// `yes` or `no`.
pub struct YesNo;

impl Kind for YesNo {
    type Value = bool;
    const NAME: &'static str = "yes or no";

    fn parse(text: &str) -> Result<bool, (String, String)> {
        match text.to_ascii_lowercase().as_str() {
            "yes" | "y" | "1" | "true" => Ok(true),
            "no" | "n" | "0" | "false" => Ok(false),
            _ => Err((format!("`{text}' is neither yes nor no"), "write `yes' or `no'".into())),
        }
    }
}

/// A whole number; `unlimited` is the largest one.
pub struct Number;

impl Kind for Number {
    type Value = u64;
    const NAME: &'static str = "number";

    fn parse(text: &str) -> Result<u64, (String, String)> {
        match text.trim() {
            "unlimited" => Ok(u64::MAX),
            number => number.parse().map_err(|_| (format!("`{text}' is no whole number"), "write digits only".into())),
        }
    }
}

/// A span of time: `30 secs`, `2 min`, `1h`.
pub struct Span;

impl Kind for Span {
    type Value = Duration;
    const NAME: &'static str = "time";

    fn parse(text: &str) -> Result<Duration, (String, String)> {
        let wrong = || (format!("`{text}' is no time"), "write a number and a unit, such as `30 secs'".to_owned());
        let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = text.trim()[digits.len()..].trim().to_ascii_lowercase();
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        let is_prefix = |word: &str| !unit.is_empty() && word.starts_with(unit.as_str());
        let millis = match unit.as_str() {
            "" if number == 0 => 0,
            "ms" | "msecs" | "msec" | "millisecs" => 1,
            _ if is_prefix("seconds") || is_prefix("secs") => 1000,
            _ if is_prefix("minutes") || is_prefix("mins") => 60_000,
            _ if is_prefix("hours") => 3_600_000,
            _ if is_prefix("days") => 86_400_000,
            _ if is_prefix("weeks") => 604_800_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
    }
}

/// A size in octets: `64 k`, `10M`.
pub struct Size;

impl Kind for Size {
    type Value = u64;
    const NAME: &'static str = "size";

    fn parse(text: &str) -> Result<u64, (String, String)> {
        let wrong =
            || (format!("`{text}' is no size"), "write a number and B, k, M, G or T, such as `64 k'".to_owned());
        let text = text.trim();
        if text == "unlimited" {
            return Ok(u64::MAX);
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let shift = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).ok_or_else(wrong)
    }
}

/// Words separated by blanks or commas.
pub struct Words;

impl Kind for Words {
    type Value = Vec<String>;
    const NAME: &'static str = "list";

    fn parse(text: &str) -> Result<Vec<String>, (String, String)> {
        Ok(text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }
}

/// A path; nothing if empty. The `<` that reads a file's content (2.3) is dropped: daemons open the file themselves.
pub struct File;

impl Kind for File {
    type Value = Option<PathBuf>;
    const NAME: &'static str = "path";

    fn parse(text: &str) -> Result<Option<PathBuf>, (String, String)> {
        let path = text.trim_start_matches('<').trim();
        Ok((!path.is_empty()).then(|| PathBuf::from(path)))
    }
}

/// `ssl_min_protocol`.
pub struct LeastTls;

impl Kind for LeastTls {
    type Value = String;
    const NAME: &'static str = "TLS version";

    fn parse(text: &str) -> Result<String, (String, String)> {
        match text {
            "ANY" | "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" | "TLSv1.2" => Ok("TLSv1.2".to_owned()),
            "TLSv1.3" | "LATEST" => Err(("TLS 1.3 without 1.2 is not built".into(), "write `TLSv1.2'".into())),
            _ => Err((format!("unknown TLS version `{text}'"), "write `TLSv1.2'".into())),
        }
    }
}

/// `ssl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ssl {
    /// No TLS.
    No,
    /// TLS is offered.
    Yes,
    /// Nobody logs in without TLS.
    Required,
}

impl Kind for Ssl {
    type Value = Self;
    const NAME: &'static str = "no, yes or required";

    fn parse(text: &str) -> Result<Self, (String, String)> {
        match text {
            "required" => Ok(Self::Required),
            _ => match YesNo::parse(text) {
                Ok(true) => Ok(Self::Yes),
                Ok(false) => Ok(Self::No),
                Err(_) => Err((format!("unknown value `{text}'"), "write `no', `yes' or `required'".into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_least_version_that_is_not_built_is_refused() {
        assert_eq!(LeastTls::parse("TLSv1").as_deref(), Ok("TLSv1.2"));
        assert!(LeastTls::parse("TLSv1.3").is_err() && LeastTls::parse("tls").is_err());
    }

    #[test]
    fn times_and_sizes_are_read_as_dovecot_writes_them() {
        for (text, millis) in
            [("2 secs", 2000), ("30s", 30_000), ("2 mins", 120_000), ("1h", 3_600_000), ("500 msecs", 500), ("0", 0)]
        {
            assert_eq!(Span::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, octets) in [("64 k", 65_536), ("10M", 10 << 20), ("5", 5), ("18446744073709551615 B", u64::MAX)] {
            assert_eq!(Size::parse(text), Ok(octets), "{text}");
        }
        assert!(Span::parse("30").is_err() && Size::parse("x").is_err() && Span::parse("").is_err());
    }
}
