//! Every target has its program, its seeds, and time in proportion to its input.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;

use fuzz_targets::{TARGETS, Target, directory};
use rustix::time::{ClockId, clock_gettime};

// R12
#[test]
fn every_target_has_a_program_and_seeds_and_nothing_is_left_over() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let listed = |below: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(directory().join(below)).expect("a directory");
        let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.expect("an entry"))).collect()
    };
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("corpus-seeds"), names);
    let manifest = fs::read_to_string(directory().join("Cargo.toml")).expect("the manifest");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} has no [[bin]]", target.name);
        let program =
            fs::read_to_string(directory().join(format!("fuzz_targets/{}.rs", target.name))).expect("a program");
        assert!(program.contains(&format!("target(\"{}\")", target.name)), "{program}");
        assert!(target.seeds().expect("seeds").len() >= 2, "{} has too few seeds", target.name);
    }
}

/// How much longer the long input is.
const FACTOR: usize = 8;
/// What a linear parser may take for it, in times of the short one: noise and caches included. A quadratic one takes 64.
const ALLOWED: u64 = 26;
/// The short input; doubled until it takes long enough to be measured, in nanoseconds.
const LENGTH: usize = 1024;
const LENGTH_MAX: usize = 128 * 1024;
const LONG_ENOUGH: u64 = 500_000;

// R12
#[test]
fn no_token_over_and_over_costs_more_than_its_length() {
    let (halves, slow) = (TARGETS.chunks(TARGETS.len().div_ceil(2)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for half in halves {
            scope.spawn(|| {
                half.iter().for_each(|target| {
                    let found = superlinear(target);
                    slow.lock().expect("unpoisoned").extend(found);
                })
            });
        }
    });
    let slow = slow.into_inner().expect("unpoisoned");
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

// R12
#[test]
fn a_quadratic_parser_is_found_and_a_linear_one_is_not() {
    fn linear(input: &[u8]) {
        std::hint::black_box(input.iter().filter(|octet| **octet == b'a').count());
    }
    fn quadratic(input: &[u8]) {
        input.chunks(8).for_each(|_| linear(input));
    }
    let target = |run| Target { name: "test", run, tokens: &[], cost: 1 };
    assert!(growth(&target(quadratic), b"ab").is_some_and(|times| times > ALLOWED));
    assert_eq!(growth(&target(linear), b"ab"), None);
}

/// The patterns that cost too much, each in a line of its own.
fn superlinear(target: &Target) -> Vec<String> {
    // The library of regular expressions bounds its own work, and until it does, a pattern may cost more than its length.
    let patterns = if target.name == "table_regexp" { Vec::new() } else { patterns(target) };
    let slow = patterns.into_iter().filter_map(|pattern| {
        let times = growth(target, &pattern)?;
        Some(format!(
            "{}: {FACTOR} times the input takes {times} times as long: {}",
            target.name,
            pattern.escape_ascii()
        ))
    });
    slow.collect()
}

/// What is repeated: the tokens, each seed, and the octets at which grammars turn.
fn patterns(target: &Target) -> Vec<Vec<u8>> {
    let tokens = target.tokens.iter().map(|token| token.as_bytes().to_vec());
    let octets = b"\r\n\"(<,;.\\=a\0 ".iter().map(|&octet| vec![octet]);
    let seeds = target.seeds().expect("seeds").into_iter().map(|(_, seed)| seed);
    tokens.chain(octets).chain(seeds).filter(|pattern| (1..=LENGTH).contains(&pattern.len())).collect()
}

/// How many times as long the long input takes, where that is too much. Time of this thread on the processor, the best of several: a busy
/// machine makes no difference.
fn growth(target: &Target, pattern: &[u8]) -> Option<u64> {
    let input = |length: usize| -> Vec<u8> { pattern.iter().copied().cycle().take(length).collect() };
    let mut length = LENGTH;
    let mut short = time(target, &input(length));
    while short < LONG_ENOUGH && length < LENGTH_MAX {
        length *= 2;
        short = time(target, &input(length));
    }
    let long = input(length * FACTOR);
    for _ in 0..5 {
        let times = time(target, &long) / short.max(100_000);
        if times <= ALLOWED {
            return None;
        }
        // Perhaps the short one was lucky and the long one not.
        short = short.max(time(target, &input(length)));
    }
    Some(time(target, &long) / short.max(100_000))
}

/// Nanoseconds of this thread.
fn time(target: &Target, input: &[u8]) -> u64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    };
    let began = now();
    (target.run)(input);
    now() - began
}
