//! The host of a server, which remembers what it was asked to do.

use std::cell::RefCell;

use nodetool_edge_auth::{
    Effects, Jwks, KeysAnswer, Project as ProjectSettings, Secret, SignatureCheck, Unavailable, UnixTime, UserAnswer, WantedKeys,
};

use super::steps::Step;
use crate::judge::Host;

/// It does what the server's host does, by the server's own code, and nothing else.
pub(super) struct Witness {
    host: Host,
    settings: Option<ProjectSettings>,
    seen: RefCell<Vec<Step>>,
}

impl Witness {
    pub(super) fn of(host: Host, settings: Option<ProjectSettings>) -> Self {
        Self { host, settings, seen: RefCell::default() }
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.seen.into_inner()
    }

    fn tell(&self, step: &'static str, is_right: bool, detail: impl Into<String>) {
        self.seen.borrow_mut().push(Step::new(step, is_right, detail));
    }

    fn url(&self, of: impl Fn(&ProjectSettings) -> String) -> String {
        self.settings.as_ref().map(of).unwrap_or_default()
    }
}

impl Effects for Witness {
    fn now(&self) -> UnixTime {
        self.host.now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        self.host.tokens().await
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        let answer = self.host.keys(wanted).await;
        let url = self.url(ProjectSettings::jwks_url);
        match &answer {
            KeysAnswer::Fetched(fetched, _) => {
                let keys = Jwks::parse(&fetched.document).unwrap_or_default();
                let names: Vec<_> = keys.iter().map(|key| key.algorithm.name()).collect();
                let names = if names.is_empty() { "no usable key".to_owned() } else { format!("keys for {}", names.join(", ")) };
                self.tell("keys", true, format!("{url} has {names}"));
            }
            // Nobody else is there who could be fetching them.
            KeysAnswer::Failed(_) | KeysAnswer::UnderWay => {
                self.tell("keys", false, format!("{url} cannot be fetched; `nodetool-auth check` tells why"));
            }
        }
        answer
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> bool {
        let is_right = self.host.signature(check).await;
        self.tell("key", true, format!("the token's key is known; it is for {}", check.key.algorithm.name()));
        self.tell("signature", is_right, if is_right { "right" } else { "not made with that key" });
        is_right
    }

    async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        let answer = self.host.user(token).await;
        let url = self.url(ProjectSettings::user_url);
        match &answer {
            Ok(UserAnswer { status, .. }) => {
                self.tell("user", *status == 200, format!("{url} was asked about the token, and answered {status}"));
            }
            Err(Unavailable) => self.tell("user", false, format!("{url} cannot be asked; `nodetool-auth check` tells why")),
        }
        answer
    }
}
