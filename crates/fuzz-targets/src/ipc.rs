//! Frames between our processes, and files of the maildrop directory.

use mail_ipc::frame::{Frame, FrameDecoder, FrameError, Raw, encode};
use mail_ipc::{auth, control, delivery, hello, intake, lookup, mailbox, maildrop, submit};
use serde_json::Value;

use crate::Target;

pub const FRAMES: Target = Target {
    name: "ipc_frames",
    run: frames,
    tokens: &[
        "{\"id\":1,\"body\":",
        "\"requires\":[\"x\"]",
        "{\"Submit\":{",
        "\"recipients\":[",
        "null",
        "true",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\u0000",
        "1e999",
        "18446744073709551615",
        "-1",
    ],
    cost: 1,
};

/// Packets make no difference, no frame is longer than its limit, and a message that is understood is written as one that is understood.
fn frames(input: &[u8]) {
    let whole = cut(input, usize::MAX);
    assert_eq!(cut(input, 1), whole, "packets make a difference");
    for raw in &whole.0 {
        let _ = raw.id();
        again::<hello::Hello>(raw);
        again::<submit::Request>(raw);
        again::<intake::Request>(raw);
        again::<delivery::FromWorker>(raw);
        again::<delivery::ToWorker>(raw);
        again::<auth::Request>(raw);
        again::<auth::Response>(raw);
        again::<lookup::Request>(raw);
        again::<control::Request>(raw);
        again::<control::DaemonRequest>(raw);
        again::<mailbox::Announcement>(raw);
    }
    if let Ok(Some(head)) = maildrop::head(input) {
        assert!(head.offset <= input.len() as u64);
    }
}

/// The frames, what is left, and what was wrong.
fn cut(input: &[u8], piece: usize) -> (Vec<Raw>, usize, Option<String>) {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in input.chunks(piece.min(input.len().max(1))) {
        decoder.push(piece);
        loop {
            match decoder.frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                // What comes after it is never read.
                Err(error @ (FrameError::TooLong(_) | FrameError::TooManyDescriptors(_))) => {
                    return (frames, 0, Some(error.to_string()));
                }
                Err(error) => panic!("cutting judges no content: {error}"),
            }
        }
    }
    (frames, decoder.buffered(), None)
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(raw: &Raw) {
    let Ok(frame) = raw.read::<T>(&[]) else { return };
    let value = serde_json::to_value(&frame.body).expect("a message is JSON");
    let mut out = Vec::new();
    if encode(&Frame::new(frame.id, frame.body), raw.descriptors.min(1), &mut out).is_err() {
        return;
    }
    let mut decoder = FrameDecoder::default();
    decoder.push(&out);
    let read = decoder.frame().expect("sound").expect("complete").read::<T>(&[]).expect("understood");
    assert_eq!(serde_json::to_value(&read.body).expect("a message is JSON"), value as Value);
}
