//! The certificate that clients are shown, and its key.

use nodetool_edge_auth::ServerSettings;

use super::{Finding, failed, ok, warning};
use crate::tls::{Certificate, Ending};

pub(super) fn of_certificate(server: &ServerSettings) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let Some(settings) = &server.tls else { return Vec::new() };
    let certificate = Certificate::new(settings);
    let chain = certificate.chain().display();
    let loaded = match certificate.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            let (problem, remedy) = error.problem.rsplit_once("; ").unwrap_or((&error.problem, "correct it"));
            return vec![failed(CHECK, format!("{}: {problem}", error.setting), remedy)];
        }
    };
    let finding = match loaded.ending {
        Some(ending @ Ending::Expired(_)) => failed(CHECK, format!("{chain} {ending}"), "renew it"),
        Some(ending @ Ending::Soon(_)) => warning(CHECK, format!("{chain} {ending}"), "renew it"),
        Some(ending @ Ending::Later(_)) => ok(CHECK, format!("{chain} fits its key, and {ending}")),
        None => ok(CHECK, format!("{chain} fits its key; when it expires cannot be told")),
    };
    let exposure = certificate.exposure().map(|(detail, remedy)| warning("key", detail, format!("run: {remedy}")));
    [finding].into_iter().chain(exposure).collect()
}
