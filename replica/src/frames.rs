//! What travels between a node and the witness, and how bytes become questions and answers.
//!
//! A question and an answer are one frame each (little endian):
//!
//! ```text
//!   question  kind:1  id:8  knows:1  [number:8 | view:32]  [expected:8  view:32]
//!             1 read, 2 compare-and-set;  knows 0 nothing, 1 of a view by number, 2 the view
//!   answer    kind:1  id:8  [view:32]      1 current, 2 won, 3 lost, 4 not stored, 5 forgotten
//! ```
//! A view is absent where there is none. Each message has one form: whatever is read is written again with the same bytes.

use crate::protocol::{Answer, Request, RequestId, Testimony, View, ViewError};

/// A question to an arbiter, with what the asker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names it in the answer.
    pub id: RequestId,
    /// What the asker knows of the view by itself.
    pub testimony: Testimony,
    /// What it asks.
    pub request: Request,
}

/// The longest question: a compare-and-set.
pub const FRAME_BYTES_MAX: usize = 1 + 8 + 1 + View::BYTES + 8 + View::BYTES;

/// Why a frame makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No message of the kind has such a length.
    #[error("a frame of {bytes} bytes and kind {kind}")]
    Shape {
        /// What it says to be; 0 if it says nothing.
        kind: u8,
        /// Its length.
        bytes: usize,
    },
    /// What stands where a view should is none.
    #[error("not a view")]
    View(#[from] ViewError),
    /// It was not even asked.
    #[error("the witness and this node refused each other a moment ago")]
    RefusedBefore,
    /// Nothing is known of what the witness holds.
    #[error("the witness could not store the view")]
    NotStored,
    /// It belongs to another question.
    #[error("answer {found}, expected {expected}")]
    OtherAnswer {
        /// The question's number.
        expected: u64,
        /// The answer's.
        found: u64,
    },
}

/// The frame of a question.
pub fn encode_question(question: &Question) -> Vec<u8> {
    let Question { id, testimony, request } = question;
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    frame.push(match request {
        Request::Read => 1,
        Request::CompareAndSet { .. } => 2,
    });
    frame.extend(id.0.to_le_bytes());
    match testimony {
        Testimony::Nothing => frame.push(0),
        Testimony::Something(number) => {
            frame.push(1);
            frame.extend(number.to_le_bytes());
        }
        Testimony::Known(view) => {
            frame.push(2);
            frame.extend(view.to_bytes());
        }
    }
    if let Request::CompareAndSet { expected, view } = request {
        frame.extend(expected.to_le_bytes());
        frame.extend(view.to_bytes());
    }
    frame
}

/// The question of a frame.
///
/// # Errors
/// Whatever [`encode_question`] would not write.
pub fn decode_question(frame: &[u8]) -> Result<Question, FrameError> {
    let bad = || shape(frame);
    let (kind, id, rest) = split(frame)?;
    let (knows, rest) = rest.split_first().ok_or_else(bad)?;
    let (testimony, rest) = match knows {
        0 => (Testimony::Nothing, rest),
        1 => {
            let (number, rest) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
            (Testimony::Something(u64::from_le_bytes(*number)), rest)
        }
        2 => {
            let (view, rest) = rest.split_first_chunk::<{ View::BYTES }>().ok_or_else(bad)?;
            (Testimony::Known(View::from_bytes(view)?), rest)
        }
        _ => return Err(bad()),
    };
    let request = match (kind, rest.split_first_chunk::<8>()) {
        (1, None) if rest.is_empty() => Request::Read,
        (2, Some((expected, view))) => {
            let view = decode_view(kind, view)?.ok_or_else(bad)?;
            Request::CompareAndSet { expected: u64::from_le_bytes(*expected), view }
        }
        _ => return Err(bad()),
    };
    Ok(Question { id, testimony, request })
}

/// The frame of an answer. `None` says that the register could not be made durable: nothing is known of its content.
pub fn encode_answer(id: RequestId, answer: Option<&Answer>) -> Vec<u8> {
    let (kind, view) = match answer {
        Some(Answer::Current(view)) => (1, view.as_ref()),
        Some(Answer::Won(view)) => (2, Some(view)),
        Some(Answer::Lost(view)) => (3, view.as_ref()),
        Some(Answer::Forgotten) => (5, None),
        Some(Answer::NoAnswer) | None => (4, None),
    };
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    frame.push(kind);
    frame.extend(id.0.to_le_bytes());
    if let Some(view) = view {
        frame.extend(view.to_bytes());
    }
    frame
}

/// The answer of a frame, and the question that it answers.
///
/// # Errors
/// Whatever [`encode_answer`] would not write, and that the view was not stored.
pub fn decode_answer(frame: &[u8]) -> Result<(RequestId, Answer), FrameError> {
    let (kind, id, rest) = split(frame)?;
    let view = decode_view(kind, rest)?;
    match (kind, view) {
        (1, view) => Ok((id, Answer::Current(view))),
        (2, Some(view)) => Ok((id, Answer::Won(view))),
        (3, view) => Ok((id, Answer::Lost(view))),
        (4, None) => Err(FrameError::NotStored),
        (5, None) => Ok((id, Answer::Forgotten)),
        _ => Err(shape(frame)),
    }
}

fn split(frame: &[u8]) -> Result<(u8, RequestId, &[u8]), FrameError> {
    let Some(([kind, id @ ..], rest)) = frame.split_first_chunk::<9>() else {
        return Err(shape(frame));
    };
    Ok((*kind, RequestId(u64::from_le_bytes(*id)), rest))
}

fn decode_view(kind: u8, bytes: &[u8]) -> Result<Option<View>, FrameError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match bytes.try_into() {
        Ok(bytes) => Ok(Some(View::from_bytes(bytes)?)),
        Err(_) => Err(FrameError::Shape { kind, bytes: bytes.len() }),
    }
}

fn shape(frame: &[u8]) -> FrameError {
    FrameError::Shape { kind: frame.first().copied().unwrap_or(0), bytes: frame.len() }
}
