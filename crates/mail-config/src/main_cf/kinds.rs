//! The types of parameters: each reads the expanded text of a value or says what to write instead.

use std::path::PathBuf;
use std::time::Duration;

use super::lists::TableRef;
use crate::words::{Unbalanced, split_words};

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The part of the written value that is wrong; the whole value if empty.
    pub fragment: String,
    /// What is the matter.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl Mistake {
    /// A mistake in the whole value.
    #[must_use]
    pub fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { fragment: String::new(), what: what.into(), instead: instead.into() }
    }

    /// The same, in one word of the value.
    #[must_use]
    pub fn at(self, fragment: &str) -> Self {
        Self { fragment: fragment.to_owned(), ..self }
    }
}

impl From<Unbalanced> for Mistake {
    fn from(error: Unbalanced) -> Self {
        Self::new(error.to_string(), "close each `{' with a `}'")
    }
}

/// What a type may need to know beside the text, and where it leaves warnings.
pub struct Context<'a> {
    /// The parameter's default as declared; the unit of a time without unit is the one of its default.
    pub default: &'a str,
    /// Whether the text comes from a file; unbuilt tables in a default are dropped silently.
    pub written: bool,
    /// The words of `postrider_run_without`.
    pub run_without: &'a [String],
    /// The value of `default_database_type`, the type of a table without one.
    pub default_table: &'a str,
    /// Warnings about this value.
    pub warnings: Vec<Mistake>,
}

/// A type of parameter.
pub trait Kind {
    /// What daemons see.
    type Value;
    /// The name of the type in manual pages.
    const NAME: &'static str;
    /// Whether `$name` in the value is replaced when the configuration is read.
    const EXPAND: bool = true;

    /// Reads a value.
    ///
    /// # Errors
    /// [`Mistake`] says what is wrong and what to write instead.
    fn parse(text: &str, context: &mut Context<'_>) -> Result<Self::Value, Mistake>;

    /// The tables that a value names, and the files of further items.
    #[must_use]
    fn tables(_: &Self::Value) -> Vec<TableRef> {
        Vec::new()
    }
}

/// Any text.
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<String, Mistake> {
        Ok(text.to_owned())
    }
}

/// A text whose `$name` parts are replaced for each delivery, not when the configuration is read.
pub struct Template;

impl Kind for Template {
    type Value = String;
    const NAME: &'static str = "template";
    const EXPAND: bool = false;

    fn parse(text: &str, _: &mut Context<'_>) -> Result<String, Mistake> {
        Ok(text.to_owned())
    }
}

/// A set of characters, with `\\t`, `\\40` (octal) and `\\\\` for those that cannot be written.
pub struct Escaped;

impl Kind for Escaped {
    type Value = String;
    const NAME: &'static str = "characters";
    const EXPAND: bool = false;

