//! Dovecot 2.4's `%{variable | filter(argument, name=argument) | ...}`.
//!
//! Names of variables and filters are checked when a text is read. Not built, and refused then: `lookup`, `regexp`, `encrypt`, `decrypt`, the operators `~` and
//! `!~`, and what would let a user name spell any octets it likes in somebody's path (`unbase64`, `unhexlify`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::Digest as _;

use super::{Name, Values, VariableError};
use crate::patterns::matches;
use crate::schemes::digest::md5;
pub(super) use read::read;

mod read;

/// The most octets that a filter may make of its input: a mistyped width fills no memory.
const LENGTH_MOST: usize = 4096;
/// The most rounds of a hash.
const ROUNDS_MOST: i64 = 10_000;

/// A variable or function, and the filters behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pipeline(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    what: What,
    arguments: Vec<Argument>,
    named: Vec<(String, Argument)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Variable(Name),
    Filter(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    Text(String),
    Number(i64),
    Variable(Name),
}

/// Every filter that is built, with the least and most arguments without a name and those with one.
const FILTERS: [(&str, usize, usize, &[&str]); 29] = [
    ("base64", 0, 0, &["pad", "url"]),
    ("benumber", 0, 0, &[]),
    ("calculate", 2, 2, &[]),
    ("concat", 1, 64, &[]),
    ("default", 0, 1, &[]),
    ("domain", 0, 0, &[]),
    ("hash", 1, 1, &["rounds", "salt"]),
    ("hex", 0, 1, &[]),
    ("hexlify", 0, 1, &[]),
    ("if", 4, 5, &[]),
    ("index", 2, 2, &[]),
    ("ldap_dn", 0, 0, &[]),
    ("lenumber", 0, 0, &[]),
    ("lfill", 1, 2, &[]),
    ("list", 0, 1, &[]),
    ("literal", 1, 1, &[]),
    ("lower", 0, 0, &[]),
    ("md5", 0, 0, &["rounds", "salt"]),
    ("reverse", 0, 0, &[]),
    ("rfill", 1, 2, &[]),
    ("sha1", 0, 0, &["rounds", "salt"]),
    ("sha256", 0, 0, &["rounds", "salt"]),
    ("sha384", 0, 0, &["rounds", "salt"]),
    ("sha512", 0, 0, &["rounds", "salt"]),
    ("substr", 1, 2, &[]),
    ("switch", 3, 64, &[]),
    ("truncate", 0, 1, &["bits"]),
    ("unhex", 0, 0, &[]),
    ("upper", 0, 0, &[]),
];
/// `username` and `domain` are variables too; as the first of a pipeline they are that.
const USERNAME: (&str, usize, usize, &[&str]) = ("username", 0, 0, &[]);

/// What goes from one filter to the next: text, or the octets of a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flow {
    Text(String),
    Octets(Vec<u8>),
}

fn wrong(what: &str) -> VariableError {
    VariableError::Refused(what.to_owned())
}

impl Flow {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Octets(octets) => octets,
        }
    }

    fn text(self) -> Result<String, VariableError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Octets(_) => Err(wrong("a hash needs hexlify or base64 behind it")),
        }
    }

    fn number(self) -> Result<i64, VariableError> {
        self.text()?.parse().map_err(|_| wrong("input is not a number"))
    }
}

impl Pipeline {
    /// Runs the pipeline.
    ///
    /// # Errors
    /// A variable without a value that no `default` replaces, or a filter that cannot use its input.
    pub(super) fn expand(&self, values: &Values<'_>) -> Result<String, VariableError> {
        let mut flow: Option<Result<Flow, VariableError>> = None;
        for step in &self.0 {
            flow = Some(match step.what {
                What::Variable(name) => name.value(values).map(Flow::Text),
                What::Filter("default") => match flow {
                    Some(Ok(there)) if !there.octets().is_empty() => Ok(there),
                    _ => step.argument(0).map_or(Ok(String::new()), |argument| argument.text(values)).map(Flow::Text),
                },
                What::Filter(filter) => step.run(filter, flow.transpose()?, values),
            });
        }
        flow.unwrap_or_else(|| Ok(Flow::Text(String::new())))?.text()
    }
}

