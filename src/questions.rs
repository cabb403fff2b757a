//! Questions to the user endpoint that are under way, shared fairly between clients.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::{time::UnixTime, token::Secret};

/// Questions at one time, of one process or isolate.
const MAX: usize = 32;

/// So many of them are kept for tokens that the project has vouched for before.
const KEPT_FOR_KNOWN: usize = 8;

/// Of one client, so many about known tokens, and so many about others.
const MAX_OF_CLIENT: usize = 16;

/// A token that only the project itself can check, to be asked about at its user endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserQuestion {
    /// The token.
    pub token: Secret,
    /// Whether the project has vouched for this very token before, which no forger has.
    pub is_known: bool,
    /// What stands for the client (see [`Failures::key`](crate::Failures::key)), if it is known.
    pub client: Option<IpAddr>,
}

impl UserQuestion {
    pub(crate) const fn new(token: Secret, is_known: bool, client: Option<IpAddr>) -> Self {
        Self { token, is_known, client }
    }
}

/// The questions under way. Neither one client nor forged tokens can take all the places.
#[derive(Debug, Default)]
pub struct Questions {
    under_way: Vec<UnderWay>,
    last: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    client: Option<IpAddr>,
    is_known: bool,
    since: UnixTime,
}

impl Questions {
    /// Takes a place for a question, if there is one for it now. Gives the number by which it [ends](Self::end).
    pub fn begin(&mut self, question: &UserQuestion, now: UnixTime) -> Option<u64> {
        let limit = if question.is_known { MAX } else { MAX - KEPT_FOR_KNOWN };
        let of_kind = self.under_way.iter().filter(|other| question.is_known || !other.is_known).count();
        if self.under_way.len() >= MAX || of_kind >= limit || self.of_client(question) >= MAX_OF_CLIENT {
            return None;
        }
        self.last += 1;
        self.under_way.push(UnderWay { number: self.last, client: question.client, is_known: question.is_known, since: now });
        Some(self.last)
    }

    /// Who goes first among questions that wait, the lowest first: known tokens, then clients with few questions under way.
    pub fn rank(&self, question: &UserQuestion) -> (bool, usize) {
        (!question.is_known, self.of_client(question))
    }

    /// Gives a place free.
    pub fn end(&mut self, number: u64) {
        self.under_way.retain(|other| other.number != number);
    }

    /// Gives the places free of questions that began longer ago than this, in milliseconds: those that went with their requests.
    pub fn forget(&mut self, age: u64, now: UnixTime) {
        self.under_way.retain(|other| other.since <= now && now.millis_since(other.since) < age);
    }

    fn of_client(&self, question: &UserQuestion) -> usize {
        let is_alike = |other: &&UnderWay| other.client == question.client && other.is_known == question.is_known;
        self.under_way.iter().filter(is_alike).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{Questions, UserQuestion};
    use crate::{time::UnixTime, token::Secret};

    const NOW: UnixTime = UnixTime::from_secs(1000);

    fn by(client: u8, is_known: bool) -> UserQuestion {
        UserQuestion::new(Secret::default(), is_known, Some([127, 0, 0, client].into()))
    }

    fn taken(questions: &mut Questions, count: u8, question: impl Fn(u8) -> UserQuestion) -> usize {
        (0..count).filter_map(|number| questions.begin(&question(number), NOW)).count()
    }

    #[test]
    fn places_are_left_for_other_clients_and_for_known_tokens() {
        let mut questions = Questions::default();
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 16);
        assert_eq!(questions.rank(&by(1, false)), (true, 16));
        assert!(questions.rank(&by(2, false)) < questions.rank(&by(1, false)));
        assert!(questions.rank(&by(1, true)) < questions.rank(&by(2, false)));
        assert_eq!(taken(&mut questions, 100, |number| by(number + 2, false)), 8);
        assert_eq!(taken(&mut questions, 100, |_| by(1, true)), 8, "the client's other questions do not count");
        assert_eq!(taken(&mut questions, 100, |_| by(2, true)), 0);
    }

    #[test]
    fn a_place_is_free_when_its_question_ends_or_is_forgotten() {
        let mut questions = Questions::default();
        let number = questions.begin(&by(1, false), NOW).unwrap();
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 15);
        questions.end(number);
        questions.end(number);
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 1);
        questions.forget(1000, UnixTime::from_millis(1_000_999));
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 0);
        questions.forget(1000, UnixTime::from_millis(1_001_000));
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 16);
        questions.forget(1000, UnixTime::from_secs(1));
        assert_eq!(taken(&mut questions, 100, |_| by(1, false)), 16, "the clock was set back");
    }
}
