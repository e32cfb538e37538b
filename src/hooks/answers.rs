//! What the answers of backends say.

use super::data::{Said, put, truth};
use super::fault::AnswerFault;
use crate::auth::{AnswerRules, ConnectionClaims, SubscriptionTerms};
use crate::codec::json::shallow::{self, ReadError};
use crate::config::Config;
use crate::domain::call::{
    BackendAnswer, BackendError, CallFault, CallKind, ConnectTerms, PublishTerms, Terms,
};
use crate::domain::reasons::Closing;

/// Reads answers, within the limits of a configuration. How many bytes an answer may have is its receiver's affair.
#[derive(Clone, Debug)]
pub struct Answers {
    rules: AnswerRules,
    json_depth: usize,
    publication_bytes: usize,
}

impl Answers {
    /// By `limits`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            rules: AnswerRules::new(config),
            json_depth: limits.json_depth,
            publication_bytes: limits.publication_bytes,
        }
    }

    /// What an answer says: the body of an HTTP answer with status 200, or that of an AMQP reply. For a message
    /// ([`CallKind::Send`]) it may be empty.
    ///
    /// It is an object with `result`, `error` or `disconnect`; the last one counts before the others. A member that is
    /// `null` is one that is not there. Without any, a client that connects is not known to the backend; what asked to stay
    /// ends; a request has the data `null`; and everything else is granted with nothing more.
    ///
    /// # Errors
    /// [`CallFault::Unreadable`], with a sentence that names the member, and shows no value.
    pub fn read(&self, kind: CallKind, body: &[u8]) -> Result<BackendAnswer, CallFault> {
        if kind == CallKind::Send && body.is_empty() {
            return Ok(BackendAnswer::Granted(Terms::Send));
        }
        Ok(self.answer(kind, body)?)
    }

    fn answer(&self, kind: CallKind, body: &[u8]) -> Result<BackendAnswer, AnswerFault> {
        let text = std::str::from_utf8(body).map_err(|_| AnswerFault::NotJson)?;
        let (mut result, mut error, mut disconnect) = (None, None, None);
        let read = shallow::members(text, |name, value| match &*name {
            _ if value == "null" => Ok(()),
            "result" => put(&mut result, "result", value),
            "error" => put(&mut error, "error", value),
            "disconnect" => put(&mut disconnect, "disconnect", value),
            _ => Ok(()),
        });
        read.map_err(|error| match error {
            ReadError::Type => AnswerFault::NotJson,
            ReadError::Member(error) => error,
        })?;
        match (disconnect, error) {
            (Some(json), _) => closing(json).map(BackendAnswer::Close),
            (None, Some(json)) => backend_error(json).map(BackendAnswer::Error),
            (None, None) => self.terms(kind, result).map(BackendAnswer::Granted),
        }
    }

    fn terms(&self, kind: CallKind, result: Option<&str>) -> Result<Terms, AnswerFault> {
        let said = result.map(Said::read).transpose()?.unwrap_or_default();
        // Nothing is said about a connection or a subscription that ends.
        let stays = result.filter(|_| !said.is_expired);
        Ok(match kind {
            CallKind::Rpc => {
                Terms::Rpc { data: said.data(self.json_depth)?.unwrap_or_else(|| b"null"[..].into()) }
            }
            CallKind::Send => Terms::Send,
            CallKind::Connect => Terms::Connect(match result {
                Some(json) => {
                    let claims = ConnectionClaims::answered(json, &self.rules)?.into();
                    Some(Box::new(ConnectTerms { claims, data: said.text(self.json_depth)? }))
                }
                None => None,
            }),
            CallKind::Refresh => {
                let claims = stays.map(|json| ConnectionClaims::answered(json, &self.rules));
                Terms::Refresh(claims.transpose()?.map(Box::new))
            }
            CallKind::Subscribe => {
                let terms = result.map_or_else(
                    || Ok(SubscriptionTerms::default()),
                    |json| SubscriptionTerms::answered(json, &self.rules),
                );
                let data = said.text(self.json_depth)?;
                Terms::Subscribe(Box::new(SubscriptionTerms { data, ..terms? }))
            }
            CallKind::RefreshSubscription => {
                let terms = stays.map(|json| SubscriptionTerms::answered(json, &self.rules));
                Terms::RefreshSubscription(terms.transpose()?.map(Box::new))
            }
            CallKind::Publish => Terms::Publish(self.publication(&said)?),
        })
    }

    fn publication(&self, said: &Said<'_>) -> Result<PublishTerms, AnswerFault> {
        let (data, most) = (said.data(self.json_depth)?, self.publication_bytes);
        match &data {
            Some(data) if data.len() > most => Err(AnswerFault::TooLong { bytes: data.len(), most }),
            _ => Ok(PublishTerms { data, skips_history: said.skips_history }),
        }
    }
}

fn backend_error(json: &str) -> Result<BackendError, AnswerFault> {
    let (mut code, mut message, mut temporary) = (None, None, None);
    let read = shallow::members(json, |name, value| match &*name {
        _ if value == "null" => Ok(()),
        "code" => put(&mut code, "error.code", number("error.code", value)?),
        "message" => put(&mut message, "error.message", text("error.message", value)?),
        "temporary" => put(&mut temporary, "error.temporary", truth("error.temporary", value)?),
        _ => Ok(()),
    });
    read.map_err(|error| AnswerFault::of_read(error, "error"))?;
    let code = code.ok_or(AnswerFault::Missing("error.code"))?;
    if code == 0 {
        return Err(AnswerFault::NoError);
    }
    Ok(BackendError { code, message: message.unwrap_or_default(), is_temporary: temporary == Some(true) })
}

fn closing(json: &str) -> Result<Closing, AnswerFault> {
    let (mut code, mut reason) = (None, None);
    let read = shallow::members(json, |name, value| match &*name {
        _ if value == "null" => Ok(()),
        "code" => put(&mut code, "disconnect.code", number("disconnect.code", value)?),
        "reason" => put(&mut reason, "disconnect.reason", text("disconnect.reason", value)?),
        _ => Ok(()),
    });
    read.map_err(|error| AnswerFault::of_read(error, "disconnect"))?;
    let code = code.ok_or(AnswerFault::Missing("disconnect.code"))?;
    Closing::with(code, &reason.unwrap_or_default()).map_err(AnswerFault::Disconnect)
}

fn number(member: &'static str, json: &str) -> Result<u32, AnswerFault> {
    let expected = "a whole number below 4,294,967,296";
    json.parse().map_err(|_| AnswerFault::WrongType { member, expected })
}

fn text(member: &'static str, json: &str) -> Result<Box<str>, AnswerFault> {
    let text = shallow::text(json).ok_or(AnswerFault::WrongType { member, expected: "text" })?;
    Ok(text.into())
}
