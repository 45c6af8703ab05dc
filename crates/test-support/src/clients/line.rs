//! Lines over TCP or TLS.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use mail_net::tls::ClientTls;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// How long a server may take for an answer: longer than it may wait itself for the queue (a minute).
const PATIENCE: Duration = Duration::from_secs(120);

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// In clear.
    Clear,
    /// With TLS from the first byte; the certificate is not checked.
    Tls,
}

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

/// A connection that speaks in lines.
pub struct Lines {
    stream: BufReader<Box<dyn Both>>,
    plain: TcpStream,
}

impl Lines {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or the handshake fails.
    pub fn connect(address: SocketAddr, security: Security) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?, security)
    }

    /// Connects from another address of this machine, as a client that is somebody else.
    ///
    /// # Errors
    /// As [`Lines::connect`], or the address cannot be used.
    pub fn connect_from(client: Ipv4Addr, address: SocketAddr, security: Security) -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from((client, 0)))?;
        connect(&socket, &address)?;
        Self::over(TcpStream::from(socket), security)
    }

    fn over(plain: TcpStream, security: Security) -> io::Result<Self> {
        plain.set_read_timeout(Some(PATIENCE))?;
        plain.set_nodelay(true)?;
        let stream: Box<dyn Both> = match security {
            Security::Clear => Box::new(plain.try_clone()?),
            Security::Tls => secure(plain.try_clone()?)?,
        };
        Ok(Self { stream: BufReader::new(stream), plain })
    }

    /// Goes over to TLS on the same connection.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn start_tls(&mut self) -> io::Result<()> {
        self.stream = BufReader::new(secure(self.plain.try_clone()?)?);
        Ok(())
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(octets)?;
        stream.flush()
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The connection broke.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.send(format!("{line}\r\n").as_bytes())
    }

    /// The next line as it is, with its end.
    ///
    /// # Errors
    /// The connection broke or ended.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    /// The next line without its end.
    ///
    /// # Errors
    /// The connection broke or ended.
    pub fn hear(&mut self) -> io::Result<String> {
        let mut line = self.line()?;
        while matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// What comes until the other side closes, at most so many octets; a reset connection has ended too.
    pub fn rest(&mut self, most: u64) -> Vec<u8> {
        let mut octets = Vec::new();
        // What came before the end or the error is what counts.
        let _ = self.stream.by_ref().take(most).read_to_end(&mut octets);
        octets
    }

    /// The socket below: for its addresses, time-outs and half-closing.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.plain
    }

    /// So many octets.
    ///
    /// # Errors
    /// The connection broke or ended.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; count];
        self.stream.read_exact(&mut octets)?;
        Ok(octets)
    }
}

fn secure(plain: TcpStream) -> io::Result<Box<dyn Both>> {
    // The systems of tests sign their own certificates.
    let tls = ClientTls::unauthenticated().map_err(io::Error::other)?;
    Ok(Box::new(tls.blocking(plain, "localhost")?))
}
