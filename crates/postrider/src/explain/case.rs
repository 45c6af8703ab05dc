//! What is asked: a client, what it says, and who it is.

use std::net::IpAddr;

use serde::Serialize;

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The client's address.
    pub client: IpAddr,
    /// Its name, verified; none: DNS is asked, or it has none.
    pub name: Option<String>,
    /// What it says in EHLO.
    pub helo: String,
    /// What stands between the angle brackets of MAIL FROM; empty for the null sender.
    pub from: String,
    /// What stands between the angle brackets of RCPT TO.
    pub to: String,
    /// The login, which is supposed to succeed.
    pub auth: Option<String>,
    /// Whether the client uses STARTTLS.
    pub tls: bool,
    /// The listener, by its name in master.cf or its port; none: the one on port 25.
    pub service: Option<String>,
    /// The size that MAIL declares.
    pub size: Option<u64>,
}

impl Case {
    /// What is wrong with a value of a case: what would leave its command line.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        let fields = [("helo", &self.helo), ("from", &self.from), ("to", &self.to)];
        let optional = [("name", &self.name), ("auth", &self.auth), ("service", &self.service)];
        let all = fields.into_iter().chain(optional.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))));
        for (field, value) in all {
            if value.contains(['\r', '\n', '\0']) {
                return Err(format!("{field}: `{}' holds an end of line", super::text::shown(value)));
            }
        }
        if self.helo.trim().is_empty() {
            return Err("helo: a client says its name".to_owned());
        }
        Ok(())
    }
}

/// A path without its angle brackets, if it has them.
#[must_use]
pub fn bare(path: &str) -> String {
    let path = path.trim();
    let inside = path.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inside.unwrap_or(path).to_owned()
}

/// The address of a client, also as people write an IPv6 literal.
///
/// # Errors
/// A sentence.
pub fn client(text: &str) -> Result<IpAddr, String> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let inside = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map_or(inside, |_| &inside[5..]);
    let parsed: Result<IpAddr, _> = inside.parse();
    parsed
        .map(|address| address.to_canonical())
        .map_err(|_| format!("client: `{}' is no address", super::text::shown(text)))
}
