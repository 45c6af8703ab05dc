//! From the text of dovecot.conf and what it includes to a tree of settings and blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_types::SourceLine;
use serde::{Deserialize, Serialize};

use super::settings::SETTINGS;
use crate::config::read;
use crate::report::{Excerpt, Level, Report};

/// The deepest nesting of includes.
const INCLUDE_DEPTH: usize = 16;
/// The deepest nesting of blocks.
const BLOCK_DEPTH: usize = 16;

/// `key = value` or a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// `key = value`; quotes removed, `$name` replaced.
    Setting {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The line.
        source: SourceLine,
    },
    /// `kind name { ... }`.
    Block(Block),
}

/// `kind name { ... }`, such as `service imap-login`, `passdb`, `protocol imap`, `remote 192.0.2.0/24`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The first word.
    pub kind: String,
    /// What follows it; empty if nothing does.
    pub name: String,
    /// What stands in it, in order.
    pub nodes: Vec<Node>,
    /// The line that opens it.
    pub source: SourceLine,
}

impl Block {
    /// The last value of a key directly in this block, also under its whole name of 2.4: `namespace_separator` in a namespace is its `separator`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<(&str, &SourceLine)> {
        self.nodes.iter().rev().find_map(|node| match node {
            Node::Setting { key: k, value, source } if self.short(k) == key => Some((value.as_str(), source)),
            _ => None,
        })
    }

    /// A key without the kind of the block before it, which 2.4 lets stand there.
    pub(crate) fn short<'a>(&self, key: &'a str) -> &'a str {
        key.strip_prefix(self.kind.as_str())
            .and_then(|rest| rest.strip_prefix('_'))
            .filter(|_| !self.kind.is_empty())
            .unwrap_or(key)
    }

    /// The blocks of a kind directly in this one.
    pub fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        blocks(&self.nodes, kind)
    }
}

/// The last value of a key among these nodes.
pub(crate) fn last<'a>(nodes: &'a [Node], key: &str) -> Option<(&'a str, &'a SourceLine)> {
    nodes.iter().rev().find_map(|node| match node {
        Node::Setting { key: k, value, source } if k == key => Some((value.as_str(), source)),
        _ => None,
    })
}

/// The blocks of a kind among these nodes.
pub(crate) fn blocks<'a>(nodes: &'a [Node], kind: &'a str) -> impl Iterator<Item = &'a Block> {
    nodes.iter().filter_map(move |node| match node {
        Node::Block(block) if block.kind == kind => Some(block),
        _ => None,
    })
}

/// Reads a file and what it includes. Nothing if the file does not exist.
pub fn parse_file(path: &Path, reports: &mut Vec<Report>) -> Option<Vec<Node>> {
    let (file, text) = read(path, reports);
    let mut parser = Parser { open: vec![Block::root(&file)], reports };
    parser.file(path, &file, &text?, 0);
    Some(parser.finish())
}

/// The nodes of a dovecot.conf's text, where an `!include` is a mistake; what is wrong with it goes to `reports`.
pub fn parse_text(file: &Arc<str>, text: &str, reports: &mut Vec<Report>) -> Vec<Node> {
    let mut parser = Parser { open: vec![Block::root(file)], reports };
    parser.file(Path::new(&**file), file, text, INCLUDE_DEPTH);
    parser.finish()
}

impl Block {
    fn root(file: &Arc<str>) -> Self {
        Self {
            kind: String::new(),
            name: String::new(),
            nodes: Vec::new(),
            source: SourceLine::new(Arc::clone(file), 0),
        }
    }
}

struct Parser<'a> {
    /// The blocks that are open; the first is the file itself.
    open: Vec<Block>,
    reports: &'a mut Vec<Report>,
}

