//! The tests of the sources, with the ids that they name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::is_id;
use super::outcomes::Ran;

/// A test.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The package, such as `mail-smtp`.
    pub package: String,
    /// The test target; none for tests beside the code.
    pub target: Option<String>,
    /// Its name with its modules, as cargo prints it.
    pub name: String,
    /// What it proves.
    pub ids: Vec<String>,
}

impl Test {
    /// As cargo's output names it.
    pub fn in_output(&self) -> Ran {
        (self.target.clone().unwrap_or_else(|| self.package.replace('-', "_")), self.name.clone())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, target, name, .. } = self;
        match target {
            None => write!(f, "{package} :: {name}"),
            // The stories of the whole system have a package of no interest.
            Some(target) if package == STORIES => write!(f, "tests/{target} :: {name}"),
            Some(target) => write!(f, "{package}/{target} :: {name}"),
        }
    }
}

/// The package in `tests/`, where each folder is a target.
const STORIES: &str = "system-tests";

/// All tests of the workspace below `root` in the order of their names, and where ids stand above a function that is no test.
pub fn sources(root: &Path) -> Result<(Vec<Test>, Vec<String>), String> {
    let mut places = vec![("xtask".to_owned(), root.join("xtask"), None)];
    for directory in entries(&root.join("crates"))?.into_iter().filter(|path| path.is_dir()) {
        places.push((last(&directory), directory, None));
    }
    for directory in entries(&root.join("tests"))?.into_iter().filter(|path| path.is_dir()) {
        places.push((STORIES.to_owned(), directory.clone(), Some(last(&directory))));
    }
    let (mut tests, mut stray) = (Vec::new(), Vec::new());
    for (package, directory, target) in places {
        for file in rust_files(&directory)? {
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let below = file.strip_prefix(&directory).unwrap_or(&file);
            let place = Place::of(&package, target.as_deref(), below);
            let found = Scanner::run(&place, &text);
            tests.extend(found.tests);
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            stray.extend(found.stray.iter().map(|line| format!("{shown}:{line}: ids above what is no test")));
        }
    }
    tests.sort();
    Ok((tests, stray))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(wrong)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    entries.sort();
    Ok(entries)
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in entries(directory)? {
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a file's tests belong.
struct Place {
    package: String,
    target: Option<String>,
    /// The module that the file is.
    modules: Vec<String>,
}

impl Place {
    /// Of a file `below` its package, or below its target's folder in `tests/`.
    fn of(package: &str, target: Option<&str>, below: &Path) -> Self {
        let mut parts: Vec<String> =
            below.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
        let mut target = target.map(str::to_owned);
        if target.is_none() && !parts.is_empty() {
            let first = parts.remove(0);
            if first == "tests" && !parts.is_empty() {
                target = Some(parts.remove(0));
            }
        }
        if parts.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
            parts.pop();
        }
        Self { package: package.to_owned(), target, modules: parts }
    }
}

#[derive(Default)]
struct Found {
    tests: Vec<Test>,
    stray: Vec<usize>,
}

/// Reads a file that rustfmt has laid out, line by line.
struct Scanner<'a> {
    place: &'a Place,
    /// The modules that are open in this file, with their indentation.
    inline: Vec<(usize, &'a str)>,
    /// The ids of the comment that has just been read, and the comment's line.
    pending: Option<(usize, Vec<String>)>,
    /// Whether an attribute has just said that a test follows.
    marked: bool,
    found: Found,
}

impl<'a> Scanner<'a> {
    fn run(place: &'a Place, text: &'a str) -> Found {
        let mut scanner = Self { place, inline: Vec::new(), pending: None, marked: false, found: Found::default() };
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            scanner.line(index, line, lines.get(index + 1..).unwrap_or_default());
        }
        scanner.found
    }

    fn line(&mut self, index: usize, line: &'a str, rest: &[&str]) {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if let Some(comment) = code.strip_prefix("//") {
            // A second line of the same comment keeps the ids.
            self.pending = ids(comment).map(|ids| (index + 1, ids)).or(self.pending.take());
        } else if code.starts_with("#[") {
            self.marked |= code.starts_with("#[test]") || code.starts_with("#[tokio::test");
        } else if let Some(name) = function(code) {
            self.function(name, rest);
        } else if let Some(name) = self.registration(code, rest) {
            self.pending.take().into_iter().for_each(|(_, ids)| self.test(&name, ids));
        } else {
            self.pending = None;
            self.marked = false;
            if let Some(name) = module(code) {
                self.inline.push((indent, name));
            } else if code == "}" && self.inline.last().is_some_and(|(open, _)| *open == indent) {
                self.inline.pop();
            }
        }
    }

    fn function(&mut self, name: &str, rest: &[&str]) {
        let pending = self.pending.take();
        if std::mem::take(&mut self.marked) {
            let inside = rest.iter().map_while(|line| line.trim_start().strip_prefix("//")).find_map(ids);
            let ids = pending.map(|(_, ids)| ids).into_iter().chain(inside).flatten().collect();
            let modules =
                self.place.modules.iter().map(String::as_str).chain(self.inline.iter().map(|(_, name)| *name));
            let name = modules.chain([name]).collect::<Vec<_>>().join("::");
            self.test(&name, ids);
        } else if self.place.target.is_some() {
            self.found.stray.extend(pending.map(|(line, _)| line));
        }
    }

    /// The name of a test that is registered with libtest-mimic: the first string of `test("...", ...)`, `Trial::test("...", ...)` or `("...", ...)`.
    fn registration(&self, code: &str, rest: &[&str]) -> Option<String> {
        self.place.target.as_ref().filter(|_| self.pending.is_some())?;
        let open =
            code.find('(').filter(|at| code[..*at].chars().all(|c| c.is_alphanumeric() || "_:![".contains(c)))?;
        let text = [&code[open + 1..], rest.first().copied().unwrap_or_default()].join(" ");
        let name = text.trim_start().strip_prefix('"')?;
        name.split_once('"').map(|(name, _)| name.to_owned())
    }

    fn test(&mut self, name: &str, mut ids: Vec<String>) {
        ids.sort();
        ids.dedup();
        let Place { package, target, .. } = self.place;
        self.found.tests.push(Test { package: package.clone(), target: target.clone(), name: name.to_owned(), ids });
    }
}

