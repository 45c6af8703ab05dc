//! Every scheme that an installed Dovecot makes is recognised here; counted as ignored where there is no Dovecot.

use std::process::{Command, ExitCode};

use accounts::schemes::Stored;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

const SCHEMES: [&str; 28] = [
    "PLAIN",
    "CLEARTEXT",
    "CRYPT",
    "MD5-CRYPT",
    "SHA256-CRYPT",
    "SHA512-CRYPT",
    "BLF-CRYPT",
    "DES-CRYPT",
    "ARGON2I",
    "ARGON2ID",
    "PBKDF2",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA512",
    "SSHA",
    "SSHA256",
    "SSHA512",
    "SMD5",
    "LDAP-MD5",
    "PLAIN-MD5",
    "MD5",
    "CRAM-MD5",
    "DIGEST-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SSHA512.HEX",
    "SHA256.B64",
];
const USER: &str = "john@info.net";
const PASSWORDS: [&str; 3] =
    ["secret", "with space and ünïcödé", "0123456789012345678901234567890123456789012345678901234567890123456"];

fn main() -> ExitCode {
    let trial = |scheme: &'static str| {
        Trial::ignorable_test(format!("dovecot_s_{scheme}_is_recognised"), move || compare(scheme))
    };
    libtest_mimic::run(&Arguments::from_args(), SCHEMES.into_iter().map(trial).collect()).exit_code()
}

fn compare(scheme: &str) -> Result<Completion, Failed> {
    for password in PASSWORDS {
        let Some(stored) = made_by_dovecot(scheme, password)? else {
            return Ok(Completion::ignored_with("no doveadm on this machine"));
        };
        let parsed = Stored::parse(&stored, "CRYPT").map_err(|error| format!("{stored}: {error}"))?;
        let fits =
            |password: &str| parsed.verify(USER, password.as_bytes()).map_err(|error| format!("{stored}: {error}"));
        if !fits(password)? {
            return Err(format!("{stored} does not fit {password:?}").into());
        }
        // DES looks at eight octets only.
        if fits(&format!("x{password}"))? {
            return Err(format!("{stored} fits another password than {password:?}").into());
        }
    }
    Ok(Completion::Completed)
}

fn made_by_dovecot(scheme: &str, password: &str) -> Result<Option<String>, Failed> {
    let configuration = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("doveadm");
    command.arg("-c").arg(configuration.path()).args(["pw", "-u", USER, "-s", scheme, "-p", password]);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(Some(String::from_utf8(output.stdout)?.trim().to_owned()))
}
