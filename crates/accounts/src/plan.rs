//! What dovecot.conf says about logins, as values: passdbs and userdbs in order, and the facts that they ask for.

use std::fmt;
use std::sync::Arc;

use mail_types::{Octets, SourceLine};

use crate::names::NameRules;
use crate::passwd_file::PasswdFile;
use crate::variables::Template;

/// Everything that decides about logins and users.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What becomes of a name first.
    pub names: NameRules,
    /// The password databases, in order.
    pub passdbs: Vec<Passdb>,
    /// Those of master users (`master = yes`), in order: who is found there may log in as somebody else.
    pub masters: Vec<Passdb>,
    /// The user databases, in order.
    pub userdbs: Vec<Userdb>,
    /// What a user has that no userdb says.
    pub mail: MailDefaults,
    /// Whether variables, in what databases answer too, are those of Dovecot 2.4.
    pub is_24: bool,
}

impl Plan {
    /// Every passdb, those of master users too.
    fn all_passdbs(&self) -> impl Iterator<Item = &Passdb> {
        self.passdbs.iter().chain(&self.masters)
    }

    /// Whether some database is the passwd-file at this path: what a process with rights opens for one without.
    #[must_use]
    pub fn names_file(&self, path: &str) -> bool {
        let passwords = self.all_passdbs().filter_map(|passdb| match &passdb.driver {
            PassDriver::PasswdFile(arguments) => Some(arguments),
            _ => None,
        });
        let users = self.userdbs.iter().filter_map(|userdb| match &userdb.driver {
            UserDriver::PasswdFile(arguments) => Some(arguments),
            _ => None,
        });
        passwords.chain(users).any(|arguments| arguments.path.could_be(path))
    }

    /// Whether some passdb asks this PAM service.
    #[must_use]
    pub fn names_pam_service(&self, service: &str) -> bool {
        self.all_passdbs().any(|passdb| match &passdb.driver {
            PassDriver::Pam(name) => name.could_be(service),
            _ => false,
        })
    }

    /// Whether some passdb is the shadow database.
    #[must_use]
    pub fn uses_shadow(&self) -> bool {
        self.all_passdbs().any(|passdb| matches!(passdb.driver, PassDriver::Shadow))
    }

    /// Whether a login asks the system for a password or a user, which may take long and is worth remembering.
    #[must_use]
    pub fn asks_the_system(&self) -> bool {
        let users = self.userdbs.iter().any(|userdb| matches!(userdb.driver, UserDriver::Passwd));
        users || self.uses_pam() || self.uses_shadow()
    }

    /// Whether some passdb is PAM.
    #[must_use]
    pub fn uses_pam(&self) -> bool {
        self.all_passdbs().any(|passdb| matches!(passdb.driver, PassDriver::Pam(_)))
    }
}

/// A field that a database adds: its name, and its value with variables.
pub type Field = (String, Template);

/// A `passdb` block.
#[derive(Debug, Clone)]
pub struct Passdb {
    /// Where the passwords are.
    pub driver: PassDriver,
    /// Where the block stands.
    pub source: SourceLine,
    /// Whoever is found here may not log in.
    pub deny: bool,
    /// The mechanisms it is used for; empty for all.
    pub mechanisms: Vec<String>,
    /// The names it is used for, as patterns with `*`; `!` before one excludes; empty for all.
    pub username_filter: Vec<String>,
    /// When it is passed over, and what follows it.
    pub flow: Flow,
    /// Fields set before and overwritten by the database.
    pub default_fields: Vec<Field>,
    /// Fields set after it.
    pub override_fields: Vec<Field>,
}

/// Where passwords are.
#[derive(Debug, Clone)]
pub enum PassDriver {
    /// `passwd-file`
    PasswdFile(FileArguments),
    /// `pam`, with the name of the PAM service.
    Pam(Template),
    /// `shadow`
    Shadow,
    /// `static`: the same fields for everybody, `password` among them.
    Static(Vec<Field>),
    /// A driver or arguments that are not built; the text says which. Nobody is known or unknown here.
    Unusable(String),
}