impl Argument {
    fn text(&self, values: &Values<'_>) -> Result<String, VariableError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Number(number) => Ok(number.to_string()),
            Self::Variable(name) => name.value(values),
        }
    }

    fn number(&self, values: &Values<'_>) -> Result<i64, VariableError> {
        match self {
            Self::Number(number) => Ok(*number),
            other => other.text(values)?.parse().map_err(|_| wrong("not a number")),
        }
    }
}

impl Step {
    fn argument(&self, place: usize) -> Option<&Argument> {
        self.arguments.get(place)
    }

    fn named(&self, name: &str) -> Option<&Argument> {
        self.named.iter().find(|(key, _)| key == name).map(|(_, argument)| argument)
    }

    fn number(&self, place: usize, values: &Values<'_>) -> Result<Option<i64>, VariableError> {
        self.argument(place).map(|argument| argument.number(values)).transpose()
    }

    fn run(&self, filter: &str, flow: Option<Flow>, values: &Values<'_>) -> Result<Flow, VariableError> {
        match filter {
            "literal" => return self.arguments[0].text(values).map(Flow::Text),
            "concat" => {
                let mut text = flow.map_or(Ok(String::new()), Flow::text)?;
                for argument in &self.arguments {
                    text.push_str(&argument.text(values)?);
                }
                return Ok(Flow::Text(text));
            }
            "if" | "switch" => return self.choose(flow, values).map(Flow::Text),
            _ => {}
        }
        let flow = flow.ok_or_else(|| wrong("a filter without input"))?;
        match filter {
            "calculate" => self.calculate(flow, values),
            "hash" => self.digest(&self.arguments[0].text(values)?, &flow, values).map(Flow::Octets),
            "md5" | "sha1" | "sha256" | "sha384" | "sha512" => self.digest(filter, &flow, values).map(Flow::Octets),
            "truncate" => self.truncate(flow, values),
            "benumber" | "lenumber" => number(flow.octets(), filter == "benumber").map(Flow::Text),
            "hexlify" => {
                let width = self.number(0, values)?.unwrap_or(0);
                let width = usize::try_from(width).map_err(|_| wrong("width must be positive"))?;
                let text: String = flow.octets().iter().map(|octet| format!("{octet:02x}")).collect();
                Ok(Flow::Text(if width == 0 { text } else { left(&filled(text, width, "0", true)?, width) }))
            }
            "base64" => {
                let is = |name: &str, default: bool| match self.named(name) {
                    None => Ok(default),
                    Some(argument) => argument.text(values).map(|text| matches!(text.as_str(), "1" | "yes" | "true")),
                };
                let engine = match (is("url", false)?, is("pad", true)?) {
                    (false, true) => STANDARD,
                    (false, false) => STANDARD_NO_PAD,
                    (true, true) => URL_SAFE,
                    (true, false) => URL_SAFE_NO_PAD,
                };
                Ok(Flow::Text(engine.encode(flow.octets())))
            }
            _ => self.of_text(filter, flow.text()?, values).map(Flow::Text),
        }
    }

    /// The filters that take text and give text.
    fn of_text(&self, filter: &str, text: String, values: &Values<'_>) -> Result<String, VariableError> {
        Ok(match filter {
            "lower" => text.to_ascii_lowercase(),
            "upper" => text.to_ascii_uppercase(),
            "reverse" => text.chars().rev().collect(),
            "username" => super::username(&text).to_owned(),
            "domain" => super::domain(&text).to_owned(),
            "ldap_dn" => text.replace('.', ",dc="),
            "list" => {
                let between = self.argument(0).map_or(Ok(",".to_owned()), |argument| argument.text(values))?;
                text.replace('\t', &between)
            }
            "index" => {
                let separator = self.arguments[0].text(values)?;
                let parts: Vec<&str> =
                    if separator.is_empty() { vec![&text] } else { text.split(&separator).collect() };
                let place = self.number(1, values)?.unwrap_or(0);
                let place = if place < 0 { place.saturating_add_unsigned(parts.len() as u64) } else { place };
                let part = usize::try_from(place).ok().and_then(|place| parts.get(place));
                (*part.ok_or_else(|| wrong("position out of bounds"))?).to_owned()
            }
            "hex" => {
                let number: u64 = text.parse().map_err(|_| wrong("input is not a number"))?;
                let width = self.number(0, values)?.unwrap_or(0);
                let wide = usize::try_from(width.unsigned_abs()).map_err(|_| wrong("width out of bounds"))?;
                let digits = format!("{number:x}");
                match width {
                    0 => digits,
                    1.. => right(&filled(digits, wide, "0", true)?, wide),
                    _ => left(&filled(digits, wide, "0", false)?, wide),
                }
            }
            "unhex" => {
                u64::from_str_radix(&text, 16).map_err(|_| wrong("input is not a hexadecimal number"))?.to_string()
            }
            "lfill" | "rfill" => {
                let width = self.number(0, values)?.and_then(|width| usize::try_from(width).ok());
                let filler = self.argument(1).map_or(Ok("0".to_owned()), |argument| argument.text(values))?;
                filled(text, width.ok_or_else(|| wrong("fill length out of bounds"))?, &filler, filter == "lfill")?
            }
            "substr" => substr(&text, self.number(0, values)?.unwrap_or(0), self.number(1, values)?)?,
            other => return Err(VariableError::Unknown(format!("{{{other}}}"))),
        })
    }

