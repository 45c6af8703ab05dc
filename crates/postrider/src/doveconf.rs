//! `doveconf -n`: what dovecot.conf says, as it was read; and the refusal of what else goes by Dovecot's names.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use mail_config::Config;
use mail_config::dovecot::Node;

use crate::arguments::Grammar;
use crate::exit::{CONFIGURATION, Failure, Outcome, USAGE};
use crate::system::directory;
use crate::terminal::print;

const GRAMMAR: Grammar = Grammar { letters: "c:nC:", long: &[("config-dir", 'C')] };

/// Runs `doveconf`. `-c FILE` names dovecot.conf, as Dovecot's does.
///
/// # Errors
/// 64 for anything but `-n`, 78 for wrong files.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, error.to_string()))?;
    if !parsed.has('n') || !parsed.operands.is_empty() {
        return Err(Failure::new(USAGE, "only `doveconf -n [-c FILE]' is supported: what the file says"));
    }
    let file = parsed.last('c').map(Path::new);
    let loaded = Config::load(&directory(parsed.last('C')), file);
    let config = loaded.map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))?.config;
    let raw = config.dovecot.raw();
    let mut out = format!("# {}\n", raw.file);
    write_nodes(&raw.nodes, 0, &mut out);
    print(&out)?;
    Ok(0)
}

/// Runs `dovecot`: `-n` is `doveconf -n`; daemons are not started by this name.
///
/// # Errors
/// As [`run`]; 64 for anything but `-n`.
pub fn dovecot(arguments: &[OsString]) -> Outcome {
    if arguments.iter().any(|argument| argument == "-n") {
        return run(arguments);
    }
    refuse("dovecot", "use `dovecot -n', and `postfix start', `stop' and `reload'")
}

/// Refuses a command of Dovecot's that is not there.
///
/// # Errors
/// Always, with exit code 64.
pub fn refuse(name: &str, instead: &str) -> Outcome {
    Err(Failure::new(USAGE, format!("`{name}' is not supported; {instead}")))
}

fn write_nodes(nodes: &[Node], depth: usize, out: &mut String) {
    let indent = depth * 2;
    for node in nodes {
        match node {
            Node::Setting { key, value, .. } if is_secret(key) && !value.is_empty() => {
                let _ = writeln!(out, "{:indent$}{key} = # hidden", "");
            }
            Node::Setting { key, value, .. } => {
                let _ = writeln!(out, "{:indent$}{key} = {value}", "");
            }
            Node::Block(block) => {
                let gap = if block.name.is_empty() { "" } else { " " };
                let _ = writeln!(out, "{:indent$}{}{gap}{} {{", "", block.kind, block.name);
                write_nodes(&block.nodes, depth + 1, out);
                let _ = writeln!(out, "{:indent$}}}", "");
            }
        }
    }
}

/// Passwords and keys of passwords are for the daemons, not for a screen.
fn is_secret(key: &str) -> bool {
    key.ends_with("_password") || key.ends_with("_secret") || key == "password"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_indented_and_secrets_hidden() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("dovecot.conf");
        std::fs::write(&file, "protocols = imap\nservice imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n}\nssl_key_password = x\n")
            .expect("written");
        let config = Config::load(directory.path(), Some(&file)).expect("good").config;
        let mut out = String::new();
        write_nodes(&config.dovecot.raw().nodes, 0, &mut out);
        assert_eq!(
            out,
            "protocols = imap\nservice imap-login {\n  inet_listener imap {\n    port = 1143\n  }\n}\nssl_key_password = # hidden\n"
        );
    }
}
