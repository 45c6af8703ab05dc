//! Reverse-path and forward-path of MAIL and RCPT (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use mail_types::{Address, AddressError, Domain};
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while, take_while1};
use nom::character::complete::{char, none_of, satisfy};
use nom::combinator::{map_opt, opt, recognize, value};
use nom::error::{Error, ErrorKind};
use nom::multi::{fold_many0, many0_count, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// The longest path in octets, angle brackets and a source route counted: the longest local part with every octet quoted, `@`, the longest
/// domain. RFC 5321 section 4.5.3.1.3 asks that 256 be accepted at least.
const PATH_MAX: usize = 2 * 512 + 4 + 1 + 255;

/// A mailbox as a client wrote it: the domain may be missing (`<postmaster>`, `<john>`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The local part without quotes; never empty, no control characters.
    pub local: String,
    /// The domain, if one was written.
    pub domain: Option<Domain>,
}

impl Mailbox {
    /// The complete address; `origin` stands in for a missing domain (`append_at_myorigin`).
    ///
    /// # Errors
    /// [`AddressError`] if the local part is too long.
    pub fn complete(&self, origin: &Domain) -> Result<Address, AddressError> {
        Address::new(&self.local, self.domain.clone().unwrap_or_else(|| origin.clone()))
    }

    /// Whether any octet is outside ASCII (RFC 6531).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii() || self.domain.as_ref().is_some_and(|domain| !domain.as_str().is_ascii())
    }
}

impl fmt::Display for Mailbox {
    /// The form for replies and logs: the internal form, without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local)?;
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

/// What stands between the angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Path {
    /// `<>`
    Null,
    /// Everything else; a source route was dropped (RFC 5321 appendix C).
    Mailbox(Mailbox),
}

impl Path {
    /// The mailbox, unless this is the null path.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mailbox().map_or(Ok(()), |mailbox| mailbox.fmt(f))
    }
}

/// Why an argument is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathError {
    /// The word before the colon is missing: the command is badly formed.
    Syntax,
    /// The word is there, but what follows is no path. The text is what was found, for the log.
    Address(String),
}

/// Reads the argument of MAIL (`keyword` is `FROM`) or RCPT (`TO`): the path and what follows it.
///
/// ```abnf
/// argument = keyword ":" *SP ( Path / Mailbox ) [ 1*SP esmtp-params ]
/// ```
/// The blank after the colon and the missing angle brackets are not in RFC 5321, but clients write them and Postfix reads them
/// (`strict_rfc821_envelopes = no`); `strict` refuses them.
///
/// # Errors
/// [`PathError`] tells a malformed command from a malformed address.
pub fn path_argument<'a>(keyword: &str, text: &'a str, strict: bool) -> Result<(Path, &'a str), PathError> {
    let head = text.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword)).ok_or(PathError::Syntax)?;
    let after = text[head.len()..].strip_prefix(':').ok_or(PathError::Syntax)?;
    let argument = if strict { after } else { after.trim_start_matches([' ', '\t']) };
    if argument.is_empty() {
        return Err(PathError::Syntax);
    }
    let found = if argument.starts_with('<') {
        path(argument)
    } else if strict {
        Err(nom::Err::Error(Error::new(argument, ErrorKind::Char)))
    } else {
        mailbox(argument).map(|(rest, mailbox)| (rest, Path::Mailbox(mailbox)))
    };
    match found {
        Ok((rest, path)) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
            Ok((path, rest.trim_matches([' ', '\t'])))
        }
        _ => Err(PathError::Address(argument.to_owned())),
    }
}

/// ```abnf
/// Path  = "<" [ A-d-l ":" ] Mailbox ">" / "<>"
/// A-d-l = At-domain *( "," At-domain )
/// ```
fn path(input: &str) -> IResult<&str, Path> {
    let (rest, inside) = delimited(
        char('<'),
        alt((
            value(None, recognize((take_while(blank), nom::combinator::peek(char('>'))))),
            delimited(take_while(blank), preceded(opt(route), mailbox).map(Some), take_while(blank)),
        )),
        char('>'),
    )
    .parse(input)?;
    if input.len() - rest.len() > PATH_MAX {
        return Err(nom::Err::Error(Error::new(input, ErrorKind::TooLarge)));
    }
    Ok((rest, inside.map_or(Path::Null, Path::Mailbox)))
}

