//! dovecot.conf as doveconf sees it: blocks of one name joined, defaults beside what is written, everything in the order of its path.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mail_config::dovecot::kinds::{Kind as _, Size, Span};
use mail_config::dovecot::{Connection, Node, filters};

/// Settings and blocks of one level.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    settings: BTreeMap<String, String>,
    blocks: Vec<Block>,
    filters: Vec<Block>,
}

/// `kind name { ... }`.
#[derive(Debug, Clone)]
struct Block {
    kind: String,
    name: String,
    inside: Tree,
}

impl Block {
    /// Whether two blocks are one: a passdb, userdb or namespace without a name is another one each time.
    fn is_same(&self, other: &Self) -> bool {
        let alone = self.name.is_empty() && ["passdb", "userdb", "namespace"].contains(&self.kind.as_str());
        !alone && self.kind == other.kind && self.name == other.name
    }

    /// What stands before the `{`.
    fn title(&self) -> String {
        match self.name.as_str() {
            "" => self.kind.clone(),
            // Dovecot shows the names of a filter as they are.
            name if name.contains([' ', '\t']) && self.kind != "local_name" => format!("{} \"{name}\"", self.kind),
            name => format!("{} {name}", self.kind),
        }
    }
}

/// How a tree is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Secrets too (`-P`).
    pub secrets: bool,
    /// Values without names (`-h`).
    pub values_only: bool,
    /// `path=value` lines (`-S`).
    pub simple: bool,
    /// What stands in a file in the place of its name (`-x`).
    pub contents: bool,
}

impl Tree {
    /// The tree of a file: what stands outside of filters, or what a connection sees of them too, and behind it the filters that the connection may meet.
    #[must_use]
    pub fn of(nodes: &[Node], connection: &Connection) -> Self {
        let is_24 =
            nodes.iter().any(|node| matches!(node, Node::Setting { key, .. } if key == "dovecot_config_version"));
        let mut tree = Self::default();
        for node in &filters::seen(nodes, connection, is_24) {
            tree.put(node);
        }
        for (path, inner) in filters::sections(nodes, connection, is_24) {
            let mut inside = Self::default();
            inner.into_iter().for_each(|node| inside.put(node));
            let block = path.into_iter().rev().fold(inside, |inside, (kind, name)| {
                let block = Block { kind: kind.to_owned(), name: name.to_owned(), inside };
                Self { filters: vec![block], ..Self::default() }
            });
            tree.filters.extend(block.filters);
        }
        tree
    }

    /// Adds one setting or block.
    fn put(&mut self, node: &Node) {
        match node {
            Node::Setting { key, value, .. } => {
                self.settings.insert(key.clone(), value.clone());
            }
            Node::Block(block) => {
                let mut inside = Self::default();
                block.nodes.iter().for_each(|node| inside.put(node));
                let block = Block { kind: block.kind.clone(), name: block.name.clone(), inside };
                match self.blocks.iter_mut().find(|known| known.is_same(&block)) {
                    Some(known) => known.inside.add(block.inside),
                    None => self.blocks.push(block),
                }
            }
        }
    }

    /// Adds what another tree holds, over what is there.
    fn add(&mut self, other: Self) {
        self.settings.extend(other.settings);
        for block in other.blocks {
            match self.blocks.iter_mut().find(|known| known.is_same(&block)) {
                Some(known) => known.inside.add(block.inside),
                None => self.blocks.push(block),
            }
        }
        self.filters.extend(other.filters);
    }

    /// What is written, defaults too (`-N`).
    #[must_use]
    pub fn written(mut self, defaults: &Self, templates: &Self) -> Self {
        self.normalise(defaults, templates);
        self.complete_namespaces();
        for block in self.blocks.iter_mut().filter(|block| matches!(block.kind.as_str(), "passdb" | "userdb")) {
            block.inside.settings.insert("name".to_owned(), block.name.clone());
        }
        self
    }

    /// What doveconf always shows of a namespace.
    fn complete_namespaces(&mut self) {
        for block in self.blocks.iter_mut().filter(|block| block.kind == "namespace") {
            for key in ["location", "prefix"] {
                block.inside.settings.entry(key.to_owned()).or_default();
            }
        }
    }

