//! A host that remembers what it was asked to do.

use alloc::{format, string::String, vec::Vec};
use core::cell::RefCell;

use super::Finding;
use crate::{
    effects::{Effects, KeysAnswer, Unavailable, UserAnswer},
    keys::Jwks,
    questions::UserQuestion,
    settings::Project,
    step::{SignatureCheck, WantedKeys},
    time::UnixTime,
    token::Secret,
};

/// It does what the host in it does, and nothing else.
#[derive(Debug)]
pub struct Witness<E> {
    host: E,
    project: Option<Project>,
    advice: &'static str,
    seen: RefCell<Vec<Finding>>,
}

impl<E: Effects> Witness<E> {
    /// `advice` is given to whoever cannot reach the project.
    pub const fn new(host: E, project: Option<Project>, advice: &'static str) -> Self {
        Self { host, project, advice, seen: RefCell::new(Vec::new()) }
    }

    /// What was seen, in its order.
    pub fn into_findings(self) -> Vec<Finding> {
        self.seen.into_inner()
    }

    fn tell(&self, step: &'static str, is_right: bool, detail: impl Into<String>) {
        self.seen.borrow_mut().push(Finding::new(step, is_right, detail));
    }

    fn url(&self, of: impl Fn(&Project) -> String) -> String {
        self.project.as_ref().map(of).unwrap_or_default()
    }
}

impl<E: Effects> Effects for Witness<E> {
    fn now(&self) -> UnixTime {
        self.host.now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        self.host.tokens().await
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        let answer = self.host.keys(wanted).await;
        let url = self.url(Project::jwks_url);
        match &answer {
            KeysAnswer::Fetched(fetched, _) => {
                let keys = Jwks::parse(&fetched.document).unwrap_or_default();
                let names: Vec<_> = keys.iter().map(|key| key.algorithm.name()).collect();
                let names = if names.is_empty() { "no usable key".into() } else { format!("keys for {}", names.join(", ")) };
                self.tell("keys", true, format!("{url} has {names}"));
            }
            // Nobody else is there who could be fetching them.
            KeysAnswer::Failed(_) | KeysAnswer::UnderWay => {
                self.tell("keys", false, format!("{url} cannot be fetched; {}", self.advice));
            }
        }
        answer
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        let is_right = self.host.signature(check).await;
        self.tell("key", true, format!("the token's key is known; it is for {}", check.key.algorithm.name()));
        let outcome = match is_right {
            Ok(true) => "right",
            Ok(false) => "not made with that key",
            Err(Unavailable) => "cannot be checked here",
        };
        self.tell("signature", is_right == Ok(true), outcome);
        is_right
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        let answer = self.host.user(question).await;
        let url = self.url(Project::user_url);
        match &answer {
            Ok(UserAnswer { status, .. }) => {
                self.tell("user", *status == 200, format!("{url} was asked about the token, and answered {status}"));
            }
            Err(Unavailable) => self.tell("user", false, format!("{url} cannot be asked; {}", self.advice)),
        }
        answer
    }
}
