//! What dovecot.conf may hold beyond our table of settings, and what writing it does. The list is data.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::parse::{Block, Node};
use super::{Dovecot, SETTINGS, filters};
use crate::main_cf::catalogue::Effect;
use crate::report::{Excerpt, Level, Report, Status, nearest};

/// One line per name: kind (setting, plugin, block, family, external), name, effect, step of the road, why; separated by tabs.
const DATA: &str = include_str!("../../data/dovecot-settings.tsv");

/// What writing a name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Nothing for what is built.
    pub effect: Option<Effect>,
    /// The step of the road that builds it; none if it has no meaning here.
    pub step: Option<u8>,
    /// What happens instead.
    pub note: &'static str,
}

static KNOWN: LazyLock<HashMap<(&str, &str), Known>> = LazyLock::new(|| DATA.lines().filter_map(read).collect());

fn read(line: &'static str) -> Option<((&'static str, &'static str), Known)> {
    let mut fields = line.split('\t');
    let (kind, name) = (fields.next().filter(|kind| !kind.starts_with('#'))?, fields.next()?);
    let effect = match fields.next()? {
        "built" => None,
        "stops" => Some(Effect::Stops),
        "stricter" => Some(Effect::Stricter),
        _ => Some(Effect::Reported),
    };
    let step = fields.next()?.parse().ok();
    Some(((kind, name), Known { effect, step, note: fields.next()? }))
}

/// What the catalogue says about a setting, a `plugin`, or a `block`.
#[must_use]
pub fn find(kind: &str, name: &str) -> Option<Known> {
    KNOWN.get(&(kind, name)).copied()
}

/// What it says about the file that a database reads, by the kind of its driver.
#[must_use]
pub fn external(kind: &str) -> Option<Known> {
    find("external", kind)
}

/// What is said about a setting by the path that [`reference`](super::reference) gives it; nothing if it is built.
#[must_use]
pub fn of_path(path: &str) -> Option<Known> {
    let (blocks, name) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(rest) = path.strip_prefix("ext ") {
        return external(rest.split('/').next().unwrap_or_default());
    }
    if blocks == "plugin" {
        let known = find("setting", name).filter(|known| known.effect.is_some()).or_else(|| family(name));
        return known.map(|known| Known { effect: Some(Effect::Reported), ..known });
    }
    let mut around = blocks.split('/').filter_map(|block| find("block", block.split(' ').next().unwrap_or_default()));
    let unbuilt = around.find(|known| known.effect.is_some());
    unbuilt.or_else(|| find("setting", name).filter(|known| known.effect.is_some()))
}

/// A setting of a plugin by the beginning of its name; such names are open (`quota_warning2`).
fn family(name: &str) -> Option<Known> {
    let families = KNOWN.iter().filter(|((kind, family), _)| *kind == "family" && name.starts_with(family));
    families.max_by_key(|((_, family), _)| family.len()).map(|(_, known)| *known)
}

/// Blocks whose keys the file invents.
const FREE_BLOCKS: [&str; 9] =
    ["dict", "fields", "iterate_fields", "parameters", "metric", "execute", "event_exporter", "map", "sieve_env"];

/// Reports what the file holds beyond what is built. `without` are the words of `postrider_run_without`.
pub(crate) fn report(dovecot: &Dovecot, without: &[String], reports: &mut Vec<Report>) {
    nodes(&dovecot.raw().nodes, &|key| key, without, reports);
    filters::report(&dovecot.raw().nodes, dovecot.is_24, reports);
    // What single protocols, addresses and names ask for counts as much as what all do.
    let served = ["imap", "pop3", "lmtp"].into_iter().filter(|protocol| dovecot.serves(protocol));
    let everywhere = std::iter::once(super::Connection::default());
    let views = served.flat_map(|protocol| filters::examples(&dovecot.raw().nodes, protocol));
    for (place, connection) in everywhere.chain(views).enumerate() {
        let seen = dovecot.seen(&connection);
        let mut said = Vec::new();
        if place > 0 {
            plugins(&seen.settings, without, &mut said);
        }
        missing(&seen, &mut said);
        unknown_facts(&seen.settings, &mut said);
        separator_in_names(&seen.settings, &mut said);
        for report in said {
            if !reports.contains(&report) {
                reports.push(report);
            }
        }
    }
}

