//! The conversations with policy services (SMTPD_POLICY_README): attributes out, one action back, over connections that are used again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mail_config::Config;
use mail_policy::{Answer, PolicyFact, PolicyRequest, PolicyService};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::log::SessionLog;

/// So many connections to one service are kept without use.
const IDLE_MAX: usize = 20;

/// A connection, whatever it goes over.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open connection.
struct Connection {
    stream: BufReader<Box<dyn Wire>>,
    since: Instant,
    used: Instant,
    requests: u64,
}

/// The connections to all services, by their name; those that nobody uses just now.
#[derive(Default)]
pub struct PolicyServices(Mutex<HashMap<String, Vec<Connection>>>);

impl PolicyServices {
    /// Asks a service, as often as `smtpd_policy_service_try_limit` allows.
    pub async fn ask(&self, request: &PolicyRequest, config: &Config, log: &SessionLog) -> PolicyFact {
        let service = &request.service;
        let text = text(request);
        // A connection that was open may have been closed meanwhile; that is no failure of the service.
        if let Some(connection) = self.take(service)
            && let Ok(action) = self.converse(connection, service, &text).await
        {
            return PolicyFact::Action(action);
        }
        let mut why = String::new();
        for attempt in 0..service.try_limit {
            if attempt > 0 {
                tokio::time::sleep(service.retry_delay).await;
            }
            let opened = tokio::time::timeout(service.timeout, open(&service.endpoint, config)).await;
            let result = match opened.unwrap_or_else(|_| Err(late())) {
                Ok(connection) => self.converse(connection, service, &text).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(action) => return PolicyFact::Action(action),
                Err(error) => why = error.to_string(),
            }
        }
        let rule = ("smtpd_policy_service_try_limit", &config.main.smtpd_policy_service_try_limit.source);
        log.warning(&format!("problem talking to server {}: {why}", service.endpoint), Some(rule));
        PolicyFact::Unavailable(why)
    }

    /// A connection that may still be used.
    fn take(&self, service: &PolicyService) -> Option<Connection> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.get_mut(&service.endpoint)?;
        idle.retain(|connection| {
            connection.used.elapsed() < service.max_idle && connection.since.elapsed() < service.max_ttl
        });
        idle.pop()
    }

    async fn converse(&self, mut connection: Connection, service: &PolicyService, text: &str) -> io::Result<String> {
        let answer = tokio::time::timeout(service.timeout, exchange(&mut connection.stream, text)).await;
        let action = answer.unwrap_or_else(|_| Err(late()))?;
        connection.requests += 1;
        connection.used = Instant::now();
        if service.request_limit == 0 || connection.requests < service.request_limit {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = all.entry(service.endpoint.clone()).or_default();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        Ok(action)
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// The request as it goes over the wire: a line for each attribute, an empty one at the end.
fn text(request: &PolicyRequest) -> String {
    let mut text = String::new();
    for (name, value) in &request.attributes {
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    text.push('\n');
    text
}

async fn exchange(stream: &mut BufReader<Box<dyn Wire>>, text: &str) -> io::Result<String> {
    stream.get_mut().write_all(text.as_bytes()).await?;
    stream.get_mut().flush().await?;
    let mut answer = Answer::default();
    loop {
        let came = stream.fill_buf().await?;
        if came.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no complete answer"));
        }
        let (count, action) = (came.len(), answer.push(came).map_err(io::Error::other)?);
        stream.consume(count);
        if let Some(action) = action {
            return Ok(action);
        }
    }
}

/// Opens `inet:HOST:PORT`, `inet:PORT` or `unix:PATH`; a relative path begins at `queue_directory`.
async fn open(endpoint: &str, config: &Config) -> io::Result<Connection> {
    let (kind, place) = endpoint.split_once(':').unwrap_or(("", endpoint));
    let stream: Box<dyn Wire> = match kind {
        "inet" => {
            let (host, port) = place.rsplit_once(':').unwrap_or(("localhost", place));
            let port = config.port(port).ok_or_else(|| io::Error::other(format!("unknown port `{port}'")))?;
            let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        "unix" | "local" => {
            Box::new(UnixStream::connect(Path::new(config.main.queue_directory.as_str()).join(place)).await?)
        }
        other => return Err(io::Error::other(format!("`{other}:' is neither inet: nor unix:"))),
    };
    let now = Instant::now();
    Ok(Connection { stream: BufReader::new(stream), since: now, used: now, requests: 0 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_ends_with_an_empty_line() {
        let service = PolicyService {
            endpoint: "inet:127.0.0.1:1".to_owned(),
            timeout: Duration::from_secs(1),
            try_limit: 1,
            retry_delay: Duration::ZERO,
            request_limit: 0,
            max_idle: Duration::ZERO,
            max_ttl: Duration::ZERO,
        };
        let attributes = vec![("request", "smtpd_access_policy".to_owned()), ("sender", String::new())];
        assert_eq!(text(&PolicyRequest { service, attributes }), "request=smtpd_access_policy\nsender=\n\n");
    }
}
