//! The Supabase project: its keys, its user endpoint, its clock, and what kind of key opens it.

use std::{sync::Arc, time::UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::{HeaderMap, header};
use nodetool_edge_auth::{Jwks, Policy, Secret, Settings};

use super::{Finding, failed, ok, warning};
use crate::{clock, project::Project};

/// Beyond these many seconds no leeway helps: tokens are refused, or accepted long after their end.
const MAX_SKEW: u64 = 300;

pub(super) async fn of_project(settings: &Settings) -> Vec<Finding> {
    let (policy, Some(settings)) = (&settings.policy, &settings.project) else { return Vec::new() };
    let mut findings = vec![of_api_key(&settings.key)];
    let project = match Project::new(settings, Arc::default()) {
        Ok(project) => project,
        Err(error) => {
            findings.push(failed("keys", error.to_string(), "correct SUPABASE_URL or SUPABASE_KEY"));
            return findings;
        }
    };
    if let Some(pinned) = policy.pinned_keys() {
        findings.extend([
            ok("keys", format!("pinned by SUPABASE_JWKS, none are fetched: {}", listed(pinned))),
            ok("user_endpoint", "never asked, since SUPABASE_JWKS is pinned"),
            ok("clock", "not compared, since the project is asked for nothing"),
        ]);
        return findings;
    }
    let (keys_url, user_url) = (settings.jwks_url(), settings.user_url());
    let answers = tokio::join!(of_keys(policy, &project, &keys_url), of_user_endpoint(&project, &user_url));
    let ((keys, of_keys), (user, of_user)) = answers;
    // The key set may come from a cache, whose time is not the server's.
    let time = of_user.or(of_keys);
    findings.extend([keys, user, of_clock(time, policy.leeway().unwrap_or(0).into())]);
    findings
}

/// Looked at only for what it is: nothing of it is shown.
fn of_api_key(key: &Secret) -> Finding {
    const CHECK: &str = "api_key";
    const REMEDY: &str = "set SUPABASE_KEY to the publishable key of the project, which is all that the gateway needs";
    let key = key.reveal();
    if key.starts_with("sb_secret_") {
        return warning(CHECK, "SUPABASE_KEY is a secret key: it can do everything in the project", REMEDY);
    }
    if key.starts_with("sb_publishable_") {
        return ok(CHECK, "SUPABASE_KEY is a publishable key");
    }
    match role_of(key).as_deref() {
        Some("service_role") => {
            warning(CHECK, "SUPABASE_KEY is the service_role key: it can do everything in the project", REMEDY)
        }
        Some("anon") => ok(CHECK, "SUPABASE_KEY is the legacy anon key"),
        _ => ok(CHECK, "SUPABASE_KEY is set; what kind of key it is cannot be told"),
    }
}

/// The role that a JWT claims. Nothing is verified by it.
fn role_of(jwt: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims.get("role")?.as_str().map(str::to_owned)
}

async fn of_keys(policy: &Policy, project: &Arc<Project>, url: &str) -> (Finding, Option<i64>) {
    const CHECK: &str = "keys";
    let (fetched, headers) = match project.ask_for_keys().await {
        Ok(answer) => answer,
        Err(problem) => {
            let remedy = "check SUPABASE_URL, the network, and that the project is not paused";
            return (failed(CHECK, format!("{url}: {problem}"), remedy), None);
        }
    };
    let keys = Jwks::parse(&fetched.document).unwrap_or_default();
    let finding = if !keys.is_empty() {
        ok(CHECK, format!("{url}: {}", listed(&keys)))
    } else if policy.knows_jwt_secret() {
        ok(CHECK, "the project publishes no usable keys: its tokens are HS256, checked by SUPABASE_JWT_SECRET")
    } else {
        warning(
            CHECK,
            "the project publishes no usable keys: its tokens are HS256, and each is asked about at the user endpoint",
            "move the project to asymmetric signing keys, or set SUPABASE_JWT_SECRET",
        )
    };
    (finding, skew(&headers))
}

fn listed(keys: &Jwks) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for key in keys.iter() {
        let name = key.algorithm.name();
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    format!("usable keys: {}", counts.join(", "))
}

/// Without a token the endpoint refuses; in which words tells who did.
async fn of_user_endpoint(project: &Arc<Project>, url: &str) -> (Finding, Option<i64>) {
    const CHECK: &str = "user_endpoint";
    let (answer, headers) = match project.ask_without_token().await {
        Ok(answer) => answer,
        Err(problem) => return (failed(CHECK, format!("{url}: {problem}"), "check SUPABASE_URL and the network"), None),
    };
    let status = answer.status;
    let finding = match status {
        401 if answer.is_about_api_key() => failed(
            CHECK,
            format!("{url} refused SUPABASE_KEY"),
            "copy the publishable key of this very project into SUPABASE_KEY",
        ),
        400 | 401 | 403 => ok(CHECK, format!("{url} answers, and takes SUPABASE_KEY")),
        404 => failed(CHECK, format!("{url} answered 404"), "check that SUPABASE_URL is the URL of a project"),
        429 => warning(CHECK, format!("{url} answered 429: too many requests"), "try again later"),
        _ => failed(CHECK, format!("{url} answered {status}"), "check SUPABASE_URL, and that the project is not paused"),
    };
    (finding, skew(&headers))
}

/// By how many seconds this machine's clock is ahead of the one that answered.
fn skew(headers: &HeaderMap) -> Option<i64> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let date = httpdate::parse_http_date(text(header::DATE)?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    // What comes out of a cache was dated when it came in.
    let age = text(header::AGE).and_then(|age| age.parse::<u64>().ok()).unwrap_or(0);
    let theirs = i64::try_from(date.as_secs().saturating_add(age)).ok()?;
    i64::try_from(clock::now().as_secs()).ok()?.checked_sub(theirs)
}

fn of_clock(skew: Option<i64>, leeway: u64) -> Finding {
    const CHECK: &str = "clock";
    const REMEDY: &str = "set this machine's clock by NTP";
    let Some(skew) = skew else {
        return warning(
            CHECK,
            "no server answered with its time, so this machine's clock was not compared",
            "look at what else failed",
        );
    };
    let detail = match skew {
        0 => "this machine's clock is that of the project".to_owned(),
        1.. => format!("this machine's clock is {skew} s ahead of the project's"),
        _ => format!("this machine's clock is {} s behind the project's", skew.unsigned_abs()),
    };
    // Both times are cut to whole seconds, and the answer took its time to come.
    match skew.unsigned_abs() {
        apart if apart > MAX_SKEW => failed(CHECK, detail, REMEDY),
        apart if apart > leeway.max(1) => warning(CHECK, format!("{detail}, more than AUTH_LEEWAY ({leeway} s)"), REMEDY),
        _ => ok(CHECK, detail),
    }
}
