//! Front, hand-over and session registry shared by imapd and pop3d.
