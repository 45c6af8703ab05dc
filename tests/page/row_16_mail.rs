//! `echo "Test message" | mail -s "Test subject" root@info.net`, and `mail` reads it: an mbox in /var/mail and a Maildir.

use crate::server;

pub fn sends_and_reads() -> Result<(), String> {
    for mail in ["bsd-mailx", "s-nail"] {
        let machine = server::machine("")?;
        machine.write("/etc/aliases", "root: john\n")?;
        server::start(&machine)?;
        machine.shell(&format!("echo 'Test message' | {mail} -s 'Test subject' root@info.net"))?;
        server::arrives(&machine, "john", "Test subject", 1)?;
        // s-nail reads a Maildir; with the page's home_mailbox gone, mail goes to the mbox that mail(1) reads by itself.
        let read = machine.shell("su -s /bin/sh john -c 'echo p | s-nail -N -f /home/john/Maildir'")?;
        server::holds(&machine, &read, &["Test message"])?;
        machine.shell("sed -i '/^home_mailbox/d' /etc/postfix/main.cf")?;
        server::ours(&machine, "postfix reload")?;
        machine.shell(&format!("echo 'Second message' | {mail} -s 'Second subject' john"))?;
        machine
            .wait_until("grep 'Second message' /var/mail/john")
            .map_err(|error| format!("{error}\n{}", server::logs(&machine)))?;
        let read = machine.shell(&format!("su -s /bin/sh john -c 'echo p | {mail} -N'"))?;
        server::holds(&machine, &read, &["Second message"])?;
    }
    Ok(())
}