/// The `args` of a passwd-file.
#[derive(Debug, Clone)]
pub struct FileArguments {
    /// The file.
    pub path: Template,
    /// The scheme of passwords without `{SCHEME}`.
    pub scheme: String,
    /// The key to look up.
    pub username_format: Template,
}

/// A `userdb` block.
#[derive(Debug, Clone)]
pub struct Userdb {
    /// Where the users are.
    pub driver: UserDriver,
    /// Where the block stands.
    pub source: SourceLine,
    /// When it is passed over, and what follows it.
    pub flow: Flow,
    /// Fields set before and overwritten by the database.
    pub default_fields: Vec<Field>,
    /// Fields set after it.
    pub override_fields: Vec<Field>,
}

/// Where users are.
#[derive(Debug, Clone)]
pub enum UserDriver {
    /// `passwd-file`
    PasswdFile(FileArguments),
    /// `static`: the same fields for everybody whom a passdb knows.
    Static {
        /// The fields.
        fields: Vec<Field>,
        /// Everybody exists, without asking the passdbs.
        allow_all_users: bool,
    },
    /// `passwd`: the system's users.
    Passwd,
    /// `prefetch`: the fields `userdb_...` that the passdb gave.
    Prefetch,
    /// A driver or arguments that are not built; the text says which.
    Unusable(String),
}

/// When a database is passed over, and where its result leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// When it is passed over.
    pub skip: Skip,
    /// After success.
    pub success: After,
    /// After an unknown user or a wrong password.
    pub failure: After,
    /// When the database could not be asked.
    pub internal_failure: After,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            skip: Skip::Never,
            success: After::ReturnOk,
            failure: After::Continue,
            internal_failure: After::Continue,
        }
    }
}

/// The setting `skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Never passed over.
    Never,
    /// Passed over when an earlier database has said yes.
    Authenticated,
    /// Passed over when none has.
    Unauthenticated,
}

/// The settings `result_success`, `result_failure` and `result_internalfail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// End with what was decided before: this database's result changes nothing, so the first one ends with failure.
    Return,
    /// End with success.
    ReturnOk,
    /// End with failure.
    ReturnFail,
    /// Ask the next one; what was said before stays.
    Continue,
    /// Ask the next one; the user counts as authenticated.
    ContinueOk,
    /// Ask the next one; the user counts as not authenticated.
    ContinueFail,
}

impl After {
    /// The value of the setting.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "return" => Self::Return,
            "return-ok" => Self::ReturnOk,
            "return-fail" => Self::ReturnFail,
            "continue" => Self::Continue,
            "continue-ok" => Self::ContinueOk,
            "continue-fail" => Self::ContinueFail,
            _ => return None,
        })
    }
}

/// Where a result leads: the end with yes or no, or on to the next database with what has been decided so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    End(bool),
    On(bool),
}

impl After {
    /// Where this rule leads, when `success` has been decided so far.
    pub(crate) fn leads(self, success: bool) -> Lead {
        match self {
            Self::Return => Lead::End(success),
            Self::ReturnOk => Lead::End(true),
            Self::ReturnFail => Lead::End(false),
            Self::Continue => Lead::On(success),
            Self::ContinueOk => Lead::On(true),
            Self::ContinueFail => Lead::On(false),
        }
    }
}

impl Skip {
    /// Whether a database is passed over, when `success` has been decided so far.
    pub(crate) fn passes_over(self, success: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Authenticated => success,
            Self::Unauthenticated => !success,
        }
    }
}

