//! How often clients failed to prove who they are: whoever goes on failing is told to wait, and nobody is asked on its behalf.

use alloc::collections::{BTreeMap, VecDeque};
use core::net::{IpAddr, Ipv6Addr};

use crate::time::UnixTime;

/// For how long failures count, in milliseconds from the first of them.
const WINDOW: u64 = 60_000;

/// How many clients are known at once: whoever has more addresses than these makes room for itself, but fills no memory.
const MAX_CLIENTS: usize = 16_384;

/// Failures of clients by address. Of IPv6 it is the network that counts: one household has 2^64 addresses.
#[derive(Clone, Debug)]
pub struct Failures {
    /// How many a client may have within a minute.
    limit: u32,
    windows: BTreeMap<IpAddr, Window>,
    /// The clients in the order of their first failures.
    order: VecDeque<(UnixTime, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: UnixTime,
    failures: u32,
}

impl Failures {
    /// Nobody has failed yet.
    pub const fn new(limit: u32) -> Self {
        Self { limit, windows: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What stands for a client: its address or, of IPv6, its network.
    pub fn key(client: IpAddr) -> IpAddr {
        match client.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address => address,
        }
    }

    /// Whether nobody has failed of late.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// For how many seconds a client has to wait that has failed too often.
    pub fn wait(&self, client: IpAddr, now: UnixTime) -> Option<u32> {
        let window = self.windows.get(&Self::key(client)).filter(|window| is_open(window.began, now))?;
        (window.failures >= self.limit).then(|| seconds_left(window.began, now))
    }

    /// Counts one more failure. If it is one too many, for how many seconds the client has to wait.
    pub fn count(&mut self, client: IpAddr, now: UnixTime) -> Option<u32> {
        let client = Self::key(client);
        self.forget(now);
        let window = self.windows.entry(client).or_insert(Window { began: now, failures: 0 });
        if window.failures == 0 || !is_open(window.began, now) {
            self.order.push_back((now, client));
            *window = Window { began: now, failures: 0 };
        }
        let is_one_too_many = window.failures >= self.limit;
        window.failures = window.failures.saturating_add(1);
        is_one_too_many.then(|| seconds_left(window.began, now))
    }

    fn forget(&mut self, now: UnixTime) {
        while let Some((began, client)) = self.order.front().copied() {
            if is_open(began, now) && self.order.len() < MAX_CLIENTS {
                break;
            }
            self.order.pop_front();
            if self.windows.get(&client).is_some_and(|window| window.began == began) {
                self.windows.remove(&client);
            }
        }
    }
}

/// A window of the future was opened before the clock was set back.
fn is_open(began: UnixTime, now: UnixTime) -> bool {
    began <= now && now.millis_since(began) < WINDOW
}

fn seconds_left(began: UnixTime, now: UnixTime) -> u32 {
    let left = WINDOW.saturating_sub(now.millis_since(began)).div_ceil(1000);
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Failures, MAX_CLIENTS};
    use crate::time::UnixTime;
    use core::net::{IpAddr, Ipv4Addr};

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn so_many_a_minute_and_no_more() {
        let mut failures = Failures::new(3);
        let at = UnixTime::from_millis;
        assert_eq!(failures.wait(ONE, at(0)), None);
        for time in [1000, 2000, 31_000] {
            assert_eq!((failures.wait(ONE, at(time)), failures.count(ONE, at(time))), (None, None));
        }
        assert_eq!((failures.wait(ONE, at(31_000)), failures.count(ONE, at(31_001))), (Some(30), Some(30)));
        assert_eq!(failures.wait("192.0.2.2".parse().unwrap(), at(31_000)), None, "another client");
        assert_eq!((failures.wait(ONE, at(60_999)), failures.wait(ONE, at(61_000))), (Some(1), None), "a minute after the first");
        assert_eq!(failures.count(ONE, at(61_000)), None);
        assert_eq!((failures.windows.len(), failures.order.len()), (1, 1));
    }

    #[test]
    fn a_client_is_a_network_of_ipv6_and_one_address_of_ipv4() {
        let now = UnixTime::from_secs(1);
        let mut failures = Failures::new(0);
        let waits = |failures: &Failures, client: &str| failures.wait(client.parse().unwrap(), now).is_some();
        for client in ["2001:db8:1:2::3", "::ffff:192.0.2.1"] {
            failures.count(client.parse().unwrap(), now);
        }
        assert!(waits(&failures, "2001:db8:1:2:ffff::9") && waits(&failures, "192.0.2.1"));
        assert!(!waits(&failures, "2001:db8:1:3::3") && !waits(&failures, "192.0.2.2"));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_waiting() {
        let mut failures = Failures::new(0);
        for client in ["192.0.2.9".parse().unwrap(), ONE] {
            failures.count(client, UnixTime::from_secs(5000));
        }
        assert_eq!(failures.wait(ONE, UnixTime::from_secs(100)), None);
        failures.count(ONE, UnixTime::from_secs(100));
        assert_eq!(failures.wait(ONE, UnixTime::from_secs(101)), Some(59));
        failures.count(ONE, UnixTime::from_secs(6000));
        assert_eq!((failures.windows.len(), failures.order.len()), (1, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut failures = Failures::new(0);
        for number in 0..(MAX_CLIENTS as u32 + 1000) {
            failures.count(Ipv4Addr::from_bits(number).into(), UnixTime::from_millis(number.into()));
        }
        assert_eq!((failures.windows.len(), failures.order.len()), (MAX_CLIENTS, MAX_CLIENTS));
        assert_eq!(failures.wait(Ipv4Addr::from_bits(0).into(), UnixTime::from_secs(20)), None);
    }
}
