//! ENVELOPE, BODY and BODYSTRUCTURE in IMAP's syntax (RFC 3501 section 7.4.2).

use mail_imap::response::{write_nstring, write_string};
use mail_message::mime::{Body, Disposition, Envelope, MailAddress, Parameter, Part};

/// Writes `(date subject from sender reply-to to cc bcc in-reply-to message-id)`.
pub fn write_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    out.push(b'(');
    write_nstring(envelope.date.as_deref(), out);
    out.push(b' ');
    write_nstring(envelope.subject.as_deref(), out);
    for addresses in [&envelope.from, &envelope.sender, &envelope.reply_to, &envelope.to, &envelope.cc, &envelope.bcc] {
        out.push(b' ');
        write_addresses(addresses, out);
    }
    out.push(b' ');
    write_nstring(envelope.in_reply_to.as_deref(), out);
    out.push(b' ');
    write_nstring(envelope.message_id.as_deref(), out);
    out.push(b')');
}

fn write_addresses(addresses: &[MailAddress], out: &mut Vec<u8>) {
    if addresses.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in addresses {
        match address {
            MailAddress::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                write_string(name, out);
                out.extend_from_slice(b" NIL)");
            }
            MailAddress::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
            MailAddress::Mailbox { name, route, local, domain } => {
                out.push(b'(');
                write_nstring(name.as_deref(), out);
                out.push(b' ');
                write_nstring(route.as_deref(), out);
                out.push(b' ');
                write_string(local, out);
                out.push(b' ');
                write_string(domain, out);
                out.push(b')');
            }
        }
    }
    out.push(b')');
}

/// Writes the structure of a part; `extended` is BODYSTRUCTURE, else BODY.
pub fn write_structure(part: &Part, extended: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    match &part.kind {
        Body::Multipart(children) => write_multipart(part, children, extended, out),
        _ => write_single(part, extended, out),
    }
    out.push(b')');
}

fn write_multipart(part: &Part, children: &[Part], extended: bool, out: &mut Vec<u8>) {
    for child in children {
        write_structure(child, extended, out);
    }
    if children.is_empty() {
        // The grammar wants a part; Dovecot shows an empty text.
        out.extend_from_slice(b"(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0");
        out.extend_from_slice(if extended { b" NIL NIL NIL NIL)" } else { b")" });
    }
    out.push(b' ');
    let kind = part.content.kind.as_ref();
    write_string(kind.map_or(&b"mixed"[..], |kind| &kind.subtype), out);
    if extended {
        out.push(b' ');
        write_parameters(kind.map_or(&[], |kind| &kind.parameters), false, out);
        write_extensions(part, out);
    }
}

fn write_single(part: &Part, extended: bool, out: &mut Vec<u8>) {
    let content = &part.content;
    let (name, subtype, parameters): (&[u8], &[u8], &[Parameter]) = match &content.kind {
        Some(kind) => (&kind.name, &kind.subtype, &kind.parameters),
        None if content.digest_default => (b"message", b"rfc822", &[]),
        None => (b"text", b"plain", &[]),
    };
    write_string(name, out);
    out.push(b' ');
    write_string(subtype, out);
    out.push(b' ');
    // RFC 2045 section 5.2: text without a charset is US-ASCII.
    write_parameters(parameters, content.is("text"), out);
    for value in [&content.id, &content.description] {
        out.push(b' ');
        write_nstring(value.as_deref(), out);
    }
    out.push(b' ');
    write_string(content.encoding.as_deref().unwrap_or(b"7bit"), out);
    out.extend_from_slice(format!(" {}", part.body.len()).as_bytes());
    if let Body::Message(inner) = &part.kind {
        out.push(b' ');
        write_envelope(inner.envelope.as_deref().unwrap_or(&Envelope::default()), out);
        out.push(b' ');
        write_structure(inner, extended, out);
    }
    if content.is("text") || matches!(part.kind, Body::Message(_)) {
        out.extend_from_slice(format!(" {}", part.lines).as_bytes());
    }
    if extended {
        out.push(b' ');
        write_nstring(content.md5.as_deref(), out);
        write_extensions(part, out);
    }
}

/// Disposition, language and location.
fn write_extensions(part: &Part, out: &mut Vec<u8>) {
    out.push(b' ');
    match &part.content.disposition {
        Some(Disposition { name, parameters }) => {
            out.push(b'(');
            write_string(name, out);
            out.push(b' ');
            write_parameters(parameters, false, out);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    match &part.content.languages[..] {
        [] => out.extend_from_slice(b"NIL"),
        languages => {
            for (i, language) in languages.iter().enumerate() {
                out.push(if i == 0 { b'(' } else { b' ' });
                write_string(language, out);
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    write_nstring(part.content.location.as_deref(), out);
}

fn write_parameters(parameters: &[Parameter], charset: bool, out: &mut Vec<u8>) {
    let has_charset = parameters.iter().any(|p| p.name.eq_ignore_ascii_case(b"charset"));
    let default: &[(&[u8], &[u8])] = if charset && !has_charset { &[(b"charset", b"us-ascii")] } else { &[] };
    let all = parameters.iter().map(|p| (&p.name[..], &p.value[..])).chain(default.iter().copied());
    let mut any = false;
    for (name, value) in all {
        out.push(if any { b' ' } else { b'(' });
        write_string(name, out);
        out.push(b' ');
        write_string(value, out);
        any = true;
    }
    out.extend_from_slice(if any { b")" } else { b"NIL" });
}

#[cfg(test)]
mod tests {
    use mail_message::mime::with_crlf;

    use super::*;

    fn structure(message: &str, extended: bool) -> String {
        let message = with_crlf(message.as_bytes());
        let mut out = Vec::new();
        write_structure(&Part::parse(&message), extended, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn structures_are_written_as_dovecot_writes_them() {
        // I14
        let multipart = "Content-Type: multipart/mixed; boundary=b1\n\n--b1\n\npart one\n--b1\nContent-Type: text/html; charset=utf-8\n\
                         Content-Transfer-Encoding: quoted-printable\nContent-Disposition: attachment; filename=\"x y.html\"\nContent-Language: en, de\n\n<p>two</p>\n--b1--\n";
        assert_eq!(
            structure(multipart, true),
            "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 8 0 NIL NIL NIL NIL)\
             (\"text\" \"html\" (\"charset\" \"utf-8\") NIL NIL \"quoted-printable\" 10 0 NIL (\"attachment\" (\"filename\" \"x y.html\")) (\"en\" \"de\") NIL) \
             \"mixed\" (\"boundary\" \"b1\") NIL NIL NIL)"
        );
        assert_eq!(
            structure("Content-Type: message/rfc822\n\nFrom: inner@x.y\nSubject: inner\n\nbody\nline 2\n", false),
            "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 49 (NIL \"inner\" ((NIL NIL \"inner\" \"x.y\")) ((NIL NIL \"inner\" \"x.y\")) \
             ((NIL NIL \"inner\" \"x.y\")) NIL NIL NIL NIL NIL) (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 14 2) 5)"
        );
        assert_eq!(
            structure("Content-Type: multipart/mixed\n\nx\n", false),
            "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) \"mixed\")"
        );
        assert_eq!(
            structure("Content-Type: application/x\n\nabc", true),
            "(\"application\" \"x\" NIL NIL NIL \"7bit\" 3 NIL NIL NIL NIL)"
        );
    }
}
