//! An expression with the match that POSIX wants: as far left as it can begin and then as long as it can be.
//!
//! How groups share that match is as glibc's regexec has it: the first alternative counts with which the whole comes out, and a repetition takes what it can.

use regex::bytes::Regex;
use regex_automata::{Anchored, Input, MatchKind, meta, util::syntax};

use crate::pattern::{Groups, Reading};

/// A compiled expression with groups.
#[derive(Debug)]
pub(crate) struct Longest {
    /// Where a match begins, and whether there is one.
    first: Regex,
    /// Where the longest one ends that begins there.
    all: meta::Regex,
    /// What the groups take in one that ends where the text does.
    exact: Regex,
}

impl Longest {
    /// Compiles an expression that `first` was compiled from.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn of(first: Regex, expression: &str, reading: Reading) -> Result<Self, String> {
        let too_large = |error: &dyn std::fmt::Display| format!("the pattern cannot be used: {error}");
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let syntax = syntax.case_insensitive(reading.case_insensitive).multi_line(reading.multi_line);
        let syntax = syntax.dot_matches_new_line(reading.dot_all);
        let all = meta::Regex::config().match_kind(MatchKind::All).utf8_empty(false);
        let all = meta::Builder::new().syntax(syntax).configure(all).build(expression);
        let exact = reading.linear(&format!("(?:{expression})\\z"));
        Ok(Self {
            first,
            all: all.map_err(|error| too_large(&error))?,
            exact: exact.map_err(|error| too_large(&error))?,
        })
    }

    /// Whether it matches a key.
    pub(crate) fn is_match(&self, key: &[u8]) -> bool {
        self.first.is_match(key)
    }

    /// How many groups it has, the whole match counted.
    pub(crate) fn len(&self) -> usize {
        self.first.captures_len()
    }

    /// What its groups match in a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Groups> {
        let start = self.first.find(key)?.start();
        let longest = self.all.search(&Input::new(key).range(start..).anchored(Anchored::Yes))?;
        let found = self.exact.captures_at(&key[..longest.end()], start)?;
        Some(found.iter().map(|group| group.map(|group| group.range())).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::posix::compile;

    // What regexec of glibc 2.36 says.
    #[test]
    fn the_longest_match_is_shared_as_glibc_shares_it() {
        for (expression, key, wanted) in [
            ("(a|ab)", "ab", "ab,ab"),
            ("(sales|salesforce)", "x-salesforce", "salesforce,salesforce"),
            ("(a*)(ab)*", "aab", "aab,a,ab"),
            ("(a|ab)(c|bcd)(d*)", "abcd", "abcd,a,bcd,"),
            ("(a|ab)(bc|c)?", "abc", "abc,a,bc"),
            ("x(foo|foobar)(bar)?$", "xfoobar", "xfoobar,foo,bar"),
            ("(x|xy)*", "xyx", "xyx,x"),
            ("((a)|b)*", "ab", "ab,b,a"),
            ("(b?)*", "a", ","),
            ("(b*)*", "bba", "bb,bb"),
            ("(a{1,2}){2}", "aaa", "aaa,a"),
            ("(A|aB)\\>(.*)", "ab c", "ab c,ab, c"),
            ("(^a|b)+(.?)", "abb", "abb,b,"),
            ("^(sales|salesforce)(-.*)?@", "salesforce@x.org", "salesforce@,salesforce,"),
        ] {
            let pattern = compile(expression, "").expect("an expression");
            let groups = pattern.find(key.as_bytes()).expect("found out").expect("a match");
            let taken: Vec<&str> = groups.iter().map(|group| group.clone().map_or("", |group| &key[group])).collect();
            assert_eq!(taken.join(","), wanted, "{expression} {key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_matches_where_the_engine_says(text in "[ab]{0,12}", parts in proptest::collection::vec("[(][ab]([|][ab]{1,2})?[)][*+?]?|[ab]|[ab][*]", 1..5)) {
            let pattern = compile(&parts.concat(), "i").expect("an expression");
            let engine = regex::Regex::new(&parts.concat()).expect("an expression");
            let found = pattern.find(text.as_bytes()).expect("found out").and_then(|groups| groups[0].clone());
            match (found, engine.find(&text)) {
                (Some(ours), Some(first)) => {
                    proptest::prop_assert!(ours.start == first.start() && ours.end >= first.end());
                }
                (ours, first) => proptest::prop_assert!(ours.is_none() && first.is_none()),
            }
        }
    }
}
