//! SMTP and LMTP client: MX, connection reuse.