    /// Only what a module of Dovecot reads (`-m`).
    #[must_use]
    pub fn of_module(mut self, names: Vec<&str>) -> Self {
        self.settings.retain(|key, _| names.contains(&key.as_str()));
        self.blocks.retain(|block| names.contains(&block.kind.as_str()));
        self.filters = std::mem::take(&mut self.filters)
            .into_iter()
            .map(|filter| Block { inside: filter.inside.of_module(names.clone()), ..filter })
            .filter(|filter| !filter.inside.is_empty())
            .collect();
        self
    }

    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.blocks.is_empty() && self.filters.is_empty()
    }

    /// Only what differs from the defaults. In blocks with a name everything that is written counts, as doveconf has it.
    #[must_use]
    pub fn beyond(mut self, defaults: &Self, templates: &Self) -> Self {
        self.normalise(defaults, templates);
        self.settings.retain(|key, value| defaults.settings.get(key) != Some(value));
        for block in &mut self.blocks {
            if let ("passdb" | "userdb", Some(template)) = (block.kind.as_str(), templates.block(&block.kind)) {
                block.inside.settings.retain(|key, value| template.settings.get(key) != Some(value));
            }
        }
        self.complete_namespaces();
        self
    }

    /// Everything: the defaults with what is written over them, and new blocks with the defaults of their kind.
    #[must_use]
    pub fn over(mut self, defaults: &Self, templates: &Self) -> Self {
        self.normalise(defaults, templates);
        let mut whole = defaults.clone();
        for block in &mut self.blocks {
            let known = defaults.named(&block.kind, &block.name);
            block.inside.complete(templates, &block.kind, known);
        }
        whole.add(self);
        whole
    }

    /// Puts the defaults of a kind of block below what is written in one that Dovecot does not know, also in the blocks within it.
    fn complete(&mut self, templates: &Self, kind: &str, known: Option<&Self>) {
        let Some(template) = templates.block(kind) else { return };
        if known.is_none() {
            let written = std::mem::replace(&mut self.settings, template.settings.clone());
            self.settings.extend(written);
        }
        for block in &mut self.blocks {
            let known = known.and_then(|known| known.named(&block.kind, &block.name));
            block.inside.complete(template, &block.kind, known);
        }
    }

    /// Values in the spelling of the defaults: `yes` for `y`, `2 mins` for `120 secs`.
    fn normalise(&mut self, defaults: &Self, templates: &Self) {
        for (key, value) in &mut self.settings {
            if let Some(default) = defaults.settings.get(key) {
                *value = normal(value, default);
            }
        }
        for block in &mut self.blocks {
            if let Some(known) = templates.block(&block.kind) {
                block.inside.normalise(known, known);
            }
        }
        for filter in &mut self.filters {
            filter.inside.normalise(defaults, templates);
        }
    }

    fn named(&self, kind: &str, name: &str) -> Option<&Self> {
        self.blocks.iter().find(|block| block.kind == kind && block.name == name).map(|block| &block.inside)
    }

    fn block(&self, kind: &str) -> Option<&Self> {
        self.blocks.iter().find(|block| block.kind == kind).map(|block| &block.inside)
    }

    /// The text of the whole tree.
    #[must_use]
    pub fn text(&self, look: Look) -> String {
        let mut out = String::new();
        self.write(Look { values_only: false, ..look }, 0, "", &mut out);
        out
    }

    /// The text of one setting, by its path, or of the blocks of a kind or name; nothing if there is none.
    #[must_use]
    pub fn part(&self, path: &str, look: Look) -> Option<String> {
        let mut tree = self;
        let mut rest = path;
        loop {
            if let Some(value) = tree.settings.get(rest) {
                return Some(asked(path, rest, value, look));
            }
            let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
            let found: Vec<&Block> = tree.blocks.iter().filter(|block| block.kind == kind).collect();
            if found.is_empty() {
                return None;
            }
            if name.is_empty() {
                let only = Self { blocks: found.into_iter().cloned().collect(), ..Self::default() };
                return Some(only.text(Look { values_only: false, ..look }));
            }
            let named = found.iter().find(|block| name == block.name || name.starts_with(&format!("{}/", block.name)));
            match named {
                Some(block) if name == block.name => {
                    let only = Self { blocks: vec![(*block).clone()], ..Self::default() };
                    return Some(only.text(Look { values_only: false, ..look }));
                }
                Some(block) => {
                    rest = name[block.name.len()..].trim_start_matches('/');
                    tree = &block.inside;
                }
                None => {
                    rest = name;
                    tree = &found.first()?.inside;
                }
            }
        }
    }

    fn write(&self, look: Look, depth: usize, path: &str, out: &mut String) {
        let mut parts: Vec<(String, Part<'_>)> =
            self.settings.iter().map(|(key, value)| (key.clone(), Part::Setting(key, value))).collect();
        for (at, block) in self.blocks.iter().enumerate() {
            let name = if block.name.is_empty() { format!("{at:04}") } else { escaped(&block.name) };
            parts.push((format!("{}/{name}/", block.kind), Part::Block(block, self.simple_name(block))));
        }
        if look.simple {
            parts.extend(self.lists().into_iter().map(|(kind, names)| (kind.clone(), Part::List(kind, names))));
        }
        // By whole paths, so `imap-login' stands before `imap'.
        parts.sort_by(|(left, _), (right, _)| left.cmp(right));
        let filters = self.filters.iter().map(|block| (String::new(), Part::Block(block, block.name.clone())));
        for (_, part) in parts.into_iter().chain(filters) {
            match part {
                Part::List(kind, names) => {
                    let _ = writeln!(out, "{path}{kind}={names}");
                }
                Part::Setting(key, value) => out.push_str(&line(&format!("{path}{key}"), key, value, look, depth)),
                Part::Block(block, name) if look.simple => {
                    let inner = if name.is_empty() {
                        format!("{path}{}/", block.kind)
                    } else {
                        format!("{path}{}/{name}/", block.kind)
                    };
                    if !block.name.is_empty() {
                        let _ = writeln!(out, "{inner}name={}", block.name);
                    }
                    block.inside.write(look, depth, &inner, out);
                }
                Part::Block(block, _) => {
                    let indent = depth * 2;
                    let _ = writeln!(out, "{:indent$}{} {{", "", block.title());
                    block.inside.write(look, depth + 1, path, out);
                    let _ = writeln!(out, "{:indent$}}}", "");
                }
            }
        }
    }
}

