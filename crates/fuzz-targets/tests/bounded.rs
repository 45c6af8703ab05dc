//! Every seed of `fuzz/corpus-seeds/` and `FUZZ_MUTATIONS` mutations of each (60 unless set; dearer targets get fewer) go through their target.
//!
//! The same number always makes the same inputs. An input that fails is left in the directory `fuzz-failures` of the build directory; put it
//! under `fuzz/corpus-seeds/` when the fault is mended, so that it is tried for ever. While an input runs it lies there as `TARGET.running`: what
//! remains after a crash of the whole process, or hangs, is the culprit.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use fuzz_targets::mutate::{Random, mutate};
use fuzz_targets::{TARGETS, Target};
use libtest_mimic::{Arguments, Failed, Trial};

/// Longer seeds are deep or wide on purpose, and run as they are only.
const MUTATED_MAX: usize = 8 * 1024;

fn main() -> ExitCode {
    let mutations = std::env::var("FUZZ_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let trial = |target: &'static Target| Trial::test(target.name, move || run(target, mutations));
    libtest_mimic::run(&Arguments::from_args(), TARGETS.iter().map(trial).collect()).exit_code()
}

fn run(target: &Target, mutations: usize) -> Result<(), Failed> {
    let seeds = target.seeds()?;
    if seeds.is_empty() {
        return Err("no seeds".into());
    }
    let mut running = Running::open(target)?;
    for (name, seed) in &seeds {
        running.run(target, seed).map_err(|error| format!("seed {name}: {error}"))?;
    }
    let each = (mutations * 8 / target.cost).max(1);
    for (name, seed) in seeds.iter().filter(|(_, seed)| seed.len() <= MUTATED_MAX) {
        for number in 0..each as u64 {
            let mut random = Random::new(&format!("{}/{name}", target.name), number);
            let other = &seeds[random.below(seeds.len())].1;
            let input = mutate(seed, other, target.tokens, &mut random);
            running.run(target, &input).map_err(|error| format!("mutation {number} of {name}: {error}"))?;
        }
    }
    running.done()
}

/// The file that holds the input under way.
struct Running {
    path: PathBuf,
    file: File,
}

impl Running {
    fn open(target: &Target) -> Result<Self, Failed> {
        let directory = directory();
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}.running", target.name));
        Ok(Self { file: File::create(&path)?, path })
    }

    fn run(&mut self, target: &Target, input: &[u8]) -> Result<(), String> {
        let wrong = |error: std::io::Error| error.to_string();
        self.file.set_len(0).and_then(|()| self.file.write_all_at(input, 0)).map_err(wrong)?;
        catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|_| {
            let path = self.path.with_extension(format!("{:016x}", fnv(input)));
            let kept = File::create(&path).and_then(|mut file| file.write_all(input));
            format!("the input is kept in {} ({kept:?})", path.display())
        })
    }

    fn done(self) -> Result<(), Failed> {
        Ok(fs::remove_file(self.path)?)
    }
}

fn fnv(input: &[u8]) -> u64 {
    let step = |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
    input.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Beside the test's own program, so that parallel builds do not meet.
fn directory() -> PathBuf {
    std::env::current_exe()
        .unwrap_or_default()
        .ancestors()
        .nth(3)
        .map_or_else(PathBuf::new, |path| path.join("fuzz-failures"))
}
