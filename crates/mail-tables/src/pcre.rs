//! Perl-compatible expressions of `pcre:` tables in the words of our engine, which takes linear time whatever the key.
//!
//! What that engine has no words for (look-around, references to groups, possessive repetition) is refused by name: such a table fails
//! temporarily as a whole instead of deciding otherwise than Postfix would.

use regex::bytes::{Regex, RegexBuilder};

use crate::posix::octets;

/// Compiles an expression with the flags of pcre_table(5): each turns what it stands for off or on.
///
/// # Errors
/// What is wrong, or is not built.
pub(crate) fn compile(expression: &str, flags: &str) -> Result<Regex, String> {
    let (mut insensitive, mut multi_line, mut dot_all) = (true, false, true);
    let (mut extended, mut anchored, mut ungreedy) = (false, false, false);
    for flag in flags.chars() {
        match flag {
            'i' => insensitive = !insensitive,
            'm' => multi_line = !multi_line,
            's' => dot_all = !dot_all,
            'x' => extended = !extended,
            'A' => anchored = !anchored,
            'U' => ungreedy = !ungreedy,
            // Keys have no line end for `$` to stand before, and unknown escapes are refused in any case.
            'E' | 'X' => {}
            other => return Err(format!("unknown flag `{other}'")),
        }
    }
    let mut translated = translate(expression)?;
    if anchored {
        translated = format!("\\A(?:{translated})");
    }
    let mut builder = RegexBuilder::new(&translated);
    builder.unicode(false);
    builder.case_insensitive(insensitive).multi_line(multi_line).dot_matches_new_line(dot_all);
    builder.ignore_whitespace(extended).swap_greed(ungreedy);
    builder.build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("the pattern cannot be used: {reason}")
    })
}

/// What means something else to our engine is written in its words: `\d`, `\w`, `\s` and `\b` are of ASCII, `\<` is a character,
/// and in a class `[`, `&&`, `--` and `~~` stand for themselves.
fn translate(expression: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut class = false;
    // The character before, where it is outside of classes and stands for no character.
    let mut before = ' ';
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let last = std::mem::replace(&mut before, if !class && c != '\\' { c } else { ' ' });
        if !class && c == '+' && matches!(last, '*' | '+' | '?' | '}') {
            return Err("possessive repetition in a pattern is not built".to_owned());
        }
        if c == '\\' {
            let escaped = after.chars().next().ok_or("the pattern ends in a backslash")?;
            rest = &after[escaped.len_utf8()..];
            out.push_str(&escape(escaped, class)?);
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

pub(crate) fn escape(escaped: char, in_class: bool) -> Result<String, String> {
    let (word, space) = ("0-9A-Za-z_", "\\t-\\r ");
    Ok(match (escaped, in_class) {
        ('d', false) => "[0-9]".to_owned(),
        ('D', false) => "[^0-9]".to_owned(),
        ('w', false) => format!("[{word}]"),
        ('W', false) => format!("[^{word}]"),
        ('s', false) => format!("[{space}]"),
        ('S', false) => format!("[^{space}]"),
        ('h', false) => "[ \\t]".to_owned(),
        ('b', false) => "(?-u:\\b)".to_owned(),
        ('B', false) => "(?-u:\\B)".to_owned(),
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
        compile(expression, flags).unwrap_or_else(|error| panic!("{expression}: {error}")).is_match(key.as_bytes())
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
        assert_eq!(&lazy.captures(b"aaa").expect("matches")[1], b"a");
    }

    #[test]
    fn what_has_no_words_here_is_refused() {
        for expression in [
            r"^(?!a)b",
            r"(a)\1",
            r"a++",
            r"(?>a)",
            r"(?<=a)b",
            r"\Qa\E",
            r"\p{L}x\K",
            r"\G",
            "a\\",
            "[[:x",
            "(",
            r"[\D]",
        ] {
            compile(expression, "").expect_err(expression);
        }
        compile("a", "q").expect_err("an unknown flag");
    }

    proptest::proptest! {
        #[test]
        fn no_expression_breaks_the_translation(text in "[\\\\a-c\\[\\]:^&~(){}?*+.$|<>é-]{0,40}", key in "[a-c]{0,8}") {
            if let Ok(regex) = compile(&text, "") {
                let _ = regex.is_match(key.as_bytes());
            }
        }
    }
}
