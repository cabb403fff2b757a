//! The tokens of the deployment file while the gateway runs: taken up, revoked, and kept for a while through failures.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nodetool_edge_auth::{StoreFailure, TOKENS_USABLE_FOR, Tokens, mask_token};
use tokio::sync::watch;

use crate::{
    lock::locked,
    metrics::{Counters, Reload},
    store::{self, Found, StoreError},
    watch::Reread,
};

/// The tokens that are accepted, or why none is known any more.
pub(crate) type InForce = Result<Arc<Tokens>, StoreFailure>;

/// The time for which a file has to be without any token before its tokens are revoked: an editor may delete it and write it
/// anew.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// Between two looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The tokens of a deployment file.
pub(crate) struct TokenFile {
    path: PathBuf,
    state: Arc<State>,
    counters: Arc<Counters>,
    /// The error of the last read, so that it is logged once.
    problem: Option<String>,
}

/// State shared by the thread that reads the file and its overseer.
struct State {
    in_force: watch::Sender<InForce>,
    /// When the file was last known to hold the tokens in force.
    confirmed: Mutex<Instant>,
    /// For how long the tokens from before stand in for a file that cannot be used.
    usable_for: Duration,
}

impl State {
    fn has_tokens(&self) -> bool {
        self.in_force.borrow().as_ref().is_ok_and(|tokens| !tokens.is_empty())
    }

    fn confirm(&self) {
        *locked(&self.confirmed) = Instant::now();
    }

    fn is_over(&self) -> bool {
        locked(&self.confirmed).elapsed() >= self.usable_for
    }

    /// Revokes the tokens if no look at the file has come to an end for that long, as on a network file system that hangs.
    fn oversee(&self) {
        if self.is_over() && self.has_tokens() {
            drop(self.in_force.send_replace(Err(StoreFailure::Unreadable)));
            tracing::error!("the deployment file has not answered for an hour; no static token is accepted");
        }
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf, in_force: watch::Sender<InForce>, counters: Arc<Counters>) -> Self {
        let usable_for = Duration::from_millis(TOKENS_USABLE_FOR);
        let state = State { in_force, confirmed: Mutex::new(Instant::now()), usable_for };
        Self { path, state: Arc::new(state), counters, problem: None }
    }

    fn tokens(&self) -> Result<(Found, Tokens), StoreError> {
        let found = store::look(&self.path)?;
        let tokens = found.tokens()?;
        Ok((found, tokens))
    }

    fn would_revoke(&self, read: &Result<(Found, Tokens), StoreError>) -> bool {
        read.as_ref().is_ok_and(|(_, tokens)| tokens.is_empty()) && self.state.has_tokens()
    }

    fn take_up(&mut self, found: &Found, tokens: Tokens, is_asked: bool) {
        self.problem = None;
        self.state.confirm();
        let token = found.token.as_ref().map_or_else(|| "only hashes".to_owned(), |token| mask_token(token.reveal()));
        let is_news = self.state.in_force.borrow().as_ref().map(|current| &**current) != Ok(&tokens);
        if !is_news {
            if is_asked {
                self.counters.reloads.add(Reload::Unchanged);
                tracing::info!(file = %self.path.display(), token, "the tokens are the same as before");
            }
            return;
        }
        let has_tokens = !tokens.is_empty();
        drop(self.state.in_force.send_replace(Ok(Arc::new(tokens))));
        self.counters.reloads.add(Reload::Changed);
        if has_tokens {
            tracing::info!(file = %self.path.display(), token, "the tokens have changed");
        }
        found.warn();
    }

    fn fail(&mut self, error: &StoreError, is_asked: bool) {
        let State { in_force, .. } = &*self.state;
        let is_over = self.state.is_over();
        let (problem, failure) = (error.to_string(), failure(error));
        let was_in_force = self.state.has_tokens();
        if is_over && (was_in_force || in_force.borrow().is_err()) {
            in_force.send_if_modified(|current| std::mem::replace(current, Err(failure)) != Err(failure));
        }
        if is_asked || self.problem.as_ref() != Some(&problem) || (is_over && was_in_force) {
            self.counters.reloads.add(Reload::Failure);
            let effect = match (was_in_force, is_over) {
                (true, false) => "the tokens from before stay in force, for an hour at most",
                _ => "no static token is accepted",
            };
            tracing::error!("{problem}; {effect}");
        }
        self.problem = Some(problem);
    }
}

