//! Files in `maildrop/`: what `postdrop` writes while smtpd cannot be reached, and smtpd picks up later.
//!
//! A file holds the octets that `sendmail` would have sent on `submit.sock` after the hello: one [`Request::Submit`] frame, a
//! [`Request::Recipients`] frame for each further page, then exactly `length` octets of content. The submitter is the file's owner.
//! A file is complete when its owner may execute it ([`COMPLETE`]); one that is not is being written, or was left by a crash.
//! Who picks it up removes it after the queue has answered Accepted or refused for ever (with a bounce), and leaves it otherwise.

use crate::frame::{FrameDecoder, FrameError};
use crate::submit::Request;

/// The directory below the state directory; mode 0730, owned by smtpd's user and the group `postdrop`.
pub const DIRECTORY: &str = "maildrop";
/// The mode of the directory.
pub const DIRECTORY_MODE: u32 = 0o730;
/// The mode of a file that is being written.
pub const INCOMPLETE: u32 = 0o600;
/// The mode of a complete file; the directory keeps everyone but smtpd and the group from reaching it.
pub const COMPLETE: u32 = 0o744;
/// The most frames before the content.
const FRAMES_MAX: usize = 10_000;

/// What stands before the content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The submission with the recipients of all pages, as one request.
    pub submission: Request,
    /// Octets of the file before the content.
    pub offset: u64,
    /// Octets of content.
    pub length: u64,
}

/// Reads what stands before the content; none if `start` does not yet hold all of it.
///
/// # Errors
/// Frames that are none, or of another kind. The file will never be good.
pub fn head(start: &[u8]) -> Result<Option<Head>, FrameError> {
    let mut decoder = FrameDecoder::default();
    decoder.push(start);
    let mut whole: Option<Request> = None;
    for _ in 0..FRAMES_MAX {
        let Some(raw) = decoder.frame()? else { return Ok(None) };
        let more = match (raw.read::<Request>(&[])?.body, &mut whole) {
            (submit @ Request::Submit { more_recipients, .. }, None) => {
                whole = Some(submit);
                more_recipients
            }
            (Request::Recipients { recipients: page, more }, Some(Request::Submit { recipients, .. })) => {
                recipients.extend(page);
                more
            }
            _ => return Err(FrameError::Json(serde::de::Error::custom("not a submission"))),
        };
        if let (false, Some(Request::Submit { more_recipients, length, .. })) = (more, &mut whole) {
            *more_recipients = false;
            let length = *length;
            let offset = (start.len() - decoder.buffered()) as u64;
            return Ok(whole.map(|submission| Head { submission, offset, length }));
        }
    }
    Err(FrameError::Json(serde::de::Error::custom("too many pages of recipients")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, encode};

    fn submit(recipients: &[&str], more_recipients: bool) -> Request {
        Request::Submit {
            sender: Some("a@b".into()),
            full_name: None,
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            more_recipients,
            dsn: mail_types::DsnOptions::default(),
            notify: None,
            purpose: mail_types::Purpose::Verify,
            length: 5,
        }
    }

    #[test]
    fn pages_of_recipients_become_one_submission() {
        let mut file = Vec::new();
        encode(&Frame::new(1, submit(&["c@d"], true)), 0, &mut file).expect("short");
        let page = Request::Recipients { recipients: vec!["e@f".into()], more: false };
        encode(&Frame::new(1, page), 0, &mut file).expect("short");
        let offset = file.len() as u64;
        for end in 0..file.len() {
            assert_eq!(head(&file[..end]).expect("so far good"), None);
        }
        file.extend_from_slice(b"hello");
        let expected = Head { submission: submit(&["c@d", "e@f"], false), offset, length: 5 };
        assert_eq!(head(&file).expect("good"), Some(expected));
    }

    #[test]
    fn a_file_that_begins_with_something_else_is_refused() {
        let mut file = Vec::new();
        encode(&Frame::new(1, Request::Recipients { recipients: vec![], more: false }), 0, &mut file).expect("short");
        assert!(head(&file).is_err());
        assert!(head(b"\xff\xff\xff\xff\x00 not a frame").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = head(&bytes);
        }
    }
}