enum Part<'a> {
    Setting(&'a str, &'a str),
    /// With its name among `path=value` lines.
    Block(&'a Block, String),
    /// The names of the blocks of a kind, for `path=value` lines.
    List(String, String),
}

impl Tree {
    /// How a block goes by among `path=value` lines: by its name, or by its number among those of its kind.
    fn simple_name(&self, block: &Block) -> String {
        if block.kind == "plugin" {
            return String::new();
        }
        let place =
            self.blocks.iter().filter(|other| other.kind == block.kind).position(|other| std::ptr::eq(other, block));
        let is_numbered = block.name.is_empty() || matches!(block.kind.as_str(), "passdb" | "userdb");
        if is_numbered { place.unwrap_or_default().to_string() } else { escaped(&block.name) }
    }

    /// The kinds of the blocks with their names.
    fn lists(&self) -> BTreeMap<String, String> {
        let mut lists: BTreeMap<String, String> = BTreeMap::new();
        for block in &self.blocks {
            let names = lists.entry(block.kind.clone()).or_default();
            let name = self.simple_name(block);
            let gap = if names.is_empty() || name.is_empty() { "" } else { " " };
            names.push_str(&format!("{gap}{name}"));
        }
        lists
    }
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('/', "\\s").replace(' ', "\\_")
}

/// One setting that was asked for by its path: its value as it is, without quotes.
fn asked(path: &str, key: &str, value: &str, look: Look) -> String {
    if is_secret(key) || look.simple || look.values_only || look.contents {
        return line(path, key, value, look, 0);
    }
    format!("{path} = {value}\n")
}

