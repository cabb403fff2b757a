//! JSON Web Keys (RFC 7517): a strict reading of a key set, the one key that a token means, and how long a set holds.

use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{json::Json, time::UnixTime};

/// Larger than any honest key set.
pub const MAX_JWKS: usize = 64 * 1024;

/// More keys than a rotation ever needs at once.
const MAX_KEYS: usize = 64;

/// What takes longer to check than anyone's key is worth.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// 3, 17, 37 and 65537: those that WebCrypto takes in workerd. Others nobody uses, and the hosts are to agree.
const EXPONENTS: [&[u8]; 4] = [&[3], &[17], &[37], &[1, 0, 1]];

/// An algorithm of RFC 7518, section 3.1, or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Algorithm {
    Hs256,
    Es256,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    EdDsa,
}

impl Algorithm {
    /// The name in a header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// By the name in a header. `none` is not an algorithm.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "ES256" => Self::Es256,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A digest of all that makes a key and what it is for.
pub type Thumbprint = [u8; 32];

/// A public key, with the one algorithm that it verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    id: Option<String>,
    /// The algorithm that this key is for. What a token says has no say in it.
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: Material,
    /// By which hosts keep what they made of it.
    pub thumbprint: Thumbprint,
}

/// The public part of a key, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Material {
    /// A point on P-256.
    P256 {
        /// 32 bytes.
        x: Vec<u8>,
        /// 32 bytes.
        y: Vec<u8>,
    },
    /// RSA of 2048 to 8192 bits.
    Rsa {
        /// The modulus, big-endian.
        n: Vec<u8>,
        /// The exponent, big-endian.
        e: Vec<u8>,
    },
    /// Ed25519.
    Ed25519 {
        /// 32 bytes.
        x: Vec<u8>,
    },
}

/// A set of public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwks(Vec<Key>);

impl Jwks {
    /// Reads a key set. A key that is not for verifying, or of a kind that is not served, is passed over; an empty set
    /// is a project whose tokens are signed with its secret.
    ///
    /// Nothing if it is no key set at all.
    pub fn parse(document: &[u8]) -> Option<Self> {
        if document.len() > MAX_JWKS {
            return None;
        }
        let document = Json::parse(document)?;
        let keys = document.get("keys")?.as_array()?;
        (keys.len() <= MAX_KEYS).then(|| Self(keys.iter().filter_map(Key::parse).collect()))
    }

    /// Whether no key in it can verify anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys that can verify something.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The one key that a token can mean. Two that fit are none: nobody knows which of them the issuer meant.
    pub(crate) fn select(self: &Arc<Self>, algorithm: Algorithm, id: Option<&str>) -> Option<SelectedKey> {
        let fits = |key: &Key| key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut fitting = self.0.iter().enumerate().filter(|(_, key)| fits(key)).map(|(index, _)| index);
        match (fitting.next(), fitting.next()) {
            (Some(index), None) => Some(SelectedKey { keys: Arc::clone(self), index }),
            _ => None,
        }
    }
}

/// A key of a set that outlives it.
#[derive(Clone, Debug)]
pub(crate) struct SelectedKey {
    keys: Arc<Jwks>,
    index: usize,
}

impl SelectedKey {
    pub(crate) fn get(&self) -> Option<&Key> {
        self.keys.0.get(self.index)
    }

    pub(crate) fn thumbprint(&self) -> Option<Thumbprint> {
        self.get().map(|key| key.thumbprint)
    }
}

