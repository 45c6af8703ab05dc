//! Addresses as people and headers write them: lists, names, comments, groups, routes (RFC 5322 section 3.4 and 4.4).
//!
//! The reader is as lenient as Postfix's: words that stand side by side without `.` or `@` between them are addresses of their own.

/// The most addresses that are taken from one text; what follows is not read.
const ADDRESSES_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// An atom, a quoted string with its quotes, or a domain literal with its brackets.
    Word(String),
    Special(char),
}

/// All addresses of a list, in the form for the wire: comments, names, group names and routes removed.
///
/// The empty address `<>` is left out.
#[must_use]
pub fn addresses(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for entry in entries(&tokens) {
        // A group's name ends with a colon; inside <> a colon ends a route.
        let entry = match entry.iter().position(|token| matches!(token, Token::Special(':' | '<'))) {
            Some(at) if entry[at] == Token::Special(':') => &entry[at + 1..],
            _ => entry,
        };
        match entry.iter().position(|token| *token == Token::Special('<')) {
            Some(at) => found.extend(route_address(&entry[at + 1..])),
            None => found.extend(bare_addresses(entry)),
        }
        if found.len() >= ADDRESSES_MAX {
            break;
        }
    }
    found.truncate(ADDRESSES_MAX);
    found
}

/// Cuts a list at its commas and semicolons; a comma between the hops of a route is none of them.
fn entries(tokens: &[Token]) -> Vec<&[Token]> {
    let mut entries = Vec::new();
    let (mut start, mut in_route) = (0, false);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Special('<') => in_route = tokens.get(at + 1) == Some(&Token::Special('@')),
            Token::Special('>' | ':') => in_route = false,
            Token::Special(',' | ';') if !in_route => {
                entries.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries.push(&tokens[start..]);
    entries
}

/// The inside of `<...>`; a route `@a,@b:` before the address is dropped (RFC 5321 appendix C: ignore it).
fn route_address(tokens: &[Token]) -> Option<String> {
    let end = tokens.iter().position(|token| *token == Token::Special('>')).unwrap_or(tokens.len());
    let inside = &tokens[..end];
    let start = inside.iter().rposition(|token| *token == Token::Special(':')).map_or(0, |at| at + 1);
    let text: String = inside[start..].iter().map(spelling).collect();
    (!text.is_empty()).then_some(text)
}

fn bare_addresses(tokens: &[Token]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut after_word = false;
    for token in tokens {
        let is_word = matches!(token, Token::Word(_));
        match found.last_mut() {
            Some(last) if !(after_word && is_word) => last.push_str(&spelling(token)),
            _ => found.push(spelling(token)),
        }
        after_word = is_word;
    }
    found
}

fn spelling(token: &Token) -> String {
    match token {
        Token::Word(text) => text.clone(),
        Token::Special(special) => special.to_string(),
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '(' => skip_comment(&mut chars),
            '"' => tokens.push(Token::Word(enclosed('"', '"', &mut chars))),
            '[' => tokens.push(Token::Word(enclosed('[', ']', &mut chars))),
            ',' | ';' | ':' | '<' | '>' | '@' | '.' => tokens.push(Token::Special(c)),
            _ if c.is_whitespace() || c.is_control() => {}
            _ => {
                let mut word = c.to_string();
                while let Some(&next) = chars.peek()
                    && !"()<>@,;:\".[]".contains(next)
                    && !next.is_whitespace()
                    && !next.is_control()
                {
                    word.push(next);
                    chars.next();
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

/// Comments nest; a backslash quotes (RFC 5322 section 3.2.2).
fn skip_comment(chars: &mut impl Iterator<Item = char>) {
    let mut depth = 1;
    while depth > 0 {
        match chars.next() {
            Some('(') => depth += 1,
            Some(')') => depth -= 1,
            Some('\\') => drop(chars.next()),
            Some(_) => {}
            None => return,
        }
    }
}

/// A quoted string or domain literal with its delimiters; one that does not end is closed. Control characters are left out.
fn enclosed(open: char, close: char, chars: &mut impl Iterator<Item = char>) -> String {
    let mut word = open.to_string();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                if let Some(quoted) = chars.next().filter(|quoted| !quoted.is_control()) {
                    word.push('\\');
                    word.push(quoted);
                }
            }
            _ if c == close => break,
            _ if c.is_control() => {}
            _ => word.push(c),
        }
    }
    word.push(close);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_people_write_them() {
        let cases: &[(&str, &[&str])] = &[
            ("john", &["john"]),
            ("john, mary@info.net", &["john", "mary@info.net"]),
            ("John Smith <john@info.net>, mary", &["john@info.net", "mary"]),
            ("\"Smith, John\" <john@info.net>", &["john@info.net"]),
            ("john@info.net (John, the one)", &["john@info.net"]),
            ("friends: john@a.b, mary@c.d;, third@e.f", &["john@a.b", "mary@c.d", "third@e.f"]),
            ("undisclosed-recipients:;", &[]),
            ("<@relay.a,@relay.b:john@c.d>", &["john@c.d"]),
            ("\"two words\"@info.net", &["\"two words\"@info.net"]),
            ("\"a\\\"b\"@info.net", &["\"a\\\"b\"@info.net"]),
            ("john @ info . net", &["john@info.net"]),
            ("odd name@other.example", &["odd", "name@other.example"]),
            ("user@[192.0.2.1]", &["user@[192.0.2.1]"]),
            ("<>", &[]),
            (" , ,, ", &[]),
            ("j\u{f6}rg@info.net", &["j\u{f6}rg@info.net"]),
            ("unclosed (comment", &["unclosed"]),
        ];
        for (text, expected) in cases {
            assert_eq!(addresses(text), *expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_gives_an_address_with_a_control_character(text: String) {
            for address in addresses(&text) {
                proptest::prop_assert!(!address.is_empty() && !address.chars().any(char::is_control));
            }
        }
    }
}
