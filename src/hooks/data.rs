//! What a result says besides what it says of the client: data, and truth values.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::fault::AnswerFault;
use crate::codec::json::checker::too_deep;
use crate::codec::json::shallow;
use crate::codec::json::text::embed;

/// Encoders differ in whether they pad; what is meant is the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The members of a result that are about the answer. Those about the client are passed over here.
#[derive(Default)]
pub(super) struct Said<'a> {
    plain: Option<&'a str>,
    base64: Option<&'a str>,
    /// Whether the connection or the subscription is to end.
    pub(super) is_expired: bool,
    /// Whether the publication is not kept.
    pub(super) skips_history: bool,
}

impl<'a> Said<'a> {
    /// Takes a result apart. It is valid JSON.
    pub(super) fn read(result: &'a str) -> Result<Self, AnswerFault> {
        let mut said = Self::default();
        let (mut expired, mut skips_history) = (None, None);
        let read = shallow::members(result, |name, value| match &*name {
            // `null` is data as well.
            "data" => put(&mut said.plain, "result.data", value),
            _ if value == "null" => Ok(()),
            "b64data" if value != "\"\"" => put(&mut said.base64, "result.b64data", value),
            "expired" => put(&mut expired, "result.expired", truth("result.expired", value)?),
            "skip_history" => {
                let member = "result.skip_history";
                put(&mut skips_history, member, truth(member, value)?)
            }
            _ => Ok(()),
        });
        read.map_err(|error| AnswerFault::of_read(error, "result"))?;
        (said.is_expired, said.skips_history) = (expired == Some(true), skips_history == Some(true));
        Ok(said)
    }

    /// The data, without line breaks. `None`: there is none.
    pub(super) fn data(&self, depth_max: usize) -> Result<Option<Box<[u8]>>, AnswerFault> {
        let decoded;
        let json = match (self.plain, self.base64) {
            (None | Some("null"), Some(encoded)) => {
                decoded = from_base64(encoded)?;
                &decoded
            }
            (Some(_), Some(_)) => return Err(AnswerFault::TwoKindsOfData),
            (Some(json), None) => json,
            (None, None) => return Ok(None),
        };
        if too_deep(json.as_bytes(), depth_max) {
            return Err(AnswerFault::TooDeep(depth_max));
        }
        let mut line = Vec::with_capacity(json.len());
        embed(&mut line, json.as_bytes());
        Ok(Some(line.into()))
    }

    /// The data as text. `null` is none.
    pub(super) fn text(&self, depth_max: usize) -> Result<Option<Box<str>>, AnswerFault> {
        let data = self.data(depth_max)?.filter(|data| **data != *b"null");
        Ok(data.map(|data| String::from_utf8(data.into()).expect("it was made of text").into()))
    }
}

fn from_base64(json: &str) -> Result<String, AnswerFault> {
    let wrong_type = AnswerFault::WrongType { member: "result.b64data", expected: "text" };
    let encoded = shallow::text(json).ok_or(wrong_type)?;
    let bytes = BASE64.decode(&*encoded).map_err(|_| AnswerFault::NotBase64)?;
    let text = String::from_utf8(bytes).ok().filter(|text| shallow::is_json(text));
    text.ok_or(AnswerFault::HoldsNoJson)
}

/// A member that may be there once.
pub(super) fn put<T>(slot: &mut Option<T>, member: &'static str, value: T) -> Result<(), AnswerFault> {
    match slot.replace(value) {
        Some(_) => Err(AnswerFault::Twice(member)),
        None => Ok(()),
    }
}

pub(super) fn truth(member: &'static str, json: &str) -> Result<bool, AnswerFault> {
    shallow::truth(json).ok_or(AnswerFault::WrongType { member, expected: "true or false" })
}