impl Key {
    /// The key as a JWK, with nothing but what makes it.
    pub fn to_jwk(&self) -> String {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.material {
            Material::P256 { x, y } => format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, text(x), text(y)),
            Material::Rsa { n, e } => format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, text(n), text(e)),
            Material::Ed25519 { x } => format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, text(x)),
        }
    }

    fn parse(json: &Json<'_>) -> Option<Self> {
        let member = |name: &str| json.get(name).map_or(Some(None), |value| value.as_str().map(Some));
        let is_for_verifying = matches!(member("use")?, None | Some("sig"))
            && json.get("key_ops").is_none_or(|operations| {
                operations
                    .as_array()
                    .is_some_and(|operations| operations.iter().any(|operation| operation.as_str() == Some("verify")))
            });
        if !is_for_verifying {
            return None;
        }
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(json.get(name)?.as_str()?).ok();
        let coordinate = |name: &str| bytes(name).filter(|bytes| bytes.len() == 32);
        let (default, allowed, material): (_, &[Algorithm], _) = match (member("kty")??, member("crv")?) {
            ("EC", Some("P-256")) => {
                (Algorithm::Es256, &[Algorithm::Es256], Material::P256 { x: coordinate("x")?, y: coordinate("y")? })
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate("x").filter(|x| is_sound_ed25519(x))?;
                (Algorithm::EdDsa, &[Algorithm::EdDsa], Material::Ed25519 { x })
            }
            ("RSA", None) => {
                let number = |name: &str| bytes(name).map(without_leading_zeros);
                let (n, e) = (number("n")?, number("e")?);
                let bits = bit_length(&n);
                if !(2048..=MAX_RSA_BITS).contains(&bits) || !EXPONENTS.contains(&e.as_slice()) {
                    return None;
                }
                // Without a word of its own an RSA key is for the algorithm that everybody means by it.
                (
                    Algorithm::Rs256,
                    &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256],
                    Material::Rsa { n, e },
                )
            }
            _ => return None,
        };
        let algorithm = match member("alg")? {
            None => default,
            Some(name) => Algorithm::named(name).filter(|named| allowed.contains(named))?,
        };
        Some(Self { id: member("kid")?.map(str::to_owned), algorithm, thumbprint: thumbprint(algorithm, &material), material })
    }
}

/// Some issuers write them (RFC 7518, section 6.3.1.1, forbids it), and not every implementation reads them.
fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    number.drain(..number.iter().take_while(|byte| **byte == 0).count());
    number
}

/// Whether a point of Ed25519 is written as RFC 8032, section 5.1.3, has it, and is not among the eight for which anyone
/// can sign. What comes of others differs from one implementation to the next.
fn is_sound_ed25519(point: &[u8]) -> bool {
    const ONE: [u8; 32] = {
        let mut one = [0; 32];
        one[31] = 1;
        one
    };
    /// p is 2^255 - 19.
    const P_LESS_1: [u8; 32] = {
        let mut number = [0xff; 32];
        number[0] = 0x7f;
        number[31] = 0xec;
        number
    };
    /// The y of the points of order 8. Those of the others are 0, 1 and p - 1.
    const OF_ORDER_8: [&[u8; 32]; 2] = [
        b"\x05\xfc\x53\x6d\x88\x02\x38\xb1\x39\x33\xc6\xd3\x05\xac\xdf\xd5\xf0\x98\xef\xf2\x89\xf4\xc3\x45\xb0\x27\xb2\xc2\x8f\x95\xe8\x26",
        b"\x7a\x03\xac\x92\x77\xfd\xc7\x4e\xc6\xcc\x39\x2c\xfa\x53\x20\x2a\x0f\x67\x10\x0d\x76\x0b\x3c\xba\x4f\xd8\x4d\x3d\x70\x6a\x17\xc7",
    ];
    // y, its highest byte first, and without the sign of x.
    let mut y: Vec<u8> = point.iter().rev().copied().collect();
    if let Some(highest) = y.first_mut() {
        *highest &= 0x7f;
    }
    y.as_slice() > ONE.as_slice() && y.as_slice() < P_LESS_1.as_slice() && !OF_ORDER_8.iter().any(|other| y == other.as_slice())
}

fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn thumbprint(algorithm: Algorithm, material: &Material) -> Thumbprint {
    let mut digest = Sha256::new();
    digest.update([algorithm as u8]);
    let parts: [&[u8]; 2] = match material {
        Material::P256 { x, y } => [x, y],
        Material::Rsa { n, e } => [n, e],
        Material::Ed25519 { x } => [x, &[]],
    };
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Between two refetches because of a key that the known set lacks, in milliseconds.
pub const MISS_COOLDOWN: u64 = 30_000;

/// After a fetch that failed, in milliseconds: what `Retry-After` tells clients.
pub const FAILURE_COOLDOWN: u64 = 5_000;

/// How long keys hold at most, in milliseconds.
const MAX_AGE: u64 = 600_000;

/// For how long keys past their age stand in for a server that does not answer, in milliseconds.
pub const USABLE_FOR: u64 = 3_600_000;

/// The keys of a project as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownKeys {
    held: Option<Held>,
    /// When keys were last asked for, and whether any came.
    attempt: Option<(UnixTime, bool)>,
    /// When they were last asked for although the known ones were fresh.
    missed_at: Option<UnixTime>,
}

