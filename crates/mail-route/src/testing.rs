//! Configurations and tables for the tests of this crate.

use mail_config::main_cf::lists::{TableKind, TableRef};
use mail_config::{Config, Machine};
use mail_tables::{RemoteAnswer, Snapshot};

use crate::world::{Answers, Question, World};

/// The configuration of a directory with this main.cf, on a machine named `server`.
pub(crate) fn main_cf(text: &str) -> Config {
    files(&[("main.cf", text)])
}

/// The configuration of a directory with these files.
pub(crate) fn files(files: &[(&str, &str)]) -> Config {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    let dovecot = dir.path().join("dovecot.conf");
    let loaded = Config::load_on(dir.path(), Some(&dovecot), Machine::named("server"));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config
}

/// A configuration with tables and answers.
pub(crate) struct Made {
    pub config: Config,
    pub tables: Snapshot,
    pub answers: Answers,
}

impl Made {
    /// `hash:` tables by path.
    pub(crate) fn new(config: Config, tables: &[(&str, &str)]) -> Self {
        let refs: Vec<(TableRef, &str)> = tables
            .iter()
            .map(|(path, text)| (TableRef { kind: TableKind::Hash, name: (*path).to_owned(), proxy: false }, *text))
            .collect();
        let texts: Vec<(&TableRef, &str)> = refs.iter().map(|(table, text)| (table, *text)).collect();
        let aliases: Vec<TableRef> = config.main.alias_maps.value.clone();
        let named: Vec<TableRef> = config.tables().into_iter().map(|(table, _)| table).collect();
        Self { tables: Snapshot::of_texts(&texts, &aliases).with_tables(&named), config, answers: Answers::default() }
    }

    pub(crate) fn knows(mut self, question: Question, answer: RemoteAnswer) -> Self {
        self.answers.0.insert(question, answer);
        self
    }

    pub(crate) fn world(&self) -> World<'_> {
        World { config: &self.config, main: &self.config.main, tables: &self.tables, facts: &self.answers }
    }
}

/// An address of a test.
pub(crate) fn address(text: &str) -> mail_types::Address {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
