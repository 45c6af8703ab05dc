//! A disk that forgets what was not flushed: one file served over `/dev/fuse`, with ext4 on a loop device above it.
//!
//! What the file system writes is kept apart until it flushes. [`Disk::cut`] is the power cut: it copies what had been flushed (and, if asked,
//! some of the rest, as a real disk may have written it) and lets every later request fail with EIO. The copy is mounted like any image; ext4
//! replays its journal. Only the handful of FUSE requests that a loop device needs are answered.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const BLOCK: usize = 4096;
const WRITE_MAX: usize = 128 * 1024;
/// Octets of the disk: room for a queue's segments, which are reserved in pieces of 4 MiB.
const SIZE: u64 = 256 * 1024 * 1024;
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
const ROOT: u64 = 1;
const FILE: u64 = 2;
const EIO: i32 = -5;
const ENOENT: i32 = -2;
const ENOSYS: i32 = -38;

type Blocks = BTreeMap<u64, Box<[u8]>>;

/// What of the writes that were not flushed is on the disk after the cut.
#[derive(Debug, Clone, Copy)]
pub enum Unflushed {
    /// Nothing.
    Lost,
    /// Every other block, by chance of its number.
    Half,
}

#[derive(Default)]
struct State {
    flushed: Blocks,
    unflushed: Blocks,
    failing: bool,
}

/// The disk and what is mounted from it. Everything is unmounted when it is dropped.
pub struct Disk {
    state: Arc<Mutex<State>>,
    place: tempfile::TempDir,
    mounts: Vec<PathBuf>,
}

