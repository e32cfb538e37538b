//! What a status of HTTP means.

use super::fault::AnswerFault;
use crate::config::{StatusDisconnect, StatusError, StatusRule};
use crate::domain::call::{BackendAnswer, BackendError, CallFault};
use crate::domain::reasons::Closing;

/// What an answer with a status other than 200 means, by the backend's rules, which are valid. Its body is not looked at.
///
/// # Errors
/// There is no rule for the status: the call has failed.
pub fn of_status(rules: &[StatusRule], status: u16) -> Result<BackendAnswer, CallFault> {
    let rule = rules.iter().find(|rule| rule.status == status).ok_or(CallFault::Status(status))?;
    if let Some(StatusDisconnect { code, reason }) = &rule.disconnect {
        let closing = Closing::with((*code).into(), reason).map_err(AnswerFault::Disconnect)?;
        return Ok(BackendAnswer::Close(closing));
    }
    let StatusError { code, message, temporary } = rule.error.as_ref().ok_or(CallFault::Status(status))?;
    Ok(BackendAnswer::Error(BackendError {
        code: *code,
        message: message.as_str().into(),
        is_temporary: *temporary,
    }))
}