    fn parse(text: &str, _: &mut Context<'_>) -> Result<String, Mistake> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('\\') {
            out.push_str(plain);
            let octal = escaped.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            let (character, length) = match escaped.chars().next() {
                Some(_) if octal > 0 => {
                    let code = u8::from_str_radix(&escaped[..octal], 8).ok().filter(u8::is_ascii);
                    (
                        char::from(code.ok_or_else(|| Mistake::new("no ASCII character", "write `\\40' for a blank"))?),
                        octal,
                    )
                }
                Some('t') => ('\t', 1),
                Some('n') => ('\n', 1),
                Some(other) => (other, other.len_utf8()),
                None => return Err(Mistake::new("a backslash ends the value", "write `\\\\' for a backslash")),
            };
            out.push(character);
            rest = &escaped[length..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The path of a file or directory; nothing if empty.
pub struct File;

impl Kind for File {
    type Value = Option<PathBuf>;
    const NAME: &'static str = "path";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<Option<PathBuf>, Mistake> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

/// `yes` or `no`.
pub struct YesNo;

impl Kind for YesNo {
    type Value = bool;
    const NAME: &'static str = "yes or no";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<bool, Mistake> {
        match text {
            _ if text.eq_ignore_ascii_case("yes") => Ok(true),
            _ if text.eq_ignore_ascii_case("no") => Ok(false),
            _ => Err(Mistake::new(format!("`{text}' is neither yes nor no"), "write `yes' or `no'")),
        }
    }
}

/// A whole number within limits.
pub struct Number<const MIN: u64, const MAX: u64>;

/// A whole number without a particular limit.
pub type Count = Number<0, { i64::MAX as u64 }>;
/// A whole number of at least one.
pub type Positive = Number<1, { i64::MAX as u64 }>;
/// A reply code of a refusal.
pub type Refusal = Number<400, 599>;

impl<const MIN: u64, const MAX: u64> Kind for Number<MIN, MAX> {
    type Value = u64;
    const NAME: &'static str = "number";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<u64, Mistake> {
        let number = text.parse::<u64>().map_err(|_| {
            let spelt = spelt_out(text).map_or("digits only".to_owned(), |n| format!("write `{n}'"));
            Mistake::new(format!("`{text}' is no whole number"), spelt)
        })?;
        match number {
            n if n < MIN => Err(Mistake::new(format!("{n} is too small"), format!("{MIN} is the least"))),
            n if n > MAX => Err(Mistake::new(format!("{n} is too large"), format!("{MAX} is the most"))),
            n => Ok(n),
        }
    }
}

/// What `10M` means, for the hint; Postfix reads no such suffix.
fn spelt_out(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A span of time: a whole number and `s`, `m`, `h`, `d` or `w`; without a unit, that of the default.
pub struct Span;

impl Kind for Span {
    type Value = Duration;
    const NAME: &'static str = "time";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Duration, Mistake> {
        let wrong =
            || Mistake::new(format!("`{text}' is no time"), "write a whole number and s, m, h, d or w, such as `300s'");
        let (digits, unit) = match text.chars().last() {
            Some(unit) if unit.is_ascii_alphabetic() => (&text[..text.len() - 1], unit),
            _ => (text, context.default.chars().last().filter(char::is_ascii_alphabetic).unwrap_or('s')),
        };
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count = digits.trim_end().parse::<u64>().map_err(|_| wrong())?;
        // Postfix keeps times in an int; a larger one is a slip, and overflows elsewhere.
        match count.checked_mul(seconds).filter(|s| i32::try_from(*s).is_ok()) {
            Some(seconds) => Ok(Duration::from_secs(seconds)),
            None => Err(Mistake::new(format!("`{text}' is too long"), "write less than 68 years")),
        }
    }
}

/// Words separated by commas or white space.
pub struct List;

impl Kind for List {
    type Value = Vec<String>;
    const NAME: &'static str = "list";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<Vec<String>, Mistake> {
        Ok(split_words(text)?)
    }
}

/// Names of our daemons, or `all`.
pub struct Daemons;

/// The daemons that such a list may name.
const DAEMONS: [&str; 7] = ["smtpd", "queue-manager", "local-delivery", "remote-delivery", "pop3d", "imapd", "authd"];

impl Kind for Daemons {
    type Value = Vec<String>;
    const NAME: &'static str = "daemons";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<Vec<String>, Mistake> {
        let words = split_words(text)?;
        match words.iter().find(|word| *word != "all" && !DAEMONS.contains(&word.as_str())) {
            Some(word) => {
                let instead = format!("write `all', or names among {}", DAEMONS.join(", "));
                Err(Mistake::new(format!("`{word}' is no daemon"), instead).at(word))
            }
            None => Ok(words),
        }
    }
}

/// The versions of TLS that a list such as `>=TLSv1.2` or `!SSLv3, !TLSv1` allows, among those that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub v12: bool,
    /// TLS 1.3.
    pub v13: bool,
}

/// What such a list may name, oldest first.
const TLS_VERSIONS: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