/// Variables of `login_log_format_elements` that no login line can tell.
fn unknown_facts(settings: &super::Settings, reports: &mut Vec<Report>) {
    let elements = &settings.login_log_format_elements;
    for piece in elements.iter().flat_map(|element| &element.0) {
        if let super::login_log::Piece::Unknown(name) = piece {
            let message = format!("login_log_format_elements: unknown variable %{{{name}}}");
            let hint = "elements with it are left out of the log";
            let report = Report::new(Level::Warning, elements.source.clone(), message, hint);
            reports.push(report.about("login_log_format_elements", Status::Partly));
        }
    }
}

/// A separator of master users that ordinary names have too: whoever has such a name cannot log in.
fn separator_in_names(settings: &super::Settings, reports: &mut Vec<Report>) {
    let written = &settings.auth_master_user_separator;
    let Some(separator) = written.chars().next().filter(|c| c.is_ascii_alphanumeric() || ".-_@".contains(*c)) else {
        return;
    };
    let message =
        format!("auth_master_user_separator: a user name with `{separator}' is taken for that of a master user");
    let report =
        Report::new(Level::Warning, written.source.clone(), message, "choose one that is in no user name, such as `*'");
    reports.push(report.about("auth_master_user_separator", Status::Supported));
}

/// Databases and places of mail that are not built.
fn missing(dovecot: &Dovecot, reports: &mut Vec<Report>) {
    for problem in dovecot.passdbs.iter().chain(&dovecot.userdbs) {
        if let super::Driver::Unsupported(driver) = &problem.driver {
            let message = format!("driver `{driver}' is not built");
            let hint = "users that only it knows are refused with a temporary failure";
            let report = Report::new(Level::Warning, problem.source.clone(), message, hint);
            reports.push(report.about("driver", Status::Later));
        }
    }
    let namespaces = dovecot.namespaces.iter().filter_map(|namespace| namespace.unsupported.as_ref());
    let location = match &dovecot.location {
        super::Location::Unsupported(problem) => Some(problem),
        _ => None,
    };
    for problem in namespaces.chain(location) {
        let message = format!("{} is not built", problem.what);
        let report = Report::new(Level::Warning, problem.source.clone(), message, "logins that need it are refused");
        reports.push(report.about("mail_location", Status::Later));
    }
}

fn nodes(nodes_of: &[Node], short: &dyn for<'a> Fn(&'a str) -> &'a str, without: &[String], reports: &mut Vec<Report>) {
    for node in nodes_of {
        match node {
            Node::Setting { key, value, .. } => {
                let known = find("setting", key).or_else(|| find("setting", short(key)));
                if SETTINGS.iter().any(|declared| declared.name == key) || known.is_some_and(|k| k.effect.is_none()) {
                    let message = format!("{key}: supported");
                    let report = about(node, key, Level::Note, message, String::new());
                    reports.push(report.about(key, Status::Supported));
                    continue;
                }
                let off = matches!(value.as_str(), "" | "no" | "0");
                reports.push(match known {
                    Some(known) => effect(node, key, &known, off, without),
                    None => unknown(node, key),
                });
            }
            Node::Block(block) => self::block(node, block, without, reports),
        }
    }
}

fn block(node: &Node, block: &Block, without: &[String], reports: &mut Vec<Report>) {
    if block.kind == "plugin" && block.name.is_empty() {
        return plugin_settings(block, reports);
    }
    match find("block", &block.kind) {
        Some(known) if known.effect.is_some() => reports.push(effect(node, &block.kind, &known, false, without)),
        Some(_) if FREE_BLOCKS.contains(&block.kind.as_str()) || is_list(block) => {}
        Some(_) => nodes(&block.nodes, &|key| block.short(key), without, reports),
        None => {
            let known = KNOWN.keys().filter(|(kind, _)| *kind == "block").map(|(_, name)| *name);
            let hint = nearest(&block.kind, known)
                .map_or("it has no effect".to_owned(), |near| format!("did you mean `{near}'?"));
            let message = format!("unknown block `{}'", block.title());
            let report = about(node, &block.kind, Level::Warning, message, hint);
            reports.push(report.about(&block.kind, Status::Unknown));
        }
    }
}

