//! Perl-compatible expressions of `pcre:` tables in the words of our engines.
//!
//! One takes linear time whatever the key. What it has no words for (look-around, references to groups, atomic groups, possessive repetition) the other one
//! carries out, with a limit of steps. What neither knows is refused: such a table fails temporarily as a whole instead of deciding otherwise than Postfix would.

use crate::pattern::{Pattern, Reading};
use crate::posix::octets;

/// Compiles an expression with the flags of pcre_table(5): each turns what it stands for off or on.
///
/// # Errors
/// What is wrong, or is not built.
pub(crate) fn compile(expression: &str, flags: &str) -> Result<Pattern, String> {
    let mut reading = Reading { case_insensitive: true, dot_all: true, ..Reading::default() };
    let mut anchored = false;
    for flag in flags.chars() {
        match flag {
            'i' => reading.case_insensitive = !reading.case_insensitive,
            'm' => reading.multi_line = !reading.multi_line,
            's' => reading.dot_all = !reading.dot_all,
            'x' => reading.extended = !reading.extended,
            'A' => anchored = !anchored,
            'U' => reading.lazy = !reading.lazy,
            // Keys have no line end for `$` to stand before, and unknown escapes are refused in any case.
            'E' | 'X' => {}
            other => return Err(format!("unknown flag `{other}'")),
        }
    }
    let written = |words| -> Result<String, String> {
        let translated = translate(expression, words)?;
        Ok(if anchored { format!("\\A(?:{translated})") } else { translated })
    };
    let linear = written(Words::Linear).and_then(|expression| Pattern::linear(&expression, reading));
    linear.or_else(|_| Pattern::backtracking(&written(Words::Backtracking)?, reading))
}

/// Whose words an expression is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// Of the engine of linear time.
    Linear,
    /// Of the one that goes back.
    Backtracking,
}

/// What means something else to our engine is written in its words: `\d`, `\w`, `\s` and `\b` are of ASCII, `\<` is a character,
/// and in a class `[`, `&&`, `--` and `~~` stand for themselves.
fn translate(expression: &str, words: Words) -> Result<String, String> {
    let mut out = String::new();
    let mut class = false;
    // The character before, where it is outside of classes and stands for no character.
    let mut before = ' ';
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let last = std::mem::replace(&mut before, if !class && c != '\\' { c } else { ' ' });
        if words == Words::Linear && !class && c == '+' && matches!(last, '*' | '+' | '?' | '}') {
            return Err("possessive repetition in a pattern is not built".to_owned());
        }
        if c == '\\' {
            let escaped = after.chars().next().ok_or("the pattern ends in a backslash")?;
            rest = &after[escaped.len_utf8()..];
            if escaped == 'Q' {
                let (text, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                text.chars().for_each(|c| out.push_str(&octets(c).concat()));
                rest = after;
            } else if !class && words == Words::Backtracking && "123456789gkKG".contains(escaped) {
                rest = reference(escaped, rest, &mut out)?;
            } else {
                out.push_str(&escape(escaped, class, words)?);
            }
            continue;
        }
        match (class, c) {
            (false, '[') => {
                class = true;
                out.push('[');
                // `[]a]` and `[^]a]` hold a bracket.
                let negated = after.starts_with('^');
                let after = if negated { &after[1..] } else { after };
                out.push_str(if negated { "^" } else { "" });
                rest = after.strip_prefix(']').inspect(|_| out.push_str("\\]")).unwrap_or(after);
                continue;
            }
            (true, '[') if after.starts_with(':') => {
                let end = after.find(":]").ok_or("`[:' without `:]' in a class")? + 2;
                out.push('[');
                out.push_str(&after[..end]);
                rest = &after[end..];
                continue;
            }
            (true, ']') => {
                class = false;
                out.push(']');
            }
            (true, '[' | '&' | '~') => {
                out.push('\\');
                out.push(c);
            }
            (true, '-') if after.starts_with('-') => out.push_str("\\-"),
            (_, c) if !c.is_ascii() => out.push_str(&octets(c).concat()),
            _ => out.push(c),
        }
        rest = after;
    }
    Ok(out)
}

/// Writes `\\1`, `\\g1`, `\\g{1}`, `\\k<name>`, `\\K` and `\\G`; gives what follows.
fn reference<'a>(escaped: char, rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    match escaped {
        'K' => out.push_str("\\K"),
        // Keys are searched from their beginning.
        'G' => out.push_str("\\A"),
        'k' => out.push_str("\\k"),
        'g' => {
            let braces = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = braces.unwrap_or_else(|| rest.split_at(end));
            let number: u32 = number.parse().map_err(|_| format!("`\\g{number}' in a pattern is not built"))?;
            out.push_str(&format!("(?:\\{number})"));
            return Ok(after);
        }
        digit => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            out.push_str(&format!("(?:\\{digit}{})", &rest[..end]));
            return Ok(&rest[end..]);
        }
    }
    Ok(rest)
}

