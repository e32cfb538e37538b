//! What the control thread counts.

use super::MICROSECONDS;
use super::block::{Counted, Kind, Labels, Metric, Values, block};
use super::number::{Histogram, Number};

/// Defines [`ApiMethod`] by its table.
macro_rules! methods {
    ($( $(#[doc = $doc:literal])+ $method:ident = $name:literal, )+) => {
        /// The methods of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ApiMethod {
            $( $(#[doc = $doc])+ $method, )+
        }

        impl ApiMethod {
            /// All of them, in the order of their counters.
            pub const ALL: [Self; [$( $name, )+].len()] = [$( Self::$method, )+];

            /// Its name in the path of a request.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$method => $name, )+
                }
            }
        }
    };
}

methods! {
    /// Publishes to a topic.
    Publish = "publish",
    /// Publishes to several topics.
    Broadcast = "broadcast",
    /// What this node is and has.
    Info = "info",
    /// The topics that somebody subscribes to.
    Channels = "channels",
    /// Reads a topic's history.
    History = "history",
    /// Removes a topic's history.
    HistoryRemove = "history_remove",
    /// Closes a client.
    Disconnect = "disconnect",
    /// Ends subscriptions.
    Unsubscribe = "unsubscribe",
    /// Reads the configuration again.
    Reload = "reload",
    /// Any other name: there is no such method.
    Unknown = "unknown",
}

/// What became of a request to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiOutcome {
    /// What it asked for.
    pub method: ApiMethod,
    /// Whether it was carried out.
    pub is_done: bool,
}

impl ApiOutcome {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 2 * ApiMethod::ALL.len()] = {
        let mut all = [Self { method: ApiMethod::Unknown, is_done: false }; 2 * ApiMethod::ALL.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = Self { method: ApiMethod::ALL[at / 2], is_done: at % 2 == 0 };
            at += 1;
        }
        all
    };

    const fn number(self) -> usize {
        2 * self.method as usize + if self.is_done { 0 } else { 1 }
    }
}

impl Counted for ApiMethod {
    fn members() -> &'static [Self] {
        &Self::ALL
    }

    fn labels(self) -> Labels {
        vec![("method", self.name().to_owned())]
    }
}

impl Counted for ApiOutcome {
    fn members() -> &'static [Self] {
        &Self::ALL
    }

    fn labels(self) -> Labels {
        let outcome = if self.is_done { "done" } else { "failed" };
        vec![("method", self.method.name().to_owned()), ("outcome", outcome.to_owned())]
    }
}

block! {
    /// What the control thread counts.
    pub struct ControlStats {
        counters {
            /// Times that the key set was fetched (`jwks.url`).
            key_set_fetches: "key_set_fetches",
            /// Times that the key set could not be fetched.
            key_set_failures: "key_set_failures",
        }
        gauges {
            /// When the key set was fetched the last time, in seconds since 1970; 0: never.
            key_set_time: "key_set_time_seconds",
        }
        labelled {
            Counter "reloads" "Times that the configuration was read again, by a signal or by the API." by "outcome" {
                /// Reloads that took effect, or changed nothing.
                reloads_done: "done",
                /// Reloads that were refused: everything stayed as it was.
                reloads_failed: "failed",
            }
        }
        sets {
            /// Requests to the API, by what became of them.
            requests: ApiOutcome = "api_requests",
        }
        histograms {}
        histograms_of_sets {
            /// From the end of a request's head to its answer.
            latency: ApiMethod [MICROSECONDS; 12] = "api_seconds" / 1_000_000,
        }
        others {}
    }
}

impl ControlStats {
    /// Counts a request that took so many microseconds from the end of its head to its answer.
    pub fn count(&self, outcome: ApiOutcome, micros: u64) {
        self.requests[outcome.number()].add(1);
        self.latency[outcome.method as usize].observe(micros, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_counter_of_its_own() {
        for (number, outcome) in ApiOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.number(), number);
        }
        for (number, method) in ApiMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, number);
        }
    }
}
