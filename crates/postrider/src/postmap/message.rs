//! The keys that header_checks(5) and body_checks(5) look up in a message, for `-h` and `-b`.

/// The keys of a message: its headers, each with its continuation lines, and the lines of its body. With `mime` the headers of its parts and of attached
/// messages are headers too.
pub fn keys(input: &str, headers: bool, body: bool, mime: bool) -> Vec<String> {
    let mut walk =
        Walk { keys: Vec::new(), headers, body, header: None, boundaries: Vec::new(), kind: Kind::Text, inside: true };
    for line in input.lines() {
        walk.line(line, mime);
    }
    walk.end_header();
    walk.keys
}

/// What a part holds, as its Content-Type says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Multipart,
    Message,
}

struct Walk {
    keys: Vec<String>,
    headers: bool,
    body: bool,
    /// The header that may go on.
    header: Option<String>,
    boundaries: Vec<String>,
    kind: Kind,
    /// Whether lines are those of headers.
    inside: bool,
}

impl Walk {
    fn line(&mut self, line: &str, mime: bool) {
        if self.inside && self.header_line(line) {
            return;
        }
        if self.inside {
            self.end_header();
            self.inside = mime && self.kind == Kind::Message;
            self.kind = Kind::Text;
            if !line.is_empty() {
                // The empty line that ends headers is looked up even where it is missing.
                self.body_key("");
            }
            self.body_key(line);
            return;
        }
        if mime && self.begins_part(line) {
            (self.inside, self.kind) = (true, Kind::Text);
        }
        self.body_key(line);
    }

    /// Takes a line of headers; false where they have ended.
    fn header_line(&mut self, line: &str) -> bool {
        if line.starts_with([' ', '\t'])
            && let Some(header) = &mut self.header
        {
            header.push('\n');
            header.push_str(line);
            return true;
        }
        let name = line.split(':').next().unwrap_or_default().trim_end();
        let is_header = line.contains(':') && !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
        if is_header {
            self.end_header();
            self.header = Some(line.to_owned());
        }
        is_header
    }

    fn end_header(&mut self) {
        let Some(header) = self.header.take() else { return };
        if let Some((name, value)) = header.split_once(':')
            && name.trim_end().eq_ignore_ascii_case("content-type")
        {
            self.note(value);
        }
        if self.headers {
            self.keys.push(header);
        }
    }

    fn note(&mut self, value: &str) {
        let lower = value.trim_start().to_ascii_lowercase();
        if lower.starts_with("message/rfc822") || lower.starts_with("message/global") {
            self.kind = Kind::Message;
        }
        if lower.starts_with("multipart/") {
            self.kind = Kind::Multipart;
            let at = lower.find("boundary=").map(|at| value.len() - value.trim_start().len() + at + 9);
            let text = at.and_then(|at| value.get(at..)).unwrap_or_default();
            let boundary = match text.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None => text.split(|c: char| c == ';' || c.is_whitespace()).next(),
            };
            self.boundaries.extend(boundary.filter(|boundary| !boundary.is_empty()).map(str::to_owned));
        }
    }

    /// Whether a line begins a part. One that ends parts ends those inside of it too.
    fn begins_part(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("--") else { return false };
        let Some(at) = self.boundaries.iter().rposition(|boundary| rest.starts_with(boundary.as_str())) else {
            return false;
        };
        let last = rest[self.boundaries[at].len()..].starts_with("--");
        self.boundaries.truncate(if last { at } else { at + 1 });
        !last
    }

    fn body_key(&mut self, line: &str) {
        if self.body {
            self.keys.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Subject: hello\n folded\nContent-Type: multipart/mixed; boundary=\"bb\"\n\nbody line\n\n--bb\n\
                           X-Part: 1\n\npart body\n--bb\nContent-Type: message/rfc822\n\nSubject: inner\n\ninner body\n--bb--\nend\n";

    // Compared with `postmap -q - -hbm static:x` of Postfix 3.7.11.
    #[test]
    fn headers_and_body_are_told_apart() {
        let of = |headers, body, mime| keys(MESSAGE, headers, body, mime);
        let outer = ["Subject: hello\n folded", "Content-Type: multipart/mixed; boundary=\"bb\""];
        assert_eq!(of(true, false, false), outer);
        let all = [&outer[..], &["X-Part: 1", "Content-Type: message/rfc822", "Subject: inner"]].concat();
        assert_eq!(of(true, false, true), all);
        let body = ["", "body line", "", "--bb", "", "part body", "--bb", "", "", "inner body", "--bb--", "end"];
        assert_eq!(of(false, true, true), body);
        assert_eq!(of(false, true, false).len(), 15);
        assert_eq!(keys("no header\nA: b\n", true, true, false), ["", "no header", "A: b"]);
    }

    proptest::proptest! {
        #[test]
        fn no_message_breaks_the_keys(input in "(Content-Type: multipart/x; boundary=b|Content-Type: message/rfc822|--b|--|[ :é\n]){0,20}") {
            let _ = keys(&input, true, true, true);
        }
    }
}
