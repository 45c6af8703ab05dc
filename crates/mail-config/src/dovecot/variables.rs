//! `%` variables in Dovecot's settings: `%u`, `%Lu`, `%{user}` (2.3), `%{user | lower}` (2.4).
//!
//! The values of variables are inserted once and never read again, whatever they hold (CVE-2017-2669).

/// Why a text with variables cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableError(pub String);

impl std::fmt::Display for VariableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for VariableError {}

/// Replaces the variables of a text. `lookup` gives the value of a variable by its long name (`user`, `username`,
/// `domain`, `home`, `service`, `pid` ...).
///
/// # Errors
/// [`VariableError`] for a variable or filter that does not exist.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, VariableError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = variable(&rest[at + 1..], lookup, &mut out)?;
    }
    out.push_str(rest);
    Ok(out)
}

/// One variable after its `%`; gives back what follows it.
fn variable<'a>(
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
) -> Result<&'a str, VariableError> {
    if let Some(inside) = text.strip_prefix('{') {
        let end = inside.find('}').ok_or_else(|| VariableError(format!("`}}' is missing in `%{text}'")))?;
        out.push_str(&piped(&inside[..end], lookup)?);
        return Ok(&inside[end + 1..]);
    }
    let mut modifiers = Vec::new();
    let mut width = Width::default();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '%' if at == 0 => {
                out.push('%');
                return Ok(&text[1..]);
            }
            '0'..='9' | '.' | '-' => width.push(c),
            'L' | 'U' | 'E' | 'X' | 'R' | 'N' | 'H' | 'M' | 'D' | 'T' => modifiers.push(c),
            '{' => {
                let inside = &text[at + 1..];
                let end = inside.find('}').ok_or_else(|| VariableError(format!("`}}' is missing in `%{text}'")))?;
                let value = piped(&inside[..end], lookup)?;
                out.push_str(&width.cut(&modified(value, &modifiers)?));
                return Ok(&inside[end + 1..]);
            }
            letter => {
                let name = long_name(letter).ok_or_else(|| VariableError(format!("unknown variable `%{letter}'")))?;
                let value = lookup(name).ok_or_else(|| VariableError(format!("no value for `%{letter}'")))?;
                out.push_str(&width.cut(&modified(value, &modifiers)?));
                return Ok(chars.as_str());
            }
        }
    }
    Err(VariableError("`%' at the end; write `%%'".into()))
}

/// `%2.3n`: skip two characters, keep three; `%3n`: keep three; a negative skip counts from the end.
#[derive(Default)]
struct Width {
    written: String,
}

impl Width {
    fn push(&mut self, c: char) {
        self.written.push(c);
    }

    fn cut(&self, value: &str) -> String {
        let (skip, keep) = match self.written.split_once('.') {
            Some((skip, keep)) => (skip.parse::<i64>().unwrap_or(0), keep.parse::<usize>().ok()),
            None => (0, self.written.parse::<usize>().ok()),
        };
        let count = value.chars().count();
        let skip = match usize::try_from(skip) {
            Ok(skip) => skip,
            Err(_) => count.saturating_sub(usize::try_from(skip.unsigned_abs()).unwrap_or(usize::MAX)),
        };
        value.chars().skip(skip).take(keep.unwrap_or(usize::MAX)).collect()
    }
}

fn modified(mut value: String, modifiers: &[char]) -> Result<String, VariableError> {
    for modifier in modifiers {
        value = match modifier {
            'L' => value.to_lowercase(),
            'U' => value.to_uppercase(),
            'R' => value.chars().rev().collect(),
            'T' => value.trim_end().to_owned(),
            'D' => value.replace('.', ",dc="),
            'X' => value.parse::<u64>().map_or(value, |number| format!("{number:x}")),
            other => return Err(VariableError(format!("modifier `%{other}' is not built"))),
        };
    }
    Ok(value)
}

/// `name`, or 2.4's `name | filter | filter(argument)`.
fn piped(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, VariableError> {
    let mut parts = text.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let mut value = lookup(name).ok_or_else(|| VariableError(format!("unknown variable `%{{{name}}}'")))?;
    for filter in parts {
        value = filtered(value, filter)?;
    }
    Ok(value)
}

fn filtered(value: String, filter: &str) -> Result<String, VariableError> {
    let (name, argument) = match filter.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.trim_end().trim_end_matches(')').trim_matches(['"', '\''])),
        None => (filter, ""),
    };
    let around = |value: &str| value.rsplit_once('@').map(|(user, domain)| (user.to_owned(), domain.to_owned()));
    Ok(match name {
        "lower" => value.to_lowercase(),
        "upper" => value.to_uppercase(),
        "reverse" => value.chars().rev().collect(),
        "rtrim" => value.trim_end().to_owned(),
        "ltrim" => value.trim_start().to_owned(),
        "username" => around(&value).map_or(value, |(user, _)| user),
        "domain" => around(&value).map_or(String::new(), |(_, domain)| domain),
        "default" if value.is_empty() => argument.to_owned(),
        "default" => value,
        "substr" => {
            let mut numbers = argument.split(',').map(|number| number.trim().parse::<usize>());
            let start = numbers.next().and_then(Result::ok).unwrap_or(0);
            let length = numbers.next().and_then(Result::ok).unwrap_or(usize::MAX);
            value.chars().skip(start).take(length).collect()
        }
        "hex" => {
            let width = argument.parse::<usize>().unwrap_or(0).min(64);
            value.parse::<u64>().map_or(value, |number| format!("{number:0width$x}"))
        }
        other => return Err(VariableError(format!("filter `{other}' is not built"))),
    })
}

fn long_name(letter: char) -> Option<&'static str> {
    Some(match letter {
        'u' => "user",
        'n' => "username",
        'd' => "domain",
        'h' => "home",
        's' => "service",
        'r' => "rip",
        'l' => "lip",
        'a' => "lport",
        'b' => "rport",
        'p' => "pid",
        'i' => "uid",
        'm' => "mechanism",
        'w' => "password",
        'c' => "secured",
        'k' => "cert",
        'e' => "mail_pid",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        Some(match name {
            "user" => "John@Info.net".to_owned(),
            "username" => "John".to_owned(),
            "domain" => "Info.net".to_owned(),
            "home" => "/home/%u".to_owned(),
            "uid" => "255".to_owned(),
            _ => return None,
        })
    }

    #[test]
    fn both_generations_of_variables_are_replaced() {
        let cases = [
            ("/var/vmail/%d/%n", "/var/vmail/Info.net/John"),
            ("%Lu", "john@info.net"),
            ("%{user}|%{user | lower}", "John@Info.net|john@info.net"),
            ("%1n/%1.1n/%-2.2n", "J/o/hn"),
            ("%{user | username | upper}@%{user|domain}", "JOHN@Info.net"),
            ("100%%", "100%"),
            ("%Xi %{uid | hex(8)}", "ff 000000ff"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, &lookup).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_value_is_never_expanded_again() {
        assert_eq!(expand("%h", &lookup).as_deref(), Ok("/home/%u"));
    }

    #[test]
    fn unknown_variables_are_errors() {
        for text in ["%", "%Q", "%{nothing}", "%{user", "%{user | rot13}", "%L"] {
            assert!(expand(text, &lookup).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_variables(text in "[%{}a-zA-Z0-9.|() é-]{0,30}") {
            let _ = expand(&text, &lookup);
        }
    }
}
