//! The generated pages: one manual page per daemon, from its crate's own words, those of the commands, and the page of all parameters of main.cf.

use std::fmt::Write as _;
use std::path::PathBuf;

use mail_config::main_cf::PARAMETERS;
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
    let mut pages = vec![(root.join("docs/parameters.md"), parameters())];
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

fn parameters() -> String {
    let mut page = "# Parameters of main.cf\n\nMade by `cargo xtask docs`. Names, defaults and meanings are Postfix's.\n\n| parameter | default | used by | meaning |\n|---|---|---|---|\n".to_owned();
    for parameter in PARAMETERS {
        let doc = parameter.doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let default = if parameter.default.is_empty() {
            "(empty)".to_owned()
        } else {
            format!("`{}`", parameter.default.replace('|', "\\|"))
        };
        let _ = writeln!(page, "| `{}` | {default} | {} | {doc} |", parameter.name, parameter.used_by.join(", "));
    }
    page
}
