//! The generated pages: one manual page per daemon, from its crate's own words, those of the commands, and the pages of all parameters of main.cf
//! and all settings of dovecot.conf, each with its status.

use std::fmt::Write as _;
use std::path::PathBuf;

use mail_config::dovecot::{self, SETTINGS, catalogue};
use mail_config::main_cf::catalogue::{Effect, UNBUILT, road};
use mail_config::main_cf::{PARAMETERS, reference};
use test_support::binaries;

use crate::process;

/// The daemons, each with its line in the page's NAME section.
const DAEMONS: &[&str] = &["authd", "imapd", "local-delivery", "pop3d", "queue-manager", "remote-delivery", "smtpd"];

/// Writes the pages; with `--check` only compares.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let check = arguments.iter().any(|argument| argument == "--check");
    let mut stale = Vec::new();
    for (path, text) in pages()? {
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            process::write(&path, &text)?;
            println!("wrote {}", path.display());
        }
    }
    if stale.is_empty() { Ok(()) } else { Err(format!("run `cargo xtask docs' for\n  {}", stale.join("\n  "))) }
}

fn pages() -> Result<Vec<(PathBuf, String)>, String> {
    let root = binaries::workspace();
    let mut pages = vec![(root.join("docs/parameters.md"), parameters()), (root.join("docs/settings.md"), settings())];
    for daemon in DAEMONS {
        let words = process::read(&format!("crates/{daemon}/src/lib.rs"))?;
        pages.push((root.join(format!("man/{daemon}.8")), manual(daemon, &words)));
    }
    for page in postrider::manual::pages() {
        pages.push((root.join("man").join(page.file()), page.roff()));
    }
    Ok(pages)
}

/// The `//!` lines at the head of a file, as paragraphs.
fn paragraphs(source: &str) -> Vec<String> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let text: Vec<&str> = lines.collect();
    text.split(|line| line.is_empty()).map(|lines| lines.join(" ")).filter(|paragraph| !paragraph.is_empty()).collect()
}

/// Text as roff takes it; Markdown's marks go.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace(['`', '[', ']'], "").replace('-', "\\-");
    text.lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

fn manual(daemon: &str, source: &str) -> String {
    let paragraphs = paragraphs(source);
    let summary = paragraphs.first().map_or("", |first| first.split_once('.').map_or(first.as_str(), |(head, _)| head));
    let mut page = format!(
        ".\\\" Made by `cargo xtask docs' from crates/{daemon}/src/lib.rs.\n.TH {} 8 \"\" Postrider\n.SH NAME\n{} \\- {}\n",
        daemon.to_uppercase(),
        roff(daemon),
        roff(summary),
    );
    let _ = write!(
        page,
        ".SH SYNOPSIS\n.B {}\n[\\fB\\-c\\fR \\fIdir\\fR] [\\fB\\-\\-dovecot\\fR \\fIfile\\fR] [\\fB\\-\\-name\\fR \\fIinstance\\fR] [\\fB\\-\\-log\\-dir\\fR \\fIdir\\fR]\n.SH DESCRIPTION\n",
        roff(daemon)
    );
    for paragraph in &paragraphs {
        let _ = write!(page, ".PP\n{}\n", roff(paragraph));
    }
    page.push_str(OPTIONS);
    page.push_str(".SH PARAMETERS\nOf main.cf, with their defaults; see postconf(5) of Postfix for the same names.\n");
    for parameter in PARAMETERS.iter().filter(|parameter| parameter.used_by.contains(&daemon)) {
        let _ = write!(
            page,
            ".TP\n.B {} ({})\n{}\n",
            roff(parameter.name),
            roff(parameter.default),
            roff(parameter.doc.trim())
        );
    }
    page.push_str(FILES);
    page
}

const OPTIONS: &str = "\
.SH OPTIONS
.TP
\\fB\\-c\\fR \\fIdir\\fR
The directory of main.cf and master.cf. Without it: MAIL_CONFIG, else /etc/postrider, else /etc/postfix.
.TP
\\fB\\-\\-dovecot\\fR \\fIfile\\fR
dovecot.conf. Without it: dovecot.conf beside main.cf, else /etc/dovecot/dovecot.conf.
.TP
\\fB\\-\\-name\\fR \\fIinstance\\fR
The name of a further instance, such as local\\-delivery@2. It names log and control socket.
.TP
\\fB\\-\\-log\\-dir\\fR \\fIdir\\fR
Where the daemon's own log goes. Without it: log/ in the state directory.
.SH SIGNALS
SIGHUP takes the newest published configuration; SIGTERM stops in order.
.SH EXIT STATUS
78 if the configuration is wrong (a restart does not help), 71 if the system refuses something.
";

