//! What a certificate says of itself, as log lines, header fields and access tables name it: names, key, fingerprints (RFC 5280 section 4.1).

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::trust::Digest;

/// The other side's certificate, and how far it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The common name of its holder; empty if it has none.
    pub subject: String,
    /// The common name of who issued it, else the organisation.
    pub issuer: String,
    /// The fingerprint of the certificate: pairs of hexadecimal digits in upper case with colons between them.
    pub fingerprint: String,
    /// The fingerprint of its public key.
    pub key_fingerprint: String,
    /// Whether an authority that we trust vouches for it; else why not.
    pub trust: Result<(), String>,
}

impl Peer {
    /// A peer by its certificate; none if that cannot be read.
    pub(super) fn of(leaf: &CertificateDer<'_>, digest: Digest, trust: Result<(), String>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(leaf).ok()?;
        let issuer = names(parsed.issuer());
        Some(Self {
            subject: named(&names(parsed.subject()), COMMON_NAME).unwrap_or_default(),
            issuer: named(&issuer, COMMON_NAME).or_else(|| named(&issuer, ORGANISATION)).unwrap_or_default(),
            fingerprint: hexadecimal(&digest.of(leaf)),
            key_fingerprint: hexadecimal(&digest.of(&parsed.subject_public_key_info())),
            trust,
        })
    }
}

/// Pairs of hexadecimal digits in upper case with colons between them.
fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":")
}

/// Why an authority does not vouch for a certificate, in the words of OpenSSL where it has some for it.
pub(super) fn refusal(leaf: &EndEntityCert<'_>, error: &webpki::Error) -> String {
    match error {
        // Its signature is looked at where an authority has the same name.
        webpki::Error::UnknownIssuer
        | webpki::Error::CaUsedAsEndEntity
        | webpki::Error::InvalidSignatureForPublicKey
            if leaf.subject() == leaf.issuer() =>
        {
            "self-signed certificate".to_owned()
        }
        webpki::Error::UnknownIssuer => format!("untrusted issuer {}", one_line(&names(leaf.issuer()))),
        webpki::Error::CertExpired { .. } => "certificate has expired".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "certificate is not yet valid".to_owned(),
        other => other.to_string(),
    }
}

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANISATION: &[u8] = &[0x55, 4, 10];

/// The parts of a distinguished name that people use, by their object identifier.
const SHORT_NAMES: [(&[u8], &str); 8] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (ORGANISATION, "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 0x19], "DC"),
];

type Part<'a> = (&'a [u8], String);

