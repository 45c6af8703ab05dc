//! The parameters of Postfix that we do not build, and what writing them does. The list is data.

use std::sync::LazyLock;

use super::reference;

/// What a written parameter does that is not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It cannot change who may send, what is accepted or where it goes; it is merely reported.
    Reported,
    /// The start stops, unless `postrider_run_without` names it.
    Stops,
    /// What we do instead is stricter, never more permissive.
    Stricter,
}

/// A parameter that is not built.
#[derive(Debug, Clone, Copy)]
pub struct Unbuilt {
    /// Its name.
    pub name: &'static str,
    /// What writing it does.
    pub effect: Effect,
    /// The step of the road that builds it; none if it has no meaning here.
    pub step: Option<u8>,
    /// What happens instead, in a few words.
    pub note: &'static str,
}

impl Unbuilt {
    /// Its default in Postfix 3.7.11, for `$name` in other values; empty for names of other versions.
    #[must_use]
    pub fn default(&self) -> &'static str {
        reference::find(self.name).and_then(|known| known.default).unwrap_or_default()
    }
}

/// What a step of the road is about, for `check` and the page of parameters.
#[must_use]
pub fn road(step: u8) -> &'static str {
    match step {
        4 => "queue and delivery agents",
        5 => "IMAP, POP3 and logins",
        6 => "filters and trust",
        7 => "operation",
        _ => "more than one machine",
    }
}

/// One line per parameter: name, effect, step, note; separated by tabs, sorted by name.
const DATA: &str = include_str!("../../data/postfix-parameters.tsv");

/// Every parameter of Postfix that is not in [`PARAMETERS`](super::PARAMETERS), sorted by name.
pub static UNBUILT: LazyLock<Vec<Unbuilt>> = LazyLock::new(|| DATA.lines().filter_map(read).collect());

/// What the catalogue says about a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Unbuilt> {
    UNBUILT.binary_search_by(|unbuilt| unbuilt.name.cmp(name)).ok().map(|at| &UNBUILT[at])
}

fn read(line: &'static str) -> Option<Unbuilt> {
    let mut fields = line.split('\t');
    let name = fields.next().filter(|name| !name.starts_with('#'))?;
    let effect = match fields.next()? {
        "stops" => Effect::Stops,
        "stricter" => Effect::Stricter,
        _ => Effect::Reported,
    };
    let step = fields.next()?.parse().ok();
    Some(Unbuilt { name, effect, step, note: fields.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::main_cf::PARAMETERS;

    #[test]
    fn every_line_of_the_catalogue_is_read_once_and_in_order() {
        let lines = DATA.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(UNBUILT.len(), lines);
        assert!(UNBUILT.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(UNBUILT.iter().all(|unbuilt| !unbuilt.note.is_empty()));
    }

    #[test]
    fn a_parameter_is_either_built_or_in_the_catalogue() {
        for parameter in PARAMETERS {
            assert!(find(parameter.name).is_none(), "{}", parameter.name);
        }
    }
}
