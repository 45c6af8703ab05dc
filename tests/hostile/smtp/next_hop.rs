//! A server that takes all mail and keeps the octets as they came over the wire.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The next hop. Its threads end with the process.
pub struct NextHop {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl NextHop {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let taken: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || talk(stream, &kept));
            }
        });
        Ok(Self { address, taken })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The contents that came and hold these octets, each from its first octet to the line end before the last dot, dot-stuffed as on the wire.
    pub fn with(&self, octets: &[u8]) -> Vec<Vec<u8>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |content: &&Vec<u8>| content.windows(octets.len()).any(|window| window == octets);
        taken.iter().filter(holds).cloned().collect()
    }
}

/// Reads commands line by line and content up to CRLF.CRLF: lines end at LF, so that a bare one shows as a line of its own.
fn talk(stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    out.write_all(b"220 next.example ESMTP\r\n")?;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" => out.write_all(b"250-next.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 0\r\n")?,
            b"DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let content = content(&mut lines)?;
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(content);
                out.write_all(b"250 taken\r\n")?;
            }
            b"QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => out.write_all(b"250 ok\r\n")?,
        }
    }
}

fn content(lines: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut content: Vec<u8> = Vec::new();
    loop {
        let start = content.len();
        if lines.read_until(b'\n', &mut content)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &content[start..] == b".\r\n" && (start == 0 || content[..start].ends_with(b"\r\n")) {
            content.truncate(start);
            return Ok(content);
        }
    }
}
