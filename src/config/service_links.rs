//! Variables with the prefix `FANFARE_` that are not configuration. Kubernetes describes every Service of a
//! namespace to every container in it, and the variables of one called `fanfare` have this prefix.

use std::net::IpAddr;

/// Transport protocols that a Service's port can have.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Whether a variable is one that Kubernetes makes from a Service and its ports, by its name and its value.
/// `FANFARE_PORT=tcp://10.0.0.1:8000` is such a variable, `FANFARE_PORT=8000` is a mistake of the operator.
/// The Service's name can be longer, such as `fanfare-control`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    match name.split('_').collect::<Vec<_>>()[..] {
        [.., "SERVICE", "HOST"] => is_address(value),
        [.., "PORT", port, protocol] if is_port(port) && is_protocol(protocol) => is_url(value),
        [.., "PORT", port, protocol, "PROTO"] if is_port(port) && is_protocol(protocol) => is_protocol(value),
        [.., "PORT", port, protocol, "PORT"] if is_port(port) && is_protocol(protocol) => is_port(value),
        [.., "PORT", port, protocol, "ADDR"] if is_port(port) && is_protocol(protocol) => is_address(value),
        [.., "SERVICE", "PORT"] => is_port(value),
        [.., "PORT"] => is_url(value),
        // A port with a name: `FANFARE_SERVICE_PORT_HTTP`.
        _ => name.contains("_SERVICE_PORT_") && is_port(value),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_protocol(text: &str) -> bool {
    PROTOCOLS.iter().any(|protocol| protocol.eq_ignore_ascii_case(text))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| is_protocol(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_makes_of_a_service_is_known_by_name_and_value() {
        for (name, value) in [
            ("FANFARE_SERVICE_HOST", "10.96.12.7"),
            ("FANFARE_SERVICE_HOST", "fd00::7"),
            ("FANFARE_SERVICE_PORT", "8000"),
            ("FANFARE_SERVICE_PORT_WS", "8000"),
            ("FANFARE_SERVICE_PORT_LIVE_PAGE", "9000"),
            ("FANFARE_PORT", "tcp://10.96.12.7:8000"),
            ("FANFARE_PORT_8000_TCP", "tcp://10.96.12.7:8000"),
            ("FANFARE_PORT_8000_TCP_PROTO", "tcp"),
            ("FANFARE_PORT_8000_TCP_PORT", "8000"),
            ("FANFARE_PORT_8000_TCP_ADDR", "10.96.12.7"),
            ("FANFARE_CONTROL_PORT", "tcp://[fd00::7]:9000"),
            ("FANFARE_CONTROL_PORT_9000_TCP_ADDR", "fd00::7"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("FANFARE_PORT", "8000"),
            ("FANFARE_PORT", "http://10.96.12.7:8000"),
            ("FANFARE_PORT_8000_TCP", "8000"),
            ("FANFARE_PORT_HTTP_TCP", "tcp://10.96.12.7:8000"),
            ("FANFARE_PORT_8000_TCP_NAME", "8000"),
            ("FANFARE_SERVICE_HOST", "localhost"),
            ("FANFARE_SERVICE_PORT", "many"),
            ("FANFARE_SERVER_LISEN", "10.96.12.7"),
            ("FANFARE_LIMITS_CLIENT", "8000"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
