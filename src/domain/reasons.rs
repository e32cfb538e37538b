//! Every number of the client protocol: why a connection is closed, why a subscription ends, and why a
//! command failed. Each is a closed set. The close frame, the counter and the log line are made from the same
//! value. Codes and texts are those of the Centrifuge protocol, which its SDKs know.

/// Why the server ends a connection. The SDKs reconnect by themselves on 3000 to 3499, and stay away on
/// 3500 to 3999; codes below 3000 are those of RFC 6455, section 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed first; its code is echoed.
    PeerClosed,
    /// The connection broke, or the peer left without a close frame. No close frame is sent.
    ConnectionLost,
    /// No complete HTTP request came in time, or it was refused. Only an HTTP answer is sent.
    UpgradeFailed,
    /// A frame that RFC 6455 forbids.
    ProtocolViolation,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A message over the size limit.
    MessageTooBig,
    /// The engine stops. The client should reconnect, to another engine or a little later.
    Shutdown,
    /// A fault of the engine or of the machine.
    InternalError,
    /// The client does not read what is sent to it.
    Slow,
    /// No answer to our ping.
    NoPong,
    /// A server-side subscription missed something.
    InsufficientState,
    /// An operator asked the client to reconnect.
    ForceReconnect,
    /// Input that is not a command, or a command at the wrong moment.
    BadRequest,
    /// No connect command in time.
    Stale,
    /// An operator closed the client.
    ForceDisconnect,
    /// This engine has as many clients as it may have.
    ConnectionLimit,
    /// More subscriptions than a client may have.
    ChannelLimit,
    /// Binary data where JSON is spoken.
    InappropriateProtocol,
    /// The request is not offered here.
    NotAvailable,
    /// An operator closed the client with a code and a reason of the application ([`Closing`]).
    Application,
}

impl CloseReason {
    /// Every reason, in the order of their counters.
    pub const ALL: [Self; 20] = [
        Self::PeerClosed,
        Self::ConnectionLost,
        Self::UpgradeFailed,
        Self::ProtocolViolation,
        Self::InvalidUtf8,
        Self::MessageTooBig,
        Self::Shutdown,
        Self::InternalError,
        Self::Slow,
        Self::NoPong,
        Self::InsufficientState,
        Self::ForceReconnect,
        Self::BadRequest,
        Self::Stale,
        Self::ForceDisconnect,
        Self::ConnectionLimit,
        Self::ChannelLimit,
        Self::InappropriateProtocol,
        Self::NotAvailable,
        Self::Application,
    ];

    /// The code in the close frame, unless the application has its own. 1005 and 1006 mean that none was sent
    /// (RFC 6455, section 7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::PeerClosed => 1000,
            Self::ConnectionLost => 1006,
            Self::UpgradeFailed => 1005,
            Self::ProtocolViolation => 1002,
            Self::InvalidUtf8 => 1007,
            Self::MessageTooBig => 1009,
            Self::Shutdown => 3001,
            Self::InternalError => 3004,
            Self::Slow => 3008,
            Self::NoPong => 3012,
            Self::InsufficientState => 3010,
            Self::ForceReconnect => 3011,
            Self::BadRequest => 3501,
            Self::Stale => 3502,
            Self::ForceDisconnect => 3503,
            Self::ConnectionLimit => 3504,
            Self::ChannelLimit => 3505,
            Self::InappropriateProtocol => 3506,
            Self::NotAvailable => 3508,
            Self::Application => 4000,
        }
    }

    /// The text in the close frame: plain, under 124 bytes (RFC 6455, section 5.5).
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::PeerClosed => "",
            Self::ConnectionLost => "connection lost",
            Self::UpgradeFailed => "upgrade failed",
            Self::ProtocolViolation => "protocol violation",
            Self::InvalidUtf8 => "invalid utf-8",
            Self::MessageTooBig => "message too big",
            Self::Shutdown => "shutdown",
            Self::InternalError => "internal server error",
            Self::Slow => "slow",
            Self::NoPong => "no pong",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            Self::InappropriateProtocol => "inappropriate protocol",
            Self::NotAvailable => "not available",
            Self::Application => "application",
        }
    }

    /// The value of the `reason` label in metrics and of the field in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::ConnectionLost => "connection_lost",
            Self::UpgradeFailed => "upgrade_failed",
            Self::ProtocolViolation => "protocol_violation",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::Shutdown => "shutdown",
            Self::InternalError => "internal_error",
            Self::Slow => "slow",
            Self::NoPong => "no_pong",
            Self::InsufficientState => "insufficient_state",
            Self::ForceReconnect => "force_reconnect",
            Self::BadRequest => "bad_request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force_disconnect",
            Self::ConnectionLimit => "connection_limit",
            Self::ChannelLimit => "channel_limit",
            Self::InappropriateProtocol => "inappropriate_protocol",
            Self::NotAvailable => "not_available",
            Self::Application => "application",
        }
    }

    /// Whether the client caused it, by what it did or did not do in time. An operator may want to know which
    /// client it was.
    #[must_use]
    pub const fn is_clients_fault(self) -> bool {
        matches!(
            self,
            Self::ProtocolViolation
                | Self::InvalidUtf8
                | Self::MessageTooBig
                | Self::Slow
                | Self::BadRequest
                | Self::Stale
                | Self::ChannelLimit
                | Self::InappropriateProtocol
                | Self::NotAvailable
        )
    }

    /// Whether a close frame is sent: not if the connection is lost or never became a WebSocket.
    #[must_use]
    pub const fn is_said(self) -> bool {
        !matches!(self, Self::ConnectionLost | Self::UpgradeFailed)
    }
}

/// How an operator closes a client.
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
    /// The engine is behind; try again.
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
}

impl UnsubscribeCode {
    /// The number in the push.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Server => 2000,
            Self::InsufficientState => 2500,
        }
    }

    /// The text in the push.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
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
