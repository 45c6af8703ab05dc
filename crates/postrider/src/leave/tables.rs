//! Tables whose text is newer than what Postfix reads of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mail_config::Config;
use mail_config::main_cf::lists::TableRef;

use super::Programs;
use crate::exit::{Failure, IO};

/// A table to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// `postmap` or `postalias`.
    program: &'static str,
    /// `type:/path`.
    table: String,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.table)
    }
}

/// The tables of main.cf that have no compiled file, or one that is older than the text.
#[must_use]
pub fn stale(config: &Config) -> Vec<Stale> {
    let aliases: Vec<TableRef> =
        config.main.alias_maps.iter().chain(config.main.alias_database.iter()).flat_map(TableRef::with_parts).collect();
    let mut found: Vec<Stale> = Vec::new();
    for table in config.tables().into_iter().map(|(table, _)| table).chain(aliases.iter().cloned()) {
        let plain = table.to_string().trim_start_matches("proxy:").to_owned();
        let Some(compiled) = compiled(&plain) else { continue };
        let alias = aliases.iter().any(|alias| alias.name == table.name);
        let one = Stale { program: if alias { "postalias" } else { "postmap" }, table: plain };
        if is_newer(Path::new(&table.name), &compiled) && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// The file that Postfix reads; none for types that it reads as text.
fn compiled(table: &str) -> Option<PathBuf> {
    let (kind, path) = table.split_once(':')?;
    let suffix = match kind {
        "hash" | "btree" => "db",
        "lmdb" => "lmdb",
        "cdb" => "cdb",
        "dbm" | "sdbm" => "pag",
        _ => return None,
    };
    Some(PathBuf::from(format!("{path}.{suffix}")))
}

fn is_newer(text: &Path, compiled: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    match (time(text), time(compiled)) {
        (Some(text), Some(compiled)) => text > compiled,
        (text, _) => text.is_some(),
    }
}

/// Builds them with Postfix's own programs, and gives the commands.
///
/// # Errors
/// A program cannot be run or says no.
pub fn build(config: &Config, programs: &Programs, stale: &[Stale]) -> Result<Vec<String>, Failure> {
    let mut built = Vec::with_capacity(stale.len());
    for one in stale {
        let program = programs.directory.join(one.program);
        let mut command = Command::new(&program);
        command.arg("-c").arg(&config.dir).arg(&one.table);
        let output = command.output().map_err(|error| Failure::new(IO, format!("{}: {error}", program.display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(IO, format!("{one}: {}: {}", output.status, said.trim())));
        }
        built.push(one.to_string());
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn only_a_text_that_is_newer_than_its_compiled_file_is_built() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let shown = directory.path().display();
        let main = format!(
            "alias_maps = hash:{shown}/aliases\nvirtual_alias_maps = hash:{shown}/virtual, cidr:{shown}/net\ntransport_maps = hash:{shown}/transport\n"
        );
        fs::write(path("main.cf"), main).expect("written");
        for name in ["aliases", "virtual", "virtual.db", "transport", "transport.db", "net"] {
            fs::write(path(name), "").expect("written");
        }
        let earlier = SystemTime::now() - Duration::from_secs(60);
        for name in ["virtual", "transport.db"] {
            fs::File::options().write(true).open(path(name)).and_then(|f| f.set_modified(earlier)).expect("set");
        }
        let loaded = Config::load(directory.path(), Some(Path::new("/dev/null"))).expect("good");
        let mut found: Vec<String> = stale(&loaded.config).iter().map(ToString::to_string).collect();
        found.retain(|table| table.contains(&shown.to_string()));
        found.sort();
        assert_eq!(found, [format!("postalias hash:{shown}/aliases"), format!("postmap hash:{shown}/transport")]);
    }
}