impl Parser<'_> {
    fn file(&mut self, path: &Path, file: &Arc<str>, text: &str, depth: usize) {
        let outside = self.open.len();
        let mut joined = String::new();
        let mut first = 0;
        for (number, line) in (1u32..).zip(text.lines()) {
            if joined.is_empty() {
                first = number;
            }
            let bare = uncommented(line);
            if bare.len() < line.len() && bare.ends_with(|c: char| !c.is_ascii_whitespace()) {
                let message = "a `#' without a blank before it begins a comment";
                let source = SourceLine::new(Arc::clone(file), number);
                self.reports.push(Report::new(Level::Warning, source, message, "write a blank before it, or quotes"));
            }
            let line = bare.trim();
            if let Some(part) = line.strip_suffix('\\') {
                joined.push_str(part);
                continue;
            }
            joined.push_str(line);
            let whole = std::mem::take(&mut joined);
            self.statement(path, &SourceLine::new(Arc::clone(file), first), whole.trim(), depth);
        }
        while self.open.len() > outside {
            let block = self.close();
            let message = format!("`{} {{' is not closed", block.title());
            self.reports.push(Report::new(
                Level::Error,
                block.source.clone(),
                message,
                "write a `}' on a line of its own",
            ));
            self.add(Node::Block(block));
        }
    }

    fn statement(&mut self, path: &Path, source: &SourceLine, text: &str, depth: usize) {
        if text.is_empty() {
            return;
        }
        if let Some(rest) = text.strip_prefix('!') {
            return self.include(path, source, rest, depth);
        }
        let brace = text.find('{');
        let equals = text.find('=');
        match (brace, equals) {
            _ if text == "}" => match self.open.len() {
                1 => self.mistake(source, text, "`}' closes nothing", "remove it"),
                _ => {
                    let block = self.close();
                    self.add(Node::Block(block));
                }
            },
            (Some(at), equals) if equals.is_none_or(|e| at < e) => self.block(path, source, text, at, depth),
            (_, Some(at)) => self.setting(source, text, at),
            _ => self.mistake(source, text, "neither `KEY = VALUE' nor a block", "write `KEY = VALUE'"),
        }
    }

    /// `kind name {`, possibly with the content and the `}` on the same line.
    fn block(&mut self, path: &Path, source: &SourceLine, text: &str, brace: usize, depth: usize) {
        let mut words = text[..brace].split_ascii_whitespace();
        let Some(kind) = words.next() else {
            return self.mistake(source, text, "a block without a name", "write `NAME {'");
        };
        if self.open.len() > BLOCK_DEPTH {
            return self.mistake(source, text, "blocks are nested too deep", "close some");
        }
        let name = unquoted(&words.collect::<Vec<_>>().join(" "));
        self.open.push(Block { kind: kind.to_owned(), name, nodes: Vec::new(), source: source.clone() });
        let inside = text[brace + 1..].trim();
        match inside.strip_suffix('}') {
            Some(inside) => {
                self.statement(path, source, inside.trim(), depth);
                self.statement(path, source, "}", depth);
            }
            None => self.statement(path, source, inside, depth),
        }
    }

    fn setting(&mut self, source: &SourceLine, text: &str, equals: usize) {
        let key = text[..equals].trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return self.mistake(source, text, "no such key", "write `KEY = VALUE'");
        }
        let written = text[equals + 1..].trim();
        let in_plugin = self.open.iter().any(|block| block.kind == "plugin");
        let value = match written.chars().next() {
            Some('"' | '\'') => unquoted(written),
            // Plugins read their settings as they are.
            _ if in_plugin => written.to_owned(),
            _ => self.replaced(written),
        };
        self.add(Node::Setting { key: key.to_owned(), value, source: source.clone() });
    }

    /// `$name` (2.3), `$SET:name` and `$ENV:NAME` (2.4) in an unquoted value.
    fn replaced(&self, value: &str) -> String {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (prefix, named) = match after.strip_prefix("SET:") {
                Some(named) => ("SET:", named),
                None => after.strip_prefix("ENV:").map_or(("", after), |named| ("ENV:", named)),
            };
            let end = named.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(named.len());
            let name = &named[..end];
            let value = match prefix {
                "ENV:" => std::env::var(name).ok(),
                _ => self.earlier(name).or_else(|| default_of(name)),
            };
            match value {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[at..at + 1 + prefix.len() + end]),
            }
            rest = &named[end..];
        }
        out.push_str(rest);
        out
    }

    /// The value a key has so far: in the innermost block that sets it.
    fn earlier(&self, key: &str) -> Option<String> {
        self.open.iter().rev().find_map(|block| block.get(key).map(|(value, _)| value.to_owned()))
    }

    fn include(&mut self, path: &Path, source: &SourceLine, text: &str, depth: usize) {
        let (word, pattern) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let optional = match word {
            "include" => false,
            "include_try" => true,
            _ => {
                return self.mistake(source, text, "unknown directive", "write `!include FILE' or `!include_try FILE'");
            }
        };
        if depth >= INCLUDE_DEPTH {
            return self.mistake(source, text, "includes are nested too deep", "remove the circle");
        }
        let pattern = unquoted(pattern.trim());
        let full = path.parent().unwrap_or(Path::new("/")).join(&pattern);
        let files = matching(&full);
        let is_pattern = pattern.contains(['*', '?', '[']);
        if files.is_empty() && !optional && !is_pattern {
            return self.mistake(
                source,
                text,
                &format!("{}: no such file", full.display()),
                "write `!include_try' if it may be missing",
            );
        }
        for path in files {
            let (file, text) = read(&path, self.reports);
            if let Some(text) = text {
                self.file(&path, &file, &text, depth + 1);
            }
        }
    }

    fn add(&mut self, node: Node) {
        // The first block is the file and is never closed, see `statement`.
        if let Some(block) = self.open.last_mut() {
            block.nodes.push(node);
        }
    }

    fn close(&mut self) -> Block {
        self.open.pop().expect("called only while a block beyond the file is open")
    }

    fn finish(mut self) -> Vec<Node> {
        self.open.swap_remove(0).nodes
    }

    fn mistake(&mut self, source: &SourceLine, text: &str, message: &str, hint: &str) {
        let mut report = Report::new(Level::Error, source.clone(), message, hint);
        report.column = 1;
        report.excerpt = Some(Box::new(Excerpt { text: text.to_owned(), start: 0, length: text.len() }));
        self.reports.push(report);
    }
}

