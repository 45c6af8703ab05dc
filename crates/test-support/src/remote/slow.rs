//! Mail servers that take their time over every message.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// One listener on all addresses of this machine: a server at each, that takes every message and answers to it once `pause` returns. Its port.
/// It ends with this process.
///
/// # Errors
/// There is no port.
pub fn hosts(pause: impl Fn() + Send + Sync + 'static) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let pause = Arc::new(pause);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pause = Arc::clone(&pause);
            // How a connection ends does not matter.
            thread::spawn(move || drop(serve(&stream, pause.as_ref())));
        }
    });
    Ok(port)
}

fn serve(mut stream: &TcpStream, pause: &dyn Fn()) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 slow.example ESMTP\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let reply: &[u8] = match line.get(..4).unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                pause();
                b"250 taken\r\n"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
}
