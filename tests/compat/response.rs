//! FETCH responses as values, so that a quoted string and a literal of the same octets are equal.

use std::collections::BTreeMap;

/// An element of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Atom(String),
    Text(String),
    List(Vec<Value>),
}

/// The data of each message of the untagged FETCH responses.
pub fn fetched(responses: &[String]) -> BTreeMap<u32, Vec<Value>> {
    let mut messages = BTreeMap::new();
    for response in responses {
        let mut rest = response.as_str();
        let mut words = Vec::new();
        read_list(&mut rest, &mut words);
        if let [Value::Atom(star), Value::Atom(number), Value::Atom(name), Value::List(data), ..] = &words[..]
            && (star.as_str(), name.as_str()) == ("*", "FETCH")
            && let Ok(number) = number.parse()
        {
            messages.insert(number, data.clone());
        }
    }
    messages
}

/// Reads elements up to a closing parenthesis or the end.
fn read_list(rest: &mut &str, list: &mut Vec<Value>) {
    loop {
        *rest = rest.trim_start_matches([' ', '\r', '\n']);
        let Some(first) = rest.chars().next() else { return };
        match first {
            '(' => {
                *rest = &rest[1..];
                let mut inner = Vec::new();
                read_list(rest, &mut inner);
                list.push(Value::List(inner));
            }
            ')' => {
                *rest = &rest[1..];
                return;
            }
            '"' => list.push(quoted(rest)),
            '{' => list.push(literal(rest)),
            _ => list.push(atom(rest)),
        }
    }
}

fn quoted(rest: &mut &str) -> Value {
    let mut text = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => {
                text.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                *rest = &rest[at + 1..];
                return Value::Text(text);
            }
            _ => text.push(c),
        }
    }
    *rest = "";
    Value::Text(text)
}

/// The client puts a line feed between the announcement of a literal and its octets.
fn literal(rest: &mut &str) -> Value {
    let (length, after) = rest[1..].split_once("}\n").unwrap_or(("0", ""));
    // Octets that are no UTF-8 were replaced by longer ones: the length then counts characters no more, and the end is the next that fits.
    let end = length.parse().unwrap_or(0).min(after.len());
    let end = (end..=after.len()).find(|&at| after.is_char_boundary(at)).unwrap_or(after.len());
    let (text, after) = after.split_at(end);
    *rest = after;
    Value::Text(text.to_owned())
}

/// An atom; brackets may hold spaces and parentheses (`BODY[HEADER.FIELDS (TO)]`).
fn atom(rest: &mut &str) -> Value {
    let mut depth = 0;
    let end = rest.find(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(c, ' ' | '(' | ')' | '\r' | '\n')
    });
    let (atom, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    Value::Atom(atom.to_owned())
}
