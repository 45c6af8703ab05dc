//! The ids: what each asks for, and why one has no test.

/// The catalogue's file.
pub const FILE: &str = "docs/conformance.tsv";

/// A rule or requirement.
#[derive(Debug, PartialEq, Eq)]
pub struct Item {
    /// Such as `S07`.
    pub id: String,
    /// What must hold, with the section of the standard.
    pub text: String,
    /// Why it has no test; none if it has.
    pub without: Option<Without>,
}

/// Why an id has no test.
#[derive(Debug, PartialEq, Eq)]
pub enum Without {
    /// What it is about is built, or will be.
    NotYet(String),
    /// What it is about is not offered.
    DoesNotApply(String),
}

/// Lines of `id TAB text [TAB "not yet: why" | "does not apply: why"]`; lines that begin with `#` are comments.
pub fn parse(text: &str) -> Result<Vec<Item>, String> {
    let mut items: Vec<Item> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let item = parse_line(line).map_err(|what| format!("{FILE}:{number}: {what}"))?;
        if items.iter().any(|other| other.id == item.id) {
            return Err(format!("{FILE}:{number}: {} is there twice", item.id));
        }
        items.push(item);
    }
    Ok(items)
}

fn parse_line(line: &str) -> Result<Item, &'static str> {
    let cells: Vec<&str> = line.split('\t').collect();
    let (id, text, reason) = match cells[..] {
        [id, text] => (id, text, None),
        [id, text, reason] => (id, text, Some(reason)),
        _ => return Err("two or three cells, divided by tabs, are needed"),
    };
    if !is_id(id) {
        return Err("the first cell is no id");
    }
    Ok(Item { id: id.to_owned(), text: text.to_owned(), without: reason.map(parse_reason).transpose()? })
}

fn parse_reason(text: &str) -> Result<Without, &'static str> {
    let (kind, why) = text.split_once(": ").ok_or("a reason is `not yet: why' or `does not apply: why'")?;
    match kind {
        "not yet" => Ok(Without::NotYet(why.to_owned())),
        "does not apply" => Ok(Without::DoesNotApply(why.to_owned())),
        _ => Err("a reason begins with `not yet' or `does not apply'"),
    }
}

/// One or two capitals, one or two digits, and perhaps a `c`: `R1`, `S07`, `D01c`.
pub fn is_id(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let (letters, digits) = (word.len() - digits.len(), digits.len() - rest.len());
    letters == 1 && (1..=2).contains(&digits) && (rest.is_empty() || rest == "c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_prose_are_no_ids() {
        for (word, good) in [
            ("S07", true),
            ("R12", true),
            ("D01c", true),
            ("E8", true),
            ("RFC", false),
            ("S", false),
            ("S123", false),
            ("7", false),
            ("S07x", false),
            ("TLS12", false),
        ] {
            assert_eq!(is_id(word), good, "{word}");
        }
    }

    #[test]
    fn a_line_has_an_id_a_text_and_perhaps_a_reason() {
        let items = parse("# comment\nS01\tgreeting\nM04\tETRN\tdoes not apply: not offered\n").expect("good");
        assert_eq!(items[0], Item { id: "S01".to_owned(), text: "greeting".to_owned(), without: None });
        assert_eq!(items[1].without, Some(Without::DoesNotApply("not offered".to_owned())));
        for bad in ["S01", "greeting\ttext", "S01\ta\tbecause", "S01\ta\tnot yet: b\tc", "S01\ta\nS01\tb"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
