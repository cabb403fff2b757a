//! An explanation as JavaScript is told it.

use serde::Serialize;

use crate::{
    Action, Facts, Finding, Forward, Identity, Reason, SettingError, TokenError, Trace, Verdict, web::is_platform_owned,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) jwks_url: Option<String>,
    pub(super) explanation: Option<Explanation>,
}

/// What is wrong with a setting.
#[derive(Serialize)]
pub(super) struct Problem {
    name: &'static str,
    problem: String,
}

#[derive(Serialize)]
pub(super) struct Explanation {
    readings: Vec<Reading>,
    findings: Vec<Told>,
    verdict: &'static str,
    reason: Option<&'static str>,
    identity: Option<Who>,
    answer: Option<Response>,
    forward: Option<Onward>,
}

#[derive(Serialize)]
struct Reading {
    path: String,
    by: Option<&'static str>,
    from: Option<usize>,
    places: Vec<&'static str>,
}

#[derive(Serialize)]
struct Told {
    step: String,
    status: &'static str,
    detail: String,
    claim: Option<Claim>,
}

#[derive(Serialize)]
struct Claim {
    name: &'static str,
    value: Option<String>,
    wanted: String,
    problem: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    user_id: String,
    token_type: &'static str,
    role: Option<String>,
}

/// What a gateway would do.
pub(super) enum Follows {
    Answer(Response),
    Forward(Onward),
}

#[derive(Serialize)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

#[derive(Serialize)]
pub(super) struct Onward {
    authority: Option<String>,
    method: String,
    target: String,
    headers: Vec<Header>,
    set: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Header {
    name: String,
    value: String,
    fate: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setting {
    name: &'static str,
    values: &'static str,
    help: &'static str,
    is_secret: bool,
    is_native: bool,
}

impl Explained {
    pub(super) fn misconfigured(errors: Vec<impl Into<Problem>>) -> Self {
        Self { errors: errors.into_iter().map(Into::into).collect(), warnings: Vec::new(), jwks_url: None, explanation: None }
    }
}

impl From<SettingError> for Problem {
    fn from(SettingError { name, problem }: SettingError) -> Self {
        Self { name, problem }
    }
}

impl Problem {
    pub(super) fn of_token(error: &TokenError) -> Self {
        Self { name: "WORKER_AUTH_TOKEN", problem: error.to_string() }
    }
}

impl Explanation {
    pub(super) fn of(seen: &Trace, findings: &[Finding], verdict: &Verdict, follows: Follows) -> Self {
        let (verdict, reason, identity) = match verdict {
            Verdict::Pass(pass) => ("pass", None, pass.identity.as_ref().map(Who::of)),
            Verdict::Refuse(reason) => ("refuse", Some(reason.code()), None),
        };
        let readings = seen.readings.iter().map(Reading::of).collect();
        let (answer, forward) = match follows {
            Follows::Answer(answer) => (Some(answer), None),
            Follows::Forward(forward) => (None, Some(forward)),
        };
        Self { readings, findings: findings.iter().map(Told::of).collect(), verdict, reason, identity, answer, forward }
    }
}

impl Reading {
    fn of(reading: &crate::Reading) -> Self {
        let (from, by) = reading.by.map(|(from, rewriting)| (from, rewriting.name())).unzip();
        Self { path: reading.path.clone(), by, from, places: reading.areas.iter().map(|area| area.path()).collect() }
    }
}

impl Told {
    fn of(finding: &Finding) -> Self {
        let claim = finding.claim.as_ref().map(|claim| Claim {
            name: claim.name,
            value: claim.value.clone(),
            wanted: claim.wanted.clone(),
            problem: claim.problem.map(Reason::code),
        });
        Self { step: finding.step.to_string(), status: finding.status.name(), detail: finding.detail.clone(), claim }
    }
}

impl Who {
    fn of(identity: &Identity) -> Self {
        Self { user_id: identity.user_id.to_string(), token_type: identity.token_type.as_str(), role: identity.role.clone() }
    }
}

impl Follows {
    /// `method` and `sent` are those of the client, which at `/.auth/verify` are not those that were judged.
    pub(super) fn of(
        action: &Action<'_>,
        facts: &Facts<'_>,
        method: &str,
        sent: &[(String, String)],
        authority: Option<String>,
    ) -> Self {
        match action {
            Action::Respond(answer) => {
                let headers = answer.headers().map(|(name, value)| (name, value.to_owned())).collect();
                let body = if method == "HEAD" { String::new() } else { answer.body.to_string() };
                Self::Answer(Response { status: answer.status, headers, body })
            }
            Action::Forward(plan) => {
                let headers = sent.iter().map(|(name, value)| Header::of(name, value, plan, facts)).collect();
                let set = plan.sets().map(|(name, value)| (name, value.to_owned())).collect();
                let target = plan.rewritten_target().map_or_else(|| facts.target().into_owned(), str::to_owned);
                Self::Forward(Onward { authority, method: facts.method().to_owned(), target, headers, set })
            }
        }
    }
}

impl Header {
    fn of(name: &str, value: &str, plan: &Forward<'_>, facts: &Facts<'_>) -> Self {
        let fate = if plan.keeps(name) {
            "kept"
        } else if is_platform_owned(&name.to_ascii_lowercase(), facts) {
            "anew"
        } else {
            "dropped"
        };
        Self { name: name.to_owned(), value: value.to_owned(), fate }
    }
}

impl Setting {
    pub(super) fn of(setting: &crate::Setting) -> Self {
        let crate::Setting { name, values, help, is_secret, is_native } = *setting;
        Self { name, values, help, is_secret, is_native }
    }
}
