//! A connection to a server, and where servers are.

use std::io;
use std::path::PathBuf;

use mail_net::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Why a question has no answer. The texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection is of no use any more; another may be.
    Broken(String),
    /// The server refuses this question.
    Refused(String),
}

impl Failure {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Broken(text) | Self::Refused(text) => text,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A host by name or address, and a port.
    Tcp(String, u16),
    /// The path of a socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "inet:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Endpoint {
    /// Reads `inet:HOST:PORT`, `unix:PATH`, `HOST:PORT` and, where there is a usual port, `HOST`. IPv6 addresses stand in brackets.
    pub(crate) fn parse(text: &str, usual_port: Option<u16>) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(PathBuf::from(path)));
        }
        let text = text.strip_prefix("inet:").unwrap_or(text);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().ok().or_else(|| mail_config::master_cf::system_port(port))?,
            None => usual_port?,
        };
        let host = if host.is_empty() { "localhost" } else { host };
        Some(Self::Tcp(host.to_owned(), port))
    }

    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = match self {
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Questions are small and wait for their answers.
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Self::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        Ok(Connection::new(stream))
    }
}

/// A connection with what was read and not used yet.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream, for a new layer; none if octets came that belong to this one.
    pub(crate) fn into_stream(self) -> Option<Stream> {
        self.buffer.is_empty().then_some(self.stream)
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// Reads until `decode` finds something in what came; it says what, and how many octets that took. More than `limit` octets end the connection.
    pub(crate) async fn read<T>(
        &mut self,
        limit: usize,
        mut decode: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, String>,
    ) -> Result<T, Failure> {
        loop {
            if let Some((found, used)) = decode(&self.buffer).map_err(Failure::Broken)? {
                if used > limit {
                    return Err(too_long(limit));
                }
                self.buffer.drain(..used);
                return Ok(found);
            }
            if self.buffer.len() > limit {
                return Err(too_long(limit));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Failure::Broken("the server closed the connection".to_owned()));
            }
        }
    }
}

fn too_long(limit: usize) -> Failure {
    Failure::Broken(format!("the reply is longer than {limit} octets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_postfix_names_them() {
        let tcp = |host: &str, port| Some(Endpoint::Tcp(host.to_owned(), port));
        assert_eq!(Endpoint::parse("inet:127.0.0.1:25", None), tcp("127.0.0.1", 25));
        assert_eq!(Endpoint::parse("[::1]:25", None), tcp("::1", 25));
        assert_eq!(Endpoint::parse("db.example.org", Some(5432)), tcp("db.example.org", 5432));
        assert_eq!(Endpoint::parse("[::1]", Some(5432)), tcp("::1", 5432));
        assert_eq!(Endpoint::parse("host:smtp", None), tcp("host", 25));
        assert_eq!(Endpoint::parse("unix:/run/x", None), Some(Endpoint::Unix("/run/x".into())));
        assert_eq!(Endpoint::parse("host", None), None);
        assert_eq!(Endpoint::parse("host:nosuchport", None), None);
    }
}
