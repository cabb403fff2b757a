//! WebSockets: once both sides agreed to switch protocols, bytes go both ways untouched.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

/// Joins both connections when their handshakes are over, until either side closes. `present` is held as long.
pub(crate) fn tunnel(client: OnUpgrade, upstream: OnUpgrade, present: impl Send + 'static) {
    tokio::spawn(async move {
        let _present = present;
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        if let Err(error) = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await {
            tracing::debug!(%error, "an upgraded connection broke off");
        }
    });
}