impl Kind for TlsVersions {
    type Value = Self;
    const NAME: &'static str = "TLS versions";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Self, Mistake> {
        let mut excluded = [false; 6];
        let mut included = [false; 6];
        for word in text.split([',', ':', ' ', '\t']).filter(|word| !word.is_empty()) {
            let name = word.trim_start_matches(['!', '<', '>', '=']);
            let Some(at) = TLS_VERSIONS.iter().position(|version| version.eq_ignore_ascii_case(name)) else {
                return Err(Mistake::new(format!("unknown protocol `{word}'"), "write `>=TLSv1.2'").at(word));
            };
            match &word[..word.len() - name.len()] {
                "" => included[at] = true,
                "!" => excluded[at] = true,
                ">=" => excluded[..at].fill(true),
                "<=" => excluded[at + 1..].fill(true),
                _ => return Err(Mistake::new(format!("`{word}' says nothing"), "write `>=TLSv1.2'").at(word)),
            }
        }
        let named = included.contains(&true);
        let allowed = |at: usize| !excluded[at] && (included[at] || !named);
        let versions = Self { v12: allowed(4), v13: allowed(5) };
        match (versions.v12, versions.v13) {
            (true, true) => {}
            (false, true) => return Err(Mistake::new("TLS 1.3 without 1.2 is not built", "write `>=TLSv1.2'")),
            (true, false) => context.warnings.push(Mistake::new("TLS 1.3 is used too", "write `>=TLSv1.2'")),
            (false, false) => {
                context.warnings.push(Mistake::new("only versions that are not built", "TLS 1.2 and 1.3 are used"));
            }
        }
        Ok(Self { v12: true, v13: true })
    }
}

/// `inet_protocols`: which of IPv4 and IPv6 is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpVersions {
    /// IPv4 is used.
    pub v4: bool,
    /// IPv6 is used.
    pub v6: bool,
}

impl Kind for IpVersions {
    type Value = Self;
    const NAME: &'static str = "all, ipv4, ipv6 or both";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<Self, Mistake> {
        let mut versions = Self { v4: false, v6: false };
        for word in split_words(text)? {
            match word.as_str() {
                "all" => versions = Self { v4: true, v6: true },
                "ipv4" => versions.v4 = true,
                "ipv6" => versions.v6 = true,
                _ => {
                    let mistake = Mistake::new(format!("unknown protocol `{word}'"), "write `all', `ipv4' or `ipv6'");
                    return Err(mistake.at(&word));
                }
            }
        }
        if versions.v4 || versions.v6 { Ok(versions) } else { Err(Mistake::new("no protocol named", "write `all'")) }
    }
}

/// `inet_interfaces`: where mail is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// On every address of the machine.
    All,
    /// On 127.0.0.1 and ::1.
    LoopbackOnly,
    /// On these addresses or names.
    Named(Vec<String>),
}

impl Kind for Interfaces {
    type Value = Self;
    const NAME: &'static str = "all, loopback-only or addresses";

    fn parse(text: &str, _: &mut Context<'_>) -> Result<Self, Mistake> {
        let words = split_words(text)?;
        match words.as_slice() {
            [] => Err(Mistake::new("no address named", "write `all' or `loopback-only'")),
            [word] if word.eq_ignore_ascii_case("all") => Ok(Self::All),
            [word] if word.eq_ignore_ascii_case("loopback-only") => Ok(Self::LoopbackOnly),
            _ => Ok(Self::Named(words.iter().map(|w| w.trim_matches(['[', ']']).to_owned()).collect())),
        }
    }
}

/// Declares types of parameters that are one word out of a few.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $($word:literal)|+),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl Kind for $name {
            type Value = Self;
            const NAME: &'static str = concat!($($("`", $word, "' ",)+)+);

            fn parse(text: &str, _: &mut Context<'_>) -> Result<Self, Mistake> {
                $($(if text.eq_ignore_ascii_case($word) { return Ok(Self::$variant); })+)+
                let words = [$($($word),+),+].map(|w| if w.is_empty() { "nothing".to_owned() } else { format!("`{w}'") });
                Err(Mistake::new(format!("unknown value `{text}'"), format!("write {}", words.join(", "))))
            }
        }
    )+};
}