/// What an attempt to fetch keys came to.
#[derive(Clone, Debug)]
pub(crate) struct KeyNews {
    /// The keys and their `max-age` in seconds, if any came.
    pub(crate) keys: Option<(Arc<Jwks>, Option<u64>)>,
    pub(crate) at: UnixTime,
    /// Whether it was for a key that fresh keys lacked.
    pub(crate) for_missing: bool,
}

#[derive(Clone, Debug)]
struct Held {
    keys: Arc<Jwks>,
    /// When they were fetched; never, if they were pinned.
    at: Option<UnixTime>,
    /// Milliseconds.
    max_age: u64,
}

/// What is known about the key that a token names.
pub(crate) enum Lookup {
    /// Here it is. If it should be fresher than it is, that is said.
    Found { key: SelectedKey, is_stale: bool },
    /// It may be among newer keys. Perhaps one past its age would do.
    Ask { has_stand_in: bool },
    /// There is no such key.
    Unknown,
    /// Nobody can say.
    Unavailable,
}

impl KnownKeys {
    /// Keys that hold for good.
    pub(crate) fn pinned(keys: Jwks) -> Self {
        Self { held: Some(Held { keys: Arc::new(keys), at: None, max_age: u64::MAX }), ..Self::default() }
    }

    /// When the keys were fetched, if there are any that were.
    pub(crate) fn fetched_at(&self) -> Option<UnixTime> {
        self.held.as_ref().and_then(|held| held.at)
    }

    /// `may_ask` is false once keys were asked for on behalf of this very request.
    pub(crate) fn look_up(&self, algorithm: Algorithm, id: Option<&str>, now: UnixTime, may_ask: bool) -> Lookup {
        let Some(held) = self.held.as_ref().filter(|held| held.at.is_none()) else {
            return self.look_up_fetched(algorithm, id, now, may_ask);
        };
        held.keys.select(algorithm, id).map_or(Lookup::Unknown, |key| Lookup::Found { key, is_stale: false })
    }

    fn look_up_fetched(&self, algorithm: Algorithm, id: Option<&str>, now: UnixTime, may_ask: bool) -> Lookup {
        let age = |held: &Held| held.at.map_or(0, |at| now.millis_since(at));
        let is_fresh = self.is_fresh(now);
        let usable = self.held.as_ref().filter(|held| age(held) < held.max_age.saturating_add(USABLE_FOR));
        let found = usable.and_then(|held| held.keys.select(algorithm, id));
        let has_failed = self.attempt.is_some_and(|(_, succeeded)| !succeeded);
        let may_ask = may_ask
            && !(has_failed && self.attempt.is_some_and(|(at, _)| now.millis_since(at) < FAILURE_COOLDOWN))
            && !(is_fresh && self.missed_at.is_some_and(|at| now.millis_since(at) < MISS_COOLDOWN));
        match found {
            Some(key) if is_fresh => Lookup::Found { key, is_stale: false },
            found if may_ask => Lookup::Ask { has_stand_in: found.is_some() },
            Some(key) => Lookup::Found { key, is_stale: true },
            None if is_fresh && !has_failed => Lookup::Unknown,
            None => Lookup::Unavailable,
        }
    }

    pub(crate) fn is_fresh(&self, now: UnixTime) -> bool {
        self.held.as_ref().is_some_and(|held| held.at.is_none_or(|at| now.millis_since(at) < held.max_age))
    }

    /// Newer keys, or the failure to get any, which leaves the known ones as they are.
    pub(crate) fn learn(&mut self, news: KeyNews) {
        let KeyNews { keys, at, for_missing } = news;
        // Requests overlap: an older answer must not undo a newer one. Keys that somebody else fetched before an attempt
        // failed here are none the worse for it.
        if self.attempt.is_none_or(|(known, _)| known <= at) {
            self.attempt = Some((at, keys.is_some()));
            if for_missing && keys.is_some() {
                self.missed_at = Some(at);
            }
        }
        if let Some((keys, max_age)) = keys
            && self.fetched_at().is_none_or(|known| known <= at)
        {
            self.held = Some(Held { keys, at: Some(at), max_age: lifetime(max_age) });
        }
    }

