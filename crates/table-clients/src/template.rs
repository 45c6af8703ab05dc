//! Queries and results with `%s %u %d %1` in them, as sqlite_table(5) and its relatives describe them.

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `%s`, `%u`, `%d`: of the value.
    Value(Part),
    /// `%S`, `%U`, `%D`, `%1` to `%9`: of the key.
    Key(Part),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    User,
    Domain,
    /// A label of the domain, counted from its end.
    Label(usize),
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

/// An address or another text, cut at its last `@`.
#[derive(Clone, Copy)]
struct Cut<'a> {
    whole: &'a str,
    address: Option<(&'a str, &'a str)>,
}

impl<'a> Cut<'a> {
    fn of(whole: &'a str) -> Self {
        Self { whole, address: whole.rsplit_once('@') }
    }

    /// None where it lacks what is asked for: then nothing is looked up, or nothing results.
    fn part(self, part: Part) -> Option<&'a str> {
        match part {
            Part::Whole => Some(self.whole),
            Part::User => match self.address {
                Some((user, _)) => (!user.is_empty()).then_some(user),
                None => Some(self.whole),
            },
            Part::Domain => self.address.map(|(_, domain)| domain).filter(|domain| !domain.is_empty()),
            Part::Label(number) => self.part(Part::Domain)?.rsplit('.').nth(number - 1),
        }
    }
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            let piece = match chars.next() {
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                Some('s') => Piece::Value(Part::Whole),
                Some('u') => Piece::Value(Part::User),
                Some('d') => Piece::Value(Part::Domain),
                Some('S') => Piece::Key(Part::Whole),
                Some('U') => Piece::Key(Part::User),
                Some('D') => Piece::Key(Part::Domain),
                Some(digit @ '1'..='9') => Piece::Key(Part::Label(digit.to_digit(10).map_or(1, |n| n as usize))),
                other => return Err(format!("`%{}' in `{text}' means nothing", other.unwrap_or(' '))),
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Whether what comes of it depends on the key.
    pub(crate) fn asks_for_the_key(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// A query for a key; none where the key lacks what the template asks for, so that nothing is asked.
    pub(crate) fn query(&self, key: &str, quote: &dyn Fn(&str) -> String) -> Option<String> {
        self.expand(key, key, quote)
    }

    /// A result; none for an empty value, or where value or key lack what the template asks for.
    pub(crate) fn result(&self, key: &str, value: &str) -> Option<String> {
        if value.is_empty() {
            return None;
        }
        self.expand(key, value, &str::to_owned)
    }

    fn expand(&self, key: &str, value: &str, quote: &dyn Fn(&str) -> String) -> Option<String> {
        let (key, value) = (Cut::of(key), Cut::of(value));
        // Every label up to the farthest one must be there and not be empty.
        let labels = self.0.iter().filter_map(|piece| match piece {
            Piece::Key(Part::Label(number)) => Some(*number),
            _ => None,
        });
        for number in 1..=labels.max().unwrap_or(0) {
            key.part(Part::Label(number)).filter(|label| !label.is_empty())?;
        }
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(part) => out.push_str(&quote(value.part(*part)?)),
                Piece::Key(part) => out.push_str(&quote(key.part(*part)?)),
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(template: &str, key: &str) -> Option<String> {
        Template::parse(template).expect(template).query(key, &|text| text.replace('\'', "''"))
    }

    #[test]
    fn a_query_has_what_its_template_asks_for_of_the_key() {
        for (template, key, wanted) in [
            ("%%'%s'", "o'neil@x.org", Some("%'o''neil@x.org'")),
            ("%u at %d", "john@x.org", Some("john at x.org")),
            ("%U at %D", "a@b@x.org", Some("a@b at x.org")),
            ("%u", "john", Some("john")),
            ("%u", "@x.org", None),
            ("%d", "john", None),
            ("%d", "john@", None),
            ("%1 %2 %3", "u@mail.example.com", Some("com example mail")),
            ("%3", "u@example.com", None),
            ("%2", "u@.com", None),
            ("%1", "u@com.", None),
        ] {
            assert_eq!(query(template, key).as_deref(), wanted, "{template} {key}");
        }
        assert!(Template::parse("%x").is_err() && Template::parse("%").is_err() && Template::parse("%0").is_err());
    }

    #[test]
    fn a_result_has_parts_of_the_value_and_of_the_key() {
        let result =
            |template: &str, value: &str| Template::parse(template).expect(template).result("k@key.org", value);
        assert_eq!(result("smtp:[%s]", "host").as_deref(), Some("smtp:[host]"));
        assert_eq!(result("%u+%U@%d", "a@b").as_deref(), Some("a+k@b"));
        assert_eq!(result("%1-%S", "x").as_deref(), Some("org-k@key.org"));
        assert_eq!((result("%s", ""), result("%d", "plain"), result("%u", "@x")), (None, None, None));
    }

    proptest::proptest! {
        #[test]
        fn what_is_quoted_stays_inside(key in "[a'@.%\\\\]{0,12}") {
            if let Some(text) = query("'%s'", &key) {
                let inside = &text[1..text.len() - 1];
                proptest::prop_assert_eq!(inside.replace("''", "").matches('\'').count(), 0);
            }
        }
    }
}
