//! The options that every daemon takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where configuration is looked for without `-c` and `MAIL_CONFIG`.
const DEFAULT_DIRECTORY: &str = "/etc/postrider";

/// The options of a daemon: `-c DIR`, `--dovecot FILE`, `--name INSTANCE`, `--log-dir DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directory of main.cf.
    pub directory: PathBuf,
    /// dovecot.conf, where it is named.
    pub dovecot: Option<PathBuf>,
    /// The instance, such as `local-delivery@2`; the daemon's name without `--name`.
    pub instance: String,
    /// Where the daemon's own log goes; `log/` in the state directory without it.
    pub log_dir: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments of a daemon. `mail_config` is the value of MAIL_CONFIG.
    ///
    /// # Errors
    /// A sentence about the first argument that is wrong.
    pub fn parse(
        daemon: &str,
        arguments: impl IntoIterator<Item = OsString>,
        mail_config: Option<OsString>,
    ) -> Result<Self, String> {
        let default = Path::new(DEFAULT_DIRECTORY);
        let fallback = if default.is_dir() { default } else { Path::new("/etc/postfix") };
        let mut options = Self {
            directory: mail_config.map_or_else(|| fallback.to_owned(), PathBuf::from),
            dovecot: None,
            instance: daemon.to_owned(),
            log_dir: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{} needs a value", argument.display()));
            match argument.to_str() {
                Some("-c") => options.directory = PathBuf::from(value()?),
                Some("--dovecot") => options.dovecot = Some(PathBuf::from(value()?)),
                Some("--log-dir") => options.log_dir = Some(PathBuf::from(value()?)),
                Some("--name") => options.instance = instance(daemon, &value()?)?,
                _ => return Err(format!("unknown argument `{}'", argument.display())),
            }
        }
        Ok(options)
    }
}

/// An instance name is the daemon's name, or that with `@` and a short word; it becomes a file name.
fn instance(daemon: &str, name: &OsString) -> Result<String, String> {
    let good = name.to_str().filter(|name| {
        let word = name.strip_prefix(daemon).unwrap_or("?");
        word.is_empty()
            || word.strip_prefix('@').is_some_and(|word| {
                (1..=32).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
    });
    good.map(str::to_owned).ok_or_else(|| format!("`{}' is no instance of {daemon}; write {daemon}@2", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse("local-delivery", arguments.iter().map(OsString::from), Some("/etc/mine".into()))
    }

    #[test]
    fn an_option_wins_over_the_environment() {
        assert_eq!(parse(&[]).expect("good").directory, Path::new("/etc/mine"));
        let options = parse(&["-c", "/x", "--name", "local-delivery@2"]).expect("good");
        assert_eq!((options.directory.as_path(), options.instance.as_str()), (Path::new("/x"), "local-delivery@2"));
    }

    #[test]
    fn an_instance_name_cannot_leave_its_directory() {
        for name in ["smtpd", "local-delivery@../x", "local-delivery@", "local-delivery2"] {
            parse(&["--name", name]).expect_err(name);
        }
        parse(&["--verbose"]).expect_err("unknown");
        parse(&["-c"]).expect_err("no value");
    }
}
