//! The gateways that a request has passed, by which one of them recognizes a request that comes back to it.
//!
//! Each adds its instance to the header `x-nodetool-auth-hops`, in the order of the way. It is a header of this project, and not `Via` (RFC
//! 9110, section 7.6.3), since servers answer otherwise where that is there: nginx does not compress.

use alloc::{format, string::String};

use sha2::{Digest as _, Sha256};

use crate::{facts::Field, settings::SETTINGS};

pub(crate) const HOPS: &str = "x-nodetool-auth-hops";

/// A request that passes more gateways than this goes in a circle, whatever they are called.
const MAX_HOPS: usize = 8;

/// The name of a gateway among others: of a process or, at the edge, of a deployment. It is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance(u64);

impl Instance {
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The same for all isolates of one deployment, which have nothing in common but their settings. Of those, secrets are left out: a
    /// server that sees the instance could try guesses of them.
    pub(crate) fn of_deployment(get: impl Fn(&str) -> Option<String>) -> Self {
        let mut digest = Sha256::new();
        for setting in SETTINGS.iter().filter(|setting| !setting.is_secret) {
            if let Some(value) = get(setting.name) {
                digest.update(format!("{}={value}\n", setting.name));
            }
        }
        Self(digest.finalize().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn is(self, hop: &[u8]) -> bool {
        hop == format!("{:016x}", self.0).as_bytes()
    }
}

/// Whether a request that has come this way is to go no further.
pub(crate) fn is_loop(hops: Field<'_>, instance: Option<Instance>) -> bool {
    listed(hops).count() >= MAX_HOPS || instance.is_some_and(|instance| listed(hops).any(|hop| instance.is(hop)))
}

/// The way with this instance at its end. What is no list of instances was made up by a client, and is left out.
pub(crate) fn with(hops: Field<'_>, Instance(number): Instance) -> String {
    let is_hop = |hop: &[u8]| hop.len() == 16 && hop.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut way = String::new();
    if listed(hops).all(is_hop) {
        for hop in listed(hops).filter_map(|hop| core::str::from_utf8(hop).ok()) {
            way.push_str(hop);
            way.push_str(", ");
        }
    }
    way + &format!("{number:016x}")
}

fn listed(hops: Field<'_>) -> impl Iterator<Item = &[u8]> {
    let value = match hops {
        Field::One(value) => Some(value),
        // A gateway sets it once.
        Field::Absent | Field::Many => None,
    };
    value.into_iter().flat_map(|value| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests {
    use super::{Field, Instance, is_loop, with};

    const OWN: Instance = Instance::new(0xab);
    const SHOWN: &str = "00000000000000ab";

    #[test]
    fn a_way_grows_by_its_instances_up_to_eight() {
        let mut way = alloc::string::String::new();
        for hop in 0..8 {
            let seen = if hop == 0 { Field::Absent } else { Field::One(way.as_bytes()) };
            assert!(!is_loop(seen, Some(OWN)), "{way}");
            way = with(seen, Instance::new(hop));
        }
        assert!(way.starts_with("0000000000000000, 0000000000000001, ") && way.ends_with(", 0000000000000007"), "{way}");
        assert!(is_loop(Field::One(way.as_bytes()), None));
    }

    #[test]
    fn an_instance_recognizes_itself_and_no_other() {
        for way in [SHOWN, "0000000000000001,00000000000000ab", " 00000000000000ab ,x"] {
            assert!(is_loop(Field::One(way.as_bytes()), Some(OWN)), "{way}");
            assert!(!is_loop(Field::One(way.as_bytes()), Some(Instance::new(2))), "{way}");
            assert!(!is_loop(Field::One(way.as_bytes()), None), "{way}");
        }
    }

    #[test]
    fn a_deployment_is_told_by_its_settings_but_its_secrets() {
        let of = |upstream: &'static str, provider: &'static str, token: &'static str| {
            Instance::of_deployment(move |name| {
                let value = match name {
                    "UPSTREAM_URL" => upstream,
                    "AUTH_PROVIDER" => provider,
                    "WORKER_AUTH_TOKEN" => token,
                    _ => return None,
                };
                Some(value.into())
            })
        };
        let one = of("https://api.example", "static", "a");
        assert_eq!(one, of("https://api.example", "static", "b"));
        assert_ne!(one, of("https://api.example", "supabase", "a"));
        assert_ne!(one, of("https://other.example", "static", "a"));
    }

    #[test]
    fn what_is_no_way_is_left_out() {
        for made_up in ["", "x", "00000000000000AB", "0000000000000001, x", "0000000000000001,", "\u{e4}", "a\r\nb"] {
            assert!(!is_loop(Field::One(made_up.as_bytes()), Some(OWN)));
            assert_eq!(with(Field::One(made_up.as_bytes()), OWN), SHOWN, "{made_up:?}");
        }
        assert_eq!(with(Field::Many, OWN), SHOWN);
    }
}
