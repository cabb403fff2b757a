//! What was found out about tokens, by digest of the token: bounded in number and time. What is used at least once
//! while half as many others come as there is room for stays.

use alloc::collections::BTreeMap;
use core::ops::Range;

use crate::{time::UnixTime, token::Digest};

/// One finding for each of a number of tokens, for a while.
#[derive(Clone, Debug)]
pub(crate) struct Cache<T> {
    capacity: usize,
    entries: BTreeMap<Digest, Entry<T>>,
    /// From the next to go to the last to go.
    order: BTreeMap<u64, Digest>,
    /// The place that was given last.
    last: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    finding: T,
    /// From the finding to the end. Before it, the clock was set back, and nobody knows how long ago it was.
    holds: Range<UnixTime>,
    /// In the order.
    place: u64,
}

impl<T: Clone> Cache<T> {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { capacity, entries: BTreeMap::new(), order: BTreeMap::new(), last: 0 }
    }

    pub(crate) fn get(&mut self, token: &Digest, now: UnixTime) -> Option<T> {
        let entry = self.entries.get_mut(token)?;
        if !entry.holds.contains(&now) {
            self.order.remove(&entry.place);
            self.entries.remove(token);
            return None;
        }
        // To move it each time would cost more than to find it, and as long as half as many as there is room for can come before
        // it goes, there is no need to.
        if self.last - entry.place >= self.capacity as u64 / 2 {
            self.order.remove(&entry.place);
            self.last += 1;
            entry.place = self.last;
            self.order.insert(self.last, *token);
        }
        Some(entry.finding.clone())
    }

    pub(crate) fn insert(&mut self, token: Digest, finding: T, holds: Range<UnixTime>) {
        if self.capacity == 0 {
            return;
        }
        self.last += 1;
        if let Some(known) = self.entries.insert(token, Entry { finding, holds, place: self.last }) {
            self.order.remove(&known.place);
        }
        self.order.insert(self.last, token);
        if self.entries.len() > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;
    use crate::{time::UnixTime, token::Digest, verdict::Identity};

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn what_is_used_outstays_what_is_not() {
        let now = UnixTime::from_secs(1);
        let holds = now..UnixTime::from_secs(9);
        let mut cache = Cache::new(2);
        cache.insert(digest(1), Identity::STATIC, holds.clone());
        cache.insert(digest(2), Identity::STATIC, holds.clone());
        assert!(cache.get(&digest(1), now).is_some());
        cache.insert(digest(3), Identity::STATIC, holds.clone());
        assert!(cache.get(&digest(2), now).is_none());
        assert!(cache.get(&digest(1), now).is_some() && cache.get(&digest(3), now).is_some());
        cache.insert(digest(3), Identity::STATIC, holds.clone());
        assert_eq!((cache.entries.len(), cache.order.len()), (2, 2));
    }

    #[test]
    fn what_is_used_while_half_as_many_come_as_there_is_room_for_stays() {
        let now = UnixTime::from_secs(1);
        let holds = now..UnixTime::from_secs(9);
        let mut cache = Cache::new(8);
        cache.insert(digest(0), Identity::STATIC, holds.clone());
        for number in 1..=200 {
            cache.insert(digest(number), Identity::STATIC, holds.clone());
            assert!(number % 4 != 0 || cache.get(&digest(0), now).is_some(), "after {number}");
            assert!(cache.entries.len() <= 8 && cache.entries.len() == cache.order.len());
        }
    }

    #[test]
    fn nothing_outlives_its_time() {
        let mut cache = Cache::new(2);
        cache.insert(digest(1), Identity::STATIC, UnixTime::from_secs(1)..UnixTime::from_secs(5));
        assert!(cache.get(&digest(1), UnixTime::from_secs(1)).is_some());
        assert!(cache.get(&digest(1), UnixTime::from_millis(4999)).is_some());
        assert!(cache.get(&digest(1), UnixTime::from_secs(5)).is_none());
        assert_eq!((cache.entries.len(), cache.order.len()), (0, 0));
        cache.insert(digest(1), Identity::STATIC, UnixTime::from_secs(1)..UnixTime::from_secs(5));
        assert!(cache.get(&digest(1), UnixTime::from_millis(999)).is_none());
        assert_eq!((cache.entries.len(), cache.order.len()), (0, 0));
        let mut none = Cache::new(0);
        none.insert(digest(1), Identity::STATIC, UnixTime::from_secs(1)..UnixTime::from_secs(5));
        assert!(none.get(&digest(1), UnixTime::from_secs(1)).is_none());
    }
}
