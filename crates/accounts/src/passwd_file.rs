//! Dovecot's passwd-file: `user:password:uid:gid:gecos:home:shell:extra_fields`, every field after the first may be missing.

use std::collections::HashMap;

/// The users of one file.
#[derive(Debug, Clone, Default)]
pub struct PasswdFile {
    users: HashMap<String, Entry>,
    /// What is wrong with the file: line and text. The lines are left out, the rest serves.
    pub problems: Vec<(usize, String)>,
}

/// One user of a file. `Debug` does not show the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The stored password, with its `{SCHEME}` if it has one; none if the field is empty.
    pub password: Option<String>,
    /// The uid as written: a number or a name.
    pub uid: Option<String>,
    /// The gid as written: a number or a name.
    pub gid: Option<String>,
    /// The home directory.
    pub home: Option<String>,
    /// The extra fields in order; a field without `=` has an empty value.
    pub extra: Vec<(String, String)>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("uid", &self.uid).field("home", &self.home).finish_non_exhaustive()
    }
}

impl PasswdFile {
    /// Reads a whole file. A line that begins with `#` or `:` is a comment; of two lines with one name the first counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with(['#', ':']) {
                continue;
            }
            let (name, entry) = parse_line(line);
            if file.users.contains_key(name) {
                file.problems.push((number, format!("User {name} exists more than once")));
                continue;
            }
            match entry {
                Ok(entry) => drop(file.users.insert(name.to_owned(), entry)),
                Err(text) => file.problems.push((number, format!("User {name} {text}"))),
            }
        }
        file
    }

    /// The user of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.users.get(name)
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is no user at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The password of some user: what an unknown user's password is compared with, so that it costs the same.
    #[must_use]
    pub fn any_password(&self) -> Option<&str> {
        self.users.values().find_map(|entry| entry.password.as_deref())
    }
}

fn parse_line(line: &str) -> (&str, Result<Entry, String>) {
    let mut fields = line.split(':');
    let name = fields.next().unwrap_or_default();
    let mut field = || fields.next().filter(|text| !text.is_empty()).map(str::to_owned);
    let password = field();
    let mut entry = Entry { password: None, uid: field(), gid: field(), ..Entry::default() };
    let _gecos = field();
    entry.home = field();
    let _shell = field();
    // The extra fields may hold colons: everything after the seventh one is theirs. An old format has an empty field there, then the mail
    // location.
    let rest = line.splitn(8, ':').nth(7).unwrap_or_default();
    entry.extra = match rest.strip_prefix(':') {
        Some("") => Vec::new(),
        Some(mail) => vec![("userdb_mail".into(), mail.to_owned())],
        None => rest.split(' ').filter(|text| !text.is_empty()).map(pair).collect(),
    };
    match password.map(libpam_style).transpose() {
        Ok(password) => (name, Ok(Entry { password, ..entry })),
        Err(text) => (name, Err(text)),
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// `password[13]` and `password[34]`, as libpam-pwdfile writes crypt() passwords.
fn libpam_style(password: String) -> Result<String, String> {
    let Some((text, kind)) = password.split_once('[').filter(|_| !password.starts_with('{')) else {
        return Ok(password);
    };
    match kind {
        "13]" => Ok(format!("{{DES-CRYPT}}{text}")),
        "34]" => Ok(format!("{{MD5-CRYPT}}{text}")),
        "56]" => Ok(format!("{{DIGEST-MD5}}{text}")),
        _ => Err(format!("has unknown password type [{kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_has_every_field() {
        let file = PasswdFile::parse(
            "john@info.net:{SSHA}abc=:5000:vmail:John:/srv/john:/bin/sh:userdb_mail=maildir:~/M userdb_quota_rule=*:storage=1G nologin\n",
        );
        let john = file.get("john@info.net").unwrap();
        assert_eq!(john.password.as_deref(), Some("{SSHA}abc="));
        assert_eq!((john.uid.as_deref(), john.gid.as_deref()), (Some("5000"), Some("vmail")));
        assert_eq!(john.home.as_deref(), Some("/srv/john"));
        let extra = [("userdb_mail", "maildir:~/M"), ("userdb_quota_rule", "*:storage=1G"), ("nologin", "")];
        assert_eq!(john.extra, extra.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn short_lines_and_comments() {
        let file = PasswdFile::parse("# comment\n:x\n\nalone\nname:{PLAIN}x\nempty::1:2\n");
        assert_eq!(file.len(), 3);
        assert_eq!(file.get("alone"), Some(&Entry::default()));
        assert_eq!(file.get("name").unwrap().password.as_deref(), Some("{PLAIN}x"));
        assert_eq!(file.get("empty").unwrap().password, None);
        assert!(file.problems.is_empty());
    }

    #[test]
    fn of_two_lines_the_first_counts() {
        let file = PasswdFile::parse("a:{PLAIN}1\na:{PLAIN}2\n");
        assert_eq!(file.get("a").unwrap().password.as_deref(), Some("{PLAIN}1"));
        assert_eq!(file.problems, vec![(2, "User a exists more than once".to_owned())]);
    }

    #[test]
    fn older_formats_are_read() {
        let file = PasswdFile::parse("a:xyz[13]::::/h::\nb:xyz[34]:1:1::/h:/bin/sh::mbox:~/mail\nc:x[99]\n");
        assert_eq!(file.get("a").unwrap().password.as_deref(), Some("{DES-CRYPT}xyz"));
        let b = file.get("b").unwrap();
        assert_eq!(b.password.as_deref(), Some("{MD5-CRYPT}xyz"));
        assert_eq!(b.extra, vec![("userdb_mail".to_owned(), "mbox:~/mail".to_owned())]);
        assert_eq!((file.get("c"), file.problems.len()), (None, 1));
    }

    #[test]
    fn the_password_is_never_printed() {
        assert!(!format!("{:?}", PasswdFile::parse("a:{PLAIN}secret")).contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "([\\PC\\n]|:){0,200}") {
            let file = PasswdFile::parse(&text);
            proptest::prop_assert!(file.len() <= text.lines().count());
        }
    }
}