/// What a user has that no userdb says, and which ids may own mail.
#[derive(Debug, Clone)]
pub struct MailDefaults {
    /// `mail_home`
    pub home: Option<Template>,
    /// `mail_location`
    pub location: Option<Template>,
    /// `mail_uid`: a number or a name.
    pub uid: Option<String>,
    /// `mail_gid`: a number or a name.
    pub gid: Option<String>,
    /// `first_valid_uid`
    pub first_valid_uid: u32,
    /// `last_valid_uid`; 0 for no bound.
    pub last_valid_uid: u32,
    /// `first_valid_gid`
    pub first_valid_gid: u32,
    /// `last_valid_gid`; 0 for no bound.
    pub last_valid_gid: u32,
}

impl Default for MailDefaults {
    fn default() -> Self {
        Self {
            home: None,
            location: None,
            uid: None,
            gid: None,
            first_valid_uid: 500,
            last_valid_uid: 0,
            first_valid_gid: 1,
            last_valid_gid: 0,
        }
    }
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemUser {
    /// The login name.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// The home directory.
    pub home: String,
}

/// A question for PAM. `Debug` is not derived: it holds a password.
#[derive(Clone, Copy)]
pub struct PamQuestion<'a> {
    /// The PAM service.
    pub service: &'a str,
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The peer's address.
    pub remote: &'a str,
}

/// What PAM (or shadow) says; the texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PamAnswer {
    /// Password right, account valid; the name after the modules.
    Granted(String),
    /// Wrong password, or refused.
    Denied(String),
    /// No such user.
    Unknown(String),
    /// Account or password expired.
    Expired(String),
    /// PAM could not be asked.
    Unavailable(String),
}

/// The facts that a plan asks for. The calls may block. An `Err` is for the log and means "nobody knows now".
pub trait Sources {
    /// Runs the check of one hash. One that is not `quick` takes a processor for a while: the place to let only a few run at once.
    fn hashing(&self, quick: bool, check: &mut dyn FnMut()) {
        let _ = quick;
        check();
    }

    /// The users of a passwd-file.
    ///
    /// # Errors
    /// The file cannot be read, or may not be used now.
    fn passwd_file(&self, path: &str) -> Result<Arc<PasswdFile>, String>;

    /// PAM's opinion.
    fn pam(&self, question: PamQuestion<'_>) -> PamAnswer;

    /// What the shadow database says to a name and a password, or without one, whether the account stands: it is there, not expired, and has a password that is
    /// not locked. The stored password stays with who may read it.
    fn shadow(&self, name: &str, password: Option<&Octets>) -> PamAnswer;

    /// A user of the machine.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn system_user(&self, name: &str) -> Result<Option<SystemUser>, String>;

    /// The gid of a group of the machine.
    ///
    /// # Errors
    /// The database cannot be asked.
    fn group(&self, name: &str) -> Result<Option<u32>, String>;
}

/// A line for the log that an evaluation left, in Dovecot's words without `auth: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Written always, not only with `auth_verbose`: something is wrong with us, not with the peer.
    pub error: bool,
    /// The text.
    pub text: String,
}

/// Who a line is about: `passwd-file(john,192.0.2.1,<session>)`, and of a master user who is not yet anybody else `passwd-file(admin,192.0.2.1,master,<session>)`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub driver: &'a str,
    pub user: &'a str,
    pub remote: Option<std::net::IpAddr>,
    pub master: bool,
    pub session: &'a str,
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.driver, self.user)?;
        if let Some(remote) = self.remote {
            write!(f, ",{remote}")?;
        }
        if self.master {
            write!(f, ",master")?;
        }
        if !self.session.is_empty() {
            write!(f, ",<{}>", self.session)?;
        }
        write!(f, ")")
    }
}

impl About<'_> {
    pub fn info(&self, text: impl fmt::Display) -> Note {
        Note { error: false, text: format!("{self}: {text}") }
    }

    pub fn error(&self, text: impl fmt::Display) -> Note {
        Note { error: true, text: format!("{self}: {text}") }
    }
}

/// What a user gives to a path that holds variables must stay one name in it.
pub(crate) fn harmless_in_path(user: &str) -> bool {
    !user.contains('/') && !crate::variables::domain(user).starts_with('.') && !user.starts_with('.')
}
