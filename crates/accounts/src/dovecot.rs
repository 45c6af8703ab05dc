//! A [`Plan`] from dovecot.conf.
//!
//! What is not built never lets anybody in: a database that cannot be used answers "nobody knows", so a login that it alone could decide
//! fails for now, and the others go on.

use std::collections::BTreeMap;

use mail_config::dovecot::{Database, Dovecot, Driver, Location, Settings};
use mail_types::SourceLine;

use crate::names::NameRules;
use crate::plan::{
    After, Field, FileArguments, Flow, MailDefaults, PassDriver, Passdb, Plan, Skip, UserDriver, Userdb,
};
use crate::variables::{Template, VariableError};

/// Something of dovecot.conf that is not carried out as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub source: SourceLine,
    /// What, and what happens instead.
    pub text: String,
}

/// The plan that the file describes, and what of it could not be taken over.
#[must_use]
pub fn plan(dovecot: &Dovecot) -> (Plan, Vec<Problem>) {
    let mut reader = Reader { is_24: dovecot.is_24, problems: Vec::new() };
    let passdbs = |reader: &mut Reader, of_masters| {
        let databases = dovecot.passdbs.iter().filter(|database| database.is("master") == of_masters);
        databases.map(|database| reader.passdb(database)).collect()
    };
    let plan = Plan {
        names: reader.names(dovecot),
        passdbs: passdbs(&mut reader, false),
        masters: passdbs(&mut reader, true),
        userdbs: dovecot.userdbs.iter().map(|database| reader.userdb(database)).collect(),
        mail: reader.mail(dovecot),
        is_24: dovecot.is_24,
    };
    (plan, reader.problems)
}

struct Reader {
    /// Whether variables are those of 2.4.
    is_24: bool,
    problems: Vec<Problem>,
}

/// A text in the language of the file.
fn template(text: &str, is_24: bool) -> Result<Template, VariableError> {
    if is_24 { Template::parse_new(text) } else { Template::parse(text) }
}

impl Reader {
    fn problem(&mut self, source: &SourceLine, text: impl Into<String>) {
        self.problems.push(Problem { source: source.clone(), text: text.into() });
    }

    fn names(&mut self, dovecot: &Dovecot) -> NameRules {
        let settings = &dovecot.settings;
        let format = match settings.auth_username_format.as_str() {
            "" => None,
            text => match template(text, self.is_24) {
                Ok(template) => Some(template),
                Err(error) => {
                    self.problem(
                        &settings.auth_username_format.source,
                        format!("auth_username_format: {error}: %Lu is used"),
                    );
                    Template::parse("%Lu").ok()
                }
            },
        };
        NameRules {
            default_realm: settings.auth_default_realm.to_string(),
            translation: Vec::new(),
            allowed: settings.auth_username_chars.to_string(),
            format,
            master_separator: self.master_separator(settings),
        }
    }

    /// Dovecot takes the first octet of the setting, which is a character in ASCII alone.
    fn master_separator(&mut self, settings: &Settings) -> Option<char> {
        let separator = settings.auth_master_user_separator.chars().next()?;
        if !separator.is_ascii() {
            let source = &settings.auth_master_user_separator.source;
            self.problem(
                source,
                format!("auth_master_user_separator: `{separator}' is not ASCII: names are not separated"),
            );
            return None;
        }
        Some(separator)
    }

