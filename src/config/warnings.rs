//! Warns once at the start about defaults that are wider than an operator may expect, until the operator
//! decides.

use super::{Loaded, UnknownNamespace};

impl Loaded {
    /// The decisions that the operator has not made. A key that is set, to any value, is a decision.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let is_undecided = |key: &str| !self.origins.contains_key(key);
        let mut warnings = Vec::new();
        let mut named = self.config.namespaces.keys().filter(|name| *name != "default").peekable();
        let unknown = self.config.server.unknown_namespace;
        if named.peek().is_some()
            && unknown == UnknownNamespace::Default
            && is_undecided("server.unknown_namespace")
        {
            let boundary = self.config.server.namespace_boundary;
            warnings.push(format!(
                "topics of namespaces that are not configured, such as `mistyped{boundary}x`, have the options of \
                 the default one: say server.unknown_namespace = \"refuse\", or \"default\" if that is meant"
            ));
        }
        let readable = self.config.namespaces.iter().filter(|(name, options)| {
            let key = format!("namespaces.{name}.client_history");
            options.has_history() && options.client_history && is_undecided(&key)
        });
        let readable: Vec<_> = readable.map(|(name, _)| format!("namespaces.{name}")).collect();
        if !readable.is_empty() {
            warnings.push(format!(
                "every client may read the history of {}: say client_history = false where it is kept only for \
                 those who come back, or true if that is meant",
                readable.join(", ")
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;

    /// A decision causes no warning, whatever it was.
    #[test]
    fn wide_defaults_are_warned_of_until_somebody_decides() {
        let warned = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| (format!("FANFARE_{name}").into(), value.into()));
            let warnings = load(None, variables).unwrap().warnings().join("\n");
            (warnings.contains("server.unknown_namespace"), warnings.contains("client_history = false"))
        };
        let kept = ("NAMESPACES_CHAT_HISTORY_SIZE", "5");
        let unknown = "SERVER_UNKNOWN_NAMESPACE";
        let readable = "NAMESPACES_CHAT_CLIENT_HISTORY";
        for (variables, warnings) in [
            (&[][..], (false, false)),
            (&[("NAMESPACES_DEFAULT_HISTORY_SIZE", "5")], (false, true)),
            (&[kept], (true, true)),
            (&[("NAMESPACES_CHAT_SLOW", "skip")], (true, false)),
            (&[kept, (readable, "true")], (true, false)),
            (&[kept, (readable, "false")], (true, false)),
            (&[kept, (unknown, "default")], (false, true)),
            (&[kept, (unknown, "refuse"), (readable, "true")], (false, false)),
        ] {
            assert_eq!(warned(variables), warnings, "{variables:?}");
        }
    }
}
