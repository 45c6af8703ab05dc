//! `cdb:` and `lmdb:` files: made from their sources, and changed as a whole. The new file takes the old one's place by rename.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_tables::{Pairs, TableKind, TableRef, read_berkeley, read_lmdb, write_cdb, write_lmdb};

use super::{Choices, opened, reason};
use crate::exit::Failure;

/// The mode of a new file that takes none from its source.
const MODE: u32 = 0o644;

type Entries = Vec<(String, String)>;

/// Makes the file of a table from its source.
///
/// # Errors
/// 1 if the source cannot be read, or the file cannot be written.
pub fn make(choices: Choices, table: &TableRef) -> Result<(), Failure> {
    let open = |error: std::io::Error| Failure::usage(format!("open {}: {}", table.name, reason(&error)));
    let (octets, source) = (fs::read(&table.name).map_err(open)?, fs::metadata(&table.name).map_err(open)?);
    let entries = sources(choices, table, &table.name, &String::from_utf8_lossy(&octets))?;
    let mode = if choices.own_mode { MODE } else { source.mode() & 0o666 };
    write(choices, table, &entries, mode, (source.uid(), source.gid()))
}

/// The entries of a text, each key once: the first or, with `-r`, the last.
fn sources(choices: Choices, table: &TableRef, name: &str, text: &str) -> Result<Entries, Failure> {
    let mut entries = Entries::new();
    let (all, reports) = mail_tables::parse_lines(&Arc::from(name), text, choices.dialect.aliases, choices.keep_case);
    opened::complain_about(choices, &reports);
    let mut places = std::collections::HashMap::new();
    for entry in all {
        let value = if choices.files { encoded(choices, &entry.key, &entry.value) } else { Some(entry.value) };
        let Some(value) = value else { continue };
        match places.get(&entry.key) {
            None => {
                places.insert(entry.key.clone(), entries.len());
                entries.push((entry.key, value));
            }
            Some(&at) if choices.replace => entries[at].1 = value,
            Some(_) if choices.ignore => {}
            Some(_) => choices.warn(&format!("{table}: duplicate entry: \"{}\"", entry.key)),
        }
    }
    Ok(entries)
}

/// The contents of the files that a value names, in base64; an entry with a file that cannot be read is left out.
fn encoded(choices: Choices, key: &str, value: &str) -> Option<String> {
    match contents(value) {
        Ok(octets) => Some(BASE64.encode(octets)),
        Err(why) => {
            choices.warn(&format!("{key}: {why}: skipping this entry"));
            None
        }
    }
}

/// The contents of files, with a line end between them.
pub fn contents(value: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let names = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    for (at, name) in names.enumerate() {
        out.extend(if at > 0 { b"\n".as_slice() } else { b"" });
        out.extend(fs::read(name).map_err(|error| format!("open {name}: {}", reason(&error)))?);
    }
    Ok(out)
}

/// Takes entries out of an LMDB file; whether one of them was there.
///
/// # Errors
/// 1 if the file cannot be read or written.
pub fn delete(choices: Choices, table: &TableRef, keys: &[String]) -> Result<bool, Failure> {
    let mut found = false;
    change(choices, table, |entries| {
        let wanted: Vec<String> =
            keys.iter().map(|key| if choices.keep_case { key.clone() } else { key.to_lowercase() }).collect();
        let before = entries.len();
        entries.retain(|(key, _)| !wanted.contains(key));
        found = entries.len() < before;
        Ok(found)
    })?;
    Ok(found)
}

/// Puts entries into an LMDB file, which is made if it is not there.
///
/// # Errors
/// 1 if the file cannot be read or written.
pub fn insert(choices: Choices, table: &TableRef, input: &str) -> Result<(), Failure> {
    let added = sources(choices, table, "standard input", input)?;
    change(choices, table, |entries| {
        for (key, value) in added {
            match entries.iter_mut().find(|(known, _)| *known == key) {
                None => entries.push((key, value)),
                Some(known) if choices.replace => known.1 = value,
                Some(_) if choices.ignore => {}
                Some(_) => choices.warn(&format!("{table}: duplicate entry: \"{key}\"")),
            }
        }
        Ok(true)
    })
}

fn change(
    choices: Choices,
    table: &TableRef,
    edit: impl FnOnce(&mut Entries) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let file = table.file().unwrap_or_default();
    let old = fs::metadata(&file).ok();
    let mut entries = if old.is_some() { entries(table)? } else { Entries::new() };
    if !edit(&mut entries)? {
        return Ok(());
    }
    let (mode, owner) = match &old {
        Some(old) => (old.mode() & 0o777, (old.uid(), old.gid())),
        None => (MODE, (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())),
    };
    write(choices, table, &entries, mode, owner)
}

/// The entries of a made file, in its order.
///
/// # Errors
/// 1 if it cannot be read.
pub fn entries(table: &TableRef) -> Result<Entries, Failure> {
    let file = table.file().unwrap_or_default();
    let reader = if table.kind == TableKind::Cdb { mail_tables::read_cdb } else { read_lmdb };
    pairs(&file, reader)
}

/// The entries of a Berkeley DB file.
///
/// # Errors
/// 1 if it cannot be read.
pub fn berkeley(file: &Path) -> Result<Entries, Failure> {
    pairs(file, read_berkeley)
}

fn pairs(file: &Path, reader: fn(&[u8]) -> Result<Pairs, String>) -> Result<Entries, Failure> {
    let shown = file.display();
    let octets =
        fs::read(file).map_err(|error| Failure::usage(format!("open database {shown}: {}", reason(&error))))?;
    let pairs = reader(&octets).map_err(|why| Failure::usage(format!("open database {shown}: {why}")))?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets.strip_suffix(b"\0").unwrap_or(octets)).into_owned();
    Ok(pairs.iter().map(|(key, value)| (text(key), text(value))).collect())
}

fn write(choices: Choices, table: &TableRef, entries: &Entries, mode: u32, owner: (u32, u32)) -> Result<(), Failure> {
    // As Postfix's own files of these types have it.
    let nul = choices.nul.unwrap_or(table.kind == TableKind::Lmdb);
    let ended = |text: &str| if nul { [text.as_bytes(), b"\0"].concat() } else { text.as_bytes().to_vec() };
    let pairs: Pairs = entries.iter().map(|(key, value)| (ended(key), ended(value))).collect();
    let octets = if table.kind == TableKind::Cdb { write_cdb(&pairs) } else { write_lmdb(&pairs) };
    let octets = octets.map_err(|why| Failure::usage(format!("{table}: {why}")))?;
    let file = table.file().unwrap_or_default();
    place(&file, &octets, mode, owner)
        .map_err(|error| Failure::usage(format!("open database {}: {}", file.display(), reason(&error))))
}

fn place(file: &Path, octets: &[u8], mode: u32, owner: (u32, u32)) -> std::io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    let written = File::options().write(true).create_new(true).mode(0o600).open(temporary).and_then(|mut new| {
        new.write_all(octets)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&new, Some(owner.0), Some(owner.1))?;
        }
        new.set_permissions(fs::Permissions::from_mode(mode))?;
        new.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(temporary, file));
    if placed.is_err() {
        // Only what was written just now.
        let _ = fs::remove_file(temporary);
    }
    placed
}
