//! The developer's commands. `cargo xtask` lists them.

// These commands talk to a person.
#![allow(clippy::print_stdout)]

mod ci;
mod conformance;
mod demo;
mod dependencies;
mod docs;
mod install;
mod licences;
mod load;
mod process;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask demo [--once] [--profile release|dev]   build, start a whole system on loopback, send a message through it
cargo xtask ci                                      everything that must be green before a change is handed in
cargo xtask conformance [--check]                   write docs/conformance.md: which test proves which requirement
cargo xtask docs [--check]                          write the generated pages (man/, docs/), or check that they are current
cargo xtask load [--messages N]                     measure receiving and delivering, beside Debian's Postfix where it is installed
cargo xtask install --prefix DIR                    build in release mode and install binaries, units, pages and files
cargo xtask dependencies                            check crates/README.md against the real dependencies
cargo xtask licences                                check the licences of all libraries against deny.toml";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments.split_first().map_or(("help", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match command {
        "demo" => demo::run(rest),
        "ci" => ci::run(),
        "conformance" => conformance::run(rest),
        "docs" => docs::run(rest),
        "load" => load::run(rest),
        "install" => install::run(rest),
        "dependencies" => dependencies::check(),
        "licences" => licences::check(),
        "help" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command `{other}'\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
