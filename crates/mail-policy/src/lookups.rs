//! Every lookup that a decision made, where the tables write them down.

use decision::Lookup;
use mail_tables::{Answer, Asked};

/// What tables were asked, in order and each question once, with what functions noted beside it (lists of main.cf, DNS, probes). Where the tables
/// write nothing down, what was noted is all there is.
#[must_use]
pub fn every(asked: Vec<Asked>, noted: Vec<Lookup>) -> Vec<Lookup> {
    if asked.is_empty() {
        return noted;
    }
    let mut all: Vec<Lookup> = Vec::new();
    for one in asked {
        let lookup = match one.answer {
            Answer::Found(found) => Lookup {
                table: one.table.to_string(),
                key: one.key,
                value: Some(found.value),
                source: Some(found.source),
            },
            Answer::NotFound => Lookup { table: one.table.to_string(), key: one.key, value: None, source: None },
            // What could not be asked is a failure of its rule, which says why.
            Answer::Temporary(_) | Answer::Missing(_) => continue,
        };
        if !all.contains(&lookup) {
            all.push(lookup);
        }
    }
    let known = |noted: &Lookup| {
        all.iter().any(|one| (&one.table, &one.key, &one.value) == (&noted.table, &noted.key, &noted.value))
    };
    // A search through several tables is noted as one that found nothing; each of its lookups is there already.
    let joined =
        |noted: &Lookup| noted.value.is_none() && noted.table.contains(':') && !noted.table.starts_with("dns:");
    let rest: Vec<Lookup> = noted.into_iter().filter(|noted| !known(noted) && !joined(noted)).collect();
    all.extend(rest);
    all
}

#[cfg(test)]
mod tests {
    use mail_tables::TableKind;
    use mail_tables::TableRef;

    use super::*;

    #[test]
    fn each_question_is_there_once_and_what_is_no_table_stays() {
        let table = TableRef { kind: TableKind::Hash, name: "/t".to_owned(), proxy: false };
        let miss = |key: &str| Asked { table: table.clone(), key: key.to_owned(), answer: Answer::NotFound };
        let note =
            |table: &str, key: &str| Lookup { table: table.to_owned(), key: key.to_owned(), value: None, source: None };
        let noted = vec![
            note("hash:/t, hash:/u", "a, b"),
            note("hash:/t", "a"),
            note("dns:zen.org", "1.zen.org"),
            note("mynetworks", "::1"),
        ];
        let all = every(vec![miss("a"), miss("b"), miss("a")], noted.clone());
        let keys: Vec<&str> = all.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "1.zen.org", "::1"]);
        assert_eq!(every(Vec::new(), noted.clone()), noted);
    }
}
