//! RFC 5322 and MIME structure, trace headers, texts of delivery status notifications.

pub mod dsn;
pub mod header;
pub mod mime;
