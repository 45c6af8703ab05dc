//! What one passdb says to an attempt.

use super::{Attempt, Judge};
use crate::networks;
use crate::passwd_file::{Entry, PasswdFile};
use crate::plan::{FileArguments, PamAnswer, PamQuestion, PassDriver, Passdb, Sources};
use crate::schemes::{SchemeError, Stored};
use crate::variables::Values;

/// What one passdb says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    Ok,
    Mismatch,
    Unknown,
    /// The user exists and may not log in, whatever other databases say.
    Disabled,
    Internal,
}

impl Judge<'_> {
    pub(super) fn ask(&mut self, passdb: &Passdb) -> Result {
        let (user, master, login) = (self.granted.user.clone(), self.granted.master.clone(), self.login.clone());
        let values =
            Values { login_user: login.as_deref(), master_user: master.as_deref(), ..values(self.attempt, &user) };
        let (result, fields) = match &passdb.driver {
            PassDriver::PasswdFile(arguments) => self.ask_file(passdb, arguments, &values),
            PassDriver::Pam(service) => (self.ask_pam(passdb, service, &values), Vec::new()),
            PassDriver::Shadow => {
                let password = Some(&self.attempt.password).filter(|_| !self.verified);
                let answer = self.sources.shadow(&user, password);
                (self.take_answer(passdb, answer), Vec::new())
            }
            PassDriver::Static(fields) => self.ask_static(passdb, fields, &values),
            PassDriver::Unusable(text) => {
                self.say(passdb, true, text);
                return Result::Internal;
            }
        };
        if result != Result::Ok || passdb.deny {
            return result;
        }
        let mut all = Vec::new();
        for (templates, given) in [(&passdb.default_fields, Some(fields)), (&passdb.override_fields, None)] {
            match expand_all(templates, &values) {
                Ok(fields) => all.extend(fields),
                Err(text) => {
                    self.say(passdb, true, text);
                    return Result::Internal;
                }
            }
            all.extend(given.into_iter().flatten());
        }
        self.take_fields(passdb, all)
    }

    fn ask_file(
        &mut self,
        passdb: &Passdb,
        arguments: &FileArguments,
        values: &Values<'_>,
    ) -> (Result, Vec<(String, String)>) {
        let (file, entry) = match find(arguments, self.sources, values) {
            Ok(found) => found,
            Err(text) => {
                self.say(passdb, true, text);
                return (Result::Internal, Vec::new());
            }
        };
        let Some(entry) = entry else {
            self.burn(&file, &arguments.scheme);
            self.say(passdb, false, "unknown user");
            return (Result::Unknown, Vec::new());
        };
        let result = match entry.password.as_deref() {
            _ if self.verified => Result::Ok,
            _ if entry.extra.iter().any(|(key, _)| key == "nopassword") => {
                self.say(passdb, true, "nopassword is not supported: login refused");
                Result::Mismatch
            }
            Some(stored) => self.compare(passdb, stored, &arguments.scheme),
            None => {
                self.burn(&file, &arguments.scheme);
                self.say(passdb, false, "Password mismatch");
                Result::Mismatch
            }
        };
        (result, entry.extra)
    }

    fn ask_static(
        &mut self,
        passdb: &Passdb,
        fields: &[crate::plan::Field],
        values: &Values<'_>,
    ) -> (Result, Vec<(String, String)>) {
        let fields = match expand_all(fields, values) {
            Ok(fields) => fields,
            Err(text) => {
                self.say(passdb, true, text);
                return (Result::Internal, Vec::new());
            }
        };
        if self.verified {
            return (Result::Ok, fields);
        }
        let Some((_, stored)) = fields.iter().find(|(key, _)| key == "password") else {
            self.say(passdb, true, "static passdb without password: login refused");
            return (Result::Mismatch, Vec::new());
        };
        (self.compare(passdb, &stored.clone(), "PLAIN"), fields)
    }

    fn ask_pam(&mut self, passdb: &Passdb, service: &crate::variables::Template, values: &Values<'_>) -> Result {
        let Some(password) = self.attempt.password.as_str() else {
            self.say(passdb, false, "password is not UTF-8");
            return Result::Mismatch;
        };
        let service = match service.expand(values) {
            Ok(service) if !service.contains('/') => service,
            _ => {
                self.say(passdb, true, "invalid PAM service");
                return Result::Internal;
            }
        };
        let remote = self.attempt.peer.to_string();
        let question = PamQuestion { service: &service, user: values.user, password, remote: &remote };
        let answer = self.sources.pam(question);
        self.take_answer(passdb, answer)
    }

    fn take_answer(&mut self, passdb: &Passdb, answer: PamAnswer) -> Result {
        match answer {
            PamAnswer::Granted(user) => {
                self.granted.user = user;
                Result::Ok
            }
            PamAnswer::Denied(text) => {
                self.say(passdb, false, text);
                Result::Mismatch
            }
            PamAnswer::Unknown(text) => {
                self.say(passdb, false, text);
                Result::Unknown
            }
            PamAnswer::Expired(text) => {
                self.say(passdb, false, text);
                Result::Disabled
            }
            PamAnswer::Unavailable(text) => {
                self.say(passdb, true, text);
                Result::Internal
            }
        }
    }

    fn compare(&mut self, passdb: &Passdb, stored: &str, scheme: &str) -> Result {
        let stored = Stored::parse(stored, scheme);
        match stored.and_then(|stored| self.verify(&stored)) {
            Ok(true) => Result::Ok,
            Ok(false) => {
                self.say(passdb, false, "Password mismatch");
                Result::Mismatch
            }
            Err(error) => {
                self.say(passdb, true, error);
                Result::Mismatch
            }
        }
    }

    /// An unknown user costs what a known one costs, so that time does not tell who exists.
    fn burn(&self, file: &PasswdFile, scheme: &str) {
        if let Some(stored) = file.any_password().and_then(|stored| Stored::parse(stored, scheme).ok()) {
            let _ = self.verify(&stored);
        }
    }

    fn verify(&self, stored: &Stored) -> std::result::Result<bool, SchemeError> {
        let mut verified = Ok(false);
        self.sources.hashing(stored.is_quick(), &mut || {
            verified = stored.verify(&self.granted.user, self.attempt.password.as_bytes());
        });
        verified
    }

    /// The fields that limit a login, and those that the userdb will want.
    fn take_fields(&mut self, passdb: &Passdb, fields: Vec<(String, String)>) -> Result {
        for (key, value) in fields {
            match key.as_str() {
                "allow_nets" if !networks::allows(&value, self.attempt.peer) => {
                    let text = format!("allow_nets check failed: IP {} not in allowed networks", self.attempt.peer);
                    self.say(passdb, false, text);
                    return Result::Mismatch;
                }
                "nologin" | "fail" => {
                    self.say(passdb, false, format!("{key} is set: login refused"));
                    self.refused = true;
                }
                "proxy" | "proxy_maybe" => {
                    self.say(passdb, true, "proxying is not supported: login refused");
                    self.refused = true;
                }
                "user" if !value.is_empty() => self.granted.user = value,
                _ => {
                    if let Some(name) = key.strip_prefix("userdb_") {
                        self.granted.prefetched.push((name.to_owned(), value));
                    }
                }
            }
        }
        Result::Ok
    }
}

