//! `sendmail -bs`: SMTP on standard input and output. Each transaction is handed in as a message of the caller's, so that the same rules hold
//! for it as for any other local submission; nobody is asked who may relay.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_config::Main;
use mail_smtp::Mailbox;
use mail_smtp::server::{Answer, Question, Server, Settings};
use mail_types::{Address, Domain, EnhancedStatus, Reply, ReplyCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use session::{Machine as _, Moment, Step};

use super::Door;
use super::options::Submission;
use super::submit::{self, Taken};
use crate::exit::{Failure, IO, Outcome};

/// Octets read at once.
const READ: usize = 16 * 1024;

/// What happens with a complete transaction.
trait Deposit {
    /// Hands the message in; the reply to the final dot.
    fn deposit(&mut self, submission: &Submission, recipients: &[String], content: &[u8]) -> Reply;
}

struct Submitter<'a>(&'a Door);

impl Deposit for Submitter<'_> {
    fn deposit(&mut self, submission: &Submission, recipients: &[String], content: &[u8]) -> Reply {
        match submit::to_smtpd(&self.0.state, submission, recipients, content) {
            Taken::Queued(id) => {
                Reply::new(ReplyCode::of(250), EnhancedStatus::of(2, 0, 0), format!("Ok: queued as {id}"))
            }
            Taken::Refused(reply) => reply,
            Taken::NotNow(_) => match super::drop_off(self.0, submission, recipients, content) {
                Ok(()) => Reply::new(ReplyCode::of(250), EnhancedStatus::of(2, 0, 0), "Ok: waits in maildrop"),
                Err(_) => Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), "Error: queue file write error"),
            },
        }
    }
}

/// Serves one session.
///
/// # Errors
/// Standard input or output fails.
pub(super) fn run(main: &Main, door: &Door) -> Outcome {
    let settings = Settings {
        hostname: main.myhostname.to_string(),
        banner: main.expanded("smtpd_banner").unwrap_or_default(),
        size_limit: *main.message_size_limit,
        // A submission carries no NOTIFY or ORCPT per recipient.
        discard_ehlo_keywords: vec!["DSN".to_owned()],
        ..Settings::default()
    };
    let deposit = Submitter(door);
    Dialogue::new(settings, deposit)
        .serve(&io::stdin().as_fd(), &mut io::stdout().lock())
        .map_err(|error| Failure::new(IO, error.to_string()))?;
    Ok(0)
}

struct Dialogue<D> {
    server: Server,
    deposit: D,
    begun: Instant,
    submission: Submission,
    recipients: Vec<String>,
    content: Vec<u8>,
}

impl<D: Deposit> Dialogue<D> {
    fn new(settings: Settings, deposit: D) -> Self {
        Self {
            server: Server::new(Arc::new(settings), false),
            deposit,
            begun: Instant::now(),
            submission: Submission::default(),
            recipients: Vec::new(),
            content: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn serve(&mut self, input: &BorrowedFd<'_>, output: &mut impl Write) -> io::Result<()> {
        let mut waiting: Vec<u8> = Vec::new();
        let mut open = true;
        loop {
            match self.server.next(self.now()) {
                Step::Send(bytes) => output.write_all(&bytes)?,
                Step::Ask(id, question) => {
                    if let Some(answer) = self.answer(question) {
                        self.server.answer(id, answer);
                    }
                }
                Step::Give(chunk) => self.content.extend(chunk),
                // STARTTLS is not offered here.
                Step::StartTls | Step::Close(_) => return output.flush(),
                Step::Wait => {
                    output.flush()?;
                    let taken = self.server.receive(&waiting);
                    waiting.drain(..taken);
                    if taken == 0 && open {
                        open = self.read(input, &mut waiting)?;
                    } else if taken == 0 {
                        return output.flush();
                    }
                }
            }
        }
    }

    /// Waits for input or the machine's deadline; false at the end of input.
    fn read(&mut self, input: &BorrowedFd<'_>, waiting: &mut Vec<u8>) -> io::Result<bool> {
        let timeout = self.server.deadline().map(|deadline| {
            let span = Duration::from_millis(deadline.0.saturating_sub(self.now().0) + 1);
            Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) }
        });
        // While the machine sleeps after errors it takes nothing; more is read only when the rest was taken.
        let flags = if waiting.is_empty() { PollFlags::IN } else { PollFlags::empty() };
        let mut watched = [PollFd::new(input, flags)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; READ];
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => {
                self.server.end_of_input();
                Ok(false)
            }
            Ok(count) => {
                waiting.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn answer(&mut self, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Note(_) => return None,
            Question::Mail(mail) => {
                self.forget();
                self.submission.sender = Some(mail.from.mailbox().map(written).unwrap_or_default());
                self.submission.dsn = mail.dsn;
                Answer::Accept
            }
            Question::Rcpt(rcpt) => {
                self.recipients.push(written(&rcpt.to));
                Answer::Accept
            }
            Question::EndOfData { .. } => {
                let message = super::message::take_header(&self.content);
                let reply = self.deposit.deposit(&self.submission, &self.recipients, &message.content);
                self.forget();
                Answer::Done(reply)
            }
            Question::Discard | Question::Reset => {
                self.forget();
                Answer::Accept
            }
            _ => Answer::Accept,
        })
    }

