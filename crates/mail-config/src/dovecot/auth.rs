//! Password and user databases.

use std::collections::BTreeMap;

use mail_types::SourceLine;

use super::parse::{Block, Node, blocks};

/// The driver of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A file in the form of /etc/passwd.
    PasswdFile,
    /// PAM.
    Pam,
    /// /etc/shadow.
    Shadow,
    /// The system's user database.
    Passwd,
    /// The same answer for everyone.
    Static,
    /// What the password database has already said.
    Prefetch,
    /// A driver that is not built: whom it alone knows is refused with a temporary failure.
    Unsupported(String),
}

/// A `passdb` or `userdb` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its driver.
    pub driver: Driver,
    /// 2.3's `args`, as written.
    pub args: String,
    /// The path of a passwd-file, with `%` variables.
    pub path: Option<String>,
    /// The options before the path or service: `scheme=`, `username_format=`, `session=yes`; 2.4's settings of the same meaning.
    pub options: BTreeMap<String, String>,
    /// The fields of `static`: `uid`, `gid`, `home`, `password` and so on, with `%` variables.
    pub fields: BTreeMap<String, String>,
    /// `default_fields`: used where the database gives no such field.
    pub default_fields: BTreeMap<String, String>,
    /// `override_fields`: used whatever the database gives.
    pub override_fields: BTreeMap<String, String>,
    /// Other settings of the block, such as `deny`, `master`, `pass`, `skip`, `result_success`, `mechanisms`.
    pub settings: BTreeMap<String, String>,
    /// The line.
    pub source: SourceLine,
}

