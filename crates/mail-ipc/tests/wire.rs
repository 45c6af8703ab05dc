//! Every example of every version keeps decoding, and nothing of it is lost: what is written again holds all that was read.

use std::fs;
use std::path::Path;

use mail_ipc::{Frame, auth, control, delivery, deposit, hello, intake, lookup, mailbox, submit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn decode_all<T: DeserializeOwned + Serialize>(name: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire/1").join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&path).expect("the examples are there");
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}, line {}", number + 1);
        let frame: Frame<T> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
        let again = serde_json::to_value(&frame).expect("serialises");
        let before: Value = serde_json::from_str(line).expect("JSON");
        assert!(holds(&again, &before), "{place}: {again} lost something of {before}");
    }
    text.lines().count()
}

/// Whether everything in `small` stands in `large` too.
fn holds(large: &Value, small: &Value) -> bool {
    match (large, small) {
        (Value::Object(large), Value::Object(small)) => {
            small.iter().all(|(key, value)| large.get(key).is_some_and(|other| holds(other, value)))
        }
        (Value::Array(large), Value::Array(small)) => {
            large.len() == small.len() && large.iter().zip(small).all(|(one, other)| holds(one, other))
        }
        _ => large == small,
    }
}

#[test]
fn the_examples_of_version_1_decode() {
    assert_eq!(decode_all::<hello::Hello>("hello"), 1);
    assert_eq!(decode_all::<intake::Request>("intake-request"), 8);
    assert_eq!(decode_all::<intake::Response>("intake-response"), 9);
    assert_eq!(decode_all::<delivery::FromWorker>("delivery-from-worker"), 3);
    assert_eq!(decode_all::<delivery::ToWorker>("delivery-to-worker"), 4);
    assert_eq!(decode_all::<deposit::Request>("deposit-request"), 2);
    assert_eq!(decode_all::<deposit::Response>("deposit-response"), 2);
    assert_eq!(decode_all::<control::Request>("control-request"), 11);
    assert_eq!(decode_all::<control::Response>("control-response"), 9);
    assert_eq!(decode_all::<control::DaemonRequest>("daemon-request"), 3);
    assert_eq!(decode_all::<control::DaemonResponse>("daemon-response"), 3);
    assert_eq!(decode_all::<auth::Request>("auth-request"), 6);
    assert_eq!(decode_all::<auth::Response>("auth-response"), 9);
    assert_eq!(decode_all::<lookup::Request>("lookup-request"), 3);
    assert_eq!(decode_all::<lookup::Response>("lookup-response"), 6);
    assert_eq!(decode_all::<submit::Request>("submit-request"), 3);
    assert_eq!(decode_all::<submit::Response>("submit-response"), 3);
    assert_eq!(decode_all::<mailbox::Announcement>("mailbox"), 1);
}