/// The settings in `plugin { }`: whether a plugin is missed is said where `mail_plugins` names it.
fn plugin_settings(block: &Block, reports: &mut Vec<Report>) {
    for node in &block.nodes {
        let Node::Setting { key, .. } = node else { continue };
        let known = find("setting", key).filter(|known| known.effect.is_some()).or_else(|| family(key));
        let nobody = Known { effect: Some(Effect::Reported), step: None, note: "no plugin reads it" };
        let known = Known { effect: Some(Effect::Reported), ..known.unwrap_or(nobody) };
        reports.push(effect(node, key, &known, false, &[]));
    }
}

/// `mail_plugins { quota = yes }` and its like: 2.4's lists.
fn is_list(block: &Block) -> bool {
    let name = block.kind.strip_prefix("passdb_").unwrap_or(&block.kind);
    matches!(name, "mail_plugins" | "auth_mechanisms" | "protocols" | "mechanisms_filter" | "username_filter")
}

/// The plugins that a connection has.
fn plugins(settings: &super::Settings, without: &[String], reports: &mut Vec<Report>) {
    for plugin in settings.mail_plugins.iter().filter(|plugin| !plugin.starts_with('$')) {
        let value = settings.mail_plugins.join(" ");
        let node = Node::Setting { key: "mail_plugins".into(), value, source: settings.mail_plugins.source.clone() };
        reports.push(match find("plugin", plugin) {
            Some(known) => effect(&node, plugin, &known, false, without),
            None => {
                let message = format!("unknown plugin `{plugin}'");
                about(&node, plugin, Level::Warning, message, "it has no effect".into()).about(plugin, Status::Unknown)
            }
        });
    }
}

fn effect(node: &Node, name: &str, known: &Known, off: bool, without: &[String]) -> Report {
    let note = known.note.to_owned();
    let said = |level, what: &str, hint| about(node, name, level, format!("{name}: {what}"), hint);
    let report = match known.effect {
        _ if off => said(Level::Note, "no effect", note),
        None | Some(Effect::Reported) => said(Level::Note, "no effect", note),
        Some(Effect::Stricter) => said(Level::Note, "not built, acts stricter", note),
        Some(Effect::Stops) if without.iter().any(|word| word == name) => {
            said(Level::Warning, "not built, run without as postrider_run_without says", note)
        }
        Some(Effect::Stops) => {
            let hint = format!("{note}; write `postrider_run_without = {name}' into main.cf to run without it");
            said(Level::Error, "not built", hint)
        }
    };
    report.about(name, if known.step.is_some() { Status::Later } else { Status::NoEffect })
}

fn unknown(node: &Node, key: &str) -> Report {
    let catalogue = KNOWN.keys().filter(|(kind, _)| *kind == "setting").map(|(_, name)| *name);
    let names = SETTINGS.iter().map(|declared| declared.name).chain(catalogue);
    let hint = nearest(key, names).map_or("it has no effect".to_owned(), |near| format!("did you mean `{near}'?"));
    about(node, key, Level::Warning, format!("unknown setting `{key}'"), hint).about(key, Status::Unknown)
}

