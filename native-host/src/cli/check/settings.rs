//! What the settings lead to, and what they warn of.

use nodetool_edge_auth::{Environment, Policy, Provider, Settings};

use super::{Finding, ok, warning};

/// The settings whose warnings go to a check of their own.
const PROVIDER: &str = "AUTH_PROVIDER";
const SECRET: &str = "SUPABASE_JWT_SECRET";

pub(super) fn of_settings(settings: &Settings) -> Vec<Finding> {
    let policy = &settings.policy;
    let about = |name: &'static str| settings.warnings.iter().filter(move |text| text.starts_with(name));
    let others = settings.warnings.iter().filter(|text| ![PROVIDER, SECRET].iter().any(|name| text.starts_with(name)));

    let mut findings = vec![ok("settings", "all settings are understood")];
    findings.extend(others.map(|text| warned("settings", text, "set it to what is meant")));
    let remedy = "use AUTH_PROVIDER=static";
    findings.extend(of_provider(policy, about(PROVIDER).map(|text| warned("provider", text, remedy)).collect()));
    findings.extend(of_users(settings));
    if policy.knows_jwt_secret() {
        let remedy = "move the project to asymmetric signing keys, or set a longer secret";
        let warnings = about(SECRET).map(|text| warned("jwt_secret", text, remedy)).collect();
        findings.extend(unless_any(warnings, || ok("jwt_secret", "SUPABASE_JWT_SECRET is set, and long enough")));
    }
    findings
}

/// The question whether the upstream can tell the users of a project apart. Only its operator knows.
fn of_users(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "users";
    if settings.policy.provider() != Provider::Supabase || settings.proxy.upstream.is_none() {
        return None;
    }
    Some(if settings.policy.forwards_user_token() {
        let remedy = "give the upstream the same provider and project, or make sure that it reads x-user-id";
        warning(CHECK, "an upstream with an open provider of its own serves every user as the same one", remedy)
    } else {
        let remedy = "make sure that the upstream reads x-user-id, or has one tenant";
        warning(CHECK, "the upstream does not get the tokens of users, and can tell them apart by x-user-id only", remedy)
    })
}

/// A warning of the settings: what is wrong and, after a semicolon, what to do.
fn warned(check: &'static str, text: &str, remedy: &str) -> Finding {
    let (detail, remedy) = text.split_once("; ").unwrap_or((text, remedy));
    warning(check, detail, remedy)
}

fn of_provider(policy: &Policy, mut warnings: Vec<Finding>) -> Vec<Finding> {
    let environment = match policy.environment() {
        Environment::Development => "development",
        Environment::Test => "test",
        Environment::Staging => "staging",
        Environment::Production => "production",
    };
    let (who, lets_everyone_in) = match policy.provider() {
        Provider::None | Provider::Local => ("every request passes", true),
        Provider::LocalByDefault => ("requests straight from this machine pass, all others need the token", false),
        Provider::Static => ("every request needs the token", false),
        Provider::Supabase => ("every request needs the token of a user, or the static one", false),
    };
    if lets_everyone_in && policy.environment() == Environment::Production {
        let detail = format!("ENV={environment}: {who}, since AUTH_ALLOW_INSECURE is set");
        let remedy = "make sure that another guard stands in front, or use AUTH_PROVIDER=static";
        warnings.push(warning("provider", detail, remedy));
    }
    unless_any(warnings, || ok("provider", format!("ENV={environment}: {who}")))
}

fn unless_any(mut warnings: Vec<Finding>, ok: impl FnOnce() -> Finding) -> Vec<Finding> {
    if warnings.is_empty() {
        warnings.push(ok());
    }
    warnings
}
