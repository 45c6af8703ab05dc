//! Password schemes, user databases and SASL mechanisms.
