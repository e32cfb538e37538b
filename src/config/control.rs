//! `[control]`: the port for operators.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Secret, address};

/// `[control]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Address of API, metrics, health and live page. Default 127.0.0.1:9000. A name stands for the first of its
    /// addresses, one of IPv4 if there is one.
    #[serde(deserialize_with = "address::deserialize_one")]
    pub listen: SocketAddr,
    /// The key that callers of the API must send. Default empty: no key, and then loopback only.
    pub api_key: Secret,
    /// Whether `/metrics` and the figures of the live page need the key as well. Default false: only the API
    /// does. `/health` never does.
    pub guard_metrics: bool,
    /// Whether the key may also be in the URL, as `?api_key=`. Default false: URLs end up in logs.
    pub api_key_in_url: bool,
    /// Largest body of an API request in bytes. Default 1 MiB; the bodies in flight have 64 MiB together.
    pub body_bytes: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9000)),
            api_key: Secret::default(),
            guard_metrics: false,
            api_key_in_url: false,
            body_bytes: 1 << 20,
        }
    }
}