impl Database {
    /// Whether a setting of the block is `yes`, in what spellings Dovecot takes for it.
    #[must_use]
    pub fn is(&self, setting: &str) -> bool {
        let yes = |value: &String| ["yes", "y", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
        self.settings.get(setting).is_some_and(yes)
    }
}

/// The blocks of a kind, in the order of the file. Without any: PAM for passwords, the system's users for users.
pub(super) fn databases(nodes: &[Node], kind: &str, is_24: bool) -> Vec<Database> {
    let found: Vec<Database> = blocks(nodes, kind).map(|block| database(block, kind, is_24)).collect();
    if found.is_empty() { vec![default_database(kind)] } else { found }
}

/// Dovecot refuses to start without a passdb; the page's file has none and means the system's users.
fn default_database(kind: &str) -> Database {
    let driver = if kind == "passdb" { Driver::Pam } else { Driver::Passwd };
    Database {
        driver,
        args: String::new(),
        path: None,
        options: BTreeMap::new(),
        fields: BTreeMap::new(),
        default_fields: BTreeMap::new(),
        override_fields: BTreeMap::new(),
        settings: BTreeMap::new(),
        source: SourceLine::built_in(),
    }
}

fn database(block: &Block, kind: &str, is_24: bool) -> Database {
    let prefix = format!("{kind}_");
    let mut settings = BTreeMap::new();
    for node in &block.nodes {
        if let Node::Setting { key, value, .. } = node {
            settings.insert(key.strip_prefix(&prefix).unwrap_or(key).to_owned(), value.clone());
        }
    }
    // Lists may be blocks in 2.4.
    for name in ["mechanisms_filter", "username_filter"] {
        let written = super::list(&block.nodes, &format!("{prefix}{name}")).or_else(|| super::list(&block.nodes, name));
        if let Some((value, _)) = written {
            settings.insert(name.to_owned(), value);
        }
    }
    // 2.4 gives the driver as the block's name unless a setting says it.
    let written = settings.remove("driver").unwrap_or_else(|| block.name.clone());
    let driver = match written.as_str() {
        "passwd-file" => Driver::PasswdFile,
        "pam" => Driver::Pam,
        "shadow" => Driver::Shadow,
        "passwd" => Driver::Passwd,
        "static" => Driver::Static,
        "prefetch" => Driver::Prefetch,
        other => Driver::Unsupported(other.to_owned()),
    };
    let args = settings.remove("args").unwrap_or_default();
    let mut database = Database { driver, args, ..default_database(kind) };
    database.source = block.source.clone();
    database.default_fields = assignments(&settings.remove("default_fields").unwrap_or_default());
    database.override_fields = assignments(&settings.remove("override_fields").unwrap_or_default());
    database.settings = settings;
    if is_24 {
        read_24(&mut database, block)
    } else {
        read_args(&mut database)
    }
    database
}

/// 2.3: everything stands in `args`.
fn read_args(database: &mut Database) {
    match database.driver {
        Driver::Static => database.fields = assignments(&database.args),
        Driver::PasswdFile => {
            let words: Vec<&str> = database.args.split_ascii_whitespace().collect();
            let options = words.iter().take_while(|word| !word.starts_with('/') && word.contains('='));
            let count = options.clone().count();
            database.options = options.filter_map(|word| word.split_once('=')).map(owned).collect();
            database.path = words.get(count).map(|path| (*path).to_owned());
        }
        _ => database.options = assignments(&database.args),
    }
}

/// 2.4: settings with names of their own, and blocks of fields.
fn read_24(database: &mut Database, block: &Block) {
    let settings = &database.settings;
    let path = settings.get("passwd_file_path").or_else(|| settings.get("path"));
    database.path = path.cloned();
    for (option, names) in [
        ("scheme", ["default_password_scheme", "passdb_default_password_scheme"]),
        ("username_format", ["auth_username_format", "username_format"]),
    ] {
        if let Some(value) = names.iter().find_map(|name| settings.get(*name)) {
            database.options.insert(option.to_owned(), value.clone());
        }
    }
    for fields in block.blocks("fields") {
        for node in &fields.nodes {
            if let Node::Setting { key, value, .. } = node {
                database.fields.insert(key.clone(), value.clone());
            }
        }
    }
    if let Some(password) = database.settings.get("static_password").or_else(|| database.settings.get("password")) {
        database.fields.entry("password".to_owned()).or_insert_with(|| password.clone());
    }
    if database.driver != Driver::Static {
        // Beside a real lookup such fields are what the lookup does not give, or overrides.
        let target =
            if database.is("fields_import_all") { &mut database.default_fields } else { &mut database.override_fields };
        target.append(&mut database.fields);
    }
}

/// `uid=vmail gid=vmail home=/var/vmail/%d/%n`; a word without `=` is `yes`.
fn assignments(text: &str) -> BTreeMap<String, String> {
    text.split_ascii_whitespace().map(|word| owned(word.split_once('=').unwrap_or((word, "yes")))).collect()
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn databases_keep_their_order_and_arguments() {
        let text = "passdb {\n driver = passwd-file\n args = scheme=SHA512-CRYPT username_format=%u /etc/dovecot/users\n deny = yes\n}\n\
                    passdb {\n driver = pam\n args = session=yes dovecot\n}\n\
                    userdb {\n driver = static\n args = uid=vmail gid=vmail home=/var/vmail/%d/%n\n}\nuserdb {\n driver = sql\n args = /etc/x\n}\n";
        let (dovecot, _) = read(text);
        let first = &dovecot.passdbs[0];
        assert_eq!((&first.driver, first.path.as_deref()), (&Driver::PasswdFile, Some("/etc/dovecot/users")));
        assert_eq!(first.options["username_format"], "%u");
        assert!(first.is("deny") && !first.is("master"));
        assert_eq!(dovecot.passdbs[1].args, "session=yes dovecot");
        assert_eq!(dovecot.userdbs[0].fields["home"], "/var/vmail/%d/%n");
        assert_eq!(dovecot.userdbs[1].driver, Driver::Unsupported("sql".into()));
    }

    #[test]
    fn the_newer_syntax_means_the_same() {
        let text = "dovecot_config_version = 2.4.0\npassdb passwd-file {\n passwd_file_path = /etc/users\n default_password_scheme = PLAIN\n}\nuserdb static {\n fields {\n  uid = vmail\n  home = /h/%{user}\n }\n}\n";
        let (dovecot, _) = read(text);
        assert_eq!(dovecot.passdbs[0].path.as_deref(), Some("/etc/users"));
        assert_eq!(dovecot.passdbs[0].options["scheme"], "PLAIN");
        assert_eq!(dovecot.userdbs[0].fields["home"], "/h/%{user}");
    }

    #[test]
    fn without_databases_the_system_s_users_log_in() {
        let (dovecot, _) = read("");
        assert_eq!((&dovecot.passdbs[0].driver, &dovecot.userdbs[0].driver), (&Driver::Pam, &Driver::Passwd));
    }
}
