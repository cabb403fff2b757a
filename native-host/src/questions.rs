//! Questions to the user endpoint that wait for a place: known tokens go first, then clients with few questions under way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use nodetool_edge_auth::{Questions as UnderWay, UserQuestion};
use tokio::sync::oneshot;

use crate::{clock, lock::locked};

/// Questions that wait at one time. Of more than these, one of the client that has most of them gives up.
const MAX_WAITING: usize = 1024;

/// The questions of this process.
#[derive(Default)]
pub(crate) struct Questions(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: UnderWay,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

struct Waiting {
    question: UserQuestion,
    go: oneshot::Sender<u64>,
}

/// The place of one question, until it is dropped.
pub(crate) struct Place<'a> {
    questions: &'a Questions,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.questions.state();
        state.under_way.end(self.number);
        state.let_go();
    }
}

impl Questions {
    /// A place, as soon as there is one; nothing if there are too many questions.
    pub(crate) async fn place(&self, question: &UserQuestion) -> Option<Place<'_>> {
        let mut came = {
            let mut state = self.state();
            let (go, came) = oneshot::channel();
            state.wait(Waiting { question: question.clone(), go });
            state.let_go();
            Came { questions: self, came }
        };
        let number = (&mut came.came).await.ok()?;
        Some(Place { questions: self, number })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }
}

/// A request that waits. If it is dropped when its place has just come, the place is free again.
struct Came<'a> {
    questions: &'a Questions,
    came: oneshot::Receiver<u64>,
}

impl Drop for Came<'_> {
    fn drop(&mut self) {
        self.came.close();
        if let Ok(number) = self.came.try_recv() {
            drop(Place { questions: self.questions, number });
        }
    }
}

impl State {
    fn wait(&mut self, waiting: Waiting) {
        self.waiting.retain(|other| !other.go.is_closed());
        self.waiting.push(waiting);
        if self.waiting.len() > MAX_WAITING {
            let mut counts = BTreeMap::<_, usize>::new();
            for waiting in &self.waiting {
                *counts.entry(waiting.question.client).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(client, _)| client);
            if let Some(latest) = self.waiting.iter().rposition(|waiting| Some(waiting.question.client) == most) {
                self.waiting.remove(latest);
            }
        }
    }

    /// Lets those that wait go on, as far as there are places.
    fn let_go(&mut self) {
        self.waiting.retain(|other| !other.go.is_closed());
        loop {
            let mut order: Vec<_> = (0..self.waiting.len()).collect();
            order.sort_by_cached_key(|at| self.waiting.get(*at).map(|waiting| self.under_way.rank(&waiting.question)));
            let next = order.into_iter().find_map(|at| {
                let number = self.under_way.begin(&self.waiting.get(at)?.question, clock::now())?;
                Some((at, number))
            });
            let Some((at, number)) = next else { return };
            if self.waiting.remove(at).go.send(number).is_err() {
                self.under_way.end(number);
            }
        }
    }
}
