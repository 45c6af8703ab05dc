//! `cargo xtask ci`: everything that must be green.

use std::time::Instant;

use crate::process;

/// A page may name a private module: a reader of the code finds it, and the link is simply not made.
const RUSTDOC: &str = "-D warnings -A rustdoc::private_intra_doc_links";

/// Runs all checks; stops at the first that fails.
pub fn run_step(name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("== {name}");
    let began = Instant::now();
    step()?;
    println!("== {name}: {} s", began.elapsed().as_secs());
    Ok(())
}

/// Formatting, lints, documentation, dependency directions, licences, units, tests, the demo.
pub fn run() -> Result<(), String> {
    let began = Instant::now();
    run_step("format", || process::run("cargo", &["fmt", "--all", "--check"], &[]))?;
    run_step("dependency directions", crate::dependencies::check)?;
    run_step("licences", crate::licences::check)?;
    run_step("lints", || {
        process::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
    })?;
    run_step("documentation", || {
        process::run("cargo", &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", RUSTDOC)])
    })?;
    run_step("build", || process::run("cargo", &["test", "--workspace", "--no-run"], &[]))?;
    run_step("generated pages", || crate::docs::run(&["--check".to_owned()]))?;
    run_step("conformance page", crate::conformance::check)?;
    run_step("units", crate::install::verify_units)?;
    run_step("tests", tests)?;
    run_step("demo", || crate::demo::run(&["--once".to_owned(), "--profile".to_owned(), "dev".to_owned()]))?;
    println!("== all green after {} s", began.elapsed().as_secs());
    Ok(())
}

/// All tests; those that the conformance page names must have ended in `ok`.
fn tests() -> Result<(), String> {
    let arguments = ["test", "--workspace", "--color", "never"];
    let (said, succeeded) = process::watched("cargo", &arguments, &[])?;
    if !succeeded {
        return Err("cargo test --workspace failed".to_owned());
    }
    crate::conformance::check_outcomes(&said)
}
