//! What the right side of an alias, an `:include:` file or a `.forward` may hold (aliases(5)).

/// One member of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// An address, possibly without domain, in its external form (with quotes where it has them).
    Address(String),
    /// `:include:/path`: the members stand in a file.
    Include(String),
    /// `|command`.
    Command(String),
    /// `/path`: mail is appended to a file.
    File(String),
}

/// The members of a list: separated by commas (and, in files, by line ends), with comments in parentheses and
/// `Name <address>` read as mail programs do.
#[must_use]
pub fn members(text: &str) -> Vec<Member> {
    elements(text).iter().filter_map(|element| member(element)).collect()
}

/// The members of a file: as [`members`], where lines that begin with `#` are comments.
#[must_use]
pub fn file_members(text: &str) -> Vec<Member> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(members).collect()
}

/// Splits at commas outside quotes, parentheses and angle brackets; comments in parentheses vanish.
fn elements(text: &str) -> Vec<String> {
    let mut elements = vec![String::new()];
    let (mut quoted, mut comment, mut angle) = (false, 0usize, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let current = elements.last_mut().expect("begins with one element and none is removed");
        match c {
            '\\' => {
                let escaped = chars.next();
                if comment == 0 {
                    current.push(c);
                    current.extend(escaped);
                }
            }
            '"' if comment == 0 => {
                quoted = !quoted;
                current.push(c);
            }
            c if quoted => current.push(c),
            '(' => comment += 1,
            ')' => comment = comment.saturating_sub(1),
            _ if comment > 0 => {}
            ',' | '\n' if !angle => elements.push(String::new()),
            c => {
                angle = (angle || c == '<') && c != '>';
                current.push(c);
            }
        }
    }
    elements
}

fn member(element: &str) -> Option<Member> {
    let element = element.trim();
    let plain = unquoted_whole(element).unwrap_or_else(|| element.to_owned());
    if plain.is_empty() {
        return None;
    }
    if let Some(command) = plain.strip_prefix('|') {
        return Some(Member::Command(command.trim().to_owned()));
    }
    if plain.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(":include:")) {
        return Some(Member::Include(plain[9..].trim().to_owned()));
    }
    if plain.starts_with('/') && !element.contains('@') {
        return Some(Member::File(plain));
    }
    let address = match element.rfind('<') {
        Some(at) => element[at + 1..].trim_end_matches('>').trim(),
        None => element,
    };
    // `\user` is sendmail's way to stop further aliasing; Postfix drops the backslash, so do we.
    let address = address.strip_prefix('\\').unwrap_or(address);
    (!address.is_empty()).then(|| Member::Address(address.to_owned()))
}

/// The inside of quotes that surround the whole element.
fn unquoted_whole(element: &str) -> Option<String> {
    let inside = element.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_all_kinds_are_read() {
        let text = "john, charles@gmail.com (home, sweet), \"|/usr/bin/cmd a, b\", /var/mail/all, :include:/etc/list, \
                    \\mike, Charles <c@d.org>, \"first last\"@x.org, |/bin/x, \"quoted\", <e@f>, ,";
        let wanted = [
            Member::Address("john".into()),
            Member::Address("charles@gmail.com".into()),
            Member::Command("/usr/bin/cmd a, b".into()),
            Member::File("/var/mail/all".into()),
            Member::Include("/etc/list".into()),
            Member::Address("mike".into()),
            Member::Address("c@d.org".into()),
            Member::Address("\"first last\"@x.org".into()),
            Member::Command("/bin/x".into()),
            Member::Address("\"quoted\"".into()),
            Member::Address("e@f".into()),
        ];
        assert_eq!(members(text), wanted);
    }

    #[test]
    fn files_may_have_comments_and_one_member_per_line() {
        let wanted = [Member::Address("a".into()), Member::Address("b".into()), Member::Address("c".into())];
        assert_eq!(file_members("# list\na, b\n\n  # more\nc\n"), wanted);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_members(text in "[a,\"\\\\()<>|/:@ \\né]{0,60}") {
            let _ = members(&text);
            let _ = file_members(&text);
        }
    }
}
