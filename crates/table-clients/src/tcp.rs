//! tcp_table(5): a line `get KEY`, a line with a code and a value, both with `%XX` for what is no plain character.

use std::time::Duration;

use crate::RemoteAnswer;
use crate::connection::{Connection, Endpoint, Failure};
use crate::pool::{Pool, Protocol};

/// The longest reply without its line end.
const REPLY_MAX: usize = 4096;
/// How long a question may take, as in Postfix.
const PATIENCE: Duration = Duration::from_secs(100);

/// A server of one table.
pub(crate) struct Tcp {
    pool: Pool<Lines>,
}

impl Tcp {
    /// Reads `host:port`.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let server = Endpoint::parse(name, None).filter(|server| matches!(server, Endpoint::Tcp(..)));
        let server = server.ok_or("write HOST:PORT")?;
        Ok(Self { pool: Pool::new(Lines, vec![server], PATIENCE) })
    }

    pub(crate) async fn reach(&self, patience: Duration) -> Vec<String> {
        self.pool.reach(patience).await
    }

    pub(crate) async fn ask(&self, key: &str) -> RemoteAnswer {
        match self.pool.ask(key).await {
            Ok(line) => reply(&line),
            Err(why) => RemoteAnswer::Temporary(why),
        }
    }
}

struct Lines;

impl Protocol for Lines {
    type Line = Connection;
    type Question = str;
    type Answer = Vec<u8>;

    async fn connect(&self, to: &Endpoint) -> Result<Connection, Failure> {
        Ok(to.connect().await?)
    }

    async fn ask(&self, line: &mut Connection, key: &str) -> Result<Vec<u8>, Failure> {
        line.send(format!("get {}\n", encoded(key)).as_bytes()).await?;
        line.read(REPLY_MAX + 1, |octets| {
            let end = octets.iter().position(|&octet| octet == b'\n');
            Ok(end.map(|end| (octets[..end].to_vec(), end + 1)))
        })
        .await
    }
}

/// Writes `%XX` for everything that is not plain.
fn encoded(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_graphic() && octet != b'%';
    text.bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

/// Reads `%XX`; none if something else follows a per cent sign.
#[must_use]
pub fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            out.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        out.push(digit(digits[0])? * 16 + digit(digits[1])?);
        rest = after;
    }
    Some(out)
}

/// What a line without its end says.
#[must_use]
pub fn reply(line: &[u8]) -> RemoteAnswer {
    let shown = || String::from_utf8_lossy(line).into_owned();
    let wrong = || RemoteAnswer::Temporary(format!("the server says what is no reply: {:.100}", shown()));
    let Some((code, text)) = line.split_at_checked(4) else { return wrong() };
    let Some(text) = decoded(text) else { return wrong() };
    let text = String::from_utf8_lossy(&text).into_owned();
    match code {
        b"200 " => RemoteAnswer::Found(text),
        b"500 " => RemoteAnswer::NotFound,
        b"400 " => RemoteAnswer::Temporary(format!("the server has a temporary error: {text}")),
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_one_word_on_the_wire() {
        assert_eq!(encoded("a b%é\n"), "a%20b%25%C3%A9%0A");
        assert_eq!(decoded(b"a%20b%25%c3%A9").as_deref(), Some("a b%é".as_bytes()));
        assert_eq!(decoded(b"%2"), None);
        assert_eq!(decoded(b"%zz"), None);
    }

    #[test]
    fn only_500_is_not_found() {
        assert_eq!(reply(b"200 a%20b"), RemoteAnswer::Found("a b".to_owned()));
        assert_eq!(reply(b"500 no such"), RemoteAnswer::NotFound);
        for other in ["400 later", "", "500", "300 x", "200 %"] {
            assert!(matches!(reply(other.as_bytes()), RemoteAnswer::Temporary(_)), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text: String) {
            proptest::prop_assert_eq!(decoded(encoded(&text).as_bytes()), Some(text.into_bytes()));
        }
    }
}
