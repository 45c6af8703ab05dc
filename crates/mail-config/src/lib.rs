//! main.cf, master.cf and dovecot.conf: parsers, parameters declared once, typed structs.
