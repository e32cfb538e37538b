//! Permissions: which clients may subscribe, publish, and read histories.
//!
//! A client is **anonymous**, or it has a **user** id, from its token ([`identity`](super::identity)). It can also be a
//! **subscriber** of the topic in question. Four keys of a namespace say who may do what: `true` is everyone, `false` is
//! nobody, and a list names roles.
//!
//! <!-- test: file permissions.toml -->
//! ```toml
//! [namespaces.chat]                              # the topics chat:...
//! client_subscribe = ["user"]                    # who subscribes; default true
//! client_publish = ["subscriber"]                # who publishes; default false
//! history_size = 100
//! client_history = ["subscriber"]                # who reads the history by the command; default false
//! client_presence = false                        # who asks who is present; no effect in this version
//! topic_pattern = '[a-z0-9-]{1,40}(#[0-9,]+)?'   # what may stand behind `chat:`
//!
//! [namespaces.alert]
//! server_only = true                             # clients never subscribe by themselves
//!
//! [server]
//! unknown_namespace = "refuse"                   # the default: any other `name:...` is error 102
//! private_prefix = "$"                           # the default
//! user_boundary = "#"                            # the default
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- check --config permissions.toml
//! ```
//!
//! In the environment a list has commas: `FANFARE_NAMESPACES_CHAT_CLIENT_PUBLISH=user,subscriber`.
//!
//! # What a topic's name says
//!
//! | Name | Meaning |
//! |---|---|
//! | `news`, `chat:room` | The keys of the namespace decide. A name without `:` is in the default namespace. |
//! | `$news`, `$chat:room`, `chat:$room` | Private: only a subscription token opens it. The prefix is no part of the namespace's name: `$chat:room` is in `chat`. |
//! | `news#1,2`, `chat:room#7` | Only for the users that are listed behind the last `#`, or with a subscription token. A user whose id contains a comma cannot be listed. |
//! | `#42`, `chat:#42` | The same with one user: a topic of the user's own. |
//!
//! Listed users need no permission of the namespace to subscribe. An anonymous client is never listed.
//!
//! # The rules
//!
//! The first line that applies decides. `caps` is the token's claim of that name. A subscription token that is wrong fails
//! the command whatever the topic is: [`identity`](super::identity) says how.
//!
//! | Command | Condition | Outcome |
//! |---|---|---|
//! | all | The name is empty, too long, or has a control character. | error 107 |
//! | all | The namespace is not configured, and `unknown_namespace` is `"refuse"`. | error 102 |
//! | all but unsubscribe | `topic_pattern` does not match the part behind the namespace, or the whole name in the default namespace. | error 107 |
//! | subscribe | The namespace is `server_only`. | error 103 |
//! | subscribe | The client shows a valid subscription token for this topic. | yes |
//! | subscribe | The topic is private. | error 103 |
//! | subscribe | The topic lists users: the client's is among them, or is not. | yes, or error 103 |
//! | subscribe | `caps` allows `sub` with this topic, or `client_subscribe` names the client's role. | yes |
//! | subscribe | otherwise | error 103 |
//! | history | The namespace has no history. | error 108 |
//! | publish, history, presence | The topic is private or lists users, and the client neither is subscribed nor may subscribe. | error 103 |
//! | publish, history, presence | `caps` allows `pub`, `hst` or `prs` with this topic, or `client_publish`, `client_history` or `client_presence` names one of the client's roles. | yes |
//! | publish, history, presence | otherwise | error 103 |
//!
//! `topic_pattern` gives 107, not 102: the namespace exists, and a name that does not match is malformed there, for
//! everyone and for good, like one that is too long. The pattern must match the whole part. It takes time that is linear in
//! the length of the name, so references back and looking around are not supported.
//!
//! Unsubscribing is always allowed. This version keeps no presence: `presence` and `presence_stats`
//! get error 108, whoever asks, and the table says what will hold.
//!
//! After a [reload](super::configuration), the rules hold for the next command. A subscription that they would not allow
//! any more stays until the client or an operator ends it.
//!
//! # Subscriptions that the server makes
//!
//! The token of a connection can bring subscriptions along, in the claims `channels` and `subs`:
//!
//! ```text
//! {"sub": "42", "channels": ["news", "#42"],
//!  "subs": {"chat:room": {"info": {"name": "Ann"}, "data": {"muted": false},
//!                         "override": {"force_recovery": {"value": true}}}}}
//! ```
//!
//! The client is subscribed to all of them when it connects. In an SDK, they have events of the client, not of a
//! subscription: `subscribed` and `publication`, which name the channel. `info` stands as `chan_info` in what the client
//! publishes to that topic. The client is told `data`. `override` replaces `force_recovery` and `force_positioning` of the
//! namespace; the overrides for presence have no effect yet. Without `force_recovery`, in the namespace or here, a
//! subscription is not recoverable. With it, the SDK says in its next connect where it was, and the reply has what it missed.
//!
//! * **No permission is needed**: `server_only`, `client_subscribe`, private topics and listed users do not matter. As a
//!   subscriber, the client has that role. But the topic must be possible: an unknown namespace fails the connect with
//!   error 102, and a name that `topic_pattern` does not match with 107. A token with more than `limits.topics_per_client`
//!   topics is invalid (3500).
//! * **The reply to the connect** comes when all topics are attached and everything that was missed is there, and all
//!   publications come after it. Until then the client's other commands wait. If a topic cannot be attached, the connect
//!   fails with that error: 106 at `limits.topics`, or 111 while it takes long to tell subscribers of a gap. Then nothing is left
//!   of it.
//! * **The reply has a bound.** Once it has more than `limits.frame_bytes`, no more recoveries are begun for that connect: the
//!   `recovered` of those topics is missing, and they continue at the newest publication.
//! * **The end.** A subscriber that missed publications is closed with 3010 instead of being unsubscribed with 2500: SDKs
//!   connect again and recover. An operator's unsubscribe is a push (2000), and lasts until the client connects again. The
//!   client can unsubscribe; its own `subscribe` to such a topic gets error 105, and `sub_refresh` error 103. These
//!   subscriptions last as long as the connection.
//! * **Another token** by `refresh` changes none of them. Its `channels` and `subs` count from the next connect on.
//!
//! The claim `meta` is for backends. It is verified with the others and must be JSON, but nobody is told it yet.
//!
//! # Who is not bound by this
//!
//! Operators: the server API publishes to every topic whose namespace is known, and reads every history. So do publishers
//! in RabbitMQ, whose permissions are RabbitMQ's.
//!
//! The decision is one function, [`grant`](crate::auth::grant). Its test compares every combination of command, role,
//! kind of topic, key, token and `caps` with a table like the one above.