/// The default of a setting, for `$name` before the file sets it.
fn default_of(name: &str) -> Option<String> {
    let declared = SETTINGS.iter().find(|setting| setting.name == name);
    declared.map(|setting| setting.default.to_owned())
}

impl Block {
    /// Kind and name as written.
    #[must_use]
    pub fn title(&self) -> String {
        if self.name.is_empty() { self.kind.clone() } else { format!("{} {}", self.kind, self.name) }
    }
}

/// The line without its comment: from a `#` outside quotes.
fn uncommented(line: &str) -> &str {
    let mut quoted = None;
    let mut before = ' ';
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quoted, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(quote), c) if c == quote => quoted = None,
            (None, '"' | '\'') if matches!(before, ' ' | '\t' | '=') => quoted = Some(c),
            (None, '#') => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

/// A value without its quotes; `\"` and `\\` inside them are `"` and `\`.
fn unquoted(text: &str) -> String {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return text.to_owned() };
    let Some(inside) = text[1..].strip_suffix(quote) else { return text.to_owned() };
    let mut out = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

/// The files that match a path whose components may hold `*`, `?` and `[...]`, sorted.
fn matching(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let name = component.as_os_str();
        let pattern = name.to_str().filter(|name| name.contains(['*', '?', '[']));
        found = match pattern {
            None => found.into_iter().map(|base| base.join(name)).collect(),
            Some(pattern) => found.iter().flat_map(|base| entries(base, pattern)).collect(),
        };
    }
    found.retain(|path| path.exists());
    found
}

