//! `$name` expansion of main.cf values, as postconf(5) describes it.
//!
//! `$name`, `${name}`, `$(name)`; `${name?text}` and `${name?{text}}` if the parameter is not empty; `${name:text}` and
//! `${name:{text}}` if it is; `${name?{a}:{b}}`; `${{left} op {right} ? {a} : {b}}` with `== != < <= > >=` on texts and
//! whole numbers and `<level` and the like on compatibility levels; `$$` is a dollar.

use std::cmp::Ordering;

/// The deepest nesting of parameters that name parameters.
const DEPTH_MAX: usize = 100;
/// The longest text that an expansion may have; a few lines that double each other could otherwise fill the memory.
const LENGTH_MAX: usize = 1 << 20;

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandError(pub String);

/// Where names are looked up.
pub trait Scope {
    /// The unexpanded value of a parameter, or nothing if there is no such parameter.
    fn raw(&self, name: &str) -> Option<String>;

    /// Is told of each name that nothing defines.
    fn undefined(&self, name: &str);
}

/// Expands a value and what it names, to the end.
///
/// # Errors
/// [`ExpandError`] for unbalanced braces, a loop of parameters, or a broken condition.
pub fn expand(text: &str, scope: &dyn Scope) -> Result<String, ExpandError> {
    let mut out = String::new();
    expand_into(text, scope, &mut out, 0)?;
    Ok(out)
}

fn expand_into(text: &str, scope: &dyn Scope, out: &mut String, depth: usize) -> Result<(), ExpandError> {
    if depth > DEPTH_MAX {
        return Err(ExpandError("the parameters name each other in a circle".into()));
    }
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = match rest.chars().next() {
            Some('$') => {
                out.push('$');
                &rest[1..]
            }
            Some(open @ ('{' | '(')) => {
                let end = closing(rest, open)?;
                expand_braced(&rest[1..end], scope, out, depth)?;
                &rest[end + 1..]
            }
            _ => {
                let end = name_end(rest);
                if end == 0 {
                    return Err(ExpandError("a name must follow `$'; write `$$' for a dollar".into()));
                }
                expand_name(&rest[..end], scope, out, depth)?;
                &rest[end..]
            }
        };
        if out.len() > LENGTH_MAX {
            return Err(ExpandError("the expanded value is longer than 1 MiB".into()));
        }
    }
    out.push_str(rest);
    Ok(())
}

fn expand_name(name: &str, scope: &dyn Scope, out: &mut String, depth: usize) -> Result<(), ExpandError> {
    match scope.raw(name) {
        Some(value) => expand_into(&value, scope, out, depth + 1),
        None => {
            scope.undefined(name);
            Ok(())
        }
    }
}

/// What stands between the braces of `${...}`.
fn expand_braced(inside: &str, scope: &dyn Scope, out: &mut String, depth: usize) -> Result<(), ExpandError> {
    let inside = inside.trim_start();
    let (truth, rest) = if inside.starts_with('{') {
        let (truth, rest) = compare(inside, scope, depth)?;
        (truth, rest)
    } else {
        let end = name_end(inside);
        let (name, rest) = (&inside[..end], inside[end..].trim_start()); // a blank at the end belongs to the text
        if name.is_empty() {
            return Err(ExpandError(format!("no parameter name in `${{{inside}}}'")));
        }
        if rest.is_empty() {
            return expand_name(name, scope, out, depth);
        }
        (scope.raw(name).is_some_and(|value| !value.is_empty()), rest)
    };
    let (if_true, if_false) = branches(rest)?;
    let chosen = if truth { if_true } else { if_false };
    expand_into(chosen, scope, out, depth + 1)
}

/// `{left} op {right}` and what follows it.
fn compare<'a>(text: &'a str, scope: &dyn Scope, depth: usize) -> Result<(bool, &'a str), ExpandError> {
    let (left, rest) = braced(text)?;
    let rest = rest.trim_start();
    let end = rest.find('{').ok_or_else(|| ExpandError(format!("`{{' is missing after `{}'", rest.trim())))?;
    let operator = rest[..end].trim();
    let (right, rest) = braced(&rest[end..])?;
    let (mut a, mut b) = (String::new(), String::new());
    expand_into(left, scope, &mut a, depth + 1)?;
    expand_into(right, scope, &mut b, depth + 1)?;
    let order = if let Some(plain) = operator.strip_suffix("level") {
        return Ok((decide(plain, level(&a)?.cmp(&level(&b)?), operator)?, rest));
    } else if let (Ok(a), Ok(b)) = (a.parse::<i64>(), b.parse::<i64>()) {
        a.cmp(&b)
    } else {
        a.cmp(&b)
    };
    Ok((decide(operator, order, operator)?, rest))
}

fn decide(operator: &str, order: Ordering, written: &str) -> Result<bool, ExpandError> {
    Ok(match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        _ => return Err(ExpandError(format!("unknown comparison `{written}'"))),
    })
}

