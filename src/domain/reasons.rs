//! Every number of the client protocol: why a connection is closed, why a subscription ends, and why a
//! command failed. Each is a closed set. The close frame, the counter and the log line are made from the same
//! value. Codes and texts are those of the Centrifuge protocol, which its SDKs know.

/// Whose fault it is that a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The client did something, or did not do it in time.
    Client,
    /// Anybody else's, or nobody's.
    Other,
}

/// A row of the table of reasons.
#[derive(Debug)]
struct Row {
    code: u16,
    text: &'static str,
    label: &'static str,
    blame: Blame,
}

/// Defines [`CloseReason`] by its table: the name, the code and the text of the close frame, the label, the blame.
macro_rules! close_reasons {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal $text:literal $label:ident $blame:ident, )+) => {
        /// Why the server ends a connection. The SDKs reconnect by themselves on 3000 to 3499 and 4000 to 4499, and stay
        /// away on 3500 to 3999 and 4500 to 4999; codes below 3000 are those of RFC 6455, section 7.4.1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum CloseReason {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl CloseReason {
            /// Every reason, in the order of their counters.
            pub const ALL: [Self; TABLE.len()] = [$( Self::$name, )+];
        }

        const TABLE: [Row; [$( $code, )+].len()] = [
            $( Row { code: $code, text: $text, label: stringify!($label), blame: Blame::$blame }, )+
        ];
    };
}

close_reasons! {
    /// The peer closed first; its code is echoed.
    PeerClosed = 1000 "" peer_closed Other,
    /// The connection broke, or the peer left without a close frame. No close frame is sent.
    ConnectionLost = 1006 "connection lost" connection_lost Other,
    /// No complete HTTP request came in time, or it was refused. Only an HTTP answer is sent.
    UpgradeFailed = 1005 "upgrade failed" upgrade_failed Other,
    /// A frame that RFC 6455 forbids.
    ProtocolViolation = 1002 "protocol violation" protocol_violation Client,
    /// Text that is not UTF-8.
    InvalidUtf8 = 1007 "invalid utf-8" invalid_utf8 Client,
    /// A message over the size limit.
    MessageTooBig = 1009 "message too big" message_too_big Client,
    /// The engine stops. The client should reconnect, to another engine or a little later.
    Shutdown = 3001 "shutdown" shutdown Other,
    /// The client does not read what is sent to it.
    Slow = 3008 "slow" slow Client,
    /// The client missed publications of a topic to which its token subscribes it, or may have.
    InsufficientState = 3010 "insufficient state" insufficient_state Other,
    /// No answer to our ping.
    NoPong = 3012 "no pong" no_pong Other,
    /// An operator asked the client to reconnect.
    ForceReconnect = 3011 "force reconnect" force_reconnect Other,
    /// The connect command was answered with an error after which the client may come again, and it has not left by itself.
    ConnectFailed = 3004 "connect failed" connect_failed Other,
    /// The connection's token has expired, and the client has not sent another one in time.
    Expired = 3005 "connection expired" expired Other,
    /// A token that is not valid, or is another user's.
    InvalidToken = 3500 "invalid token" invalid_token Client,
    /// Input that is not a command, or a command at the wrong moment.
    BadRequest = 3501 "bad request" bad_request Client,
    /// No connect command in time.
    Stale = 3502 "stale" stale Client,
    /// An operator closed the client.
    ForceDisconnect = 3503 "force disconnect" force_disconnect Other,
    /// Binary data where JSON is spoken.
    InappropriateProtocol = 3506 "inappropriate protocol" inappropriate_protocol Client,
    /// The connect command was answered with an error for good, and the client has not left by itself.
    ConnectRefused = 3507 "connect refused" connect_refused Client,
    /// The request is not offered here.
    NotAvailable = 3508 "not available" not_available Client,
    /// An operator closed the client with a code and a reason of the application ([`Closing`]).
    Application = 4000 "application" application Other,
}