    /// `calculate(operator, number)`. The octets of a hash are a number for `%` alone: the last eight of them, the first the most significant.
    fn calculate(&self, flow: Flow, values: &Values<'_>) -> Result<Flow, VariableError> {
        let (operator, right) = (self.arguments[0].text(values)?, self.arguments[1].number(values)?);
        if let (Flow::Octets(octets), "%") = (&flow, operator.as_str()) {
            let right = u64::try_from(right).ok().filter(|right| *right > 0);
            let right = right.ok_or_else(|| wrong("binary modulo must be positive"))?;
            let last = &octets[octets.len().saturating_sub(8)..];
            let number = last.iter().fold(0_u64, |sum, octet| (sum << 8) | u64::from(*octet));
            return Ok(Flow::Text((number % right).to_string()));
        }
        let left = flow.number()?;
        let result = match operator.as_str() {
            "+" => left.checked_add(right),
            "-" => left.checked_sub(right),
            "*" => left.checked_mul(right),
            "/" => left.checked_div(right),
            "%" => left.checked_rem(right),
            _ => return Err(wrong("unknown operator")),
        };
        result.map(|number| Flow::Text(number.to_string())).ok_or_else(|| wrong("the calculation has no result"))
    }

    fn digest(&self, algorithm: &str, flow: &Flow, values: &Values<'_>) -> Result<Vec<u8>, VariableError> {
        let rounds = self.named("rounds").map_or(Ok(1), |argument| argument.number(values))?;
        let salt = self.named("salt").map_or(Ok(String::new()), |argument| argument.text(values))?;
        if !(1..=ROUNDS_MOST).contains(&rounds) {
            return Err(wrong("rounds out of bounds"));
        }
        let mut octets = flow.octets().to_vec();
        for _ in 0..rounds {
            let salted = [salt.as_bytes(), &octets].concat();
            octets = match algorithm {
                "md5" => md5(&salted),
                "sha1" => sha1::Sha1::digest(&salted).to_vec(),
                "sha256" => sha2::Sha256::digest(&salted).to_vec(),
                "sha384" => sha2::Sha384::digest(&salted).to_vec(),
                "sha512" => sha2::Sha512::digest(&salted).to_vec(),
                other => return Err(VariableError::Unknown(format!("hash {other}"))),
            };
        }
        Ok(octets)
    }

    /// The first octets, or with `bits=` the first bits, moved to the right end.
    fn truncate(&self, flow: Flow, values: &Values<'_>) -> Result<Flow, VariableError> {
        let bits = self.named("bits").map(|argument| argument.number(values)).transpose()?;
        let length = self.number(0, values)?.or(bits).ok_or_else(|| wrong("missing truncation length"))?;
        let length = usize::try_from(length).map_err(|_| wrong("truncation length out of bounds"))?;
        if bits.is_none() {
            return Ok(match flow {
                Flow::Text(text) => Flow::Text(left(&text, length)),
                Flow::Octets(octets) => Flow::Octets(octets[..length.min(octets.len())].to_vec()),
            });
        }
        let Flow::Octets(mut octets) = flow else { return Err(wrong("bits are those of a hash")) };
        octets.truncate(length.div_ceil(8));
        let shift = (8 - length % 8) % 8;
        let mut carry = 0;
        for octet in &mut octets {
            let moved = (u16::from(carry) << 8 | u16::from(*octet)) >> shift;
            carry = *octet & ((1_u16 << shift) - 1) as u8;
            *octet = (moved & 0xFF) as u8;
        }
        Ok(Flow::Octets(octets))
    }