    fn forget(&mut self) {
        self.submission = Submission::default();
        self.recipients.clear();
        self.content.clear();
    }
}

/// A mailbox as it is written in a command, with quotes where they are needed.
fn written(mailbox: &Mailbox) -> String {
    let local = Domain::new("local").and_then(|stand_in| Address::new(&mailbox.local, stand_in));
    match (&mailbox.domain, local) {
        (Some(domain), _) => {
            Address::new(&mailbox.local, domain.clone()).map_or_else(|_| mailbox.to_string(), |a| a.to_string())
        }
        (None, Ok(address)) => address.to_string().trim_end_matches("@local").to_owned(),
        (None, Err(_)) => mailbox.local.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[derive(Default)]
    struct Kept(Vec<(Option<String>, Vec<String>, String)>);

    impl Deposit for &mut Kept {
        fn deposit(&mut self, submission: &Submission, recipients: &[String], content: &[u8]) -> Reply {
            let content = String::from_utf8_lossy(content).into_owned();
            self.0.push((submission.sender.clone(), recipients.to_vec(), content));
            Reply::new(ReplyCode::of(250), EnhancedStatus::of(2, 0, 0), "Ok: queued as X")
        }
    }

    fn talk(lines: &str) -> (String, Kept) {
        let (mut client, ours) = UnixStream::pair().expect("a pair");
        client.write_all(lines.as_bytes()).expect("small");
        client.shutdown(std::net::Shutdown::Write).expect("open");
        let (mut kept, mut output) = (Kept::default(), Vec::new());
        Dialogue::new(Settings::default(), &mut kept).serve(&ours.as_fd(), &mut output).expect("serves");
        (String::from_utf8(output).expect("text"), kept)
    }

    #[test]
    fn each_transaction_is_one_submission() {
        let (said, kept) = talk(
            "EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<\"x y\"@d.example>\r\nDATA\r\nBcc: z\r\nSubject: 1\r\n\r\n..dot\r\n.\r\n\
             MAIL FROM:<>\r\nRCPT TO:<john>\r\nDATA\r\n\r\nhi\r\n.\r\nQUIT\r\n",
        );
        let (first, second) = (&kept.0[0], &kept.0[1]);
        assert_eq!(first.0.as_deref(), Some("a@b.example"));
        assert_eq!(first.1, ["c@d.example", "\"x y\"@d.example"]);
        assert_eq!(first.2.replace('\r', ""), "Subject: 1\n\n.dot\n");
        assert_eq!((second.0.as_deref(), second.1.as_slice()), (Some(""), &["john".to_owned()][..]));
        assert!(said.ends_with("\r\n221 2.0.0 Bye\r\n"), "{said}");
        assert_eq!(said.matches("queued as X").count(), 2);
    }

    #[test]
    fn an_unfinished_transaction_is_forgotten() {
        let (_, kept) = talk("EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: 1\r\n");
        assert!(kept.0.is_empty());
    }
}
