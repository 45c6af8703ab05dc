//! Restrictions about the client's certificate. Its fingerprint proves who it is whoever issued it; its names only where an authority vouches for them.

use mail_config::main_cf::lists::TableRef;
use mail_tables::address::{Key, Search, search};

use super::Applied;
use crate::access::{Asking, Yes, ask, judge, record};
use crate::evaluate::Run;
use crate::facts::{Missing, Question};
use crate::input::Certificate;
use crate::replies::{Subject, lookup_failure};
use crate::verdict::Effect;

/// `permit_tls_clientcerts`: the fingerprint of the certificate, or of its key, stands in `relay_clientcerts`.
pub(super) fn permit_listed(run: &mut Run<'_>) -> Result<Effect, Missing> {
    match shown(run, "permit_tls_clientcerts") {
        Ok(certificate) => listed(run, &certificate),
        Err(effect) => Ok(effect),
    }
}

/// `permit_tls_all_clientcerts`: an authority vouches for the certificate; else as above.
pub(super) fn permit_trusted(run: &mut Run<'_>) -> Result<Effect, Missing> {
    match shown(run, "permit_tls_all_clientcerts") {
        Ok(certificate) if certificate.trusted => Ok(Effect::Permit),
        Ok(certificate) => listed(run, &certificate),
        Err(effect) => Ok(effect),
    }
}

/// `check_ccert_access`: the keys are the fingerprints.
pub(super) fn check(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let certificate = match shown(run, "check_ccert_access") {
        Ok(certificate) => certificate,
        Err(effect) => return Ok(effect.into()),
    };
    let subject = Subject { name: certificate.subject.to_owned(), class: "Client certificate" };
    match ask(run, table, &keys(&certificate))? {
        Asking::NotFound => Ok(Effect::Neutral.into()),
        answer => Ok(judge(run, answer, &subject, Yes::Counts)),
    }
}

/// The client's certificate; without one, what the rule comes to.
fn shown<'a>(run: &Run<'a>, rule: &str) -> Result<Certificate<'a>, Effect> {
    run.input.certificate.ok_or_else(|| match run.input.tls && !*run.plan.main.smtpd_tls_ask_ccert {
        true => Effect::Ignored(format!("{rule} is requested, but \"smtpd_tls_ask_ccert = no\"")),
        false => Effect::Neutral,
    })
}

fn keys(certificate: &Certificate<'_>) -> [Key; 2] {
    certificate.fingerprints.map(Key::full)
}

fn listed(run: &mut Run<'_>, certificate: &Certificate<'_>) -> Result<Effect, Missing> {
    let maps = &run.plan.main.relay_clientcerts;
    match search(maps, &keys(certificate), run.facts.tables(), run.facts.remote()) {
        Search::Found { found, .. } => {
            run.lookups.push(record(&found));
            Ok(Effect::Permit)
        }
        Search::NotFound => Ok(Effect::Neutral),
        Search::Temporary(why) => Ok(lookup_failure(certificate.fingerprints[0], why)),
        Search::Missing(query) => Err(Missing(Question::Table(query))),
    }
}
