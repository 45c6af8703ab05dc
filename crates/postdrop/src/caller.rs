//! Who runs this program, and which configuration such a caller may name.

use std::path::{Path, PathBuf};

use mail_config::Config;

use crate::{Failure, NO_PERMISSION, TEMPORARY};

/// Where the configuration is that decides about all others, in the order in which daemons and commands look.
const DEFAULTS: [&str; 2] = ["/etc/postrider", "/etc/postfix"];

/// The caller of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The real uid, which will own the file.
    pub(crate) uid: u32,
    /// Whether this process has rights that the caller has not.
    privileged: bool,
    /// `MAIL_CONFIG` of the environment.
    environment: Option<PathBuf>,
}

impl Caller {
    /// Reads ids and environment of this process.
    pub(crate) fn current() -> Self {
        let different = rustix::process::getgid() != rustix::process::getegid()
            || rustix::process::getuid() != rustix::process::geteuid();
        Self {
            uid: rustix::process::getuid().as_raw(),
            privileged: different,
            environment: std::env::var_os("MAIL_CONFIG").map(PathBuf::from),
        }
    }

    /// The login name; `unknown` for a uid that nobody has.
    pub(crate) fn name(&self) -> String {
        let user = mail_posix::users::by_uid(self.uid).ok().flatten();
        user.map_or_else(|| "unknown".to_owned(), |user| user.name)
    }

    /// The directory to use: the one of `-c` or `MAIL_CONFIG` if this caller may name it, else the default one.
    ///
    /// With rights that the caller has not, another directory would be a way to write anywhere the group may write. So the default main.cf
    /// must list it, unless root calls.
    pub(crate) fn configuration_directory(&self, option: Option<PathBuf>) -> Result<PathBuf, Failure> {
        let default = DEFAULTS.into_iter().map(Path::new).find(|path| path.is_dir()).unwrap_or(Path::new(DEFAULTS[0]));
        let Some(named) = option.or_else(|| self.environment.clone()).filter(|path| path != default) else {
            return Ok(default.to_owned());
        };
        if self.privileged && self.uid != 0 {
            let loaded = Config::load(default, Some("/dev/null".as_ref()));
            let config = loaded.map_err(|errors| Failure::new(TEMPORARY, errors.to_string()))?.config;
            let listed = config.main.expanded("multi_instance_directories").unwrap_or_default();
            let mut permitted = config.main.alternate_config_directories.iter().map(String::as_str);
            let mut instances = listed.split([',', ' ', '\t']);
            let named = named.to_str().unwrap_or_default();
            if named.is_empty() || !(permitted.any(|path| path == named) || instances.any(|path| path == named)) {
                let text = format!(
                    "unauthorized configuration directory name: {named}; list it in alternate_config_directories of {}/main.cf",
                    default.display()
                );
                return Err(Failure::new(NO_PERMISSION, text));
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, privileged: bool) -> Caller {
        Caller { uid, privileged, environment: None }
    }

    #[test]
    fn a_stranger_cannot_lead_the_group_to_another_directory() {
        let named = || Some(PathBuf::from("/tmp/mine"));
        assert_eq!(caller(1000, true).configuration_directory(named()).expect_err("refused").code, NO_PERMISSION);
        assert_eq!(
            caller(1000, false).configuration_directory(named()).expect("own rights only"),
            Path::new("/tmp/mine")
        );
        assert_eq!(caller(0, true).configuration_directory(named()).expect("root"), Path::new("/tmp/mine"));
        let environment = Caller { environment: named(), ..caller(1000, true) };
        assert_eq!(environment.configuration_directory(None).expect_err("refused").code, NO_PERMISSION);
    }
}
