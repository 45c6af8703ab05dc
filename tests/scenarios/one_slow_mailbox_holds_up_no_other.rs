//! Behind an LMTP server with `NAME_destination_recipient_limit = 1` the concurrency limit is each recipient's (qmgr(8)): whoever gets much mail, or whose
//! mailbox is slow, leaves the others of the same domain their turn.

use test_support::clients::{Security, Smtp};
use test_support::remote::{Act, At, Setup};
use test_support::{Builder, Patience, free_port, wait_for};

/// More than the limit and its initial value.
const MESSAGES: usize = 7;

pub fn of_its_domain() -> Result<(), String> {
    let port = free_port(std::net::Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let boxes = Setup::new("boxes.example").lmtp().start(address).map_err(|error| error.to_string())?;
    boxes.about("stuck@", At::Rcpt, Act::Wait);
    let main_cf = format!(
        "virtual_mailbox_domains = boxes.example\nvirtual_mailbox_maps = static:x\nvirtual_transport = one:inet:127.0.0.1:{port}\n\
         one_destination_recipient_limit = 1\none_destination_concurrency_limit = 2\none_initial_destination_concurrency = 2\n\
         mynetworks = 127.0.0.0/8"
    );
    let system = Builder::new("a.example").main_cf(&main_cf).master_cf("one unix - - n - - lmtp").start()?;
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear).map_err(|e| e.to_string())?;
    let mut send = |to: &str| {
        let sent = smtp.send("x@a.example", &[to], "Subject: boxes\r\n\r\nhello");
        sent.map(drop).map_err(|error| error.to_string())
    };
    (0..MESSAGES).try_for_each(|_| send("stuck@boxes.example"))?;
    let waiting = || boxes.heard().iter().filter(|line| line.contains("RCPT TO:<stuck@")).count();
    let patience = Patience::default();
    wait_for("two deliveries to the slow mailbox", patience, || (waiting() >= 2).then_some(()))?;
    send("free@boxes.example")?;
    send("other@boxes.example")?;
    let taken = |name: &str| boxes.taken().iter().filter(|mail| mail.to.iter().any(|to| to.contains(name))).count();
    wait_for("the others' mail", patience, || (taken("free@") == 1 && taken("other@") == 1).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))?;
    if waiting() > 2 {
        return Err(format!("{} deliveries at once to one recipient", waiting()));
    }
    boxes.heal();
    wait_for("the slow mailbox's mail", patience, || (taken("stuck@") == MESSAGES).then_some(()))
        .map_err(|error| format!("{error}\n{}", system.logs()))
}