    /// `if(a, operator, b, then, else)` and `switch(a, operator, b, then, c, then, ..., else)`; with input, that is `a`.
    fn choose(&self, flow: Option<Flow>, values: &Values<'_>) -> Result<String, VariableError> {
        let mut arguments = self.arguments.iter();
        let missing = || wrong("missing parameters");
        let left = match flow {
            Some(flow) => flow.text()?,
            None => arguments.next().ok_or_else(missing)?.text(values)?,
        };
        let operator = arguments.next().ok_or_else(missing)?.text(values)?;
        let rest: Vec<&Argument> = arguments.collect();
        for pair in rest.chunks(2) {
            match pair {
                [right, then] if holds(&left, &operator, &right.text(values)?)? => return then.text(values),
                [otherwise] => return otherwise.text(values),
                _ => {}
            }
        }
        Ok(String::new())
    }
}

/// Whether a comparison holds: of numbers by signs, of texts by letters, of a text with a pattern by `*`.
fn holds(left: &str, operator: &str, right: &str) -> Result<bool, VariableError> {
    use std::cmp::Ordering;
    let numbers = || -> Result<Ordering, VariableError> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| wrong("input is not a number"));
        Ok(number(left)?.cmp(&number(right)?))
    };
    let texts = || left.cmp(right);
    Ok(match operator {
        "==" => numbers()?.is_eq(),
        "!=" => numbers()?.is_ne(),
        "<" => numbers()?.is_lt(),
        "<=" => numbers()?.is_le(),
        ">" => numbers()?.is_gt(),
        ">=" => numbers()?.is_ge(),
        "eq" => texts().is_eq(),
        "ne" => texts().is_ne(),
        "lt" => texts().is_lt(),
        "le" => texts().is_le(),
        "gt" => texts().is_gt(),
        "ge" => texts().is_ge(),
        "*" => matches(right, left),
        "!*" => !matches(right, left),
        _ => return Err(wrong("unknown comparison")),
    })
}

/// From an offset, counted from the end if negative; so many characters, or all but so many at the end if negative.
fn substr(text: &str, offset: i64, length: Option<i64>) -> Result<String, VariableError> {
    let characters: Vec<char> = text.chars().collect();
    let most = i64::try_from(characters.len()).unwrap_or(i64::MAX);
    let from_end = |place: i64| if place < 0 { most + place } else { place };
    let out = || wrong("offset or length out of bounds");
    if offset.abs() > most || length.is_some_and(|length| length.abs() > most) {
        return Err(out());
    }
    let start = from_end(offset);
    let end = match length {
        None => most,
        Some(length) if length < 0 => from_end(length),
        Some(length) => start + length,
    };
    let (start, end) = (usize::try_from(start).map_err(|_| out())?, usize::try_from(end).map_err(|_| out())?);
    characters.get(start..end).map(|part| part.iter().collect()).ok_or_else(out)
}

fn number(octets: &[u8], big_end_first: bool) -> Result<String, VariableError> {
    if !matches!(octets.len(), 1 | 2 | 4 | 8) {
        return Err(wrong("so many octets are no number"));
    }
    let fold = |sum: u64, octet: &u8| (sum << 8) | u64::from(*octet);
    let number = if big_end_first { octets.iter().fold(0, fold) } else { octets.iter().rev().fold(0, fold) };
    Ok(number.to_string())
}

fn filled(text: String, width: usize, filler: &str, at_left: bool) -> Result<String, VariableError> {
    if width > LENGTH_MOST || filler.is_empty() {
        return Err(wrong("fill length out of bounds"));
    }
    let missing = width.saturating_sub(text.chars().count()).div_ceil(filler.chars().count());
    let filling = filler.repeat(missing);
    Ok(if at_left { filling + &text } else { text + &filling })
}