/// ```abnf
/// A-d-l     = At-domain *( "," At-domain ) ":"
/// At-domain = "@" Domain
/// ```
fn route(input: &str) -> IResult<&str, ()> {
    value((), terminated(separated_list1(char(','), preceded(char('@'), domain)), char(':'))).parse(input)
}

/// ```abnf
/// Mailbox = Local-part [ "@" ( Domain / address-literal ) ]
/// ```
fn mailbox(input: &str) -> IResult<&str, Mailbox> {
    let (rest, (local, domain)) = (local_part, opt(preceded(char('@'), domain))).parse(input)?;
    // Address knows the limits of both parts; a domain of one letter stands in where none was written.
    let stand_in = domain.clone().map_or_else(|| Domain::new("x"), Ok);
    match stand_in.and_then(|domain| Address::new(&local, domain)) {
        Ok(_) => Ok((rest, Mailbox { local, domain })),
        Err(_) => Err(nom::Err::Error(Error::new(input, ErrorKind::Verify))),
    }
}

/// ```abnf
/// Local-part = Dot-string / Quoted-string
/// ```
fn local_part(input: &str) -> IResult<&str, String> {
    alt((quoted_string, dot_string)).parse(input)
}

/// ```abnf
/// Dot-string = 1*( atext / "." )
/// ```
/// RFC 5321 wants an atom on both sides of each dot; phones of a large carrier have addresses with dots at the end of the local part or side by
/// side, and Postfix takes them, so we do.
fn dot_string(input: &str) -> IResult<&str, String> {
    take_while1(|c: char| c == '.' || atext(c)).map(str::to_owned).parse(input)
}

fn atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

/// ```abnf
/// Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
/// QcontentSMTP   = qtextSMTP / quoted-pairSMTP
/// quoted-pairSMTP = %d92 %d32-126
/// qtextSMTP      = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii
/// ```
fn quoted_string(input: &str) -> IResult<&str, String> {
    let pair = preceded(char('\\'), satisfy(|c| (' '..='~').contains(&c)));
    let text = none_of("\"\\");
    delimited(
        char('"'),
        fold_many0(alt((pair, text)), String::new, |mut all, c| {
            all.push(c);
            all
        }),
        char('"'),
    )
    .parse(input)
}

/// ```abnf
/// Domain          = sub-domain *( "." sub-domain ) [ "." ]
/// address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"
/// ```
/// The dot at the end is not in RFC 5321; it is dropped, as Postfix does.
fn domain(input: &str) -> IResult<&str, Domain> {
    alt((
        map_opt(recognize(delimited(char('['), is_not("[]\\<> \t"), char(']'))), |text: &str| {
            is_address_literal(&text[1..text.len() - 1]).then(|| Domain::new(text).ok()).flatten()
        }),
        map_opt(recognize(many0_count(satisfy(domain_char))), |text: &str| {
            Domain::new(text.strip_suffix('.').unwrap_or(text)).ok()
        }),
    ))
    .parse(input)
}

/// RFC 5321 section 4.1.3: an IPv4 address, `IPv6:` and an address, or another tag that somebody may have registered.
fn is_address_literal(inside: &str) -> bool {
    match inside.split_once(':') {
        None => inside.parse::<Ipv4Addr>().is_ok(),
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => address.parse::<Ipv6Addr>().is_ok(),
        Some((tag, rest)) => {
            !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !rest.is_empty()
        }
    }
}

