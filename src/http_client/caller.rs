//! Sends calls to backends, on a thread of its own.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::domain::call::{BackendAnswer, CallFault};

use super::body;
use super::error::RequestError;
use super::pool::Sender;
use super::target::{HttpTarget, cut_off};

/// Threads that look up hosts. More backends than these wait for each other's resolver if that hangs.
const LOOKUPS_MAX: usize = 8;

/// Bytes of an answer that is of no use and that are taken nevertheless, so that its connection can be kept.
const USELESS_BYTES_MAX: usize = 16 << 10;

/// How long a connection may take until it is ready for another request: the rest of an answer that is of no use included.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// Makes an answer of a body. It runs on the thread that sends calls: a large one takes milliseconds.
pub type Reader = Box<dyn FnOnce(&[u8]) -> Result<BackendAnswer, CallFault> + Send>;

/// A request to a backend.
pub struct HttpCall {
    /// By which its answer is known.
    pub number: u64,
    /// The backend.
    pub target: Arc<HttpTarget>,
    /// Headers of it. One may take the place of `user-agent`; its [own](crate::config::is_own_header) are left out.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// JSON.
    pub body: Vec<u8>,
    /// How long it may take, from the look-up of the host to the end of the answer.
    pub limit: Duration,
    /// What the body of an answer with status 200 means.
    pub read: Reader,
}

/// What became of a request.
pub struct HttpAnswer {
    /// The number of the call.
    pub number: u64,
    /// What an answer with status 200 says.
    pub outcome: Result<BackendAnswer, CallFault>,
}

/// Where calls are sent. Whoever sends them bounds how many are under way.
pub type CallSender = UnboundedSender<HttpCall>;

/// Where each call is answered once.
pub type AnswerReceiver = UnboundedReceiver<HttpAnswer>;

/// The work of the thread that sends calls.
#[derive(Debug)]
pub struct Caller {
    calls: UnboundedReceiver<HttpCall>,
    answers: UnboundedSender<HttpAnswer>,
}

/// A caller, and both ends of it.
#[must_use]
pub fn caller() -> (CallSender, AnswerReceiver, Caller) {
    let (call_sender, calls) = unbounded_channel();
    let (answers, answer_receiver) = unbounded_channel();
    (call_sender, answer_receiver, Caller { calls, answers })
}

impl Caller {
    /// Sends calls on the calling thread, all of them at the same time, until nobody can send one any more. Those that are
    /// under way then have no answer.
    ///
    /// # Errors
    /// The process has no descriptors left for an event loop.
    pub fn run(mut self) -> io::Result<()> {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(LOOKUPS_MAX).build()?;
        runtime.block_on(async {
            while let Some(call) = self.calls.recv().await {
                tokio::spawn(answer(call, self.answers.clone()));
            }
        });
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        Ok(())
    }
}

/// Sends a call, and tells what became of it.
async fn answer(call: HttpCall, answers: UnboundedSender<HttpAnswer>) {
    let HttpCall { number, target, headers, body, limit, read } = call;
    let exchange = timeout(limit, exchange(&target, &headers, body)).await;
    let (outcome, left) = match exchange.unwrap_or(Err(CallFault::Late)) {
        Ok((outcome, left)) => (outcome, Some(left)),
        Err(fault) => (Err(fault), None),
    };
    let outcome = outcome.and_then(|body| read(&body));
    // It fails when the engine stops, and nobody waits.
    let _ = answers.send(HttpAnswer { number, outcome });
    if let Some(left) = left
        && let Ok(Some(sender)) = timeout(READY_LIMIT, left.ready(&target)).await
    {
        target.keep(sender);
    }
}

/// An answer's body or its status, and the connection.
type Exchanged = (Result<Vec<u8>, CallFault>, Left);

async fn exchange(
    target: &HttpTarget,
    headers: &[(Box<str>, Box<[u8]>)],
    bytes: Vec<u8>,
) -> Result<Exchanged, CallFault> {
    let (answer, sender) = target.send(target.request(headers, bytes)).await?;
    let status = answer.status().as_u16();
    let mut answer = answer.into_body();
    if status != 200 {
        return Ok((Err(CallFault::Status(status)), Left { sender, useless: Some(answer) }));
    }
    let bytes = body(&mut answer, target.answer_bytes()).await.map_err(|error| match error {
        RequestError::Http(error) => cut_off(&error),
        _ => CallFault::TooLarge(target.answer_bytes()),
    })?;
    Ok((Ok(bytes), Left { sender, useless: None }))
}

/// A connection after an answer.
struct Left {
    sender: Sender,
    /// What is left of the answer.
    useless: Option<Incoming>,
}

impl Left {
    /// The connection, as soon as it takes another request. None if it takes none, or if too many take what is left.
    async fn ready(self, target: &HttpTarget) -> Option<Sender> {
        let Self { mut sender, useless } = self;
        if let Some(mut useless) = useless {
            let _permit = target.drain()?;
            body(&mut useless, USELESS_BYTES_MAX).await.ok()?;
        }
        sender.ready().await.ok().map(|()| sender)
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and body may hold secrets.
        let Self { number, target, .. } = self;
        f.debug_struct("HttpCall").field("number", number).field("target", target).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a backend says of a client may be secret.
        let fault = self.outcome.as_ref().err();
        f.debug_struct("HttpAnswer").field("number", &self.number).field("fault", &fault).finish()
    }
}
