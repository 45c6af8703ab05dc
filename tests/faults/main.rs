//! Faults on the way out: real daemons of ours against a server of the tests that misbehaves on command, and a name server that lies. A module
//! holds the rows of one kind; names of tests follow the rows.

mod conversation;
mod envelope;
mod lmtp;
mod login;
mod names;
mod outcome;
mod tls;
mod world;

use std::process::ExitCode;

use test_support::harness::{main as run, test};

fn main() -> ExitCode {
    let tests = vec![
        // S25, S21, S14
        test(
            "a server that refuses for now, talks garbage, closes or is silent at any step: queued after one try, others are not held up",
            &[],
            conversation::queued_after_one_try,
        ),
        test(
            "a server that stops reading in the content holds nobody but its own message",
            &[],
            conversation::stalled_in_the_content,
        ),
        test(
            "a 554 greeting: the next server is tried, and without one the message waits",
            &[],
            conversation::unfriendly_greeting,
        ),
        test("a refused EHLO leads to HELO; enormous replies to EHLO cost little memory", &[], conversation::odd_ehlo),
        // S23
        test("replies are judged by the first digit, whatever stands in their lines", &[], conversation::odd_replies),
        test(
            "a refusal in the middle of the content is heard although the server closes at once",
            &[],
            conversation::early_refusal,
        ),
        // D03c, D04c, S13
        test(
            "550 at MAIL, RCPT, DATA and the dot, and a SIZE too small: one bounce with the remote's text and status",
            &[],
            outcome::one_bounce,
        ),
        // D03c
        test("RET decides how much of a message its bounce returns", &[], outcome::returned),
        // S14
        test(
            "closed or silent after the final dot: tried again, two copies and never a third",
            &[],
            outcome::two_copies,
        ),
        test("250 then a reset, QUIT unanswered, closed at RSET: delivered once", &[], outcome::delivered_once),
        // R7
        test("good, bad, later in one transaction: one copy, one bounce, one retry", &[], outcome::good_bad_later),
        test(
            "STARTTLS refused, garbage, closed or broken: in clear where TLS is opportunistic, queued where it is mandatory",
            &[],
            tls::broken,
        ),
        test("a self-signed certificate is good for encryption", &[], tls::self_signed),
        // T03, M05
        test("a TLS policy that asks for a certificate gets it, or the mail waits", &[], tls::policies),
        test("a relay host gets the login of its next hop, its name or the sender", &[], login::before_mail),
        test(
            "without a login that works nothing is sent, and no password is sent in clear or written down",
            &[],
            login::never_without,
        ),
        // S20, S21, M02
        test(
            "no such domain, no address, null MX, hostile names: bounced with the status of each",
            &[],
            names::bounced,
        ),
        // S20
        test("our own name among the servers cuts the list", &[], names::ourselves),
        // S21
        test("SERVFAIL, REFUSED, silence and loops of names: queued", &[], names::queued),
        // S20
        test("aliases, missing hosts, dead addresses and truncated answers: delivered", &[], names::delivered),
        // S24
        test("no bare CR or LF and no line over 998 octets leaves", &[], envelope::lines),
        // D01c
        test(
            "DSN parameters pass on to a server that knows them; to another, success becomes a relayed notice",
            &[],
            envelope::dsn,
        ),
        // E8, U01, U02
        test("8BITMIME and SMTPUTF8 are needed only by what needs them, and never left out", &[], envelope::eight_bits),
        // M06
        test(
            "a server's LIMITS are obeyed: so many recipients at once, so many messages in a session",
            &[],
            envelope::limits,
        ),
        // L02, R7
        test(
            "LMTP: a refusal for now requeues its recipient alone; with no recipient no content",
            &[],
            lmtp::per_recipient,
        ),
    ];
    let code = run(tests);
    world::end();
    code
}
