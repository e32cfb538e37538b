//! Why an answer cannot be used.

use thiserror::Error;

use crate::auth::TokenError;
use crate::codec::json::shallow::ReadError;
use crate::domain::call::CallFault;
use crate::domain::reasons::ClosingError;

/// What is wrong with an answer, as the end of a sentence that begins with what the answer is. It names members of the
/// answer, and holds no value of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum AnswerFault {
    /// It is no JSON object.
    #[error("it is not a JSON object in UTF-8")]
    NotJson,
    /// A member has the wrong type.
    #[error("`{member}` has the wrong type: expected {expected}")]
    WrongType {
        /// Which member.
        member: &'static str,
        /// The type that it must have.
        expected: &'static str,
    },
    /// A member is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A member is there twice.
    #[error("`{0}` is there twice")]
    Twice(&'static str),
    /// Two members say the same.
    #[error("`result.data` and `result.b64data` exclude each other: leave one out")]
    TwoKindsOfData,
    /// It is not base64.
    #[error("`result.b64data` is not in base64 (RFC 4648, section 4)")]
    NotBase64,
    /// It does not hold JSON.
    #[error("`result.b64data` does not hold JSON, so JSON clients could not be shown it")]
    HoldsNoJson,
    /// Data has too many levels.
    #[error("the data in `result` is nested deeper than {0} levels (limits.json_depth)")]
    TooDeep(usize),
    /// Data is too long.
    #[error("the data in `result` has {bytes} bytes: at most {most} are allowed (limits.publication_bytes)")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The greatest length.
        most: usize,
    },
    /// An error has no code.
    #[error(
        "`error.code` is 0, which means no error: from 1 to 4,294,967,295, of which applications have 400 to 1999"
    )]
    NoError,
    /// A client may not be closed so.
    #[error("`disconnect`: {0}")]
    Disconnect(ClosingError),
    /// What it says about the client cannot be used.
    #[error("`result`: {0}")]
    Client(#[from] TokenError),
}

impl AnswerFault {
    /// Why the object of that name could not be taken apart.
    pub(super) fn of_read(error: ReadError<Self>, member: &'static str) -> Self {
        match error {
            ReadError::Type => Self::WrongType { member, expected: "an object" },
            ReadError::Member(error) => error,
        }
    }
}

impl From<AnswerFault> for CallFault {
    fn from(fault: AnswerFault) -> Self {
        Self::Unreadable(fault.to_string().into())
    }
}