/// What a backslash makes of the character behind it.
pub(crate) fn escape(escaped: char, in_class: bool, words: Words) -> Result<String, String> {
    let (word, space) = ("0-9A-Za-z_", "\\t-\\r ");
    Ok(match (escaped, in_class) {
        ('d', false) => "[0-9]".to_owned(),
        ('D', false) => "[^0-9]".to_owned(),
        ('w', false) => format!("[{word}]"),
        ('W', false) => format!("[^{word}]"),
        ('s', false) => format!("[{space}]"),
        ('S', false) => format!("[^{space}]"),
        ('h', false) => "[ \\t]".to_owned(),
        ('b' | 'B', false) if words == Words::Backtracking => format!("\\{escaped}"),
        ('b' | 'B', false) => format!("(?-u:\\{escaped})"),
        ('Z', false) => "\\z".to_owned(),
        ('d', true) => "0-9".to_owned(),
        ('w', true) => word.to_owned(),
        ('s', true) => space.to_owned(),
        ('h', true) => " \\t".to_owned(),
        ('A' | 'z' | 't' | 'n' | 'r' | 'f' | 'v' | 'a' | 'x', _) => format!("\\{escaped}"),
        ('e', _) => "\\x1b".to_owned(),
        (c, _) if c.is_ascii_alphanumeric() => return Err(format!("`\\{c}' in a pattern is not built")),
        ('<' | '>', _) => escaped.to_string(),
        (c, _) if c.is_ascii_punctuation() => format!("\\{c}"),
        (c, _) => octets(c).concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, flags: &str, key: &str) -> bool {
        let pattern = compile(expression, flags).unwrap_or_else(|error| panic!("{expression}: {error}"));
        pattern.is_match(key.as_bytes()).expect("few steps")
    }

    #[test]
    fn expressions_mean_what_pcre_means_by_them() {
        for (expression, flags, key, wanted) in [
            (r"^\d{1,3}(-|\.)", "", "10-11.dsl.example.net", true),
            (r"^\d+$", "", "١٢", false),
            (r"^\w+$", "", "é", false),
            (r"\bviagra\b", "", "buy VIAGRA now", true),
            (r"\bviagra\b", "i", "buy VIAGRA now", false),
            (r"<a\@b\.c\>", "", "<a@b.c>", true),
            (r"^[]x]+$", "", "]x", true),
            (r"^[^]x]+$", "", "ab", true),
            (r"^[[a]+$", "", "[a", true),
            (r"^[a&&b]+$", "", "&", true),
            (r"^[\w.-]+@[[:alnum:].-]+$", "", "a.b@c-d.org", true),
            (r"a . b", "x", "axb", true),
            (r"b", "A", "ab", false),
            (r"^a.b$", "", "a\nb", true),
            (r"^a.b$", "s", "a\nb", false),
            (r"^b$", "m", "a\nb", true),
            (r"^\.(exe|scr|pif)\s*$", "", ".scr  ", true),
            (r"name=[^>]*\.(bat|com)", "", "name=\"x.BAT\"", true),
            (r"^(?:a|b)*?c$", "", "abac", true),
            (r"^\[127\.0\.0\.1\]$", "", "[127.0.0.1]", true),
        ] {
            assert_eq!(matches(expression, flags, key), wanted, "{expression} {key}");
        }
        let lazy = compile("(a+)(.*)", "U").expect("compiles");
        assert_eq!(lazy.find(b"aaa").expect("few steps").expect("matches")[1], Some(0..1));
    }

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn what_the_linear_engine_has_no_words_for_is_carried_out_too() {
        for (expression, flags, key, wanted) in [
            (r"^(?!a)b", "", "b", true),
            (r"^(?!owner-).*@x\.org$", "", "owner-list@x.org", false),
            (r"^(?!owner-).*@x\.org$", "", "list@X.org", true),
            (r"(?<!no)reply@", "", "noreply@x", false),
            (r"(?<!no)reply@", "", "reply@x", true),
            (r"(?<=^|\.)x$", "", "a.x", true),
            (r"^(\w)\1$", "", "aA", true),
            (r"^(\w)\1$", "i", "aA", false),
            (r"^(a)(b)\g2\g{1}$", "", "abba", true),
            (r"^(?<one>a)\k<one>$", "", "aa", true),
            (r"^a++a", "", "aaa", false),
            (r"^(?>a*)b$", "", "aab", true),
            (r"^(?=.*1)[a-z0-9]+$", "", "ab1", true),
            (r"^\Qa.b\E+$", "", "a.bb", true),
            (r"^\Qa.b\E$", "", "axb", false),
            (r"\Ga", "", "ba", false),
            (r"^(?!é).$", "", "é", false),
            (r"^(?!x)..$", "", "é", true),
            (r"^(?!x)\bb\B", "", "bb", true),
            (r"(?i-s:^(?!b).c)", "", "AC", true),
        ] {
            assert_eq!(matches(expression, flags, key), wanted, "{expression} {key}");
        }
    }

    #[test]
    fn a_pattern_that_takes_too_long_says_so() {
        let slow = compile(r"^(?!x)(a|a)*\1$", "").expect("compiles");
        let said = slow.find(&[b'a'; 60].map(|a| a)).and_then(|_| slow.find(&[[b'a'; 60].as_slice(), b"b"].concat()));
        assert!(said.is_err_and(|why| why.contains("too many steps")));
    }

    #[test]
    fn what_has_no_words_here_is_refused() {
        for expression in
            [r"\p{L}x", "a\\", "[[:x", "(", r"[\D]", r"(?|a|b)(?!c)", r"(a)\2", r"(?!a", r"(*ACCEPT)", r"(?<=a*)b"]
        {
            assert!(compile(expression, "").is_err(), "{expression}");
        }
        assert!(compile("a", "q").is_err() && compile("(?!a)", "U").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_expression_breaks_the_translation(text in "[\\\\a-c\\[\\]:^&~(){}?*+.$|<>é-]{0,40}", key in "[a-c]{0,8}") {
            if let Ok(pattern) = compile(&text, "") {
                let _ = pattern.find(key.as_bytes());
            }
        }
    }
}
