//! Editing main.cf: `-e` sets, `-#` comments out, `-X` removes. Comments and everything that is not named stay as they are, byte for byte.
//!
//! Of several definitions of a name all are changed, as Postfix's postconf does.

use std::collections::BTreeMap;

use crate::exit::Failure;

/// What happens to a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It gets this value.
    Set(String),
    /// Its lines become comments.
    Comment,
    /// Its lines go.
    Remove,
}

/// Edits by name.
pub type Edits = BTreeMap<String, Edit>;

/// Reads `NAME = VALUE`.
///
/// # Errors
/// A sentence in Postfix's words.
pub fn assignment(text: &str) -> Result<(String, Edit), Failure> {
    one_line(text)?;
    let (name, value) =
        text.split_once('=').ok_or_else(|| Failure::usage(format!("missing '=' after attribute name: \"{text}\"")))?;
    Ok((attribute(name, text)?, Edit::Set(value.trim().to_owned())))
}

/// Reads the operand of `-#` or `-X`: a name alone.
///
/// # Errors
/// A sentence in Postfix's words.
pub fn name(text: &str, edit: Edit) -> Result<(String, Edit), Failure> {
    one_line(text)?;
    if text.contains('=') {
        let option = if edit == Edit::Remove { 'X' } else { '#' };
        return Err(Failure::usage(format!("-{option} requires names without value: \"{text}\"")));
    }
    Ok((attribute(text, text)?, edit))
}

fn one_line(text: &str) -> Result<(), Failure> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Failure::usage("-e, -X, or -# accepts no multi-line input"));
    }
    Ok(())
}

fn attribute(name: &str, whole: &str) -> Result<String, Failure> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Failure::usage(format!("missing attribute name: \"{whole}\"")));
    }
    // A name with a space would be read back as another; one with `#' as a comment.
    if name.contains(char::is_whitespace) || name.starts_with('#') {
        return Err(Failure::usage(format!("missing '=' after attribute name: \"{whole}\"")));
    }
    Ok(name.to_owned())
}

/// The text of main.cf after the edits.
#[must_use]
pub fn edited(text: &str, edits: &Edits) -> String {
    let mut out = String::with_capacity(text.len() + 80);
    let mut found = std::collections::BTreeSet::new();
    // What happens to the continuation lines that follow.
    let mut current: Option<&Edit> = None;
    for line in text.split_inclusive('\n') {
        let is_note = line.trim().is_empty() || line.trim_start().starts_with('#');
        if !is_note && !line.starts_with([' ', '\t']) {
            let name = line.split('=').next().unwrap_or_default().trim();
            current = edits.get(name);
            if let Some(Edit::Set(value)) = current {
                out.push_str(&format!("{name} = {value}\n"));
            }
            found.insert(name);
        }
        match current {
            // Comments and empty lines between continuation lines are not the parameter's.
            _ if is_note => out.push_str(line),
            None => out.push_str(line),
            Some(Edit::Comment) => {
                out.push('#');
                out.push_str(line);
            }
            Some(Edit::Set(_) | Edit::Remove) => {}
        }
    }
    let missing = edits.iter().filter(|(name, _)| !found.contains(name.as_str()));
    for (name, value) in missing.filter_map(|(name, edit)| Some((name, set(edit)?))) {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("{name} = {value}\n"));
    }
    out
}

fn set(edit: &Edit) -> Option<&str> {
    if let Edit::Set(value) = edit { Some(value) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN_CF: &str = "# comment\n\nmyhostname = a.b.c\nmydomain=b.c\nmynetworks = 127.0.0.0/8,\n  # inner comment\n  10.0.0.0/8\n\n  \
                           192.168.0.0/16\nrelayhost =\nmydomain = second\n# end\n";

    fn after(edits: &[(&str, Edit)]) -> String {
        let edits = edits.iter().map(|(name, edit)| ((*name).to_owned(), edit.clone())).collect();
        edited(MAIN_CF, &edits)
    }

    // What Postfix 3.7.11 made of the same file.
    #[test]
    fn the_file_reads_as_after_an_edit_by_postfix() {
        let set = |value: &str| Edit::Set(value.to_owned());
        assert_eq!(
            after(&[("mydomain", set("x y")), ("newparam", set("5"))]),
            MAIN_CF.replace("mydomain=b.c", "mydomain = x y").replace("mydomain = second", "mydomain = x y")
                + "newparam = 5\n"
        );
        assert_eq!(
            after(&[("mynetworks", set("1.2.3.4"))]),
            "# comment\n\nmyhostname = a.b.c\nmydomain=b.c\nmynetworks = 1.2.3.4\n  # inner comment\n\nrelayhost =\nmydomain = second\n# end\n"
        );
        assert_eq!(
            after(&[("mydomain", Edit::Comment), ("mynetworks", Edit::Comment)]),
            "# comment\n\nmyhostname = a.b.c\n#mydomain=b.c\n#mynetworks = 127.0.0.0/8,\n  # inner comment\n#  10.0.0.0/8\n\n#  192.168.0.0/16\n\
             relayhost =\n#mydomain = second\n# end\n"
        );
        assert_eq!(
            after(&[("mydomain", Edit::Remove), ("mynetworks", Edit::Remove), ("nonexist", Edit::Remove)]),
            "# comment\n\nmyhostname = a.b.c\n  # inner comment\n\nrelayhost =\n# end\n"
        );
    }

    #[test]
    fn a_file_without_final_newline_keeps_its_last_line() {
        let edits = [("b".to_owned(), Edit::Set("2".to_owned()))].into();
        assert_eq!(edited("a = 1", &edits), "a = 1\nb = 2\n");
    }

    #[test]
    fn operands_are_judged_as_postconf_judges_them() {
        assert_eq!(assignment(" x =  a b ").expect("good"), ("x".to_owned(), Edit::Set("a b".to_owned())));
        for bad in ["foo", "=x", "a b = c", "x=a\nb", "#x=1"] {
            assert_eq!(assignment(bad).expect_err("bad").code, 1, "{bad:?}");
        }
        assert!(name("x", Edit::Remove).is_ok());
        for bad in ["a=b", "", "a b"] {
            assert_eq!(name(bad, Edit::Comment).expect_err("bad").code, 1, "{bad:?}");
        }
    }
}
