//! The server without its process: connections are handed to it one by one, on the thread of whoever does so. For fuzzing.

use std::sync::Arc;

use nodetool_edge_auth::{Settings, Tokens};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};

use super::{connection::Connections, room::Room};
use crate::{follow::InForce, gateway::Gateway, judge::Judge, metrics::Metrics, pool::Reach};

/// A gateway in front of an upstream, in the runtime in which it was made.
pub struct Trial {
    connections: Connections,
    /// Whoever has one is told when it is gone, and nobody may be told so before the end.
    _held: (watch::Sender<InForce>, watch::Sender<bool>),
}

impl Trial {
    /// Nothing if the upstream cannot be reached by these settings, whoever listens there.
    pub fn new(settings: &Settings, tokens: Tokens) -> Option<Self> {
        let (in_force, tokens) = watch::channel(Ok(Arc::new(tokens)));
        let (stop, stopped) = watch::channel(false);
        let reach = Reach::new(settings).ok()?;
        let gateway = Gateway::new(Judge::new(settings.policy.clone(), tokens, None), reach, &Metrics::new());
        let connections = Connections::new(gateway, settings.server.limits, None, stopped, Room::new(usize::MAX, usize::MAX));
        Some(Self { connections, _held: (in_force, stop) })
    }

    /// Serves this connection beside all others. Nothing is ever received; the end comes when the connection is over, tunnels
    /// included.
    pub fn serve(&self, stream: TcpStream) -> mpsc::Receiver<()> {
        let (open, over) = mpsc::channel(1);
        self.connections.serve(stream, open);
        over
    }
}