fn left(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn right(text: &str, width: usize) -> String {
    let skipped = text.chars().count().saturating_sub(width);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, VariableError> {
        let values = Values {
            user: "John.Doe@Info.Net",
            service: "imap",
            local: "127.0.0.1".parse().ok(),
            local_name: Some("mail.info.net"),
            ..Values::default()
        };
        super::super::Template::parse_new(text)?.expand(&values)
    }

    // The values follow from the manual of 2.4, "Settings Variables", and its table of replacements for modifiers of 2.3.
    #[test]
    fn pipelines_have_the_values_of_the_manual() {
        let cases = [
            ("/srv/%{user | domain | lower}/%{user | username | lower}", "/srv/info.net/john.doe"),
            ("%{user|upper}", "JOHN.DOE@INFO.NET"),
            ("%{protocol}/%{local_ip}/%{local_name}", "imap/127.0.0.1/mail.info.net"),
            ("100% %u %%{user} %", "100% %u %{user} %"),
            ("%{user | substr(0, 1)}%{user | substr(-3)}%{user | substr(0, -9)}", "JNetJohn.Doe"),
            ("%{home | default('/nowhere')}", "/nowhere"),
            ("%{mechanism | default('none')}%{mechanism | default}", "none"),
            ("%{mechanism | default(protocol)}", "imap"),
            ("%{user | domain | default('x') | index('.', -1)}", "Net"),
            ("%{user | username | reverse}", "eoD.nhoJ"),
            ("%{user | lower | md5 | hexlify}", "88b8520575d54c328ae658e16c9e2598"),
            ("%{literal('abc') | sha1 | hexlify(8)}", "a9993e36"),
            ("%{literal('abc') | md5 % 256 | hex(2)}", "72"),
            ("%{literal('abc') | hash('sha256', rounds=2, salt='x') | base64(url=1, pad=0) | substr(0, 4)}", "K1ew"),
            ("%{literal('7') + 3 * 2 - 1 | hex(4)}", "0013"),
            ("%{literal('12') | hex(-4)}%{literal('1f') | unhex}", "c00031"),
            ("%{if(protocol, 'eq', 'imap', 'yes', 'no')}", "yes"),
            ("%{user | if('*', '*@info.net', 'ours', user)}", "John.Doe@Info.Net"),
            ("%{user | lower | if('*', '*@info.net', 'ours', user)}", "ours"),
            ("%{literal('10') | if('>', 9, 'more', 'less')}", "more"),
            ("%{protocol | switch('eq', 'pop3', 'a', 'imap', 'b', 'c')}%{switch(protocol, 'eq', 'smtp', 'x')}", "b"),
            ("%{concat('a', user, \"'}\")}", "aJohn.Doe@Info.Net'}"),
            ("%{user | domain | ldap_dn}", "Info,dc=Net"),
            ("%{literal('5') | lfill(3)}%{literal('5') | rfill(3, 'x')}", "0055xx"),
            ("%{literal('abc') | md5 | truncate(2) | benumber}", "36865"),
            ("%{literal('abc') | md5 | truncate(bits=12) | hexlify}", "0900"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_built_or_wrong_is_refused_when_it_is_read() {
        for text in [
            "%{nothing}",
            "%{user | nothing}",
            "%{user | regexp('a', 'b')}",
            "%{user | unhexlify}",
            "%{lookup('user')}",
            "%{user | substr}",
            "%{user | lower(1)}",
            "%{user | md5(salz='x')}",
            "%{user | if('~', 'x', 'a', 'b')}",
            "%{user | if('eq', 'x', 'a')}",
            "%{user | default(nothing)}",
            "%{user | default('x)}",
            "%{user",
            "%{user |",
            "%{user lower}",
            "%{env:HOME}",
        ] {
            assert!(super::super::Template::parse_new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_filter_cannot_use_is_no_empty_place_in_a_path() {
        for text in [
            "%{home}",
            "%{home | lower}",
            "%{user | md5}",
            "%{user + 1}",
            "%{literal('1') / 0}",
            "%{user | substr(40)}",
            "%{user | index('.', 7)}",
            "%{literal('x') | lfill(5000)}",
        ] {
            assert!(expand(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(%\\{|[|}(),'+%=*-]|user|lower|substr|if|hex|truncate|bits=|lfill|md5|[0-9 a-z]){0,24}", user in "\\PC{0,12}") {
            if let Ok(template) = super::super::Template::parse_new(&text) {
                let _ = template.expand(&Values { user: &user, ..Values::default() });
            }
        }
    }
}
