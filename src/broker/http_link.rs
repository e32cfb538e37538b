//! The broker thread's end of the way to the thread that sends calls by HTTP.

use std::future::pending;

use crate::http_client::{AnswerReceiver, CallSender, HttpAnswer, HttpTargets};

/// The way to the thread that sends calls by HTTP.
#[derive(Debug)]
pub struct HttpLink {
    /// Takes calls.
    pub calls: CallSender,
    /// Has their answers.
    pub answers: AnswerReceiver,
    /// Where calls are sent.
    pub targets: HttpTargets,
}

impl HttpLink {
    /// Waits for the next answer. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> HttpAnswer {
        match self.answers.recv().await {
            Some(answer) => answer,
            // The thread has ended, and so the engine does.
            None => pending().await,
        }
    }
}
