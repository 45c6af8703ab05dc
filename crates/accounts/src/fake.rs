//! Sources for the tests: files in memory, a few system users, a PAM that knows one password.

use std::collections::HashMap;
use std::sync::Arc;

use mail_types::{Octets, SourceLine};

use crate::passwd_file::PasswdFile;
use crate::plan::{
    Field, FileArguments, Flow, PamAnswer, PamQuestion, PassDriver, Passdb, Sources, SystemUser, UserDriver, Userdb,
};
use crate::variables::Template;

#[derive(Default)]
pub struct Fake {
    pub files: HashMap<String, String>,
}

impl Fake {
    pub fn with_file(path: &str, text: &str) -> Self {
        Self { files: [(path.to_owned(), text.to_owned())].into() }
    }
}

impl Sources for Fake {
    fn passwd_file(&self, path: &str) -> Result<Arc<PasswdFile>, String> {
        let text = self.files.get(path).ok_or_else(|| format!("open({path}) failed: No such file or directory"))?;
        Ok(Arc::new(PasswdFile::parse(text)))
    }

    fn pam(&self, question: PamQuestion<'_>) -> PamAnswer {
        match (question.user, question.password) {
            ("pamela", "system") => PamAnswer::Granted("pamela".into()),
            ("expired", _) => PamAnswer::Expired("pam_acct_mgmt() failed: expired".into()),
            _ => PamAnswer::Denied("pam_authenticate() failed: Authentication failure (Password mismatch?)".into()),
        }
    }

    fn shadow(&self, name: &str, password: Option<&Octets>) -> PamAnswer {
        match (name, password.map(|password| password.as_str())) {
            ("shade", None | Some(Some("dark"))) => PamAnswer::Granted("shade".into()),
            ("shade", _) => PamAnswer::Denied("Password mismatch".into()),
            ("locked", _) => PamAnswer::Denied("invalid password field".into()),
            _ => PamAnswer::Unknown("unknown user".into()),
        }
    }

    fn system_user(&self, name: &str) -> Result<Option<SystemUser>, String> {
        match name {
            "vmail" => Ok(Some(SystemUser { name: name.into(), uid: 5000, gid: 5001, home: "/var/vmail".into() })),
            "broken" => Err("the database does not answer".into()),
            _ => Ok(None),
        }
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        Ok((name == "mailers").then_some(5001))
    }
}

pub fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

pub fn field(text: &str) -> Field {
    let (key, value) = text.split_once('=').unwrap();
    (key.to_owned(), template(value))
}

fn file(path: &str) -> FileArguments {
    FileArguments { path: template(path), scheme: "CRYPT".into(), username_format: template("%u") }
}

pub fn passdb(driver: PassDriver) -> Passdb {
    Passdb {
        driver,
        source: SourceLine::built_in(),
        deny: false,
        mechanisms: Vec::new(),
        username_filter: Vec::new(),
        flow: Flow::default(),
        default_fields: Vec::new(),
        override_fields: Vec::new(),
    }
}

pub fn passdb_file(path: &str) -> Passdb {
    passdb(PassDriver::PasswdFile(file(path)))
}

pub fn userdb(driver: UserDriver) -> Userdb {
    Userdb {
        driver,
        source: SourceLine::built_in(),
        flow: Flow::default(),
        default_fields: Vec::new(),
        override_fields: Vec::new(),
    }
}

pub fn file_userdb(path: &str) -> Userdb {
    userdb(UserDriver::PasswdFile(file(path)))
}
