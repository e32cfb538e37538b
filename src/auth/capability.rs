//! What a token allows its client, whatever the namespace says: the claim `caps`.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::error::{PatternError, TokenError};
use super::fields::{self, Rules, missing, put, text, wrong_type};
use crate::codec::json::shallow;

/// Expressions of one token, or of one answer of a backend. Each is compiled when the token is verified, on a shard, or when
/// the answer is read: by HTTP on the thread that sends calls, and by AMQP on the broker thread.
const EXPRESSIONS_MAX: usize = 16;
/// Bytes of one expression.
const EXPRESSION_BYTES_MAX: usize = 256;
/// Bytes of a compiled expression. `[a-z]{1,64}` needs 4 KiB, `\w{1,64}` is too much.
const COMPILED_BYTES_MAX: usize = 64 << 10;

/// What clients do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Subscribe to it.
    Subscribe,
    /// Publish to it.
    Publish,
    /// Ask who is there.
    Presence,
    /// Read its history.
    History,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::Presence, Self::History];

    /// The action of a member of `allow`.
    fn named(name: &str) -> Option<Self> {
        match name {
            "sub" => Some(Self::Subscribe),
            "pub" => Some(Self::Publish),
            "prs" => Some(Self::Presence),
            "hst" => Some(Self::History),
            _ => None,
        }
    }
}

/// What a token allows with some topics: a member of its claim `caps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    topics: Topics,
    /// By [`Action`].
    allowed: [bool; Action::ALL.len()],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Topics {
    Named(Vec<Box<str>>),
    Wildcard(Vec<Wildcard>),
    Regex(Vec<Expression>),
}

impl Capability {
    /// Whether it allows this with that topic. The time is linear in the length of the topic's name.
    #[must_use]
    pub fn allows(&self, topic: &str, action: Action) -> bool {
        self.allowed[action as usize]
            && match &self.topics {
                Topics::Named(names) => names.iter().any(|name| **name == *topic),
                Topics::Wildcard(wildcards) => wildcards.iter().any(|wildcard| wildcard.matches(topic)),
                Topics::Regex(expressions) => {
                    expressions.iter().any(|Expression(regex)| regex.is_match(topic))
                }
            }
    }

    /// How much memory it uses, roughly.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.topics {
                Topics::Named(names) => names.iter().map(|name| size_of::<Box<str>>() + name.len()).sum(),
                Topics::Wildcard(wildcards) => wildcards.iter().map(Wildcard::bytes).sum(),
                Topics::Regex(expressions) => expressions.len() * COMPILED_BYTES_MAX,
            }
    }
}

/// Reads the claim: a list of capabilities.
pub(super) fn capabilities(json: &str, rules: &Rules) -> Result<Arc<[Capability]>, TokenError> {
    let mut reader = Reader { rules, patterns: 0, expressions: 0 };
    let mut capabilities = Vec::new();
    fields::items("caps", json, |item| {
        capabilities.push(reader.capability(item)?);
        if capabilities.len() > rules.topics_max { Err(rules.too_many("caps")) } else { Ok(()) }
    })?;
    Ok(capabilities.into())
}

/// Counts patterns over all capabilities of a token.
struct Reader<'a> {
    rules: &'a Rules,
    patterns: usize,
    expressions: usize,
}

impl Reader<'_> {
    fn capability(&mut self, item: &str) -> Result<Capability, TokenError> {
        let (mut channels, mut kind, mut allow) = (None, None, None);
        self.rules.members("caps.*", item, |name, value| match &*name {
            "channels" => put(&mut channels, "caps.*.channels", value),
            "match" => put(&mut kind, "caps.*.match", value),
            "allow" => put(&mut allow, "caps.*.allow", value),
            _ => Ok(()),
        })?;
        let channels = channels.ok_or_else(|| missing("caps.*.channels"))?;
        let allow = allow.ok_or_else(|| missing("caps.*.allow"))?;
        let kind = kind.map(|kind| text("caps.*.match", kind)).transpose()?.unwrap_or_default();
        let topics = match &*kind {
            "" => Topics::Named(self.patterns(channels, |name| Ok(name.into()))?),
            "wildcard" => Topics::Wildcard(self.patterns(channels, |text| Ok(Wildcard(text.into())))?),
            "regex" => Topics::Regex(self.expressions(channels)?),
            _ => return Err(TokenError::UnknownMatch),
        };
        Ok(Capability { topics, allowed: actions(allow)? })
    }

    fn patterns<T>(
        &mut self,
        channels: &str,
        mut parse: impl FnMut(&str) -> Result<T, TokenError>,
    ) -> Result<Vec<T>, TokenError> {
        let mut patterns = Vec::new();
        fields::items("caps.*.channels", channels, |item| {
            self.patterns += 1;
            if self.patterns > self.rules.topics_max {
                return Err(self.rules.too_many("caps.*.channels"));
            }
            let text = shallow::text(item).ok_or_else(|| wrong_type("caps.*.channels", "a list of texts"))?;
            patterns.push(parse(&text)?);
            Ok(())
        })?;
        Ok(patterns)
    }

    fn expressions(&mut self, channels: &str) -> Result<Vec<Expression>, TokenError> {
        let mut count = self.expressions;
        let expressions = self.patterns(channels, |text| {
            count += 1;
            if count > EXPRESSIONS_MAX {
                return Err(TokenError::Pattern(PatternError::TooMany { most: EXPRESSIONS_MAX }));
            }
            Expression::compile(text).map_err(TokenError::Pattern)
        })?;
        self.expressions = count;
        Ok(expressions)
    }
}

fn actions(allow: &str) -> Result<[bool; Action::ALL.len()], TokenError> {
    let mut allowed = [false; Action::ALL.len()];
    fields::items("caps.*.allow", allow, |item| {
        let name = shallow::text(item).ok_or_else(|| wrong_type("caps.*.allow", "a list of texts"))?;
        allowed[Action::named(&name).ok_or(TokenError::UnknownAction)? as usize] = true;
        Ok(())
    })?;
    Ok(allowed)
}

/// A pattern in which `*` stands for any run of characters, possibly empty, and everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wildcard(Box<str>);

impl Wildcard {
    /// Each part is looked for once, behind the one before it: the first place where it is leaves most room for the
    /// others.
    fn matches(&self, topic: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return *self.0 == *topic };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        let inner = topic.strip_prefix(start).and_then(|topic| topic.strip_suffix(end));
        let Some(mut inner) = inner else { return false };
        middle.split('*').all(|part| match inner.find(part) {
            Some(at) => {
                inner = &inner[at + part.len()..];
                true
            }
            None => false,
        })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.len()
    }
}

/// A compiled regular expression, anchored only where it has `^` or `$`. It matches in linear time.
#[derive(Clone, Debug)]
struct Expression(Regex);

impl Expression {
    fn compile(text: &str) -> Result<Self, PatternError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(PatternError::TooLong { most: EXPRESSION_BYTES_MAX });
        }
        let compiled =
            RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
        compiled.map(Self).map_err(|_| PatternError::Expression { most: COMPILED_BYTES_MAX })
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Expression {}
