//! A mail client on another machine: 192.168.2.0/24, which is not in the page's mynetworks.

use std::net::Ipv4Addr;

use test_support::Machine;

/// The server's address in the clients' network.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 1);

/// One SMTP session; every reply is printed. The shell's own TCP needs nothing installed.
const SESSION: &str = r#"
exec 3<>/dev/tcp/192.168.2.1/25
say() { printf '%s\r\n' "$1" >&3; }
hear() { read -r line <&3; echo "$line"; }
hear
say "HELO client.example"; hear
say "MAIL FROM:<$1>"; hear
say "RCPT TO:<$2>"; hear
case "$line" in 250*)
    say DATA; hear
    say "Subject: $3"; say ""; say "$3"; say "."; hear
esac
say QUIT; hear
"#;

/// Another machine with this address, joined to the server by a cable.
pub struct Client(Machine);

impl Client {
    /// Lays the cable. It is gone when the client is dropped.
    pub fn join(server: &Machine, address: [u8; 4]) -> Result<Self, String> {
        let machine = Machine::new("client.example")?;
        server.connect(SERVER, &machine, Ipv4Addr::from(address))?;
        machine.wait_until("timeout 1 bash -c ': </dev/tcp/192.168.2.1/25'")?;
        Ok(Self(machine))
    }

    /// Sends a short message and gives what the server said.
    pub fn send(&self, from: &str, to: &str, text: &str) -> Result<String, String> {
        self.0.shell(&format!("timeout 60 bash -c '{}' sh '{from}' '{to}' '{text}'", SESSION.replace('\'', "'\\''")))
    }
}
