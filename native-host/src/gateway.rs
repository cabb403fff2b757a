//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::{Request, Response, body::Incoming};
use nodetool_edge_auth::{
    Action, Answer, Gate, Outcome, ProxySettings, Reason, StoreUnavailable, UnixTime, Verdict, begin, drive,
};

use crate::{
    body::ResponseBody,
    fetch::{Fetch, Plan},
    request, respond,
};

/// The gateway as one thread runs it.
pub(crate) struct Gateway {
    gate: Gate,
    proxy: ProxySettings,
    upstream: Option<Fetch>,
}

impl Gateway {
    pub(crate) fn new(gate: Gate, proxy: ProxySettings) -> Self {
        let upstream = proxy.upstream.as_ref().map(|upstream| Fetch::new(upstream, &proxy));
        Self { gate, proxy, upstream }
    }

    /// The same gateway for another thread, with connections of its own.
    pub(crate) fn for_thread(&self) -> Self {
        Self::new(self.gate.clone(), self.proxy.clone())
    }

    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: &str) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let plan = {
            let Some(facts) = request::facts(&parts, &body, peer) else {
                return respond::answer(Answer::refusal(Reason::MalformedRequest));
            };
            let now = now();
            // The tokens are in the gate from the start: nothing is ever asked for.
            let Outcome { verdict, .. } = drive(begin(&self.gate, &facts, now), async |_| nodetool_edge_auth::Fetched {
                tokens: Err(StoreUnavailable),
                at: now,
            })
            .await;
            if let Verdict::Refuse(reason) = &verdict {
                tracing::info!(reason = reason.code(), method = facts.method(), path = ?facts.path(), peer, "refused");
            }
            match Action::of(&verdict, self.gate.policy(), &facts, now) {
                Action::Respond(answer) => return respond::answer(answer),
                Action::Forward(forward) => Plan::new(&forward, &parts.headers, facts.is_websocket()),
            }
        };
        match &self.upstream {
            Some(upstream) => upstream.upstream(parts, body, plan).await,
            None => respond::answer(Answer::upstream_unavailable()),
        }
    }
}

fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