impl CloseReason {
    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The code in the close frame, unless the application has its own. 1005 and 1006 mean that none was sent
    /// (RFC 6455, section 7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        self.row().code
    }

    /// The text in the close frame: plain, under 124 bytes (RFC 6455, section 5.5).
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// The value of the `reason` label in metrics and of the field in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// Whether it is for something that the client did, or did not do in time: an operator may want to know which one,
    /// and what it was.
    #[must_use]
    pub const fn is_clients_fault(self) -> bool {
        matches!(self.row().blame, Blame::Client)
    }

    /// Whether a close frame says it: not where the connection is gone or never became a WebSocket.
    #[must_use]
    pub const fn is_said(self) -> bool {
        !matches!(self.code(), 1005 | 1006)
    }
}

/// How an operator or a backend closes a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// With one of the protocol's reasons.
    Known(CloseReason),
    /// With a code and a text of the application.
    Application {
        /// From 3000 to 4999. The SDKs decide by the code whether to reconnect: not on 3500 to 3999 and 4500
        /// to 4999.
        code: u16,
        /// At most [`CLOSE_TEXT_BYTES`].
        text: Box<str>,
    },
}

/// Why an application may not close a client so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The code is for nobody, or for WebSocket itself.
    #[error("its code may not be sent: from 3000 to 4999")]
    Code(u32),
    /// The text is too long.
    #[error("its text has {0} bytes: a close frame has room for {CLOSE_TEXT_BYTES}")]
    Text(usize),
}

impl Closing {
    /// As an application wants it: with the protocol's reason of that code if the text is its own, or empty, and else with
    /// the code and the text as they are.
    ///
    /// # Errors
    /// The client could not be told so.
    pub fn with(code: u32, text: &str) -> Result<Self, ClosingError> {
        let allowed = u16::try_from(code).ok().filter(|code| (3000..=4999).contains(code));
        let code = allowed.ok_or(ClosingError::Code(code))?;
        let of_ours = |known: &CloseReason| {
            *known != CloseReason::Application
                && known.code() == code
                && (text.is_empty() || text == known.text())
        };
        if let Some(known) = CloseReason::ALL.into_iter().find(of_ours) {
            return Ok(Self::Known(known));
        }
        if text.len() > CLOSE_TEXT_BYTES {
            return Err(ClosingError::Text(text.len()));
        }
        Ok(Self::Application { code, text: text.into() })
    }
}

/// Bytes that the text of a close frame may have (RFC 6455, section 5.5, less the code).
pub const CLOSE_TEXT_BYTES: usize = 123;

/// Why a command failed: the `error` of a reply. The SDKs retry on temporary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The outcome is unknown, or the backplane is not available now.
    Internal,
    /// The topic does not exist, or its name is not valid.
    UnknownChannel,
    /// The namespace does not allow it.
    PermissionDenied,
    /// There is no such method.
    MethodNotFound,
    /// The client is subscribed already.
    AlreadySubscribed,
    /// A limit of this engine is reached.
    LimitExceeded,
    /// The command's fields are wrong.
    BadRequest,
    /// This engine, or this namespace, does not offer it.
    NotAvailable,
    /// The token has expired: the SDK asks the application for another one.
    TokenExpired,
    /// What the token permits has expired.
    Expired,
    /// The engine is behind, or stops, and has not done it; try again.
    TooManyRequests,
    /// The publications since that position are no longer known.
    UnrecoverablePosition,
}

impl ErrorCode {
    /// The number in the reply.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Internal => 100,
            Self::UnknownChannel => 102,
            Self::PermissionDenied => 103,
            Self::MethodNotFound => 104,
            Self::AlreadySubscribed => 105,
            Self::LimitExceeded => 106,
            Self::BadRequest => 107,
            Self::NotAvailable => 108,
            Self::TokenExpired => 109,
            Self::Expired => 110,
            Self::TooManyRequests => 111,
            Self::UnrecoverablePosition => 112,
        }
    }

    /// The text in the reply.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Whether a later attempt may succeed.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

/// Why the server ends a subscription. From 2500 on the SDKs subscribe again by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnsubscribeCode {
    /// An operator ended it.
    Server,
    /// The subscriber missed publications.
    InsufficientState,
    /// The subscription's token has expired, and the client has not sent another one in time.
    Expired,
}

impl UnsubscribeCode {
    /// The number in the push.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Server => 2000,
            Self::InsufficientState => 2500,
            Self::Expired => 2501,
        }
    }

    /// The text in the push.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_reasons_is_in_the_order_of_their_counters() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(reason.text().len() < 124);
        }
    }
}
