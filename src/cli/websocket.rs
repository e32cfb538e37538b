//! WebSocket URLs on the command line.

use anyhow::bail;
use url::Url;

/// Whether `url` is one that a command can connect to.
pub(super) fn check(url: &Url) -> anyhow::Result<()> {
    match url.scheme() {
        "ws" => Ok(()),
        "wss" => {
            bail!("wss:// needs TLS, which this command does not speak: use ws:// on the engine's own host")
        }
        _ => bail!("{url} is no WebSocket URL: it begins with ws://"),
    }
}
