//! A load that waits for others: many next hops, each of which takes its time over every message. Here the reference is our own server with one worker.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use test_support::clients::{Security, Smtp};
use test_support::remote::slow;
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
    let port = slow::hosts(|| std::thread::sleep(SLOW)).map_err(|error| error.to_string())?;
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
