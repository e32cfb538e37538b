//! Tells of narrow defaults that may surprise an operator, until the operator decides.

use super::{Allowed, Loaded, UnknownNamespace};

impl Loaded {
    /// What clients may not do because a key has its default, where the configuration suggests that somebody expects it.
    /// A key that is set, to any value, is a decision.
    #[must_use]
    pub fn undecided(&self) -> Vec<String> {
        let is_undecided = |key: &str| !self.origins.contains_key(key);
        let mut notes = Vec::new();
        let server = &self.config.server;
        if !self.config.namespaces.is_empty()
            && server.unknown_namespace == UnknownNamespace::Refuse
            && is_undecided("server.unknown_namespace")
        {
            let boundary = server.namespace_boundary;
            notes.push(format!(
                "topics of namespaces that are not configured, such as `mistyped{boundary}x`, are refused (error 102): say \
                 server.unknown_namespace = \"default\" to give them the options of the default one, or \"refuse\" if that is \
                 meant"
            ));
        }
        let unreadable = self.config.namespaces.iter().filter(|(name, options)| {
            let key = format!("namespaces.{name}.client_history");
            options.has_history() && options.client_history == Allowed::NOBODY && is_undecided(&key)
        });
        let unreadable: Vec<_> = unreadable.map(|(name, _)| format!("namespaces.{name}")).collect();
        if !unreadable.is_empty() {
            notes.push(format!(
                "the history of {} is for recovery only, and no client may read it (error 103): say client_history = true, or \
                 a list of roles, where clients may, or false if that is meant",
                unreadable.join(", ")
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;

    /// A decision causes no note, whatever it was.
    #[test]
    fn narrow_defaults_are_told_of_until_somebody_decides() {
        let told = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| (format!("FANFARE_{name}").into(), value.into()));
            let notes = load(None, variables).unwrap().undecided().join("\n");
            (notes.contains("server.unknown_namespace"), notes.contains("client_history = true"))
        };
        let kept = ("NAMESPACES_CHAT_HISTORY_SIZE", "5");
        let unknown = "SERVER_UNKNOWN_NAMESPACE";
        let readable = "NAMESPACES_CHAT_CLIENT_HISTORY";
        for (variables, notes) in [
            (&[][..], (false, false)),
            (&[("NAMESPACES_DEFAULT_HISTORY_SIZE", "5")], (true, true)),
            (&[kept], (true, true)),
            (&[("NAMESPACES_CHAT_SLOW", "skip")], (true, false)),
            (&[kept, (readable, "true")], (true, false)),
            (&[kept, (readable, "user,subscriber")], (true, false)),
            (&[kept, (readable, "false")], (true, false)),
            (&[kept, (unknown, "default")], (false, true)),
            (&[kept, (unknown, "refuse"), (readable, "true")], (false, false)),
        ] {
            assert_eq!(told(variables), notes, "{variables:?}");
        }
    }
}
