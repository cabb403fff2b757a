//! What a person sees at the start: whether requests are checked, by which token, and where it came from.

use std::io::{self, Write};

use nodetool_edge_auth::{Policy, Provider, mask_token};

use crate::store::Found;

pub(crate) struct Banner<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) found: Option<&'a Found>,
    /// Whether the full token may be seen where this is printed.
    pub(crate) shows_token: bool,
}

impl Banner<'_> {
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let line = "=".repeat(70);
        writeln!(out, "{line}\nAUTHENTICATION\n{line}")?;
        let (status, protected) = match self.policy.provider() {
            Provider::Static | Provider::Supabase => {
                ("🔒 Status: ENABLED (all endpoints require authentication)", "everything else")
            }
            Provider::LocalByDefault => (
                "🔓 Status: LOCAL (requests straight from this machine pass; all others require authentication)",
                "everything else, but for requests straight from this machine",
            ),
            Provider::None | Provider::Local => ("🔓 Status: DISABLED (all requests pass without authentication)", "nothing"),
        };
        writeln!(out, "{status}")?;
        let token = self.found.and_then(|found| found.token.as_ref());
        if let Some(token) = token {
            writeln!(out, "🔑 Token: {}", mask_token(token.reveal()))?;
        }
        if let Some(found) = self.found {
            writeln!(out, "📍 Source: {}", found.source)?;
        }
        writeln!(out)?;
        if let (Some(token), true) = (token, self.shows_token) {
            writeln!(out, "   Authorization: Bearer {}\n", token.reveal())?;
        }
        let public: Vec<&str> = self.policy.public_paths().collect();
        writeln!(out, "🌐 Public (GET, HEAD): {}\n🔐 Protected: {protected}\n{line}", public.join(", "))?;
        out.flush()
    }
}