choices! {
    /// `smtpd_tls_security_level`.
    ServerTls {
        /// Not stated: `smtpd_use_tls` and `smtpd_enforce_tls` decide.
        Unset = "",
        /// No TLS.
        None = "none",
        /// STARTTLS is offered.
        May = "may",
        /// STARTTLS is required. What asks for more means this in a server, as in Postfix.
        Encrypt = "encrypt" | "fingerprint" | "verify" | "secure" | "dane" | "dane-only",
    }

    /// `smtp_tls_security_level` and `lmtp_tls_security_level`.
    ClientTls {
        /// Not stated: `smtp_use_tls` and `smtp_enforce_tls` decide.
        Unset = "",
        /// No TLS.
        None = "none",
        /// TLS where the server offers it, with any certificate.
        May = "may",
        /// TLS with any certificate, or no delivery.
        Encrypt = "encrypt",
        /// TLSA records of DNSSEC decide; without them as `may`.
        Dane = "dane",
        /// TLSA records or no delivery.
        DaneOnly = "dane-only",
        /// A certificate of a known fingerprint.
        Fingerprint = "fingerprint",
        /// A certificate of a trusted authority for the host's name.
        Verify = "verify",
        /// A certificate of a trusted authority for the next hop's name.
        Secure = "secure",
    }

    /// `mynetworks_style`: whom an absent `mynetworks` trusts.
    NetworksStyle {
        /// The machine itself.
        Host = "host",
        /// The networks of the machine's interfaces.
        Subnet = "subnet",
        /// The class A, B or C network of each interface.
        Class = "class",
    }

    /// `smtpd_forbid_bare_newline`: what happens to a line feed without carriage return in a message.
    BareNewline {
        /// As `normalize`: only CR LF . CR LF ends a message here in any case.
        No = "no",
        /// Ends of lines become CR LF.
        Normalize = "normalize" | "yes",
        /// The message is refused.
        Reject = "reject",
        /// As `normalize`, with a line in the log.
        Note = "note",
    }

    /// What a restriction does about a lookup that fails for now (`reject_tempfail_action` and relatives).
    TempfailAction {
        /// The command is refused for now unless a later restriction refuses it for ever.
        DeferIfPermit = "defer_if_permit",
        /// The command is refused for now at once.
        Defer = "defer",
    }

    /// `smtp_dns_support_level`. That mail exchangers are not looked up at all (`disabled`) is not built.
    DnsSupport {
        /// Not stated.
        Unset = "",
        /// Without DNSSEC.
        Enabled = "enabled",
        /// With DNSSEC where a TLS level asks for it.
        Dnssec = "dnssec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<K: Kind>(text: &str, default: &str) -> Result<K::Value, String> {
        let mut context =
            Context { default, written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
        K::parse(text, &mut context).map_err(|m| format!("{}; {}", m.what, m.instead))
    }

    #[test]
    fn a_time_without_unit_has_the_unit_of_its_default() {
        let cases = [
            ("300", "5d", 300 * 86_400),
            ("300", "300s", 300),
            ("2h", "5d", 7200),
            ("1w", "0h", 604_800),
            ("0", "0h", 0),
        ];
        for (text, default, seconds) in cases {
            assert_eq!(read::<Span>(text, default), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5x", "-1s", "1.5h", "s", "99999w", "5 5s"] {
            assert!(read::<Span>(text, "1s").is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_number_is_told_how_to_be_right() {
        assert_eq!(read::<Count>("10M", "0"), Err("`10M' is no whole number; write `10485760'".into()));
        assert_eq!(read::<Number<1, 5>>("9", "1"), Err("9 is too large; 5 is the most".into()));
        assert!(read::<Count>("", "0").is_err());
    }

    #[test]
    fn a_list_of_daemons_names_daemons() {
        assert_eq!(read::<Daemons>("smtpd, queue-manager", ""), Ok(vec!["smtpd".into(), "queue-manager".into()]));
        assert_eq!(read::<Daemons>("", ""), Ok(Vec::new()));
        assert!(read::<Daemons>("smptd", "").is_err_and(|text| text.contains("`smptd' is no daemon")));
    }

    #[test]
    fn tls_versions_are_read_in_both_spellings() {
        let both = Ok(TlsVersions { v12: true, v13: true });
        for text in [
            ">=TLSv1",
            ">=TLSv1.2",
            "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1",
            "TLSv1.2 TLSv1.3",
            "",
            "TLSv1",
            "SSLv3,TLSv1",
            "TLSv1.2",
            "<=TLSv1.2",
            "TLSv1.2",
            "<=TLSv1.2",
        ] {
            assert_eq!(read::<TlsVersions>(text, ""), both, "{text}");
        }
        // TLS 1.2 is never offered where the file forbids it.
        for text in [">=TLSv1.3", "!TLSv1.2", "TLSv1.3", "TLSv9", "=TLSv1"] {
            assert!(read::<TlsVersions>(text, "").is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_a_type(text in "[0-9a-z./:\\[\\]{}! -]{0,30}") {
            let _ = read::<Span>(&text, "1s");
            let _ = read::<Count>(&text, "1");
            let _ = read::<List>(&text, "");
            let _ = read::<Interfaces>(&text, "");
        }
    }
}
