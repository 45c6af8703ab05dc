//! The user's page, row by row: its own files and commands, in a machine of the test's own, with its ports, users and resolv.conf.

mod client;
mod other;
mod row_03_main_cf;
mod row_07_access;
mod row_08_virtual_domain;
mod row_09_aliases;
mod row_10_mail_servers;
mod row_11_name_resolution;
mod row_12_mailq;
mod row_13_open_relay;
mod row_14_dovecot;
mod row_16_mail;
mod server;
mod strangers;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

const MACHINE: &[Need] = &[Need::Root, Need::NetworkNamespace];
const WITH_POSTFIX: &[Need] = &[Need::Root, Need::NetworkNamespace, Need::Program("postfix")];
const WITH_CURL: &[Need] = &[Need::Root, Need::NetworkNamespace, Need::Program("curl")];
const WITH_MAIL: &[Need] = &[Need::Root, Need::NetworkNamespace, Need::Program("bsd-mailx"), Need::Program("s-nail")];

fn main() -> ExitCode {
    run(vec![
        test("row 3: the page's main.cf starts the server, slips included", MACHINE, row_03_main_cf::starts),
        test(
            "row 3: strangers reach every name of the server, and nothing else",
            MACHINE,
            strangers::reach_every_name_of_the_server,
        ),
        test(
            "row 7: a network may send and one address of it may not",
            MACHINE,
            row_07_access::admits_a_network_and_refuses_an_address,
        ),
        test("row 8: strangers reach the virtual domain", WITH_POSTFIX, strangers::reach_the_virtual_domain),
        test("row 8: any address of a virtual domain is forwarded", WITH_POSTFIX, row_08_virtual_domain::is_forwarded),
        test("row 9: aliases reach users, lists and outside addresses", WITH_POSTFIX, row_09_aliases::reach_everyone),
        test(
            "row 10: mail goes to the best mail server that answers",
            WITH_POSTFIX,
            row_10_mail_servers::are_tried_in_order,
        ),
        test("row 11: mail waits while names cannot be resolved", WITH_POSTFIX, row_11_name_resolution::is_waited_for),
        test("row 12: mailq shows what waits and why", MACHINE, row_12_mailq::says_why),
        test("row 13: strangers cannot relay", MACHINE, row_13_open_relay::is_refused),
        test("row 14: the page's dovecot.conf serves system users", WITH_CURL, row_14_dovecot::serves),
        test("row 16: mail(1) sends and reads", WITH_MAIL, row_16_mail::sends_and_reads),
    ])
}