/// What of a directory matches a pattern, sorted; names that begin with a dot only where the pattern does.
fn entries(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let wanted = |entry: &std::fs::DirEntry| {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        (!found.starts_with('.') || pattern.starts_with('.')) && glob(pattern.as_bytes(), found.as_bytes())
    };
    let all = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = all.filter(wanted).map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The set that begins a pattern, `[a-c]` or `[!a-c]`: whether it holds an octet, and its length. Nothing if it is not closed.
fn set(pattern: &[u8], octet: u8) -> Option<(bool, usize)> {
    let end = pattern.iter().skip(2).position(|c| *c == b']')? + 2;
    let (inside, negated) = match &pattern[1..end] {
        [b'!' | b'^', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    let mut holds = false;
    let mut rest = inside;
    while let [first, tail @ ..] = rest {
        rest = match tail {
            [b'-', last, after @ ..] => {
                holds |= (*first..=*last).contains(&octet);
                after
            }
            _ => {
                holds |= *first == octet;
                tail
            }
        };
    }
    Some((holds != negated, end + 1))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // The last `*` and where it stood in the text: on a mismatch it takes one octet more, so this is quadratic at worst.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'[') if set(&pattern[p..], text[t]).is_some_and(|(holds, _)| holds) => {
                p += set(&pattern[p..], text[t]).map_or(1, |(_, length)| length);
                t += 1;
            }
            Some(&c) if c == b'?' || c == text[t] && (c != b'[' || set(&pattern[p..], c).is_none()) => {
                (p, t) = (p + 1, t + 1);
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<Node>, Vec<Report>) {
        let file: Arc<str> = Arc::from("dovecot.conf");
        let mut reports = Vec::new();
        let mut parser = Parser { open: vec![Block::root(&file)], reports: &mut reports };
        parser.file(Path::new("dovecot.conf"), &file, text, 0);
        (parser.finish(), reports)
    }

    #[test]
    fn settings_blocks_and_comments_are_read() {
        let text = "protocols = imap pop3 # both\nprotocols = $protocols lmtp\nservice imap-login {\n  inet_listener imap {\n    port = 0\n  }\n}\n\
                    ssl_key = </etc/key\nlogin_greeting = \"a # \\\"b\\\"\"\nnamespace \"my inbox\" { inbox = yes }\nlog = a \\\n  b\n";
        let (nodes, reports) = read_text(text);
        assert!(reports.is_empty(), "{reports:?}");
        assert_eq!(last(&nodes, "protocols").map(|(v, s)| (v, s.line)), Some(("imap pop3 lmtp", 2)));
        assert_eq!(last(&nodes, "login_greeting").map(|(v, _)| v), Some("a # \"b\""));
        assert_eq!(last(&nodes, "log").map(|(v, s)| (v, s.line)), Some(("a b", 11)));
        let service = blocks(&nodes, "service").next().expect("there");
        assert_eq!(service.blocks("inet_listener").next().and_then(|b| b.get("port")).map(|(v, _)| v), Some("0"));
        let namespace = blocks(&nodes, "namespace").next().expect("there");
        assert_eq!((namespace.name.as_str(), namespace.get("inbox").map(|(v, _)| v)), ("my inbox", Some("yes")));
    }

    // As doveconf 2.3.19 reads it.
    #[test]
    fn a_hash_in_a_word_begins_a_comment_with_a_warning() {
        let (nodes, reports) = read_text("a = x#y\nb = \"x#y\"\n# c\n d = 1 # e\n");
        assert_eq!((last(&nodes, "a").map(|(v, _)| v), last(&nodes, "b").map(|(v, _)| v)), (Some("x"), Some("x#y")));
        assert_eq!(reports.iter().map(|r| r.source.line).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn braces_that_do_not_match_are_shown() {
        let (_, reports) = read_text("a {\n b = 1\n");
        assert_eq!(reports[0].source.line, 1);
        let (_, reports) = read_text("a = 1\n}\n");
        assert_eq!((reports[0].source.line, reports[0].message.as_str()), (2, "`}' closes nothing"));
        let (_, reports) = read_text("nonsense\n");
        assert_eq!(reports.len(), 1);
    }

    #[test]
    fn includes_follow_patterns_relative_to_their_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(dir.path().join("conf.d")).expect("made");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        write("dovecot.conf", "!include c*.d/[0-9]*.conf\n!include_try nothing\n!include missing\n");
        write("conf.d/20-b.conf", "x = 2\n");
        write("conf.d/10-a.conf", "x = 1\n");
        write("conf.d/30.off", "x = 3\n");
        let mut reports = Vec::new();
        let nodes = parse_file(&dir.path().join("dovecot.conf"), &mut reports).expect("exists");
        assert_eq!(last(&nodes, "x").map(|(v, _)| v), Some("2"));
        assert_eq!(reports.len(), 1);
        assert!(reports[0].message.contains("missing: no such file"));
    }

    #[test]
    fn patterns_match_as_a_shell_s_do() {
        let cases = [
            ("*.conf", "a.conf", true),
            ("[a-c]?.conf", "b1.conf", true),
            ("[!a-c]*", "b1.conf", false),
            ("[!a-c]*", "d", true),
            ("[ab", "[ab", true),
            ("*[0-9].conf", "10-x9.conf", true),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(a|b|=|\\{|\\}|\\n|\"|\\\\|#|\\$a|!include x| |é|'){0,50}") {
            read_text(&text).1.iter().for_each(|report| drop(report.to_string()));
        }

        #[test]
        fn no_pattern_breaks_the_match(pattern in "[a-c\\[\\]!*?-]{0,8}", text in "[a-c\\[]{0,6}") {
            let _ = glob(pattern.as_bytes(), text.as_bytes());
        }

        #[test]
        fn a_star_matches_anything(text in "[a-c]{0,6}") {
            proptest::prop_assert!(glob(b"*", text.as_bytes()));
            proptest::prop_assert_eq!(glob(b"*a?", text.as_bytes()), text.len() >= 2 && text.as_bytes()[text.len() - 2] == b'a');
        }
    }
}
