//! Every parameter that Postfix has, whether it is built or not: name, type, default, and how common it is. The list is data.

use std::sync::LazyLock;

/// A parameter of Postfix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: &'static str,
    /// Its type, in the words of the manual pages.
    pub kind: &'static str,
    /// How many of eight distributions of mail servers set it.
    pub used: u8,
    /// Its default in Postfix 3.7.11; nothing for names that only other versions have.
    pub default: Option<&'static str>,
}

/// A name that a distribution invents: a restriction class, a name for `$name`, a parameter of a transport of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invented {
    /// The name.
    pub name: &'static str,
    /// The type of what it holds.
    pub kind: &'static str,
    /// How many of eight distributions have it.
    pub used: u8,
}

/// One line per parameter: name, type, count, default; separated by tabs, sorted by name.
const DATA: &str = include_str!("../../data/postfix-reference.tsv");
/// The same without default.
const INVENTED_DATA: &str = include_str!("../../data/postfix-invented.tsv");

/// Every parameter of Postfix, sorted by name.
pub static REFERENCE: LazyLock<Vec<Reference>> = LazyLock::new(|| lines(DATA).filter_map(read).collect());

/// Names that distributions invent, sorted.
pub static INVENTED: LazyLock<Vec<Invented>> = LazyLock::new(|| {
    let known = lines(INVENTED_DATA).filter_map(read);
    known.map(|Reference { name, kind, used, .. }| Invented { name, kind, used }).collect()
});

/// What Postfix says about a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Reference> {
    REFERENCE.binary_search_by(|known| known.name.cmp(name)).ok().map(|at| &REFERENCE[at])
}

fn lines(data: &'static str) -> impl Iterator<Item = &'static str> {
    data.lines().filter(|line| !line.starts_with('#'))
}

fn read(line: &'static str) -> Option<Reference> {
    let mut fields = line.split('\t');
    let (name, kind, used) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
    Some(Reference { name, kind, used, default: fields.next() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::main_cf::catalogue::{self, UNBUILT};
    use crate::main_cf::{PARAMETERS, transport_default};

    /// Where our default is a safer one (`docs/differences.md`), or is computed.
    const OTHER_DEFAULTS: [&str; 4] =
        ["mynetworks_style", "relay_domains", "smtpd_relay_restrictions", "smtpd_tls_auth_only"];

    #[test]
    fn every_line_is_read_once_and_in_order() {
        assert_eq!(REFERENCE.len(), lines(DATA).count());
        assert!(REFERENCE.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(INVENTED.len(), lines(INVENTED_DATA).count());
        let kinds = ["text", "template", "yes or no", "number", "time", "list", "table", "tables", "restrictions"];
        assert!(REFERENCE.iter().all(|known| kinds.contains(&known.kind)));
    }

    #[test]
    fn every_parameter_of_postfix_has_a_status() {
        for known in REFERENCE.iter() {
            let declared = PARAMETERS.iter().any(|parameter| parameter.name == known.name);
            let computed = ["config_directory", "process_id", "process_name", "service_name"].contains(&known.name);
            let has_one = declared
                || computed
                || catalogue::find(known.name).is_some()
                || transport_default(known.name).is_some();
            assert!(has_one, "{}", known.name);
        }
        for name in PARAMETERS.iter().map(|p| p.name).chain(UNBUILT.iter().map(|unbuilt| unbuilt.name)) {
            assert!(find(name).is_some() || name.starts_with("postrider_"), "{name}");
        }
    }

    // DESIGN section 5: defaults are those of Postfix 3.7.11.
    #[test]
    fn our_defaults_are_those_of_postfix() {
        for parameter in PARAMETERS.iter().filter(|parameter| !OTHER_DEFAULTS.contains(&parameter.name)) {
            let Some(theirs) = find(parameter.name).and_then(|known| known.default) else { continue };
            assert_eq!(parameter.default, theirs, "{}", parameter.name);
        }
    }

    // What at least two of the eight set is carried out, or has no meaning here, or waits for a later step and fails closed.
    #[test]
    fn what_distributions_use_is_honoured_or_says_what_happens() {
        let mut unbuilt = Vec::new();
        for known in REFERENCE.iter().filter(|known| known.used >= 2) {
            let Some(found) = catalogue::find(known.name) else { continue };
            assert!(found.note.len() > 10, "{}: {}", found.name, found.note);
            unbuilt.push(found);
        }
        let open = |unbuilt: &&&catalogue::Unbuilt| {
            unbuilt.step.is_some_and(|step| step < 6) && unbuilt.effect == catalogue::Effect::Reported
        };
        let open: Vec<_> = unbuilt.iter().filter(open).map(|unbuilt| unbuilt.name).collect();
        assert!(open.is_empty(), "a step before trust leaves out what distributions use: {open:?}");
    }
}