/// The ids at the head of a comment: `S07, T01`, or `S07: why`. None for prose.
fn ids(comment: &str) -> Option<Vec<String>> {
    let list = comment.split_once(':').map_or(comment, |(list, _)| list).trim().trim_end_matches('.');
    let ids: Vec<&str> = list.split(',').map(str::trim).collect();
    ids.iter().all(|id| is_id(id)).then(|| ids.iter().map(|id| (*id).to_owned()).collect())
}

/// The name in `pub async fn name(...`.
fn function(code: &str) -> Option<&str> {
    let words = ["pub ", "pub(crate) ", "pub(super) ", "async ", "const ", "extern \"C\" "];
    let code = words.iter().fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
    code.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// The name in `mod name {`.
fn module(code: &str) -> Option<&str> {
    code.trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(" {")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(target: Option<&str>, below: &str, text: &str) -> (Vec<(String, String)>, Vec<usize>) {
        let found = Scanner::run(&Place::of("pkg", target, Path::new(below)), text);
        (found.tests.into_iter().map(|test| (test.name, test.ids.join(" "))).collect(), found.stray)
    }

    fn pair(name: &str, ids: &str) -> (String, String) {
        (name.to_owned(), ids.to_owned())
    }

    #[test]
    fn ids_stand_above_a_test_or_first_in_its_body() {
        let text = include_str!("samples/beside.txt");
        let expected = vec![
            pair("a::b::tests::above", "S02 S07 T01"),
            pair("a::b::tests::inside", "E8"),
            pair("a::b::tests::neither", ""),
            pair("a::b::tests::property", "R12"),
        ];
        assert_eq!(scan(None, "src/a/b.rs", text), (expected, vec![]));
    }

    #[test]
    fn a_registration_has_the_ids_above_it() {
        let text = include_str!("samples/registered.txt");
        let expected = vec![pair("one", "T01"), pair("three", "R11 S07"), pair("four", "P02c")];
        assert_eq!(scan(Some("crash"), "main.rs", text), (expected, vec![16]));
    }

    #[test]
    fn a_file_s_place_is_its_module() {
        for (below, target, modules) in [
            ("src/lib.rs", None, ""),
            ("src/a/mod.rs", None, "a"),
            ("src/a/b.rs", None, "a::b"),
            ("tests/door.rs", Some("door"), ""),
            ("tests/service/main.rs", Some("service"), ""),
            ("tests/service/daemon.rs", Some("service"), "daemon"),
        ] {
            let place = Place::of("pkg", None, Path::new(below));
            assert_eq!((place.target.as_deref(), place.modules.join("::").as_str()), (target, modules), "{below}");
        }
    }
}
