//! SMTP and LMTP: grammar, server machine, client machine.