fn line(path: &str, key: &str, value: &str, look: Look, depth: usize) -> String {
    let indent = depth * 2;
    let read = || value.strip_prefix('<').and_then(|path| std::fs::read_to_string(path.trim()).ok());
    let read = if look.contents { read() } else { None };
    let value = read.as_deref().map_or(value, str::trim_end);
    let hidden = if look.secrets || look.simple { value.to_owned() } else { without_passwords(value) };
    let value = hidden.as_str();
    let shown = if is_secret(key) && !value.is_empty() && !look.secrets && !look.simple {
        " # hidden, use -P to show it".to_owned()
    } else {
        // The marks of what is hidden are no comment.
        let text = if value.contains("#hidden_use-P_to_show#") { value.to_owned() } else { quoted(value) };
        format!(" {text}")
    };
    match (look.simple, look.values_only) {
        (true, _) => format!("{path}={value}\n"),
        (_, true) => format!("{value}\n"),
        _ if depth == 0 => format!("{path} ={shown}\n"),
        _ => format!("{:indent$}{key} ={shown}\n", ""),
    }
}

/// A value as a file must have it to be read as the same.
fn quoted(value: &str) -> String {
    let needs = value.starts_with([' ', '\t', '"', '\'']) || value.ends_with([' ', '\t']) || value.contains('#');
    if needs { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) } else { value.to_owned() }
}

/// Passwords and keys are for the daemons, not for a screen.
fn is_secret(key: &str) -> bool {
    matches!(key, "ssl_key" | "password" | "doveadm_api_key") || key.ends_with("_password") || key.ends_with("_secret")
}

/// `password=x` among the arguments of a database, without the password.
fn without_passwords(value: &str) -> String {
    let is_one = |word: &str| ["password=", "pass=", "secret="].iter().any(|name| word.starts_with(name));
    if !value.split(' ').any(is_one) {
        return value.to_owned();
    }
    let shown = value.split(' ').map(|word| match word.split_once('=') {
        Some((name, _)) if is_one(word) => format!("{name}=#hidden_use-P_to_show#"),
        _ => word.to_owned(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A value in the spelling of its default.
fn normal(value: &str, default: &str) -> String {
    let unit = default.split_once(' ').map_or("", |(_, unit)| unit);
    match (default, unit) {
        ("yes" | "no", _) => match value.to_ascii_lowercase().as_str() {
            "y" | "yes" | "true" | "1" => "yes".to_owned(),
            "n" | "no" | "false" | "0" => "no".to_owned(),
            _ => value.to_owned(),
        },
        (_, "msecs" | "secs" | "mins" | "hours" | "days" | "weeks") => span(value),
        (_, "B" | "k" | "M" | "G" | "T") => size(value),
        // A time or size of 0 has no unit; neither has a number.
        ("0", _) if !value.contains(|c: char| c.is_ascii_alphabetic()) => value.to_owned(),
        ("0", _) if Span::parse(value).is_ok() => span(value),
        ("0", _) => size(value),
        _ => value.to_owned(),
    }
}

fn span(value: &str) -> String {
    let Ok(time) = Span::parse(value) else { return value.to_owned() };
    let millis = time.as_millis();
    let units = [("weeks", 604_800_000), ("days", 86_400_000), ("hours", 3_600_000), ("mins", 60_000), ("secs", 1000)];
    match units.iter().find(|(_, length)| millis % length == 0) {
        _ if millis == 0 => "0".to_owned(),
        Some((unit, length)) => format!("{} {unit}", millis / length),
        None => format!("{millis} msecs"),
    }
}

fn size(value: &str) -> String {
    if value.parse::<u64>().is_ok_and(|number| number == 0) {
        return "0".to_owned();
    }
    let (Ok(octets), false) = (Size::parse(value), value == "unlimited") else { return value.to_owned() };
    let units = [("T", 40), ("G", 30), ("M", 20), ("k", 10)];
    let fits = |shift: &u32| octets != 0 && octets.trailing_zeros() >= *shift;
    match units.iter().find(|(_, shift)| fits(shift)) {
        Some((unit, shift)) => format!("{} {unit}", octets >> shift),
        None => format!("{octets} B"),
    }
}
