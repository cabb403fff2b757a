//! `explain(settings, request)`: what would become of a request, and why, step by step.
//!
//! The request is described and not a `Request` of the Fetch standard, which would resolve dot segments and refuse headers
//! before anything is judged. Nobody is asked: keys and tokens come with the description.

use js_sys::{Error, JSON, Object, Promise};
use serde::Deserialize;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::told::{self, Problem};
use crate::{
    Action, Effects, Facts, Gate, Host, KeysAnswer, Project, SETTINGS, Scheme, Secret, Settings, SignatureCheck, Tokens,
    Unavailable, UnixTime, UserAnswer, UserQuestion, WantedKeys, Witness, begin, drive, trace,
    web::{self, crypto, promise::promise},
};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** A request, byte for byte as it would be sent, and what else a gateway knows of it. */
export interface Described {
  /** Whose rules and defaults hold; `"embedded"` if not said. */
  host?: "native" | "edge" | "embedded";
  method: string;
  /** Path and query as they stand in the request line. */
  target: string;
  headers?: [name: string, value: string][];
  /** Whether a body follows that no header tells of. */
  hasBody?: boolean;
  scheme?: "http" | "https";
  /** The address of the client, if it is known. */
  peer?: string;
  /** Unix seconds; the present if not said. */
  now?: number;
  /** The value of `worker_auth_token` in the token store, asked for where the settings hold no token. */
  store?: string;
  /** Whether that store cannot be read. */
  storeFails?: boolean;
}

/** One thing that was looked at. */
export interface Finding {
  /** `path`, `rule`, `credential`, `header`, `claim.exp`, `keys`, `signature`, … */
  step: string;
  /** `info` if there is nothing to judge in it. */
  status: "info" | "ok" | "refused";
  detail: string;
  /** The claim that it was, if it was one: what it says, what is asked of it, and the code of what is wrong with it. */
  claim: { name: string; value: string | null; wanted: string; problem: string | null } | null;
}

/** The path as somebody could read it. */
export interface Reading {
  path: string;
  /** What was done to another reading to come to this one; `null` for the path as it was sent. */
  by: string | null;
  /** The place of that other reading in the list. */
  from: number | null;
  /** The restricted places that it falls under. */
  places: string[];
}

/** What would become of a request. */
export interface Explanation {
  /** Those of the fewest rewritings first; none if there are more than are followed. */
  readings: Reading[];
  findings: Finding[];
  verdict: "pass" | "refuse";
  /** A stable code, if it is refused. */
  reason: string | null;
  /** Who sent it, if it passes and asks for an identity. */
  identity: { userId: string; tokenType: "static" | "user" | "none"; role: string | null } | null;
  /** What the gateway itself answers, if it does not send the request on. */
  answer: { status: number; headers: [name: string, value: string][]; body: string } | null;
  /** What goes on to the upstream, if it does. */
  forward: {
    /** Host and port of `UPSTREAM_URL`; `null` where that is for the embedder to know. */
    authority: string | null;
    method: string;
    target: string;
    /** Those of the client: `anew` are those that concern one connection only, and are made for the next one by whoever connects. */
    headers: { name: string; value: string; fate: "kept" | "dropped" | "anew" }[];
    /** Those of the gateway. */
    set: [name: string, value: string][];
  } | null;
}

/** What `explain` comes to. */
export interface Explained {
  /** Every wrong setting. Then there is nothing to explain. */
  errors: { name: string; problem: string }[];
  /** What is allowed but should be known. */
  warnings: string[];
  /** Where the public keys of the project are, if its users may pass. */
  jwksUrl: string | null;
  explanation: Explanation | null;
}