/// A compatibility level: major, minor and patch, of which the last two may be missing.
pub(crate) fn level(text: &str) -> Result<[u32; 3], ExpandError> {
    let mut numbers = [0; 3];
    let mut parts = text.trim().split('.');
    for number in &mut numbers {
        let Some(part) = parts.next() else { break };
        *number = part.parse().map_err(|_| ExpandError(format!("`{text}' is no compatibility level")))?;
    }
    if parts.next().is_some() { Err(ExpandError(format!("`{text}' is no compatibility level"))) } else { Ok(numbers) }
}

/// `?text`, `:text`, `?{a}:{b}`: what holds if the condition is true and if it is false.
fn branches(text: &str) -> Result<(&str, &str), ExpandError> {
    let text = text.trim_start();
    let after = text.get(1..).unwrap_or_default();
    match text.chars().next() {
        Some(':') => Ok(("", whole(after)?)),
        Some('?') if after.trim_start().starts_with('{') => {
            let (if_true, rest) = kept(after.trim_start())?;
            let rest = rest.trim_start();
            match rest.strip_prefix(':') {
                Some(other) => Ok((if_true, whole(other)?)),
                None if rest.is_empty() => Ok((if_true, "")),
                None => Err(ExpandError(format!("`:' expected before `{rest}'"))),
            }
        }
        Some('?') => Ok((after.trim_start(), "")),
        _ => Err(ExpandError(format!("`?' or `:' expected before `{text}'"))),
    }
}

/// A text that is either in braces or the whole rest.
fn whole(text: &str) -> Result<&str, ExpandError> {
    if !text.trim_start().starts_with('{') {
        return Ok(text.trim_start());
    }
    let (inside, rest) = kept(text.trim_start())?;
    if rest.trim().is_empty() { Ok(inside) } else { Err(ExpandError(format!("unexpected `{}'", rest.trim()))) }
}

/// The inside of `{...}` without white space at its ends, and what follows.
fn braced(text: &str) -> Result<(&str, &str), ExpandError> {
    kept(text).map(|(inside, rest)| (inside.trim(), rest))
}

/// The inside of `{...}` as it is, and what follows.
fn kept(text: &str) -> Result<(&str, &str), ExpandError> {
    let end = closing(text, '{')?;
    Ok((&text[1..end], &text[end + 1..]))
}

/// Where the bracket that opens `text` is closed.
fn closing(text: &str, open: char) -> Result<usize, ExpandError> {
    let close = if open == '{' { '}' } else { ')' };
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Ok(at);
            }
        }
    }
    Err(ExpandError(format!("`{close}' is missing")))
}

fn name_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The parameter names that a text mentions with `$`, without deciding any condition.
pub fn mentioned(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = rest.starts_with(['{', '(']);
        // What a comparison mentions stands behind a `$` of its own.
        let name = if braced { rest[1..].trim_start() } else { rest };
        let end = name_end(name);
        if end > 0 {
            names.push(name[..end].to_owned());
        }
        rest = &name[end..];
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Map(BTreeMap<&'static str, &'static str>);

    impl Scope for Map {
        fn raw(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|v| (*v).to_owned())
        }

        fn undefined(&self, _: &str) {}
    }

    fn scope() -> Map {
        Map(BTreeMap::from([
            ("a", "1"),
            ("empty", ""),
            ("b", "<$a>"),
            ("loop", "$loop"),
            ("compatibility_level", "3.6"),
            ("twice", "${b} $(b)"),
        ]))
    }

    // Each line was compared with `postconf -x` of Postfix 3.7.11.
    #[test]
    fn values_expand_as_postconf_shows_them() {
        let cases = [
            ("$a${b}$(b)x", "1<1><1>x"),
            ("$twice", "<1> <1>"),
            ("a$$b", "a$b"),
            ("${a?yes}${empty?no}", "yes"),
            ("${a?x y }z ${a ? x}| ${ a }|", "x y z x| 1|"),
            ("${a:no}${empty:yes}", "yes"),
            ("${a?{x}:{y}}${empty?{x}:{y}}", "xy"),
            ("${a?{$b}}", "<1>"),
            ("${a?{ x }:{ y }}|${empty?{ x }:{ y }}|", " x | y |"),
            ("${nothing}|", "|"),
            ("${{$compatibility_level} <level {1} ? {yes} : {no}}", "no"),
            ("${{$compatibility_level} >=level {3.5.9} ? {yes} : {no}}", "yes"),
            ("${{$a} == {1} ? {same} : {other}}", "same"),
            ("${{abc} < {abd} ? {less}}", "less"),
            ("${{10} < {9} ? {text} : {number}}", "number"),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, &scope()).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn names_are_mentioned_behind_a_dollar_only() {
        let text = "$a ${b} $(c) $$ d ${{5} < {$e} ? {$f} : {g}} ${ h ? i } $$j";
        assert_eq!(mentioned(text), ["a", "b", "c", "e", "f", "h"]);
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error() {
        for text in
            ["$loop", "${a", "$(a", "${}", "$", "${a!b}", "${{a} =~ {b} ? {x} : {y}}", "${{a} == {b}", "${a?{x}y}"]
        {
            assert!(expand(text, &scope()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_expansion(text in "[$(){}?:ab <=level]{0,40}") {
            let _ = expand(&text, &scope());
            let _ = mentioned(&text);
        }
    }
}
