//! Octets of one connection, in clear or with TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use mail_net::tls::ServerTls;

/// How long a client may be silent before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(120);

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

enum Layer {
    Clear(TcpStream),
    Tls(Box<dyn Both>),
}

/// A connection with what was read and not used.
pub struct Wire {
    layer: Layer,
    plain: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    pub fn new(plain: TcpStream) -> io::Result<Self> {
        plain.set_read_timeout(Some(PATIENCE))?;
        plain.set_nodelay(true)?;
        Ok(Self { layer: Layer::Clear(plain.try_clone()?), plain, input: Vec::new() })
    }

    /// The next line with its end.
    pub fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.input.iter().position(|&octet| octet == b'\n') {
                return Ok(self.input.drain(..=at).collect());
            }
            let mut piece = [0; 16 * 1024];
            let count = match &mut self.layer {
                Layer::Clear(stream) => stream.read(&mut piece)?,
                Layer::Tls(stream) => stream.read(&mut piece)?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&piece[..count]);
        }
    }

    pub fn say(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.layer {
            Layer::Clear(stream) => stream.write_all(octets),
            Layer::Tls(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
        }
    }

    /// Goes over to TLS as the server; what came in clear behind STARTTLS is gone.
    pub fn secure(&mut self, tls: &ServerTls) -> io::Result<()> {
        self.input.clear();
        self.layer = Layer::Tls(Box::new(tls.blocking(self.plain.try_clone()?)?));
        Ok(())
    }

    pub fn is_secure(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// An orderly end: the client hears everything, whatever it still sends.
    pub fn close(&mut self) {
        let _ = self.plain.shutdown(Shutdown::Write);
        let _ = self.plain.set_read_timeout(Some(Duration::from_secs(1)));
        let mut rest = [0; 16 * 1024];
        while self.plain.read(&mut rest).is_ok_and(|count| count > 0) {}
    }

    /// Makes the end of this connection a reset.
    pub fn reset(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.plain, Some(Duration::ZERO));
    }

    /// Whether the client has gone, without reading what it sent.
    pub fn is_gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut asked = [PollFd::new(&self.plain, PollFlags::RDHUP)];
        let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _ = poll(&mut asked, Some(&limit));
        asked[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }
}