    /// Takes note that the clock may have been set back. Then nobody knows how old keys from the future are: newer ones
    /// are asked for, and these stand in as in an outage. Cooldowns begin anew. Else keys would stay fresh, and nobody
    /// would be asked, until the old time comes again.
    pub(crate) fn set_back(&mut self, now: UnixTime) {
        if let Some(Held { at: Some(at), max_age, .. }) = &mut self.held
            && *at > now
        {
            *at = now.before(*max_age);
        }
        let attempt = self.attempt.as_mut().map(|(at, _)| at);
        for at in [attempt, self.missed_at.as_mut()].into_iter().flatten() {
            *at = now.min(*at);
        }
    }
}

/// How long keys hold, in milliseconds, whose answer had this `max-age`: at most ten minutes, since Supabase's own edge
/// keeps them for ten more, and not so short that every request would fetch them.
pub fn lifetime(max_age: Option<u64>) -> u64 {
    max_age.map_or(MAX_AGE, |seconds| seconds.saturating_mul(1000)).clamp(MISS_COOLDOWN, MAX_AGE)
}

/// The `max-age` of a `Cache-Control` header, in seconds (RFC 9111, section 5.2.2.1); 0 if it must not be kept.
pub(crate) fn max_age(cache_control: &str) -> Option<u64> {
    let directives = || cache_control.split(',').map(str::trim);
    if directives().any(|directive| directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")) {
        return Some(0);
    }
    directives().find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("max-age") {
            return None;
        }
        value.trim().trim_matches('"').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Jwks, KeyNews, KnownKeys, Lookup, max_age};
    use crate::time::UnixTime;
    use alloc::{format, string::String, sync::Arc, vec::Vec};
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    const POINT: &str = r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    fn set(ids: &[&str]) -> Jwks {
        let keys: Vec<String> = ids.iter().map(|id| format!(r#"{{"kty":"EC","crv":"P-256","kid":"{id}",{POINT}}}"#)).collect();
        Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    fn news(ids: Option<&[&str]>, at: u64, for_missing: bool) -> KeyNews {
        KeyNews { keys: ids.map(|ids| (Arc::new(set(ids)), None)), at: UnixTime::from_secs(at), for_missing }
    }

    fn look(keys: &KnownKeys, id: &str, at: u64) -> &'static str {
        match keys.look_up(Algorithm::Es256, Some(id), UnixTime::from_secs(at), true) {
            Lookup::Found { is_stale: false, .. } => "found",
            Lookup::Found { is_stale: true, .. } => "stale",
            Lookup::Ask { .. } => "ask",
            Lookup::Unknown => "unknown",
            Lookup::Unavailable => "unavailable",
        }
    }

    #[test]
    fn one_refetch_for_a_missing_key_and_no_other_for_thirty_seconds() {
        let mut keys = KnownKeys::default();
        assert_eq!(look(&keys, "a", 1000), "ask");
        keys.learn(news(Some(&["a"]), 1000, false));
        assert_eq!((look(&keys, "a", 1000), look(&keys, "b", 1000)), ("found", "ask"));
        keys.learn(news(Some(&["a"]), 1001, true));
        assert_eq!((look(&keys, "b", 1030), look(&keys, "c", 1030)), ("unknown", "unknown"));
        assert_eq!((look(&keys, "b", 1031), look(&keys, "a", 1031)), ("ask", "found"));
    }

    #[test]
    fn an_outage_costs_no_key_for_an_hour_and_is_never_a_no() {
        let mut keys = KnownKeys::default();
        keys.learn(news(Some(&["a"]), 0, false));
        assert_eq!((look(&keys, "a", 599), look(&keys, "a", 600)), ("found", "ask"));
        keys.learn(news(None, 600, false));
        assert_eq!((look(&keys, "a", 604), look(&keys, "b", 604)), ("stale", "unavailable"));
        assert_eq!(look(&keys, "a", 605), "ask");
        for at in [605, 2000, 4199] {
            keys.learn(news(None, at, false));
            assert_eq!((look(&keys, "a", at), look(&keys, "b", at)), ("stale", "unavailable"), "{at}");
        }
        assert_eq!(look(&keys, "a", 4200), "unavailable");
        keys.learn(news(Some(&["b"]), 4300, false));
        assert_eq!((look(&keys, "b", 4300), look(&keys, "a", 4300)), ("found", "ask"));
    }

    #[test]
    fn what_comes_late_does_not_undo_what_came_before() {
        let mut keys = KnownKeys::default();
        keys.learn(news(Some(&["new"]), 10, false));
        keys.learn(news(Some(&["old"]), 9, false));
        keys.learn(news(None, 8, false));
        assert_eq!(look(&keys, "new", 10), "found");
    }

    #[test]
    fn pinned_keys_are_all_there_is() {
        let keys = KnownKeys::pinned(set(&["a"]));
        assert_eq!((look(&keys, "a", 1 << 40), look(&keys, "b", 0)), ("found", "unknown"));
    }

    #[test]
    fn exactly_one_key_must_fit() {
        let keys = Arc::new(set(&["a", "b", "b"]));
        assert!(keys.select(Algorithm::Es256, Some("a")).is_some());
        assert!(keys.select(Algorithm::Es256, Some("b")).is_none());
        assert!(keys.select(Algorithm::Es256, None).is_none());
        assert!(keys.select(Algorithm::Rs256, Some("a")).is_none());
        assert!(Arc::new(set(&["a"])).select(Algorithm::Es256, None).is_some());
    }

    #[test]
    fn keys_that_are_not_for_this_are_passed_over() {
        for key in [
            format!(r#"{{"kty":"EC","crv":"P-256","use":"enc",{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","alg":"RS256",{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","key_ops":["sign"],{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384",{POINT}}}"#),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.into(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(),
            "3".into(),
        ] {
            assert_eq!(Jwks::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes()), Some(Jwks::default()), "{key}");
        }
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(Jwks::parse(document.as_bytes()), None, "{document}");
        }
    }

    #[test]
    fn exponents_that_only_one_host_takes_are_none() {
        let modulus = BASE64_URL_SAFE_NO_PAD.encode([0xff; 256]);
        let taken = |exponent: &[u8]| {
            let e = BASE64_URL_SAFE_NO_PAD.encode(exponent);
            Jwks::parse(format!(r#"{{"keys":[{{"kty":"RSA","n":"{modulus}","e":"{e}"}}]}}"#).as_bytes()).unwrap()
                != Jwks::default()
        };
        for exponent in [&[3][..], &[17], &[37], &[1, 0, 1], &[0, 1, 0, 1]] {
            assert!(taken(exponent), "{exponent:?}");
        }
        for exponent in
            [&[][..], &[0], &[1], &[2], &[5], &[1, 1], &[1, 0, 0], &[1, 0, 3], &[0x80, 0, 0, 1], &[1, 0, 0, 0, 1], &[0xff; 256]]
        {
            assert!(!taken(exponent), "{exponent:?}");
        }
    }

    #[test]
    fn points_that_anyone_can_sign_for_or_that_are_spelled_otherwise_are_none() {
        let taken = |point: &[u8]| {
            let x = BASE64_URL_SAFE_NO_PAD.encode(point);
            Jwks::parse(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#).as_bytes()).unwrap()
                != Jwks::default()
        };
        let point = |lowest: u8, middle: u8, highest: u8| [&[lowest][..], &[middle; 30], &[highest]].concat();
        let of_order_8 = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(name).unwrap();
        let small = [
            point(0, 0, 0),
            point(1, 0, 0),
            point(0xec, 0xff, 0x7f),
            of_order_8("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
            of_order_8("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"),
            // From p on.
            point(0xed, 0xff, 0x7f),
            point(0xee, 0xff, 0x7f),
            point(0xff, 0xff, 0x7f),
        ];
        for mut point in small {
            assert!(!taken(&point), "{point:?}");
            point[31] |= 0x80;
            assert!(!taken(&point), "{point:?}");
        }
        for point in [point(2, 0, 0), point(0, 1, 0), point(0xeb, 0xff, 0x7f), point(0xff, 0xff, 0x7e), point(0xec, 0xff, 0xfe)] {
            assert!(taken(&point), "{point:?}");
        }
    }

    #[test]
    fn cache_control() {
        for (header, expected) in [
            ("public, max-age=600", Some(600)),
            ("Max-Age=\"5\"", Some(5)),
            ("no-store", Some(0)),
            ("max-age=60, no-cache", Some(0)),
            ("public", None),
            ("max-age=soon", None),
            ("", None),
        ] {
            assert_eq!(max_age(header), expected, "{header}");
        }
    }
}