/** One setting of the gateway. */
export interface Setting {
  name: string;
  /** What it may be: choices between bars, or what kind of value it is. */
  values: string;
  help: string;
  isSecret: boolean;
  /** Whether only the native host knows it. */
  isNative: boolean;
}
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Described {
    host: Option<HostName>,
    method: String,
    target: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    has_body: bool,
    scheme: Option<SchemeName>,
    peer: Option<String>,
    now: Option<u64>,
    store: Option<String>,
    #[serde(default)]
    store_fails: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HostName {
    Native,
    Edge,
    Embedded,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SchemeName {
    Http,
    Https,
}

/// What would become of a request, and why. It asks nobody, and keeps nothing. Throws if the request is not described as it
/// should be.
#[wasm_bindgen(unchecked_return_type = "Promise<Explained>")]
pub fn explain(
    settings: &Object,
    #[wasm_bindgen(unchecked_param_type = "Described")] request: &Object,
) -> Result<Promise, Error> {
    let request = JSON::stringify(request).map_or_else(|_| String::new(), String::from);
    let request: Described = serde_json::from_str(&request).map_err(|error| Error::new(&format!("the request: {error}")))?;
    let settings = Settings::parse(request.host(), |name| web::setting(settings, name));
    Ok(promise(async move {
        let explained = match settings {
            Ok(settings) => explained(settings, &request).await,
            Err(errors) => told::Explained::misconfigured(errors.0),
        };
        value(&explained)
    }))
}

/// Every setting that there is.
#[wasm_bindgen(js_name = settings, unchecked_return_type = "Setting[]")]
pub fn settings() -> JsValue {
    value(&SETTINGS.iter().map(told::Setting::of).collect::<Vec<_>>())
}

fn value(told: &impl serde::Serialize) -> JsValue {
    // Structs of strings cannot fail to serialize, and are JSON then.
    serde_json::to_string(told).ok().and_then(|text| JSON::parse(&text).ok()).unwrap_or(JsValue::NULL)
}

async fn explained(settings: Settings, request: &Described) -> told::Explained {
    let Settings { policy, token, proxy, project, warnings, .. } = settings;
    let needs_token = policy.needs_token();
    let mut gate = match (token, request.host()) {
        (Some(token), _) => match Tokens::single(token.reveal()) {
            Ok(tokens) => Gate::with_tokens(policy, tokens),
            Err(error) => return told::Explained::misconfigured(vec![Problem::of_token(&error)]),
        },
        (None, Host::Embedded) => match Tokens::single("") {
            Err(error) if needs_token => return told::Explained::misconfigured(vec![Problem::of_token(&error)]),
            _ => Gate::with_tokens(policy, Tokens::default()),
        },
        (None, _) => Gate::with_store(policy),
    };
    let jwks_url = project.as_ref().map(Project::jwks_url);
    let (facts, now) = (request.facts(), request.now());
    let policy = gate.policy().clone();

    let seen = trace(&policy, &facts, now);
    let witness = Witness::new(Nobody(request), project, "an explanation asks nobody: SUPABASE_JWKS holds the keys for it");
    let outcome = drive(begin(&mut gate, &facts, now), &witness).await;
    let findings = crate::explain(&policy, &seen, witness.into_findings(), &outcome);
    let action = Action::of(&outcome.verdict, &policy, &facts, now);
    let authority = proxy.upstream.map(|upstream| upstream.authority);
    let follows = told::Follows::of(&action, &facts, &request.method, &request.headers, authority);
    let explanation = told::Explanation::of(&seen, &findings, &outcome.verdict, follows);
    told::Explained { errors: Vec::new(), warnings, jwks_url, explanation: Some(explanation) }
}

impl Described {
    const fn host(&self) -> Host {
        match self.host {
            Some(HostName::Native) => Host::Native,
            Some(HostName::Edge) => Host::Edge,
            Some(HostName::Embedded) | None => Host::Embedded,
        }
    }

    fn now(&self) -> UnixTime {
        self.now.map_or_else(web::now, UnixTime::from_secs)
    }

    fn facts(&self) -> Facts<'_> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let mut facts = Facts::new(&self.method, path, query);
        if let Some(SchemeName::Https) = self.scheme {
            facts.scheme(Scheme::Https);
        }
        if let Some(peer) = &self.peer {
            facts.peer(peer);
        }
        if self.has_body {
            facts.body_follows();
        }
        for (name, value) in &self.headers {
            facts.header(name, value.as_bytes());
        }
        facts.subject();
        facts
    }
}

/// A host that knows what it was told, and asks nobody.
struct Nobody<'a>(&'a Described);

impl Effects for Nobody<'_> {
    fn now(&self) -> UnixTime {
        self.0.now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        if self.0.store_fails { Err(Unavailable) } else { Ok(self.0.store.clone().map(Secret::new)) }
    }

    async fn keys(&self, _wanted: WantedKeys) -> KeysAnswer {
        KeysAnswer::Failed(self.now())
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        crypto::is_right(check).await
    }

    async fn user(&self, _question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        Err(Unavailable)
    }
}