/// A report with the line as the file has it, near enough: blanks are not kept.
fn about(node: &Node, name: &str, level: Level, message: String, hint: String) -> Report {
    let (text, source) = match node {
        Node::Setting { key, value, source } => (format!("{key} = {value}"), source),
        Node::Block(block) => (format!("{} {{", block.title()), &block.source),
    };
    let start = text.find(name).unwrap_or(0);
    Report {
        excerpt: Some(Box::new(Excerpt { text, start, length: name.len() })),
        ..Report::new(level, source.clone(), message, hint).of(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read as read_text;
    use super::*;

    fn reports(text: &str, without: &[&str]) -> Vec<(Level, String)> {
        let (dovecot, mut reports) = read_text(text);
        let without: Vec<String> = without.iter().map(|word| (*word).to_owned()).collect();
        report(&dovecot, &without, &mut reports);
        reports.into_iter().map(|report| (report.level, report.to_string())).collect()
    }

    #[test]
    fn every_line_of_the_catalogue_is_read_once() {
        assert_eq!(KNOWN.len(), DATA.lines().filter(|line| !line.starts_with('#')).count());
        for declared in SETTINGS {
            assert!(!KNOWN.contains_key(&("setting", declared.name)), "{}", declared.name);
        }
    }

    #[test]
    fn an_unknown_setting_is_told_its_neighbour() {
        let found = reports("mail_locaton = maildir:~/Maildir\n", &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("did you mean `mail_location'?"), "{}", found[0].1);
    }

    #[test]
    fn a_filter_that_is_missing_stops_the_start_unless_named() {
        let text = "protocols = imap lmtp\nprotocol lmtp {\n mail_plugins = $mail_plugins sieve notify\n}\nplugin {\n sieve = ~/.x\n}\n";
        let errors =
            |without: &[&str]| reports(text, without).into_iter().filter(|(level, _)| *level == Level::Error).count();
        assert_eq!((errors(&[]), errors(&["sieve"])), (1, 0));
        let text = "protocols = imap\nprotocol lmtp {\n mail_plugins = sieve\n}\n";
        assert!(reports(text, &[]).iter().all(|(level, _)| *level == Level::Note), "LMTP is not served");
    }

    #[test]
    fn what_is_built_and_harmless_is_quiet() {
        let text = "protocols = imap pop3\nmail_location = maildir:~/Maildir\nssl = required\nservice imap-login {\n inet_listener imap {\n  port = 0\n }\n process_min_avail = 3\n}\n\
                    namespace inbox {\n inbox = yes\n mailbox Sent {\n  special_use = \\Sent\n }\n}\nremote 10.0.0.0/8 {\n ssl = no\n}\n";
        let found = reports(text, &[]);
        assert!(found.iter().all(|(level, _)| *level < Level::Error), "{found:?}");
        assert_eq!(found.iter().filter(|(level, _)| *level == Level::Warning).count(), 0, "{found:?}");
    }

    #[test]
    fn master_users_are_supported_and_a_separator_in_names_is_warned_of() {
        let masters =
            "passdb {\n driver = passwd-file\n args = /m\n master = yes\n pass = yes\n}\npassdb {\n driver = pam\n}\n";
        let found = reports(&format!("auth_master_user_separator = *\n{masters}"), &[]);
        assert!(found.iter().all(|(_, text)| text.contains(": supported")), "{found:?}");
        let found = reports(&format!("auth_master_user_separator = @\n{masters}"), &[]);
        let warnings: Vec<_> = found.iter().filter(|(level, _)| *level == Level::Warning).collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].1.contains("with `@' is taken"), "{warnings:?}");
    }

    #[test]
    fn lists_of_a_passdb_may_be_blocks() {
        let text = "dovecot_config_version = 2.4.0\npassdb pam {\n passdb_mechanisms_filter {\n  plain = yes\n }\n username_filter = *@x\n}\n";
        let found = reports(text, &[]);
        assert!(found.iter().all(|(level, _)| *level == Level::Note), "{found:?}");
        let (dovecot, _) = read_text(text);
        assert_eq!(dovecot.passdbs[0].settings["mechanisms_filter"], "plain");
    }

    #[test]
    fn databases_and_places_that_are_not_built_are_warnings() {
        let found = reports("mail_location = mbox:~/mail\npassdb {\n driver = sql\n args = /x\n}\n", &[]);
        assert_eq!(found.iter().filter(|(level, _)| *level == Level::Warning).count(), 2, "{found:?}");
    }
}