fn named(parts: &[Part<'_>], wanted: &[u8]) -> Option<String> {
    parts.iter().find(|(identifier, _)| *identifier == wanted).map(|(_, value)| value.clone())
}

fn one_line(parts: &[Part<'_>]) -> String {
    let short = |wanted: &[u8]| SHORT_NAMES.iter().find(|(known, _)| *known == wanted).map_or("?", |(_, name)| name);
    parts.iter().map(|(identifier, value)| format!("/{}={value}", short(identifier))).collect()
}

/// `RDNSequence`, with or without its own tag: object identifiers and their values. What cannot be read ends it.
fn names(der: &[u8]) -> Vec<Part<'_>> {
    let mut rest = match element(der) {
        Some((SEQUENCE, inside, [])) => inside,
        _ => der,
    };
    let mut found = Vec::new();
    while let Some((SET, mut set, after)) = element(rest) {
        rest = after;
        while let Some((SEQUENCE, pair, others)) = element(set) {
            set = others;
            if let Some((OBJECT_IDENTIFIER, identifier, value)) = element(pair)
                && let Some((tag, text, _)) = element(value)
            {
                found.push((identifier, readable(tag, text)));
            }
        }
    }
    found
}

/// A string of a name. What is no text, or holds control characters, which would forge lines, is empty: nobody is called so.
fn readable(tag: u8, octets: &[u8]) -> String {
    let text = match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => std::str::from_utf8(octets).map(str::to_owned).ok(),
        // TeletexString is Latin-1 in practice.
        0x14 => Some(octets.iter().map(|octet| char::from(*octet)).collect()),
        // BMPString
        0x1e => {
            let units: Vec<u16> = octets.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    };
    text.filter(|text| !text.chars().any(char::is_control)).unwrap_or_default()
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// Tag and contents of the first element of some DER, and what follows it.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// A signature of a handshake as Postfix's lines name it: `RSA-PSS (2048 bits)`, with the digest behind it. `whose` is `server` or `client`.
pub(super) fn signature(whose: &str, scheme: SignatureScheme, leaf: &CertificateDer<'_>) -> String {
    let digest = match scheme {
        SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::ECDSA_NISTP256_SHA256 => "SHA256",
        SignatureScheme::RSA_PSS_SHA384 | SignatureScheme::ECDSA_NISTP384_SHA384 => "SHA384",
        SignatureScheme::RSA_PSS_SHA512 | SignatureScheme::ECDSA_NISTP521_SHA512 => "SHA512",
        SignatureScheme::ED25519 => return format!("{whose}-signature ED25519"),
        other => return format!("{whose}-signature {other:?}"),
    };
    let key = EndEntityCert::try_from(leaf).ok().and_then(|leaf| key(&leaf.subject_public_key_info()));
    let name = match key {
        Some(Key::Rsa { bits }) => format!("RSA-PSS ({bits} bits)"),
        Some(Key::Curve(curve)) => format!("ECDSA ({curve})"),
        None => "unknown".to_owned(),
    };
    format!("{whose}-signature {name} {whose}-digest {digest}")
}

/// A public key.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Rsa { bits: usize },
    Curve(&'static str),
}

/// `SubjectPublicKeyInfo`
fn key(der: &[u8]) -> Option<Key> {
    let (SEQUENCE, info, _) = element(der)? else { return None };
    let (SEQUENCE, algorithm, subject) = element(info)? else { return None };
    let (OBJECT_IDENTIFIER, kind, parameters) = element(algorithm)? else { return None };
    match kind {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1 | 10] => {
            let (BIT_STRING, string, _) = element(subject)? else { return None };
            let (SEQUENCE, numbers, _) = element(string.get(1..)?)? else { return None };
            let (INTEGER, modulus, _) = element(numbers)? else { return None };
            let first = modulus.iter().position(|octet| *octet != 0)?;
            let unused = usize::try_from(modulus[first].leading_zeros()).ok()?;
            Some(Key::Rsa { bits: (modulus.len() - first) * 8 - unused })
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1] => {
            let (OBJECT_IDENTIFIER, curve, _) = element(parameters)? else { return None };
            Some(Key::Curve(match curve {
                [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7] => "prime256v1",
                [0x2b, 0x81, 4, 0, 0x22] => "secp384r1",
                [0x2b, 0x81, 4, 0, 0x23] => "secp521r1",
                _ => return None,
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whatever_their_strings_are_made_of() {
        let pair = |identifier: &[u8], tag: u8, value: &[u8]| {
            let wrap = |tag: u8, inside: &[u8]| {
                let mut out = vec![tag, u8::try_from(inside.len()).expect("short")];
                out.extend(inside);
                out
            };
            let inside = [wrap(OBJECT_IDENTIFIER, identifier), wrap(tag, value)].concat();
            wrap(SET, &wrap(SEQUENCE, &inside))
        };
        let name = [
            pair(&[0x55, 4, 6], 0x13, b"DE"),
            pair(ORGANISATION, 0x14, b"M\xfcller"),
            pair(COMMON_NAME, 0x1e, b"\0a\0b"),
            pair(COMMON_NAME, 0x0c, b"second"),
        ]
        .concat();
        let parts = names(&name);
        assert_eq!(named(&parts, COMMON_NAME).as_deref(), Some("ab"));
        assert_eq!(one_line(&parts), "/C=DE/O=M\u{fc}ller/CN=ab/CN=second");
        for (tag, value) in [(0x0c, &b"a\nb"[..]), (0x0c, b"a\0"), (0x0c, b"\xff"), (0x04, b"a")] {
            assert_eq!(named(&names(&pair(COMMON_NAME, tag, value)), COMMON_NAME).as_deref(), Some(""));
        }
    }

    #[test]
    fn no_octets_make_the_reader_fail() {
        for octets in
            [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80", b"\x31\x02\x30\x05", b"\x30\x03\x30\x01\x06"]
        {
            names(octets);
            assert_eq!(key(octets), None);
        }
    }
}