fn domain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') || (!c.is_ascii() && !c.is_control())
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Reads a mailbox with or without angle brackets, as VRFY takes it.
#[must_use]
pub(crate) fn any_mailbox(text: &str) -> Option<Mailbox> {
    let inside = match preceded(tag::<_, _, Error<&str>>("<"), is_not(">")).parse(text) {
        Ok((">", inside)) => inside,
        _ => text,
    };
    match mailbox(inside) {
        Ok(("", mailbox)) => Some(mailbox),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Option<String> {
        path_argument("FROM", text, false).ok().map(|(path, rest)| format!("{path}|{rest}"))
    }

    #[test]
    fn paths_are_read_as_the_standard_says() {
        // S17, S18, S19
        for (text, found) in [
            ("FROM:<>", "|"),
            ("from:< >", "|"),
            ("FROM:<a@b.org> SIZE=1 BODY=7BIT", "a@b.org|SIZE=1 BODY=7BIT"),
            ("From: <a@b.org>", "a@b.org|"),
            ("FROM:a@b.org", "a@b.org|"),
            ("FROM:<postmaster>", "postmaster|"),
            ("FROM:<@x.org,@y.org:a@b.org>", "a@b.org|"),
            ("FROM:<\"a b\\\"c\"@b.org>", "a b\"c@b.org|"),
            ("FROM:<\"john\"@b.org>", "john@b.org|"),
            ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]|"),
            ("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]|"),
            ("FROM:<a.@b.org>", "a.@b.org|"),
            ("FROM:<a@b.org.>", "a@b.org|"),
            ("FROM:<ä@ö.org>", "ä@ö.org|"),
        ] {
            assert_eq!(from(text).as_deref(), Some(found), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = "a".repeat(513);
        let wide = format!("{}.org", "b".repeat(260));
        for text in [
            "FROM:<a@b.org",
            "FROM:a@b.org>",
            "FROM:<a b@c.org>",
            "FROM:<a@>",
            "FROM:<@b.org>",
            "FROM:<a@b@c.org>",
            "FROM:<\"\"@b.org>",
            "FROM:<a@b..org>",
            "FROM:<a@[1.2.3.4>",
            "FROM:<a@[1.2.3.256]>",
            "FROM:<a@[example.org]>",
            "FROM:<a@[IPv6:2001:db8::1::2]>",
            "FROM:<a@[:]>",
            "FROM:<a\u{1}@b.org>",
            "FROM:<a@b.org>x",
            "FROM:<a@-\u{7f}.org>",
            "FROM:<\"a\u{0}\"@b.org>",
            "FROM:<a;b@c.org>",
            &format!("FROM:<{long}@b.org>"),
            &format!("FROM:<a@{wide}>"),
        ] {
            assert!(matches!(path_argument("FROM", text, false), Err(PathError::Address(_))), "{text}");
        }
        for text in ["", "FROM", "FROM:", "TO:<a@b>", "FR", "FROM <a@b>"] {
            assert_eq!(path_argument("FROM", text, false), Err(PathError::Syntax), "{text}");
        }
    }

    #[test]
    fn strict_envelopes_need_brackets_right_after_the_colon() {
        for text in ["FROM: <a@b.org>", "FROM:a@b.org"] {
            assert!(path_argument("FROM", text, true).is_err(), "{text}");
        }
        assert!(path_argument("FROM", "FROM:<a@b.org>", true).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn every_address_is_read_as_it_is_written(local in "[ -~]{1,512}") {
            let address = Address::new(&local, Domain::new("example.org").expect("valid")).expect("printable");
            let text = format!("TO:<{address}> NOTIFY=NEVER");
            let (path, rest) = path_argument("TO", &text, true).expect("an address in brackets");
            proptest::prop_assert_eq!(rest, "NOTIFY=NEVER");
            let mailbox = path.mailbox().expect("not null").clone();
            proptest::prop_assert_eq!(mailbox.complete(&Domain::new("x").expect("valid")), Ok(address));
        }

        #[test]
        fn no_argument_breaks_the_parser(text in "FROM:[<>\"\\\\@a.,:\\[\\] ä\u{0}]{0,40}") {
            if let Ok((Path::Mailbox(mailbox), _)) = path_argument("FROM", &text, false) {
                proptest::prop_assert!(!mailbox.local.is_empty() && !mailbox.local.contains(char::is_control));
            }
        }
    }
}