const FILES: &str = "\
.SH FILES
/var/spool/postrider, or postrider below a queue_directory that is not Postfix's: the state, with generation/, log/, public/ and private/.
.SH SEE ALSO
postrider(1), smtpd(8), queue\\-manager(8), local\\-delivery(8), remote\\-delivery(8), authd(8), pop3d(8), imapd(8)
";

/// Markdown's cell of a value.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    if text.is_empty() { "(empty)".to_owned() } else { format!("`{text}`") }
}

/// The status of what is not built, in the words of `postrider check`.
fn status(step: Option<u8>) -> String {
    step.map_or("no effect".to_owned(), |step| format!("later: {}", road(step)))
}

/// What writing it does beside that.
fn consequence(effect: Option<Effect>) -> &'static str {
    match effect {
        Some(Effect::Stops) => "**the start stops** unless `postrider_run_without` names it: ",
        Some(Effect::Stricter) => "stricter: ",
        _ => "",
    }
}

fn parameters() -> String {
    let mut page = "# Parameters of main.cf\n\nMade by `cargo xtask docs`. Names, defaults and meanings are Postfix's. The third column says how many of eight \
        distributions of mail servers set a parameter.\n\n## Carried out\n\n| parameter | default | of 8 | status | used by | meaning |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for parameter in PARAMETERS {
        let doc = parameter.doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let used = reference::find(parameter.name).map_or("-".to_owned(), |known| known.used.to_string());
        let status = parameter.partly.map_or("supported".to_owned(), |what| format!("partly: {what}"));
        let (name, default, by) = (parameter.name, cell(parameter.default), parameter.used_by.join(", "));
        let _ = writeln!(page, "| `{name}` | {default} | {used} | {status} | {by} | {doc} |");
    }
    page.push_str(
        "\nParameters of one transport (`NAME_destination_concurrency_limit` and its relatives), restriction classes and names that a value mentions with `$` \
         are known by what refers to them.\n\n## Not carried out\n\nWhat is not built never makes the server more permissive.\n\n\
         | parameter | default | of 8 | status | what happens |\n|---|---|---|---|---|\n",
    );
    for unbuilt in UNBUILT.iter() {
        let used = reference::find(unbuilt.name).map_or(0, |known| known.used);
        let (name, default, status) = (unbuilt.name, cell(unbuilt.default()), status(unbuilt.step));
        let note = unbuilt.note.replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{name}` | {default} | {used} | {status} | {}{note} |",
            consequence(Some(unbuilt.effect))
        );
    }
    page
}

fn settings() -> String {
    let mut page = "# Settings of dovecot.conf\n\nMade by `cargo xtask docs`. Names, defaults and meanings are Dovecot's (2.3.19).\n\n## Carried out\n\n\
        | setting | default | meaning |\n|---|---|---|\n"
        .to_owned();
    for setting in SETTINGS {
        let doc = setting.doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | {} | {doc} |", setting.name, cell(setting.default));
    }
    page.push_str(
        "\n## What distributions of mail servers write\n\nEach setting as nine distributions write it, with the blocks around it; `both` is Dovecot 2.3 and 2.4.\n\n\
         | setting | default of 2.3 | of 9 | generation | status | what happens |\n|---|---|---|---|---|---|\n",
    );
    for known in dovecot::reference::REFERENCE.iter().filter(|known| known.used > 0) {
        let generation = match known.generation {
            dovecot::reference::Generation::Old => "2.3",
            dovecot::reference::Generation::New => "2.4",
            dovecot::reference::Generation::Both => "both",
        };
        let (status, note) = dovecot_status(known.path);
        let (default, path) = (cell(known.default), known.path);
        let _ = writeln!(page, "| `{path}` | {default} | {} | {generation} | {status} | {note} |", known.used);
    }
    page
}

/// The status of a setting by its path, and what happens.
fn dovecot_status(path: &str) -> (String, String) {
    let unbuilt = match catalogue::of_path(path) {
        None => return ("supported".to_owned(), String::new()),
        Some(unbuilt) => unbuilt,
    };
    (status(unbuilt.step), format!("{}{}", consequence(unbuilt.effect), unbuilt.note.replace('|', "\\|")))
}