fn values<'a>(attempt: &'a Attempt, user: &'a str) -> Values<'a> {
    Values {
        user,
        login_user: None,
        master_user: None,
        service: &attempt.service,
        home: None,
        local: Some(attempt.local),
        local_name: attempt.local_name.as_deref(),
        remote: Some(attempt.peer),
        session: &attempt.session,
        mechanism: &attempt.mechanism,
    }
}

/// The file, and the user's entry in it with the variables of its extra fields expanded.
pub(crate) fn find(
    arguments: &FileArguments,
    sources: &dyn Sources,
    values: &Values<'_>,
) -> std::result::Result<(std::sync::Arc<PasswdFile>, Option<Entry>), String> {
    let text = |error: crate::variables::VariableError| error.to_string();
    let path = arguments.path.expand(values).map_err(text)?;
    if !values.are_harmless_in_path() && arguments.path.expand(&Values::default()).ok() != Some(path.clone()) {
        return Ok((std::sync::Arc::default(), None));
    }
    let file = sources.passwd_file(&path)?;
    let key = arguments.username_format.expand(values).map_err(text)?;
    let entry = file.get(&key).cloned();
    Ok((file, entry))
}

pub(crate) fn expand_all(
    fields: &[crate::plan::Field],
    values: &Values<'_>,
) -> std::result::Result<Vec<(String, String)>, String> {
    let expand = |(key, template): &crate::plan::Field| {
        let value = template.expand(values).map_err(|error| format!("{key}: {error}"))?;
        Ok((key.clone(), value))
    };
    fields.iter().map(expand).collect()
}
