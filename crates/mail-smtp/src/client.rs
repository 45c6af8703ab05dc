//! The client machine: SMTP and LMTP, from the greeting to QUIT.