impl Reread for TokenFile {
    fn read(&mut self, is_asked: bool) -> bool {
        let mut read = self.tokens();
        let end = Instant::now() + CONFIRMATION;
        while self.would_revoke(&read) && Instant::now() < end {
            thread::sleep(LOOK_EVERY);
            read = self.tokens();
        }
        match read {
            Ok((found, tokens)) => {
                self.take_up(&found, tokens, is_asked);
                true
            }
            Err(error) => {
                self.fail(&error, is_asked);
                false
            }
        }
    }

    fn is_unchanged(&mut self) {
        self.state.confirm();
    }

    fn overseer(&self) -> Option<Box<dyn FnMut() -> bool + Send>> {
        let state = Arc::downgrade(&self.state);
        Some(Box::new(move || state.upgrade().map(|state| state.oversee()).is_some()))
    }
}

const fn failure(error: &StoreError) -> StoreFailure {
    match error {
        StoreError::Yaml { .. } | StoreError::Content { .. } | StoreError::Token { .. } => StoreFailure::Unusable,
        _ => StoreFailure::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc, thread, time::Duration};

    use nodetool_edge_auth::{StoreFailure, Tokens};
    use tokio::sync::watch;

    use super::{CONFIRMATION, InForce, TokenFile};
    use crate::{metrics::Counters, watch::Reread};

    fn following(text: &str) -> (tempfile::TempDir, TokenFile, watch::Receiver<InForce>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.yaml");
        fs::write(&path, text).unwrap();
        let (sender, in_force) = watch::channel(Ok(Arc::default()));
        let mut file = TokenFile::new(path, sender, Arc::<Counters>::default());
        assert!(file.read(false));
        (folder, file, in_force)
    }

    #[test]
    fn tokens_outlast_a_file_that_cannot_be_used_for_a_limited_time() {
        for (broken, failure) in [("a: [", StoreFailure::Unusable), ("worker_auth_token: a b\n", StoreFailure::Unusable)] {
            let (folder, mut file, in_force) = following("worker_auth_token: abc\n");
            let path = folder.path().join("deployment.yaml");
            let known = in_force.borrow().clone();
            assert_eq!(known, Ok(Arc::new(Tokens::single("abc").unwrap())));
            fs::write(&path, broken).unwrap();
            assert!(!file.read(false));
            assert_eq!(*in_force.borrow(), known);
            Arc::get_mut(&mut file.state).unwrap().usable_for = Duration::ZERO;
            assert!(!file.read(false));
            assert_eq!(*in_force.borrow(), Err(failure));
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            assert!(!file.read(false));
            assert_eq!(*in_force.borrow(), Err(StoreFailure::Unreadable));
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "worker_auth_token: abc\n").unwrap();
            assert!(file.read(false));
            assert_eq!(*in_force.borrow(), known);
        }
    }

    #[test]
    fn tokens_are_revoked_although_no_look_at_the_file_ends() {
        let (_folder, mut file, in_force) = following("worker_auth_token: abc\n");
        Arc::get_mut(&mut file.state).unwrap().usable_for = CONFIRMATION;
        let mut oversee = file.overseer().unwrap();
        assert!(oversee());
        assert!(in_force.borrow().is_ok(), "the time is not over");
        thread::sleep(CONFIRMATION / 2);
        file.is_unchanged();
        thread::sleep(CONFIRMATION / 2);
        assert!(oversee());
        assert!(in_force.borrow().is_ok(), "a look came to an end meanwhile");
        thread::sleep(CONFIRMATION / 2);
        assert!(oversee());
        assert_eq!(*in_force.borrow(), Err(StoreFailure::Unreadable));
        assert!(file.read(false));
        assert!(in_force.borrow().is_ok(), "the file answers again");
        drop(file);
        assert!(!oversee(), "it ends with the one that reads the file");
    }

    #[test]
    fn a_file_without_a_token_counts_once_it_stays_so() {
        let (folder, mut file, in_force) = following("worker_auth_token: abc\n");
        let path = folder.path().join("deployment.yaml");
        let known = in_force.borrow().clone();
        for empty in [None, Some(""), Some("a: 1\n"), Some("accepted_tokens: []\n")] {
            let lose = || empty.map_or_else(|| fs::remove_file(&path).unwrap(), |text| fs::write(&path, text).unwrap());
            lose();
            let editor = thread::spawn({
                let path = path.clone();
                move || {
                    thread::sleep(CONFIRMATION / 4);
                    fs::write(path, "worker_auth_token: abc\n").unwrap();
                }
            });
            assert!(file.read(false));
            editor.join().unwrap();
            assert_eq!(*in_force.borrow(), known, "{empty:?}");
            lose();
            assert!(file.read(false));
            assert_eq!(*in_force.borrow(), Ok(Arc::default()), "{empty:?}");
            fs::write(&path, "worker_auth_token: abc\n").unwrap();
            assert!(file.read(false));
        }
    }
}
