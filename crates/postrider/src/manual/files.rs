//! The pages of the configuration files: every parameter that is carried out, from where it is declared.

use mail_config::dovecot::SETTINGS;
use mail_config::main_cf::PARAMETERS;

use super::Page;

/// main.cf and dovecot.conf.
pub(super) fn pages() -> Vec<Page> {
    let parameters = PARAMETERS.iter().map(|parameter| {
        let mut meaning = words(parameter.doc);
        if let Some(partly) = parameter.partly {
            meaning.push_str(&format!(" Partly supported: {partly}."));
        }
        meaning.push_str(&format!(" ({}; used by {})", parameter.kind, parameter.used_by.join(", ")));
        (format!("{} = {}", parameter.name, parameter.default).trim_end().to_owned(), meaning)
    });
    let settings = SETTINGS.iter().map(|setting| {
        let term = format!("{} = {}", setting.name, setting.default).trim_end().to_owned();
        (term, format!("{} ({})", words(setting.doc), setting.kind))
    });
    vec![
        Page {
            name: "postrider-main.cf",
            section: 5,
            summary: "main.cf as Postrider reads it",
            text: &[
                "main.cf is read as Postfix 3.7 reads it. This page lists the parameters that are carried out, each with its default.",
                "A parameter of Postfix that is not in the list has no effect, makes the server stricter, or stops the start: postrider check says which, with file and line. An unknown parameter is named with the nearest known one.",
            ],
            lists: vec![("parameters", parameters.collect())],
            see_also: &["postconf(1)", "postrider-check(1)", "postrider-dovecot.conf(5)"],
            ..Page::default()
        },
        Page {
            name: "postrider-dovecot.conf",
            section: 5,
            summary: "dovecot.conf as Postrider reads it",
            text: &[
                "dovecot.conf is read as Dovecot 2.3 (and, with dovecot_config_version, 2.4) reads it, with !include, conf.d and the blocks service, passdb, userdb, namespace, protocol, local and remote. This page lists the settings that are carried out, each with its default.",
            ],
            lists: vec![("settings", settings.collect())],
            see_also: &["doveconf(1)", "postrider-main.cf(5)"],
            ..Page::default()
        },
    ]
}

/// Lines of a doc comment as one paragraph.
fn words(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
