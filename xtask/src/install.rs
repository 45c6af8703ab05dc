//! `cargo xtask install`, and the check of the units.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use test_support::binaries;

use crate::process;

/// Names under which people call our commands; each is a link to `postrider`.
const COMMANDS: &[(&str, &str)] = &[
    ("sbin", "sendmail"),
    ("sbin", "postalias"),
    ("sbin", "postcat"),
    ("sbin", "postconf"),
    ("sbin", "postfix"),
    ("sbin", "postmap"),
    ("sbin", "postqueue"),
    ("sbin", "postsuper"),
    ("bin", "mailq"),
    ("bin", "newaliases"),
];

/// Installs everything below a prefix such as /usr or /opt/postrider.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let (mut prefix, mut profile) = (None, "release");
    for pair in arguments.chunks(2) {
        match pair {
            [flag, value] if flag == "--prefix" => prefix = Some(value),
            [flag, value] if flag == "--profile" => profile = value,
            _ => return Err(format!("install: --prefix DIR [--profile dev]; not `{}'", pair.join(" "))),
        }
    }
    let prefix = prefix.ok_or("install: --prefix DIR")?;
    let prefix = std::path::absolute(prefix).map_err(|error| error.to_string())?;
    let built = binaries::build(profile)?;
    place(&prefix, &built).map_err(|error| format!("install: {error}"))?;
    println!(
        "Installed below {0}. As root, next:\n  systemd-sysusers {0}/lib/sysusers.d/postrider.conf; systemd-tmpfiles --create {0}/lib/tmpfiles.d/postrider.conf\n  \
         chgrp postdrop {0}/sbin/postdrop && chmod 2755 {0}/sbin/postdrop; cp -r {0}/share/postrider/etc /etc/postrider\n  \
         {1}systemctl enable --now postrider.target",
        prefix.display(),
        if prefix == Path::new("/usr") {
            String::new()
        } else {
            format!("systemctl link {}/lib/systemd/system/*; ", prefix.display())
        }
    );
    Ok(())
}

fn place(prefix: &Path, built: &std::collections::BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    let workspace = binaries::workspace();
    for name in binaries::PROGRAMS {
        let directory = if *name == "postrider" || *name == "postdrop" { "sbin" } else { "lib/postrider" };
        let source = built.get(*name).ok_or_else(|| std::io::Error::other(format!("{name} was not built")))?;
        let mode = if *name == "postdrop" { 0o2755 } else { 0o755 };
        copy(source, &prefix.join(directory).join(name), mode)?;
    }
    for (directory, name) in COMMANDS {
        let link = prefix.join(directory).join(name);
        fs::create_dir_all(prefix.join(directory))?;
        let _ = fs::remove_file(&link);
        symlink(prefix.join("sbin/postrider"), link)?;
    }
    units(&workspace.join("systemd"), prefix)?;
    tree(&workspace.join("systemd/sysusers.d"), &prefix.join("lib/sysusers.d"), |_| true)?;
    tree(&workspace.join("systemd/tmpfiles.d"), &prefix.join("lib/tmpfiles.d"), |_| true)?;
    tree(&workspace.join("etc"), &prefix.join("share/postrider/etc"), |path| path.is_file())?;
    for entry in fs::read_dir(workspace.join("man"))? {
        let page = entry?.path();
        let section = page.extension().and_then(|end| end.to_str()).unwrap_or("8").to_owned();
        copy(&page, &prefix.join(format!("share/man/man{section}")).join(page.file_name().unwrap_or_default()), 0o644)?;
    }
    Ok(())
}

/// The units, with the paths of this prefix.
fn units(from: &Path, prefix: &Path) -> std::io::Result<()> {
    let to = prefix.join("lib/systemd/system");
    tree(from, &to, |path| path.is_file())?;
    for entry in fs::read_dir(&to)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let here = |directory: &str| prefix.join(directory).display().to_string();
        let text = text.replace("/usr/lib/postrider/", &(here("lib/postrider") + "/"));
        fs::write(&path, text.replace("/usr/sbin/postrider", &here("sbin/postrider")))?;
    }
    Ok(())
}

fn tree(from: &Path, to: &Path, wanted: impl Fn(&Path) -> bool) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if wanted(&path) && path.is_file() {
            copy(&path, &to.join(path.file_name().unwrap_or_default()), 0o644)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> std::io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    let _ = fs::remove_file(to);
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

/// Checks the units with `systemd-analyze verify`, with the programs of this build in the place of the installed ones.
pub fn verify_units() -> Result<(), String> {
    if test_support::harness::program("systemd-analyze").is_none() {
        if std::env::var_os("CI").is_some() {
            return Err("systemd-analyze is not installed".to_owned());
        }
        println!("skipped: systemd-analyze is not installed");
        return Ok(());
    }
    let staging = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut units = Vec::new();
    for unit in unit_files()? {
        let name = unit.file_name().unwrap_or_default().to_owned();
        let text = fs::read_to_string(&unit).map_err(|error| error.to_string())?;
        let text = text
            .replace("/usr/lib/postrider/", "/usr/bin/env ")
            .replace("/usr/sbin/postrider", "/usr/bin/env postrider");
        // A template is verified as an instance of it.
        let shown = PathBuf::from(name.to_string_lossy().replace("@.", "@2."));
        for place in [PathBuf::from(&name), shown.clone()] {
            fs::write(staging.path().join(place), &text).map_err(|error| error.to_string())?;
        }
        units.push(staging.path().join(shown).display().to_string());
    }
    let mut arguments = vec!["verify", "--man=no", "--recursive-errors=yes"];
    arguments.extend(units.iter().map(String::as_str));
    process::run("systemd-analyze", &arguments, &[("SYSTEMD_UNIT_PATH", &format!("{}:", staging.path().display()))])?;
    scores()
}

/// Compares each service's exposure, as `systemd-analyze security` counts it, with the list in the threat model: it may not rise.
fn scores() -> Result<(), String> {
    let page = binaries::workspace().join("docs/threat-model.md");
    let page = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    for unit in unit_files()?.into_iter().filter(|unit| unit.extension().is_some_and(|end| end == "service")) {
        let name = unit.file_name().unwrap_or_default().display().to_string();
        let listed = page.lines().find_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            (cells.next()? == name).then(|| cells.next()?.parse::<f64>().ok())?
        });
        let listed = listed.ok_or_else(|| format!("docs/threat-model.md has no score for {name}"))?;
        let threshold = format!("--threshold={:.0}", listed * 10.0);
        let unit = unit.display().to_string();
        let judged =
            process::output("systemd-analyze", &["security", "--offline=yes", "--no-pager", &threshold, &unit]);
        judged.map_err(|error| format!("{name} is more exposed than {listed}: {error}"))?;
    }
    Ok(())
}

fn unit_files() -> Result<Vec<PathBuf>, String> {
    let directory = binaries::workspace().join("systemd");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let units = entries.flatten().map(|entry| entry.path());
    let mut units: Vec<PathBuf> =
        units.filter(|path| path.extension().is_some_and(|end| end == "service" || end == "target")).collect();
    units.sort();
    Ok(units)
}
