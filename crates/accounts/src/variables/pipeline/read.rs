//! The syntax of a pipeline.

use super::{Argument, FILTERS, Pipeline, Step, USERNAME, What};
use crate::variables::{Name, VariableError};

/// Reads what follows `%{`, up to and without its `}`; gives the rest of the text.
///
/// # Errors
/// A variable or filter that is not built, wrong arguments, or a text that ends inside.
pub(in crate::variables) fn read(text: &str) -> Result<(Pipeline, &str), VariableError> {
    let mut words = Words { rest: text };
    let mut steps = Vec::new();
    loop {
        steps.push(words.step(steps.is_empty())?);
        // `| + 1` and `user % 256`: calculations are written without a name.
        while let Some(operator) = words.operator() {
            let right = words.argument()?;
            let arguments = vec![Argument::Text(operator.to_string()), right];
            steps.push(Step { what: What::Filter("calculate"), arguments, named: Vec::new() });
        }
        match words.next() {
            Some('|') => {}
            Some('}') => return Ok((Pipeline(steps), words.rest)),
            None => return Err(VariableError::Unfinished),
            Some(other) => return Err(VariableError::Unknown(format!("{{{}: `{other}'", before(text, words.rest)))),
        }
    }
}

/// The part of a text that has been read.
fn before<'a>(text: &'a str, rest: &str) -> &'a str {
    &text[..text.len() - rest.len()]
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn takes(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.next();
        }
        is_there
    }

    fn operator(&mut self) -> Option<char> {
        let operator = self.peek().filter(|c| matches!(c, '+' | '-' | '*' | '/' | '%'))?;
        self.next();
        Some(operator)
    }

    fn name(&mut self) -> &'a str {
        self.peek();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | ';' | '.');
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn step(&mut self, first: bool) -> Result<Step, VariableError> {
        let name = self.name();
        let unknown = || VariableError::Unknown(format!("{{{name}}}"));
        let is_call = self.peek() == Some('(');
        if let Some(variable) = Name::long(name).filter(|_| first && !is_call) {
            return Ok(Step { what: What::Variable(variable), arguments: Vec::new(), named: Vec::new() });
        }
        let mut built = FILTERS.iter().chain(std::iter::once(&USERNAME));
        let (filter, least, most, keys) = built.find(|(filter, ..)| *filter == name).ok_or_else(unknown)?;
        let (mut arguments, mut named) = (Vec::new(), Vec::new());
        if self.takes('(') {
            while !self.takes(')') {
                match self.key() {
                    Some(key) if !keys.contains(&key) => {
                        return Err(VariableError::Unknown(format!("{{{name}({key}=)}}")));
                    }
                    Some(key) => named.push((key.to_owned(), self.argument()?)),
                    None => arguments.push(self.argument()?),
                }
                if !self.takes(',') && self.peek() != Some(')') {
                    return Err(VariableError::Unfinished);
                }
            }
        }
        // A condition about what comes in has one argument less than one about its first.
        let count = arguments.len() + usize::from(!first && matches!(*filter, "if" | "switch"));
        let (least, most) = if *filter == "if" { (5, 5) } else { (*least, *most) };
        if count < least
            || count > most
            || matches!(*filter, "if" | "switch") && !comparison_is_built(&arguments, first)
        {
            return Err(VariableError::Unknown(format!("{{{name}}} with these arguments")));
        }
        Ok(Step { what: What::Filter(filter), arguments, named })
    }

    /// `name=` before an argument.
    fn key(&mut self) -> Option<&'a str> {
        self.peek();
        let before = self.rest;
        let key = self.name();
        if !key.is_empty() && self.takes('=') {
            return Some(key);
        }
        self.rest = before;
        None
    }

    fn argument(&mut self) -> Result<Argument, VariableError> {
        match self.peek() {
            Some(quote @ ('\'' | '"')) => {
                self.next();
                self.quoted(quote).map(Argument::Text)
            }
            Some(c) if c.is_ascii_digit() || c == '-' => {
                let digits = self.rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(self.rest.len(), |end| end + 1);
                let (number, rest) = self.rest.split_at(digits);
                self.rest = rest;
                number.parse().map(Argument::Number).map_err(|_| VariableError::Unknown(number.to_owned()))
            }
            Some(_) => {
                let name = self.name();
                Name::long(name).map(Argument::Variable).ok_or_else(|| VariableError::Unknown(format!("{{{name}}}")))
            }
            None => Err(VariableError::Unfinished),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, VariableError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, same @ ('\\' | '\'' | '"'))) => text.push(same),
                    _ => return Err(VariableError::Unknown("escaped character".to_owned())),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(VariableError::Unfinished)
    }
}

/// Whether the operator of `if` or `switch` is one that we can decide.
fn comparison_is_built(arguments: &[Argument], first: bool) -> bool {
    const OPERATORS: [&str; 14] = ["==", "!=", "<", "<=", ">", ">=", "eq", "ne", "lt", "le", "gt", "ge", "*", "!*"];
    match arguments.get(usize::from(first)) {
        Some(Argument::Text(operator)) => OPERATORS.contains(&operator.as_str()),
        _ => false,
    }
}
