//! Goes by another configuration.

use std::sync::Arc;

use crate::domain::mail::Mail;
use crate::domain::namespaces::Namespaces;
use crate::domain::settings::EngineSettings;
use crate::hooks::Answers;

use super::turn::Broker;

impl Broker {
    /// Goes by another configuration from here on, and has the shards do so. What waits to be merged goes out by the former
    /// one, so that it comes to the shards before the mail that tells of the new one.
    pub(super) fn reload(&mut self, settings: Arc<EngineSettings>) {
        self.merge.close_all();
        self.hand_over();
        self.begin_histories(&settings.namespaces);
        let limits = &settings.config.limits;
        self.topics.set_max(limits.topics);
        self.merge.set_bytes_max(limits.merging_bytes);
        self.history.set_limits(limits.history_bytes, limits.history_topics);
        self.calls.adopt(&settings.config);
        self.answers = Arc::new(Answers::new(&settings.config));
        self.http.targets = settings.targets.clone();
        self.config = Arc::clone(&settings.config);
        self.namespaces = Arc::clone(&settings.namespaces);
        self.outbox.push_to_all(|| Mail::Reload(Arc::clone(&settings)));
    }

    /// The histories of namespaces that are added begin here: nothing is known of what was published before. A client may
    /// have a position in them, from another node that reads the same stream, or from before the namespace was removed.
    fn begin_histories(&mut self, namespaces: &Namespaces) {
        let begun = namespaces.with_new_history(&self.namespaces);
        if begun.is_empty() {
            return;
        }
        let read_to = self.config.amqp.reads_stream().then(|| self.progress.newest().unwrap_or_default());
        let come_back = begun.iter().any(|&id| self.namespaces.has(id));
        self.history.begin(|topic| begun.contains(&namespaces.of(topic)), read_to, come_back);
    }
}
