//! tokio and rustls: listeners, TLS, drivers of session machines and of our own conversations.
