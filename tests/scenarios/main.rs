//! Stories of the whole system on the real binaries: one file, one story.

mod a_client_has_so_many_tls_sessions;
mod a_forwarding_loop_ends_at_once;
mod a_policy_service_greylists;
mod a_reload_is_refused_by_its_cases;
mod a_table_of_root_s_alone_routes_mail;
mod a_taken_over_process_reaches_nothing;
mod a_transport_has_so_many_processes;
mod a_user_submits_and_reads;
mod access_tables_act_on_messages;
mod an_address_is_verified_before_its_mail_is_taken;
mod an_orderly_stop_finishes_what_is_under_way;
mod each_connection_sees_its_own_settings;
mod etrn_is_for_our_relay_domains;
mod every_process_is_the_user_it_should_be;
mod explain_and_the_daemons_agree;
mod mail_waits_while_the_relay_host_is_down;
mod one_slow_mailbox_holds_up_no_other;
mod sendmail_asks_what_would_become_of_mail;
mod systemd_runs_the_target;
mod tables_are_asked_and_change;
mod two_workers_share_the_work;

use std::process::ExitCode;

use test_support::harness::{Need, main as run, test};

/// postgrey becomes another user.
const WITH_POSTGREY: &[Need] = &[Need::Root, Need::Program("postgrey")];
const WITH_OPENSSL: &[Need] = &[Need::Program("openssl")];
const MACHINE: &[Need] = &[Need::Root, Need::NetworkNamespace];

fn main() -> ExitCode {
    run(vec![
        // R9
        test(
            "started as root, every process is the user it should be",
            MACHINE,
            every_process_is_the_user_it_should_be::story,
        ),
        // R9
        test(
            "a table that only root may read routes mail",
            MACHINE,
            a_table_of_root_s_alone_routes_mail::and_mail_moves,
        ),
        // R9
        test(
            "a process that was taken over reaches no mailbox, no queue and no key",
            MACHINE,
            a_taken_over_process_reaches_nothing::of_root_s_system,
        ),
        // R9
        test(
            "without root the sandbox alone keeps a process that was taken over from mail and queue",
            &[],
            a_taken_over_process_reaches_nothing::of_a_system_without_root,
        ),
        test(
            "HOLD, DISCARD, REDIRECT, BCC and PREPEND are carried out on the message",
            &[],
            access_tables_act_on_messages::and_the_mailbox_shows_it,
        ),
        test(
            "each connection sees the settings of its addresses and of the name it asks for",
            WITH_OPENSSL,
            each_connection_sees_its_own_settings::by_its_addresses_and_the_name_it_asks_for,
        ),
        // M04
        test("ETRN is for our relay domains alone", &[], etrn_is_for_our_relay_domains::alone),
        test(
            "a real policy service defers the first attempt and marks the second",
            WITH_POSTGREY,
            a_policy_service_greylists::and_mail_comes_at_the_second_attempt,
        ),
        test("mail waits while the relay host is down", &[], mail_waits_while_the_relay_host_is_down::and_then_goes_on),
        test(
            "a recipient is verified by a probe, once, and known after a restart",
            &[],
            an_address_is_verified_before_its_mail_is_taken::of_a_recipient,
        ),
        test(
            "a sender is verified by a probe from the null sender",
            &[],
            an_address_is_verified_before_its_mail_is_taken::of_a_sender,
        ),
        test(
            "an address whose server does not answer is unverified for now",
            &[],
            an_address_is_verified_before_its_mail_is_taken::when_its_server_does_not_answer,
        ),
        test(
            "sendmail -bv: the sender hears what would become of each recipient, and nothing is delivered",
            &[],
            sendmail_asks_what_would_become_of_mail::and_nothing_is_delivered,
        ),
        test(
            "sendmail -v: the mail arrives, and the sender hears of its first attempt",
            &[],
            sendmail_asks_what_would_become_of_mail::and_a_traced_message_arrives,
        ),
        // S16. Attack class: loops
        test("a forwarding loop ends at once", &[], a_forwarding_loop_ends_at_once::with_one_bounce),
        // R6
        test(
            "smtpd that is asked to stop takes the message that is coming in, and tells who waits",
            &[],
            an_orderly_stop_finishes_what_is_under_way::of_smtpd,
        ),
        // R6, I29
        test(
            "imapd that is asked to stop completes the command under way, and says goodbye",
            &[],
            an_orderly_stop_finishes_what_is_under_way::of_imapd,
        ),
        // R6
        test(
            "remote-delivery that is asked to stop hears the answer to the message under way",
            &[],
            an_orderly_stop_finishes_what_is_under_way::of_remote_delivery,
        ),
        // R6
        test(
            "systemd starts, watches, reloads and stops what is installed",
            &[Need::Root, Need::NetworkNamespace, Need::Systemd],
            systemd_runs_the_target::after_an_installation,
        ),
        test(
            "a transport has as many deliveries at once as master.cf says, for each worker",
            &[],
            a_transport_has_so_many_processes::for_each_worker,
        ),
        test(
            "with one recipient per delivery, a slow mailbox holds up no other of its domain",
            &[],
            one_slow_mailbox_holds_up_no_other::of_its_domain,
        ),
        // S14, R6
        test("two workers share the work, and one may die", &[], two_workers_share_the_work::and_one_may_die),
        test(
            "explain and the daemons agree in reply and place",
            &[],
            explain_and_the_daemons_agree::in_reply_and_place,
        ),
        test(
            "a reload after which a case fails is refused",
            &[],
            a_reload_is_refused_by_its_cases::and_nothing_changes,
        ),
        test(
            "tables are asked by servers, and what they cannot say defers",
            &[Need::Program("sqlite3")],
            tables_are_asked_and_change::by_servers,
        ),
        test(
            "tables of servers are asked about clients, command lines and refusals too",
            &[],
            tables_are_asked_and_change::at_the_door,
        ),
        test(
            "tables of servers are asked for the lists of clients, domains and words",
            &[],
            tables_are_asked_and_change::for_lists,
        ),
        test("a client has so many TLS sessions", &[], a_client_has_so_many_tls_sessions::then_it_hears_421),
        test("tables change by themselves, and a broken one defers", &[], tables_are_asked_and_change::by_themselves),
        test("a user submits mail and reads it", &[], a_user_submits_and_reads::with_their_password_only),
    ])
}
