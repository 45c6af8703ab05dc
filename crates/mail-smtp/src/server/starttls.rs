//! STARTTLS (RFC 3207).

use super::{Phase, Server, Tls, reply};

pub(super) fn starttls(server: &mut Server, arguments: &str) {
    if !arguments.is_empty() {
        return server.finish(&reply(501, (5, 5, 4), "Syntax: STARTTLS"));
    }
    if server.session.tls {
        return server.finish(&reply(554, (5, 5, 1), "Error: TLS already active"));
    }
    if server.settings.tls == Tls::Off || server.discards("STARTTLS") {
        return server.finish(&reply(502, (5, 5, 1), "Error: command not implemented"));
    }
    if !server.settings.tls_ready {
        return server.finish(&reply(454, (4, 7, 0), "TLS not available due to local problem"));
    }
    // T01, CVE-2011-0411: whatever was pipelined behind STARTTLS is thrown away.
    server.input.clear();
    server.finish(&reply(220, (2, 0, 0), "Ready to start TLS"));
    server.enter(Phase::BeforeTls);
}
