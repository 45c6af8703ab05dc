//! A load that waits for others: many next hops, each of which takes its time over every message. Here the reference is our own server with one worker.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use test_support::clients::{Security, Smtp};
use test_support::{Patience, wait_for};

use super::ours::Ours;
use super::report::{Metric, Unit, metric, shown};
use super::smtp::Mta as _;
use super::{Round, Row, Scale, Server as _, Side, count};

/// Next hops: with 20 deliveries to each at a time (`default_destination_concurrency_limit`) far more than the 100 processes that
/// `default_process_limit` gives a worker.
const HOPS: u8 = 60;
/// What a next hop takes over a message.
const SLOW: Duration = Duration::from_secs(1);

pub fn rows() -> Vec<Row> {
    const WORKERS: [Metric; 2] =
        [metric("deliveries per second", Unit::PerSecond, 1.2, 2.0), shown("CPU s per 1,000", Unit::Cpu)];
    vec![Row { name: "two remote-delivery workers, slow next hops, beside one of ours", metrics: &WORKERS, round }]
}

fn round(scale: &Scale, side: Side) -> Round {
    let messages = (scale.messages / 50).max(20);
    let port = slow_hosts().map_err(|error| error.to_string())?;
    let workers = (side == Side::Ours).then_some("remote-delivery=2");
    let mut server = Ours::smtp(&lines(port), workers)?;
    let (before, began) = (server.cpu(), Instant::now());
    send(server.address(), messages).map_err(|error| error.to_string())?;
    let all = || (server.removed() >= messages).then_some(());
    wait_for("the slow hosts to take all", Patience(Duration::from_secs(300)), all)?;
    let (deliveries, seconds) = (messages * usize::from(HOPS), began.elapsed().as_secs_f64());
    Ok(Some(vec![count(deliveries) / seconds, (server.cpu() - before) * 1000.0 / count(deliveries)]))
}

fn lines(port: u16) -> String {
    let domains: Vec<String> = (1..=HOPS).map(|n| format!("d{n}.example")).collect();
    let routes: Vec<String> = (1..=HOPS).map(|n| format!("d{n}.example=smtp:[127.0.1.{n}]:{port}")).collect();
    format!(
        "relay_domains = {}\nrelay_recipient_maps =\ntransport_maps = inline:{{{}}}\ninitial_destination_concurrency = 20\n",
        domains.join(" "),
        routes.join(" ")
    )
}

/// Each message goes to all next hops.
fn send(address: SocketAddr, messages: usize) -> io::Result<()> {
    let to: Vec<String> = (1..=HOPS).map(|n| format!("user@d{n}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut smtp = Smtp::connect(address, Security::Clear)?;
    (0..messages).try_for_each(|_| smtp.send("sender@load.example", &to, "Subject: slow\r\n\r\nslow\r\n").map(drop))
}

/// One listener on all addresses of this machine: a slow host for each that is asked for. Ends with this process.
fn slow_hosts() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // How a connection ends does not matter.
            thread::spawn(move || drop(host(&stream)));
        }
    });
    Ok(port)
}

fn host(mut stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 slow.example ESMTP\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let reply: &[u8] = match line.get(..4).unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                thread::sleep(SLOW);
                b"250 taken\r\n"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
}
