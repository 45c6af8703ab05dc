//! `authorized_submit_users`: who may hand in mail.

use mail_config::main_cf::lists::MatchList;

/// Whether the list permits the user. The first pattern that matches decides; `!` turns it round. A pattern is a user name, `static:ANYTHING`
/// for everyone, or `/FILE` with names. Other tables cannot be asked here, so they permit nobody, and nobody is known to stand behind one.
pub(crate) fn permitted(list: &MatchList<String>, user: &str) -> bool {
    for item in list {
        let pattern = item.text.trim_start_matches('!');
        if pattern.contains(':') && !pattern.starts_with("static:") {
            return false;
        }
        if matches(pattern, user) {
            return !item.negated;
        }
    }
    false
}

fn matches(pattern: &str, user: &str) -> bool {
    if pattern.starts_with('/') {
        let text = std::fs::read_to_string(pattern).unwrap_or_default();
        let words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
        return words.flat_map(|word| word.split(',')).any(|name| name == user);
    }
    pattern.starts_with("static:") || pattern.eq_ignore_ascii_case(user)
}

#[cfg(test)]
mod tests {
    use mail_config::main_cf::kinds::{Context, Kind as _};
    use mail_config::main_cf::lists::Domains;

    use super::*;

    fn permits(list: &[&str], user: &str) -> bool {
        let text = list.join(", ");
        let mut context =
            Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
        permitted(&Domains::parse(&text, &mut context).expect("a list"), user)
    }

    #[test]
    fn the_first_match_decides() {
        assert!(permits(&["static:anyone"], "john"));
        assert!(!permits(&["!john", "static:all"], "john"));
        assert!(permits(&["!john", "static:all"], "mike"));
        assert!(permits(&["john", "mike"], "mike") && !permits(&["john"], "mike"));
        assert!(!permits(&[], "john") && !permits(&["hash:/nowhere", "john"], "john"));
        assert!(permits(&["john", "hash:/nowhere"], "john"));
    }

    #[test]
    fn a_file_lists_names() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "# mail users\njohn, mike\nanna\n").expect("written");
        let path = file.path().to_str().expect("a path");
        assert!(permits(&[path], "mike") && permits(&[path], "anna") && !permits(&[path], "users"));
    }
}
