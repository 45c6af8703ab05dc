//! What a DNS list says: whether the name exists, and why.

use mail_dns::Resolver;
use mail_policy::ListFact;

use crate::facts::is_temporary;

/// So many octets of a list's texts go into a reply.
const REASON_MAX: usize = 500;

/// Whether a list has a name.
pub(crate) async fn listed(dns: &Resolver, name: &str) -> ListFact {
    match dns.codes(name).await {
        Ok(codes) => ListFact::Listed { codes, reason: reason(dns, name).await },
        Err(error) if is_temporary(&error) => ListFact::Temporary,
        Err(_) => ListFact::NotListed,
    }
}

async fn reason(dns: &Resolver, name: &str) -> String {
    let mut reason = dns.texts(name).await.unwrap_or_default().join(" / ");
    let mut end = reason.len().min(REASON_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}
