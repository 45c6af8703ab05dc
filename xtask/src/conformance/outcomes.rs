//! What `cargo test` said about each test.

use std::collections::BTreeSet;

/// A test as cargo's output names it: the program's name and the test's own.
pub type Ran = (String, String);

/// The tests that ended in `ok`, after the `Running` line of the program that ran them.
pub fn passed(output: &str) -> BTreeSet<Ran> {
    let (mut passed, mut program, mut open) = (BTreeSet::new(), "", Vec::new());
    for line in output.lines() {
        if let Some(name) = started(line) {
            (program, open) = (name, Vec::new());
        } else if let Some((names, result)) = line.rsplit_once(" ... ").filter(|(names, _)| names.contains("test ")) {
            open = if result.starts_with("ignored") { Vec::new() } else { candidates(names) };
            if result.trim_end() == "ok" {
                passed.extend(open.drain(..).map(|test| (program.to_owned(), test.to_owned())));
            }
        } else if line.split_whitespace().next_back() == Some("ok") {
            // A program with one thread writes the name, then the test runs and may say something, then comes the result.
            passed.extend(open.drain(..).map(|test| (program.to_owned(), test.to_owned())));
        }
    }
    passed
}

/// `     Running unittests src/lib.rs (target/debug/deps/mail_smtp-0123456789abcdef)` is `mail_smtp`.
fn started(line: &str) -> Option<&str> {
    let (_, path) = line.trim_start().strip_prefix("Running ")?.rsplit_once('(')?;
    let file = path.strip_suffix(')')?.rsplit('/').next()?;
    file.rsplit_once('-').map(|(name, _)| name)
}

/// The names that `test NAME` may mean: another process may have written an unfinished line before it, so each "test " may be the mark.
/// libtest-mimic pads the name.
fn candidates(text: &str) -> Vec<&str> {
    text.match_indices("test ").map(|(at, mark)| text[at + mark.len()..].trim_end()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_ok_and_each_program_has_its_own_tests() {
        let output = "\
     Running unittests src/lib.rs (/t/debug/deps/mail_smtp-01ab)
running 3 tests
test server::greets ... ok
test server::parts ... FAILED
test server::sleeps ... ignored
     Running scenarios/main.rs (/t/debug/deps/scenarios-02ab)
noise without an end test a user submits mail and reads it   ... ok
test a name that says test twice ... ok
test it_forks ... a child says hello
ok
test it_sleeps ... ignored
all is ok
";
        let passed = passed(output);
        let has = |program: &str, test: &str| passed.contains(&(program.to_owned(), test.to_owned()));
        assert!(has("mail_smtp", "server::greets") && has("scenarios", "a user submits mail and reads it"));
        assert!(!has("scenarios", "server::greets") && !has("mail_smtp", "server::parts"));
        assert!(!has("mail_smtp", "server::sleeps"));
        assert!(has("scenarios", "a name that says test twice") && has("scenarios", "it_forks"));
        assert!(!has("scenarios", "it_sleeps"));
    }
}