/// What has to be there: root, FUSE, and the tools of ext4.
pub const NEEDS: &[test_support::harness::Need] = {
    use test_support::harness::Need;
    &[Need::Root, Need::NetworkNamespace, Need::File("/dev/fuse"), Need::File("/dev/loop0"), Need::Program("mkfs.ext4")]
};

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Makes a disk with an empty ext4, mounted at [`Disk::path`]. `options` are further options of the mount.
    pub fn new(options: &str) -> Result<Self, String> {
        let place = tempfile::Builder::new().prefix("postrider-disk-").tempdir().map_err(|error| error.to_string())?;
        for name in ["fuse", "disk", "after"] {
            std::fs::create_dir(place.path().join(name)).map_err(|error| error.to_string())?;
        }
        let image = place.path().join("image");
        File::create(&image).and_then(|file| file.set_len(SIZE)).map_err(|error| error.to_string())?;
        // Nothing may be written later in the background: the test says when.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-N", "8192", "-E", lazy]).arg(&image))?;
        let flushed = read_blocks(&image).map_err(|error| error.to_string())?;
        let state = Arc::new(Mutex::new(State { flushed, ..State::default() }));
        let mut disk = Self { state, place, mounts: Vec::new() };
        disk.serve()?;
        let (file, path) = (disk.place.path().join("fuse/disk"), disk.path());
        disk.mount(&["-t", "ext4", "-o", &format!("loop,{options}")], &file, &path)?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    /// Connects the kernel with a thread that answers.
    fn serve(&mut self) -> Result<(), String> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| error.to_string())?;
        let passed = device.try_clone().map_err(|error| error.to_string())?;
        let path = self.place.path().join("fuse");
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        let mut mount = Command::new("mount");
        run(mount.args(["-i", "-t", "fuse", "-o", options, "disk"]).arg(&path).stdin(Stdio::from(passed)))?;
        self.mounts.push(path);
        let state = Arc::clone(&self.state);
        // Ends when the file system is unmounted.
        std::thread::spawn(move || drop(answer_all(&device, &state)));
        Ok(())
    }

    fn mount(&mut self, how: &[&str], what: &Path, place: &Path) -> Result<(), String> {
        run(Command::new("mount").args(how).arg(what).arg(place))?;
        self.mounts.push(place.to_owned());
        Ok(())
    }

    /// Shows a directory of the disk at another place too.
    pub fn bind(&mut self, what: &Path, place: &Path) -> Result<(), String> {
        self.mount(&["--bind"], what, place)
    }

    /// The power fails: what was flushed stays, what comes later fails.
    pub fn cut(&self, unflushed: Unflushed) -> Result<(), String> {
        let blocks = {
            let mut state = lock(&self.state);
            state.failing = true;
            let mut blocks = state.flushed.clone();
            if matches!(unflushed, Unflushed::Half) {
                // Knuth's multiplication mixes the numbers well enough.
                let survives = |number: &u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 0;
                blocks.extend(state.unflushed.iter().filter(|(n, _)| survives(n)).map(|(n, b)| (*n, b.clone())));
            }
            blocks
        };
        write_blocks(&self.place.path().join("image"), &blocks).map_err(|error| error.to_string())
    }

    /// After the cut: mounts what the disk held; gives the place.
    pub fn after(&mut self) -> Result<PathBuf, String> {
        self.unmount();
        let (image, path) = (self.place.path().join("image"), self.place.path().join("after"));
        self.mount(&["-t", "ext4", "-o", "loop"], &image, &path)?;
        Ok(path)
    }

    fn unmount(&mut self) {
        for path in self.mounts.drain(..).rev() {
            // Whoever still has a file open keeps the rest alive no longer than itself.
            let _ = Command::new("umount").arg("-l").arg(path).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

fn read_blocks(image: &Path) -> io::Result<Blocks> {
    let mut file = File::open(image)?;
    let mut blocks = Blocks::new();
    for number in 0..SIZE / BLOCK as u64 {
        let mut block = vec![0; BLOCK];
        file.read_exact(&mut block)?;
        if block.iter().any(|&octet| octet != 0) {
            blocks.insert(number, block.into_boxed_slice());
        }
    }
    Ok(blocks)
}

fn write_blocks(image: &Path, blocks: &Blocks) -> io::Result<()> {
    let file = File::create(image)?;
    file.set_len(SIZE)?;
    blocks.iter().try_for_each(|(number, block)| file.write_all_at(block, number * BLOCK as u64))
}

impl State {
    fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        let mut at = offset;
        let end = (offset + size as u64).min(SIZE);
        while at < end {
            let (number, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let step = (BLOCK - within).min((end - at) as usize);
            match self.unflushed.get(&number).or_else(|| self.flushed.get(&number)) {
                Some(block) => out.extend_from_slice(&block[within..within + step]),
                None => out.resize(out.len() + step, 0),
            }
            at += step as u64;
        }
        out
    }

    fn write(&mut self, offset: u64, mut octets: &[u8]) {
        let mut at = offset;
        while !octets.is_empty() {
            let (number, within) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let step = (BLOCK - within).min(octets.len());
            let flushed = &self.flushed;
            let block = self
                .unflushed
                .entry(number)
                .or_insert_with(|| flushed.get(&number).cloned().unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice()));
            block[within..within + step].copy_from_slice(&octets[..step]);
            octets = &octets[step..];
            at += step as u64;
        }
    }

    fn flush(&mut self) {
        self.flushed.append(&mut self.unflushed);
    }
}

/// One request at a time, to the end of the mount.
fn answer_all(mut device: &File, state: &Mutex<State>) -> io::Result<()> {
    let mut buffer = vec![0; WRITE_MAX + BLOCK];
    loop {
        let length = device.read(&mut buffer)?;
        let request = &buffer[..length];
        let unique = &request[8..16];
        let Some(answer) = answer(request, state) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (error, Vec::new()),
        };
        let mut out = ((OUT_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        out.extend_from_slice(&error.to_ne_bytes());
        out.extend_from_slice(unique);
        out.extend_from_slice(&body);
        match device.write_all(&out) {
            // The request was withdrawn.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
}

fn number32(request: &[u8], at: usize) -> u32 {
    request.get(at..at + 4).and_then(|octets| octets.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn number64(request: &[u8], at: usize) -> u64 {
    request.get(at..at + 8).and_then(|octets| octets.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The answer to one request; none where none is expected. Layouts: `linux/fuse.h`.
fn answer(request: &[u8], state: &Mutex<State>) -> Option<Result<Vec<u8>, i32>> {
    let (opcode, node, body) = (number32(request, 4), number64(request, 16), &request[IN_HEADER..]);
    let mut state = lock(state);
    Some(match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if body == b"disk\0" => {
            let mut out: Vec<u8> = [FILE, 1, 3600, 3600].iter().flat_map(|n: &u64| n.to_ne_bytes()).collect();
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&attributes(FILE));
            Ok(out)
        }
        1 => Err(ENOENT),
        // GETATTR, SETATTR
        3 | 4 => {
            let mut out = 3600_u64.to_ne_bytes().to_vec();
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&attributes(node));
            Ok(out)
        }
        // OPEN, OPENDIR
        14 | 27 => Ok(vec![0; 16]),
        // READ, WRITE, FSYNC
        15 | 16 | 20 if state.failing => Err(EIO),
        15 => Ok(state.read(number64(body, 8), number32(body, 16) as usize)),
        16 => {
            let size = number32(body, 16);
            state.write(number64(body, 8), &body[40..40 + size as usize]);
            Ok(u64::from(size).to_ne_bytes().to_vec())
        }
        20 => {
            state.flush();
            Ok(Vec::new())
        }
        // STATFS
        17 => Ok(vec![0; 80]),
        // RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
        18 | 25 | 29 | 34 | 38 => Ok(Vec::new()),
        // INIT
        26 => Ok(greeting()),
        _ => Err(ENOSYS),
    })
}

/// Version 7.31, without any option.
fn greeting() -> Vec<u8> {
    let mut out: Vec<u8> = [7_u32, 31, 0, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
    out.extend_from_slice(&[16_u16, 12].iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>());
    out.extend_from_slice(&(WRITE_MAX as u32).to_ne_bytes());
    out.extend_from_slice(&1_u32.to_ne_bytes());
    out.resize(64, 0);
    out
}

fn attributes(node: u64) -> Vec<u8> {
    let (size, mode, links) = if node == ROOT { (0, 0o040_755, 2) } else { (SIZE, 0o100_600, 1) };
    let mut out: Vec<u8> = [node, size, size / 512, 0, 0, 0].iter().flat_map(|n: &u64| n.to_ne_bytes()).collect();
    let small = [0_u32, 0, 0, mode, links, 0, 0, 0, BLOCK as u32, 0];
    out.extend(small.iter().flat_map(|n| n.to_ne_bytes()));
    out
}
