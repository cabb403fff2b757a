//! The gateway's judgement in front of a service of your own: a layer for axum, hyper and whatever else speaks `tower`.

mod body;
mod setup;

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use hyper::{
    Request, Response,
    http::{Extensions, request::Parts},
};
use nodetool_edge_auth::{Action, Answer, Finish, Identity, Reason, Scheme, Verdict};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    observe::{self, RequestId},
    plan, request, respond,
};
use setup::Shared;

pub use body::AuthBody;
pub use setup::SetupError;

type PeerOf = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;

/// Lets only those requests through to a service that may pass, by the very code of the server.
///
/// Who may not is answered by the layer: with a refusal as JSON, or what else the gateway has to say (`/.auth/whoami`,
/// `/.auth/verify`, preflights under `CORS_ORIGINS`). A request that passes goes on without what no client may say, and
/// without a token that was in the query of an upgrade; with `x-user-id`, `x-auth-token-type` and `x-auth-role` for those
/// who read headers, and an [`Identity`] among its extensions. Public paths and preflights have none. Answers get their CORS
/// headers where `CORS_ORIGINS` is set.
///
/// ```
/// use axum::{Extension, Router, extract::ConnectInfo, routing::get};
/// use nodetool_auth::{AuthLayer, Identity};
/// use std::net::SocketAddr;
///
/// let settings = |name: &str| match name {
///     "AUTH_PROVIDER" => Some("static".to_owned()),
///     "WORKER_AUTH_TOKEN" => Some("correct-horse-battery-staple".to_owned()),
///     _ => None,
/// };
/// let auth = AuthLayer::new(settings)?
///     .peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));
/// let app: Router = Router::new()
///     .route("/v1/me", get(|Extension(me): Extension<Identity>| async move { me.user_id.into_owned() }))
///     .layer(auth);
/// # let _ = app;
/// # Ok::<(), nodetool_auth::SetupError>(())
/// ```
///
/// The outermost router is the place for it: an inner one may see a part of the path only, and rules are about all of it.
/// What HTTP/1.1 does not allow is refused as by the server; so a request without `Host` is, which a test of yours may have
/// to set. Clones share what they know: keys, users, tokens. It needs a runtime of tokio where it is called.
#[derive(Clone)]
pub struct AuthLayer {
    shared: Arc<Shared>,
    peer: Option<PeerOf>,
    scheme: Scheme,
}

impl AuthLayer {
    /// A layer by these settings, of which `get` knows the values: those of the README, without what is about a server or an
    /// upstream. Without `ENV` it is production, and without `AUTH_PROVIDER` the static token is asked for. The token is
    /// that of the settings, else of the deployment file, which is followed as it changes; none is made: that is for
    /// [`worker_auth_token`](crate::worker_auth_token).
    ///
    /// # Errors
    /// When a setting is wrong, all that are; when the deployment file cannot be used; when `static` has no token at all.
    pub fn new(get: impl Fn(&str) -> Option<String>) -> Result<Self, SetupError> {
        Ok(Self { shared: Arc::new(Shared::new(get)?), peer: None, scheme: Scheme::Http })
    }

    /// The same by environment variables.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn from_env() -> Result<Self, SetupError> {
        Self::new(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// How to tell who connected, from the extensions of a request: for `AUTH_TRUSTED_PROXIES`, `AUTH_FAILURE_LIMIT`,
    /// `x-forwarded-for` and the log. As long as it is not known, no request counts as one from this machine.
    #[must_use]
    pub fn peer(mut self, peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.peer = Some(Arc::new(peer));
        self
    }

    /// The scheme that clients speak; `http` unless said.
    #[must_use]
    pub const fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// What goes on, and how its answer is finished; or the answer.
    async fn judge(&self, parts: &mut Parts, has_body: bool, id: &RequestId) -> Result<Finish, Answer> {
        // Nobody but this layer says who somebody is.
        parts.extensions.remove::<Identity>();
        let peer = self.peer.as_ref().and_then(|peer| peer(&parts.extensions)).map(|peer| peer.to_canonical().to_string());
        let Shared { judge, counters, .. } = &*self.shared;
        let shown = peer.as_deref().unwrap_or_default();
        let (uri, headers, finish, identity) = {
            let Some(mut facts) = request::facts(parts, has_body, peer.as_deref()) else {
                observe::unreadable(parts, id, shown, counters);
                return Err(Answer::refusal(Reason::MalformedRequest));
            };
            facts.scheme(self.scheme).request_id(id.as_str());
            let (outcome, now) = judge.judge(&mut facts).await;
            observe::judged(&outcome, &facts, id, judge.policy().client(&facts).unwrap_or(shown), counters);
            match Action::of(&outcome.verdict, judge.policy(), &facts, now) {
                Action::Respond(answer) => return Err(answer),
                Action::Forward(forward) => {
                    let uri = plan::uri(&forward, &parts.uri).ok_or_else(|| Answer::refusal(Reason::MalformedRequest))?;
                    let headers = plan::within(&forward, &parts.headers, facts.is_websocket());
                    (uri, headers, forward.finish(), identity(&outcome.verdict))
                }
            }
        };
        (parts.uri, parts.headers) = (uri, headers);
        if let Some(identity) = identity {
            parts.extensions.insert(identity);
        }
        Ok(finish)
    }
}

fn identity(verdict: &Verdict) -> Option<Identity> {
    match verdict {
        Verdict::Pass(pass) => pass.identity.clone(),
        Verdict::Refuse(_) => None,
    }
}

impl fmt::Debug for AuthLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthLayer").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, layer: self.clone() }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Clone, Debug)]
pub struct Auth<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, B, R> Service<Request<B>> for Auth<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
{
    type Response = Response<AuthBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was asked whether it is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            layer.shared.go_on_beside();
            let (mut parts, body) = request.into_parts();
            let id = RequestId::of(&parts.headers);
            let (mut head, body) = match layer.judge(&mut parts, !body.is_end_stream(), &id).await {
                Ok(finish) => {
                    let (mut head, body) = inner.call(Request::from_parts(parts, body)).await?.into_parts();
                    plan::finish(&finish, &mut head);
                    (head, AuthBody::inner(body))
                }
                Err(answer) => own(answer),
            };
            id.tell(&mut head.headers);
            Ok(Response::from_parts(head, body))
        })
    }
}

fn own<R>(answer: Answer) -> (hyper::http::response::Parts, AuthBody<R>) {
    let (head, body): (_, Full<Bytes>) = respond::answer(answer).into_parts();
    (head, AuthBody::own(body))
}
