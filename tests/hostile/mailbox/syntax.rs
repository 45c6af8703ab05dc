//! The formal syntax of IMAP responses (RFC 3501 section 9), as strictly as a careful client reads them (I30).

/// Whether a whole response, with its literals and its last line end, is well-formed; what is wrong if not.
pub fn check(response: &[u8]) -> Result<(), String> {
    let Some(line) = response.strip_suffix(b"\r\n") else { return Err("no CRLF at the end".to_owned()) };
    let (tag, rest) = split(line);
    if tag == b"+" {
        return text(rest);
    }
    if tag.is_empty() || !tag.iter().all(|&b| b == b'*' || is_atom(b)) {
        return Err(format!("no tag: {}", shown(line)));
    }
    let (word, after) = split(rest);
    match word.to_ascii_uppercase().as_slice() {
        b"OK" | b"NO" | b"BAD" | b"BYE" | b"PREAUTH" => text(after),
        _ => {
            let mut reader = Reader { rest, whole: line };
            reader.values(None, 0)
        }
    }
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}

fn text(text: &[u8]) -> Result<(), String> {
    let good = text.iter().all(|b| (0x20..0x7f).contains(b));
    if good { Ok(()) } else { Err(format!("text is not 7-bit: {}", shown(text))) }
}

fn is_atom(octet: u8) -> bool {
    (0x21..0x7f).contains(&octet) && !b"(){\"".contains(&octet)
}

fn shown(octets: &[u8]) -> String {
    octets[..octets.len().min(120)].escape_ascii().to_string()
}

struct Reader<'a> {
    rest: &'a [u8],
    whole: &'a [u8],
}

impl Reader<'_> {
    fn wrong<T>(&self, what: &str) -> Result<T, String> {
        let at = self.whole.len() - self.rest.len();
        Err(format!("{what} at octet {at}: {} in {}", shown(self.rest), shown(&self.whole[at.saturating_sub(60)..])))
    }

    /// Values between single spaces; lists may stand side by side, as addresses and parts do.
    fn values(&mut self, close: Option<u8>, depth: usize) -> Result<(), String> {
        if depth > 500 {
            return self.wrong("nesting");
        }
        let mut before = b' ';
        loop {
            match self.rest.first().copied() {
                None if close.is_none() && before != b' ' => return Ok(()),
                None => return self.wrong("the end"),
                Some(octet) if Some(octet) == close => {
                    self.rest = &self.rest[1..];
                    return Ok(());
                }
                Some(b' ') if before != b' ' => {
                    self.rest = &self.rest[1..];
                    before = b' ';
                }
                Some(b'(') if before == b' ' || before == b')' => {
                    self.rest = &self.rest[1..];
                    self.values(Some(b')'), depth + 1)?;
                    before = b')';
                }
                Some(b'"') if before == b' ' => {
                    self.quoted()?;
                    before = b'"';
                }
                Some(b'{') if before == b' ' => {
                    self.literal()?;
                    before = b'"';
                }
                Some(octet) if before == b' ' && is_atom(octet) => {
                    self.atom()?;
                    before = b'a';
                }
                Some(_) => return self.wrong("an octet out of place"),
            }
        }
    }

    fn quoted(&mut self) -> Result<(), String> {
        self.rest = &self.rest[1..];
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\', rest @ ..] => self.rest = rest,
                [octet, rest @ ..] if !matches!(octet, b'\\' | b'\r' | b'\n' | 0 | 0x80..) => self.rest = rest,
                _ => return self.wrong("an octet that no quoted string holds"),
            }
        }
    }

    fn literal(&mut self) -> Result<(), String> {
        let Some(end) = self.rest.windows(3).take(25).position(|w| w == b"}\r\n") else { return self.wrong("a brace") };
        let size: Option<usize> = std::str::from_utf8(&self.rest[1..end]).ok().and_then(|digits| digits.parse().ok());
        let Some(size) = size else { return self.wrong("a size") };
        let Some(octets) = self.rest.get(end + 3..end + 3 + size) else { return self.wrong("too short a literal") };
        if octets.contains(&0) {
            return self.wrong("NUL in a literal");
        }
        self.rest = &self.rest[end + 3 + size..];
        Ok(())
    }

    /// An atom; `BODY[HEADER.FIELDS (A B)]<0>` is one here.
    fn atom(&mut self) -> Result<(), String> {
        let mut inside = false;
        while let Some(&octet) = self.rest.first() {
            match octet {
                b'[' => inside = true,
                b']' => inside = false,
                b'"' if inside => {
                    self.quoted()?;
                    continue;
                }
                b' ' | b'(' | b')' if inside => {}
                octet if is_atom(octet) => {}
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        if inside { self.wrong("a section without end") } else { Ok(()) }
    }
}