    fn passdb(&mut self, database: &Database) -> Passdb {
        let mut flow = self.flow(database);
        if database.is("pass") {
            flow.success = After::Continue;
        }
        let words = |name: &str| {
            let text = database.settings.get(name).map(String::as_str).unwrap_or_default();
            text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        Passdb {
            driver: self.pass_driver(database),
            source: database.source.clone(),
            deny: database.is("deny"),
            // 2.3's name, or 2.4's.
            mechanisms: [words("mechanisms"), words("mechanisms_filter")].concat(),
            username_filter: words("username_filter"),
            flow,
            default_fields: self.fields(database, &database.default_fields),
            override_fields: self.fields(database, &database.override_fields),
        }
    }

    fn pass_driver(&mut self, database: &Database) -> PassDriver {
        let built = match &database.driver {
            Driver::PasswdFile => file_arguments(database, self.is_24).map(PassDriver::PasswdFile),
            Driver::Pam => pam_service(database, self.is_24).map(PassDriver::Pam),
            Driver::Shadow => Ok(PassDriver::Shadow),
            Driver::Static => Ok(PassDriver::Static(self.fields(database, &database.fields))),
            Driver::Passwd => Err("passdb driver passwd is not built".to_owned()),
            Driver::Prefetch => Err("prefetch is no passdb driver".to_owned()),
            Driver::Unsupported(name) => Err(format!("passdb driver {name} is not built")),
        };
        built.unwrap_or_else(|text| {
            self.problem(&database.source, format!("{text}: logins that need it fail with a temporary error"));
            PassDriver::Unusable(text)
        })
    }

    fn userdb(&mut self, database: &Database) -> Userdb {
        let built = match &database.driver {
            Driver::PasswdFile => file_arguments(database, self.is_24).map(UserDriver::PasswdFile),
            Driver::Passwd => Ok(UserDriver::Passwd),
            Driver::Prefetch => Ok(UserDriver::Prefetch),
            Driver::Static => {
                let all = database.fields.get("allow_all_users").is_some_and(|value| value == "yes" || value == "y");
                let mut fields = self.fields(database, &database.fields);
                fields.retain(|(name, _)| name != "allow_all_users");
                Ok(UserDriver::Static { fields, allow_all_users: all || database.is("static_allow_all_users") })
            }
            Driver::Pam | Driver::Shadow => Err("PAM and shadow are no userdb drivers".to_owned()),
            Driver::Unsupported(name) => Err(format!("userdb driver {name} is not built")),
        };
        let driver = built.unwrap_or_else(|text| {
            self.problem(&database.source, format!("{text}: lookups that need it fail with a temporary error"));
            UserDriver::Unusable(text)
        });
        Userdb {
            driver,
            source: database.source.clone(),
            flow: self.flow(database),
            default_fields: self.fields(database, &database.default_fields),
            override_fields: self.fields(database, &database.override_fields),
        }
    }

    /// A field whose variables are not built cannot be left out quietly: its text says so where it is used.
    fn fields(&mut self, database: &Database, fields: &BTreeMap<String, String>) -> Vec<Field> {
        let mut read = Vec::new();
        for (name, text) in fields {
            match template(text, self.is_24) {
                Ok(template) => read.push((name.clone(), template)),
                Err(error) => {
                    self.problem(&database.source, format!("{name}: {error}: users of this database have no mailbox"));
                    read.push((name.clone(), Template::refused(&error)));
                }
            }
        }
        read
    }

    fn flow(&mut self, database: &Database) -> Flow {
        let default = Flow::default();
        let mut after = |name: &str, default: After| match database.settings.get(name) {
            None => default,
            Some(text) => After::parse(text).unwrap_or_else(|| {
                self.problem(&database.source, format!("{name} = {text}: unknown, return-fail is used"));
                After::ReturnFail
            }),
        };
        let (success, failure) = (after("result_success", default.success), after("result_failure", default.failure));
        let internal_failure = after("result_internalfail", default.internal_failure);
        let skip = match database.settings.get("skip").map(String::as_str) {
            Some("authenticated") => Skip::Authenticated,
            Some("unauthenticated") => Skip::Unauthenticated,
            _ => Skip::Never,
        };
        Flow { skip, success, failure, internal_failure }
    }

    fn mail(&mut self, dovecot: &Dovecot) -> MailDefaults {
        let settings = &dovecot.settings;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let id = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let is_24 = self.is_24;
        let mut template = |text: Option<String>, name: &str, source: &SourceLine| {
            let parsed = template(&text?, is_24);
            Some(parsed.unwrap_or_else(|error| {
                self.problem(source, format!("{name}: {error}: nobody has a mailbox"));
                Template::refused(&error)
            }))
        };
        MailDefaults {
            home: template(text(&settings.mail_home), "mail_home", &settings.mail_home.source),
            location: template(location(&dovecot.location), "mail_location", &settings.mail_location.source),
            uid: text(&settings.mail_uid),
            gid: text(&settings.mail_gid),
            first_valid_uid: id(*settings.first_valid_uid),
            last_valid_uid: id(*settings.last_valid_uid),
            first_valid_gid: id(*settings.first_valid_gid),
            last_valid_gid: id(*settings.last_valid_gid),
        }
    }
}

/// The location as one text; none where the session process decides (found by looking, or not built and refused there).
fn location(location: &Location) -> Option<String> {
    let Location::At { path, inbox, control, index, .. } = location else { return None };
    let mut text = format!("maildir:{path}");
    for (name, value) in [("INBOX", inbox), ("CONTROL", control), ("INDEX", index)] {
        if let Some(value) = value {
            text.push_str(&format!(":{name}={value}"));
        }
    }
    Some(text)
}

fn file_arguments(database: &Database, is_24: bool) -> Result<FileArguments, String> {
    let named = |name: &'static str| move |error: VariableError| format!("passwd-file: {name}: {error}");
    let path = database.path.as_deref().ok_or("passwd-file without a path")?;
    let option = |name: &str| database.options.get(name).map(String::as_str);
    Ok(FileArguments {
        path: template(path, is_24).map_err(named("path"))?,
        scheme: option("scheme").unwrap_or("CRYPT").to_owned(),
        username_format: template(option("username_format").unwrap_or(if is_24 { "%{user}" } else { "%u" }), is_24)
            .map_err(named("username_format"))?,
    })
}

/// 2.3's `args = session=yes dovecot`; `*` is the protocol's name. 2.4's `service_name`.
fn pam_service(database: &Database, is_24: bool) -> Result<Template, String> {
    let written = database.args.split_ascii_whitespace().rfind(|word| !word.contains('=') && !word.starts_with('-'));
    let setting = ["service_name", "pam_service_name"].iter().find_map(|name| database.settings.get(*name));
    let service = match written.or(setting.map(String::as_str)) {
        None => "dovecot",
        Some("*") => "%{service}",
        Some(name) => name,
    };
    template(service, is_24).map_err(|error| format!("pam: service name: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::lookup::{Found, by_name};

    fn read(text: &str) -> (Plan, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dovecot.conf");
        std::fs::write(&file, text).unwrap();
        let loaded = mail_config::Config::load(directory.path(), Some(&file)).unwrap();
        let (plan, problems) = plan(&loaded.config.dovecot);
        (plan, problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn a_usual_file_is_taken_over() {
        let (plan, problems) = read(
            "mail_location = maildir:~/Maildir:INDEX=/var/i/%u\nauth_username_format = %Ln\n\
             passdb {\n  driver = passwd-file\n  args = scheme=SHA512-CRYPT username_format=%n /etc/users-%d\n  deny = yes\n}\n\
             passdb {\n  driver = pam\n  args = session=yes %s\n}\n\
             userdb {\n  driver = static\n  args = uid=vmail gid=5001 home=/srv/%n allow_all_users=yes\n}\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert!(plan.passdbs[0].deny && !plan.passdbs[1].deny);
        let PassDriver::PasswdFile(arguments) = &plan.passdbs[0].driver else { panic!("a file") };
        assert_eq!(arguments.scheme, "SHA512-CRYPT");
        assert_eq!(arguments.path, Template::parse("/etc/users-%d").unwrap());
        assert!(
            matches!(&plan.passdbs[1].driver, PassDriver::Pam(service) if *service == Template::parse("%s").unwrap())
        );
        let Found::User(user) = by_name(&plan, &Fake::default(), "John@x", "lmtp", &mut Vec::new()) else {
            panic!("there")
        };
        assert_eq!((user.user.as_str(), user.uid), ("john", Some(5000)));
        assert_eq!(user.mail.as_deref(), Some("maildir:/srv/john/Maildir:INDEX=/var/i/john"));
    }

    #[test]
    fn no_databases_mean_the_system_s_users() {
        let (plan, _) = read("protocols = imap pop3\n");
        assert!(
            matches!(&plan.passdbs[0].driver, PassDriver::Pam(service) if *service == Template::parse("dovecot").unwrap())
        );
        assert!(matches!(plan.userdbs[0].driver, UserDriver::Passwd));
    }

    #[test]
    fn what_is_not_built_lets_nobody_in() {
        let (plan, problems) = read(
            "passdb {\n  driver = sql\n  args = /etc/x\n}\npassdb {\n  driver = passwd-file\n  args = /m\n  master = yes\n}\n\
             userdb {\n  driver = static\n  args = home=/srv/%{env:X} allow_all_users=yes\n}\n",
        );
        assert_eq!((plan.passdbs.len(), plan.masters.len(), problems.len()), (1, 1, 2), "{problems:?}");
        assert!(matches!(plan.passdbs[0].driver, PassDriver::Unusable(_)));
        let found = by_name(&plan, &Fake::default(), "john", "lmtp", &mut Vec::new());
        assert!(matches!(found, Found::Unavailable(_)), "{found:?}");
    }

    #[test]
    fn master_users_have_passdbs_of_their_own_in_both_generations() {
        let (old, problems) = read(
            "auth_master_user_separator = *\npassdb {\n  driver = passwd-file\n  args = /m\n  master = yes\n  pass = yes\n}\n\
             passdb {\n  driver = passwd-file\n  args = /u\n}\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        let (new, problems) = read(
            "dovecot_config_version = 2.4.0\nauth_master_user_separator = *\n\
             passdb masters {\n  driver = passwd-file\n  master = yes\n  passwd_file_path = /m\n  result_success = continue\n}\n\
             passdb passwd-file {\n  passwd_file_path = /u\n  mechanisms_filter = plain\n}\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        for plan in [&old, &new] {
            assert_eq!((plan.passdbs.len(), plan.masters.len(), plan.names.master_separator), (1, 1, Some('*')));
            assert_eq!(plan.masters[0].flow.success, After::Continue);
            assert!(plan.names_file("/m") && plan.names_file("/u"));
        }
        assert_eq!(new.passdbs[0].mechanisms, ["plain"]);
        let (plan, _) = read("auth_master_user_separator = ++\npassdb {\n driver = pam\n master = yes\n}\n");
        assert_eq!((plan.passdbs.len(), plan.names.master_separator), (0, Some('+')));
        assert!(plan.uses_pam() && plan.names_pam_service("dovecot"));
        let (plan, problems) = read("auth_master_user_separator = \u{e4}\n");
        assert_eq!((plan.names.master_separator, problems.len()), (None, 1));
    }

    #[test]
    fn a_wrong_result_rule_ends_with_no() {
        let (plan, problems) = read("passdb {\n  driver = pam\n  result_success = maybe\n}\n");
        assert_eq!((plan.passdbs[0].flow.success, problems.len()), (After::ReturnFail, 1));
    }
}
