//! The common envelope: a little-endian u32 length, a u8 count of passed descriptors, one JSON object.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest JSON object of a frame in octets. Longer lists come in pages.
pub const LENGTH_MAX: usize = 256 * 1024;
/// Octets before the JSON object.
pub const HEAD: usize = 5;
/// The most descriptors that one frame passes.
pub const DESCRIPTORS_MAX: usize = 16;

/// A message with its number. A reply repeats the number of its request; what is sent without being asked has 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame<T> {
    /// The request's number.
    #[serde(default)]
    pub id: u64,
    /// What the reader must know to act on the message; an unknown entry is answered with `NotUnderstood`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The message.
    pub body: T,
}

impl<T> Frame<T> {
    /// A message with a number.
    pub fn new(id: u64, body: T) -> Self {
        Self { id, requires: Vec::new(), body }
    }
}

/// What is wrong with a frame. The conversation ends with any of them.
#[derive(Debug)]
pub enum FrameError {
    /// The object is longer than [`LENGTH_MAX`].
    TooLong(usize),
    /// More descriptors than [`DESCRIPTORS_MAX`].
    TooManyDescriptors(usize),
    /// The object is no JSON or not of the expected shape.
    Json(serde_json::Error),
    /// The frame requires something that this build does not know.
    Requires(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => write!(f, "frame of {length} octets is longer than {LENGTH_MAX}"),
            Self::TooManyDescriptors(count) => {
                write!(f, "frame passes {count} descriptors, more than {DESCRIPTORS_MAX}")
            }
            Self::Json(error) => write!(f, "frame is not understood: {error}"),
            Self::Requires(what) => write!(f, "frame requires {what:?}, which this version does not know"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Writes a frame to the end of `out`.
///
/// # Errors
/// [`FrameError::TooLong`] or [`FrameError::TooManyDescriptors`]; `out` is then as it was.
pub fn encode<T: Serialize>(frame: &Frame<T>, descriptors: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let count = u8::try_from(descriptors).ok().filter(|_| descriptors <= DESCRIPTORS_MAX);
    let count = count.ok_or(FrameError::TooManyDescriptors(descriptors))?;
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, count]);
    if let Err(error) = serde_json::to_writer(&mut *out, frame) {
        out.truncate(start);
        return Err(FrameError::Json(error));
    }
    let length = out.len() - start - HEAD;
    match u32::try_from(length) {
        Ok(short) if length <= LENGTH_MAX => {
            out[start..start + 4].copy_from_slice(&short.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLong(length))
        }
    }
}

/// A frame as it came: its JSON and how many descriptors belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// The JSON object.
    pub json: Vec<u8>,
    /// How many descriptors the frame passes.
    pub descriptors: usize,
}

impl Raw {
    /// Reads the message; `known` lists what this reader understands beside the version.
    ///
    /// # Errors
    /// [`FrameError::Json`] or [`FrameError::Requires`].
    pub fn read<T: DeserializeOwned>(&self, known: &[&str]) -> Result<Frame<T>, FrameError> {
        #[derive(Deserialize)]
        struct Needs {
            #[serde(default)]
            requires: Vec<String>,
        }
        let frame: Result<Frame<T>, _> = serde_json::from_slice(&self.json);
        let requires = match &frame {
            Ok(frame) => frame.requires.clone(),
            Err(_) => serde_json::from_slice::<Needs>(&self.json).map(|needs| needs.requires).unwrap_or_default(),
        };
        if let Some(unknown) = requires.into_iter().find(|entry| !known.contains(&entry.as_str())) {
            return Err(FrameError::Requires(unknown));
        }
        frame.map_err(FrameError::Json)
    }

    /// The request's number, even where the message itself is not understood; for the answer `NotUnderstood`.
    #[must_use]
    pub fn id(&self) -> u64 {
        // As every build of ours writes it; JSON allows other orders.
        if let Some(rest) = self.json.strip_prefix(br#"{"id":"#) {
            let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
            let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
            if let (Some(number), Some(b',')) = (number, rest.get(digits)) {
                return number;
            }
        }
        #[derive(Deserialize)]
        struct Number {
            #[serde(default)]
            id: u64,
        }
        serde_json::from_slice::<Number>(&self.json).map_or(0, |number| number.id)
    }
}

/// Cuts a stream of octets into frames and the content between them.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Takes octets as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Octets that were pushed and not taken.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The next frame, if all of it is here.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] or [`FrameError::TooManyDescriptors`], known from the first five octets.
    pub fn frame(&mut self) -> Result<Option<Raw>, FrameError> {
        let waiting = &self.bytes[self.start..];
        let Some((&[a, b, c, d, count], rest)) = waiting.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let descriptors = usize::from(count);
        if length > LENGTH_MAX {
            return Err(FrameError::TooLong(length));
        }
        if descriptors > DESCRIPTORS_MAX {
            return Err(FrameError::TooManyDescriptors(descriptors));
        }
        let Some(json) = rest.get(..length) else {
            return Ok(None);
        };
        let raw = Raw { json: json.to_vec(), descriptors };
        self.start += HEAD + length;
        Ok(Some(raw))
    }

    /// Takes up to `count` octets of content that follow a frame; the caller asks again for what is missing.
    pub fn content(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.buffered());
        let content = self.bytes[self.start..self.start + count].to_vec();
        self.start += count;
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_any_cutting() {
        let mut wire = Vec::new();
        encode(&Frame::new(7, "hello".to_owned()), 2, &mut wire).expect("short");
        wire.extend_from_slice(b"content");
        encode(&Frame::new(8, "again".to_owned()), 0, &mut wire).expect("short");
        for piece in 1..wire.len() {
            let mut decoder = FrameDecoder::default();
            let (mut frames, mut content) = (Vec::new(), Vec::new());
            for chunk in wire.chunks(piece) {
                decoder.push(chunk);
                if frames.is_empty() {
                    frames.extend(decoder.frame().expect("good"));
                }
                if frames.len() == 1 && content.len() < 7 {
                    content.extend(decoder.content(7 - content.len()));
                }
                if content.len() == 7 {
                    frames.extend(decoder.frame().expect("good"));
                }
            }
            assert_eq!(content, b"content");
            let texts: Vec<String> = frames.iter().map(|f| f.read::<String>(&[]).expect("good").body).collect();
            assert_eq!(texts, ["hello", "again"]);
            assert_eq!(frames[0].descriptors, 2);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_stored() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0xff, 0xff, 0xff, 0xff, 0]);
        assert!(matches!(decoder.frame(), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn what_a_frame_requires_must_be_known() {
        let raw = Raw { json: br#"{"id":3,"requires":["colour"],"body":{"New":1}}"#.to_vec(), descriptors: 0 };
        assert!(matches!(raw.read::<String>(&[]), Err(FrameError::Requires(what)) if what == "colour"));
        assert_eq!(raw.id(), 3);
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut decoder = FrameDecoder::default();
            decoder.push(&bytes);
            while let Ok(Some(raw)) = decoder.frame() {
                let _ = raw.read::<crate::delivery::FromWorker>(&[]);
            }
        }
    }
}
