//! Restrictions about the client's certificate. None is asked for, so nobody has one: they give no rights and judge nothing.

use crate::evaluate::Run;
use crate::facts::Missing;
use crate::verdict::Effect;

/// `permit_tls_clientcerts` and `permit_tls_all_clientcerts`.
pub(super) fn permit(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Neutral)
}

/// `check_ccert_access`.
pub(super) fn check(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Neutral)
}
