//! `nodetool-auth check`: all that can be known before a start to go wrong after it. Looks, and changes nothing.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Arg, ArgAction, ArgMatches, Command};
use hyper::{HeaderMap, header};
use nodetool_edge_auth::{Environment, Jwks, Policy, Provider, ProxySettings, Secret, Settings, Tokens, UserAnswer, mask_token};
use tokio::{net::TcpStream, runtime, time::timeout};

use super::{EXIT_MISCONFIGURED, Failure, Given, flags};
use crate::{
    clock,
    project::Project,
    server,
    store::{self, DeploymentConfig, TokenSource},
};

/// A token of fewer characters is one that somebody made up.
const SAFE_TOKEN: usize = 24;

/// Beyond these many seconds no leeway helps: tokens are refused, or accepted long after their end.
const MAX_SKEW: u64 = 300;

/// For a connection that by its settings may take any time: a check has to come to an end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn command() -> Command {
    let json =
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON array of {check, status, detail, remedy?}");
    Command::new("check")
        .about("Check the settings, the token, the Supabase project, the upstream and the port, without changing anything")
        .after_help("Takes the settings of `serve`. Exit status: 0 if no check failed (warnings are no failures), 1 if one did, 78 if a setting is wrong.")
        .args(flags())
        .arg(json)
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    let as_json = arguments.get_flag("json");
    let (findings, misconfigured) = match Given::by(arguments) {
        Ok(given) => match all(&given) {
            Ok(findings) => (findings, false),
            Err(error) => {
                eprintln!("nodetool-auth cannot check: {error}");
                return ExitCode::FAILURE;
            }
        },
        Err(Failure::Settings(errors)) => {
            let wrong = |error: &dyn ToString| failed("settings", error.to_string(), "correct this setting");
            (errors.0.iter().map(|error| wrong(error)).collect(), true)
        }
        Err(failure) => (vec![failed("settings", failure.to_string(), "correct the settings")], true),
    };
    let has_failed = findings.iter().any(|finding| finding.status == Status::Failed);
    // Nobody to read it changes nothing about what was found.
    let _ = print(&findings, as_json);
    match (misconfigured, has_failed) {
        (true, _) => ExitCode::from(EXIT_MISCONFIGURED),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    Warning,
    Failed,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// What one check came to.
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    remedy: Option<String>,
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { check, status: Status::Ok, detail: detail.into(), remedy: None }
}

fn warning(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
}

fn failed(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, status: Status::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
}

fn print(findings: &[Finding], as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let object = |finding: &Finding| {
            let mut object = serde_json::json!({
                "check": finding.check, "status": finding.status.name(), "detail": finding.detail,
            });
            if let (Some(remedy), Some(members)) = (&finding.remedy, object.as_object_mut()) {
                members.insert("remedy".to_owned(), remedy.as_str().into());
            }
            object
        };
        let array: Vec<_> = findings.iter().map(object).collect();
        writeln!(out, "{:#}", serde_json::Value::from(array))?;
    } else {
        for finding in findings {
            let remedy = finding.remedy.as_ref().map(|remedy| format!(" ({})", one_line(remedy))).unwrap_or_default();
            writeln!(out, "{:<8} {}: {}{remedy}", finding.status.name(), finding.check, one_line(&finding.detail))?;
        }
    }
    out.flush()
}

/// What a server or a file says must not look like a line of its own.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|character| if character.is_control() { character.escape_default().collect() } else { vec![character] })
        .collect()
}

fn all(given: &Given) -> io::Result<Vec<Finding>> {
    let settings = &given.settings;
    let mut findings = of_settings(settings);
    findings.extend(of_token(given));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (project, upstream) = runtime.block_on(async { tokio::join!(of_project(given), of_upstream(&settings.proxy)) });
    findings.extend(project);
    findings.push(upstream);
    findings.push(of_listener(settings.listen));
    Ok(findings)
}

/// The settings parse; what they warn of goes to the check that it is about.
fn of_settings(settings: &Settings) -> Vec<Finding> {
    let policy = &settings.policy;
    let about = |name: &'static str| settings.warnings.iter().filter(move |text| text.starts_with(name));
    let mut findings = vec![ok("settings", "all settings are understood")];
    let others = settings
        .warnings
        .iter()
        .filter(|text| !["AUTH_PROVIDER", "SUPABASE_JWT_SECRET"].iter().any(|name| text.starts_with(name)));
    findings.extend(others.map(|text| warned("settings", text)));

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
    let before = findings.len();
    findings.extend(about("AUTH_PROVIDER").map(|text| warned("provider", text)));
    if lets_everyone_in && policy.environment() == Environment::Production {
        let detail = format!("ENV={environment}: {who}, since AUTH_ALLOW_INSECURE is set");
        findings.push(warning("provider", detail, "make sure that another guard stands in front, or use AUTH_PROVIDER=static"));
    }
    if findings.len() == before {
        findings.push(ok("provider", format!("ENV={environment}: {who}")));
    }
    if policy.knows_jwt_secret() {
        let before = findings.len();
        findings.extend(about("SUPABASE_JWT_SECRET").map(|text| warned("jwt_secret", text)));
        if findings.len() == before {
            findings.push(ok("jwt_secret", "SUPABASE_JWT_SECRET is set, and long enough"));
        }
    }
    findings
}

/// A warning of the settings: what is wrong, and after a semicolon or a colon what to do.
fn warned(check: &'static str, text: &str) -> Finding {
    match text.split_once("; ") {
        Some((detail, remedy)) => warning(check, detail, remedy),
        None if check == "jwt_secret" => {
            warning(check, text, "move the project to asymmetric signing keys, or set a longer secret")
        }
        None => warning(check, text, "set it to what is meant"),
    }
}

/// The token and the file that it may come from.
fn of_token(given: &Given) -> Vec<Finding> {
    let settings = &given.settings;
    if let Some(token) = &settings.token {
        return vec![
            ok("deployment_file", "not needed: the token comes from the environment"),
            of_strength(token, &TokenSource::Environment.to_string(), "set WORKER_AUTH_TOKEN"),
        ];
    }
    if settings.policy.provider() == Provider::None {
        return vec![ok("deployment_file", "not needed: nobody is asked for a token"), ok("token", "nobody is asked for one")];
    }
    let path = match given.config_path() {
        Ok(path) => path,
        Err(error) => return vec![failed("deployment_file", error.to_string(), "set NODETOOL_CONFIG_PATH or WORKER_AUTH_TOKEN")],
    };
    let config = match store::load_deployment_config(&path) {
        Ok(config) => config,
        Err(error) => {
            return vec![
                failed("deployment_file", error.to_string(), "correct the file, or set WORKER_AUTH_TOKEN"),
                failed("token", "the deployment file cannot be used", "correct the file, or set WORKER_AUTH_TOKEN"),
            ];
        }
    };
    vec![of_file(&path, &config), of_stored(&path, &config)]
}

fn has_tokens(config: &DeploymentConfig) -> bool {
    config.token.is_some() || !config.accepted.is_empty()
}

fn of_file(path: &Path, config: &DeploymentConfig) -> Finding {
    const CHECK: &str = "deployment_file";
    let shown = path.display();
    if !has_tokens(config) {
        let (folder, exists) = nearest_folder(path);
        if let Err(problem) = writable(&folder) {
            let detail = format!("a token cannot be saved to {shown}: {}: {problem}", folder.display());
            return failed(
                CHECK,
                detail,
                "make the folder writable, name another file with NODETOOL_CONFIG_PATH, or set WORKER_AUTH_TOKEN",
            );
        }
        if !path.exists() {
            let folder = if exists { "its folder is writable" } else { "its folder would be made" };
            return ok(CHECK, format!("{shown} does not exist; {folder}"));
        }
    }
    match loose_mode(path) {
        Some(mode) => warning(
            CHECK,
            format!("others can read {shown}, whose mode is {mode:04o}"),
            format!("run: chmod 600 {}", quoted(path)),
        ),
        None => ok(CHECK, format!("{shown} can be read, and by no other user")),
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn of_stored(path: &Path, config: &DeploymentConfig) -> Finding {
    match &config.token {
        Some(token) => match Tokens::single(token.reveal()) {
            Ok(_) => of_strength(token, &TokenSource::File(path.to_owned()).to_string(), "change worker_auth_token"),
            Err(error) => failed(
                "token",
                format!("worker_auth_token in {} cannot be used: {error}", path.display()),
                "change it, or set WORKER_AUTH_TOKEN",
            ),
        },
        None if has_tokens(config) => ok("token", format!("accepted_tokens in {}, by their hashes", path.display())),
        None => ok("token", format!("none yet: the first start generates one, and saves it to {}", path.display())),
    }
}

fn of_strength(token: &Secret, source: &str, how: &str) -> Finding {
    let (shown, length) = (mask_token(token.reveal()), token.reveal().chars().count());
    if length < SAFE_TOKEN {
        let detail = format!("{shown} from: {source}; it has {length} characters, fewer than {SAFE_TOKEN}");
        return warning("token", detail, format!("{how} to one of 32 random bytes, as from: openssl rand -hex 32"));
    }
    ok("token", format!("{shown} from: {source}"))
}

/// The folder of the file, or the one in which it would be made.
fn nearest_folder(path: &Path) -> (PathBuf, bool) {
    // Through a link the file behind it is meant, as in the store.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let of_file = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = of_file.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok()).unwrap_or(Path::new("."));
    (found.to_owned(), found == of_file)
}

/// Asked, not tried: nothing is written by a check.
fn writable(folder: &Path) -> Result<(), String> {
    let metadata = fs::metadata(folder).map_err(|error| error.to_string())?;
    if !metadata.is_dir() {
        return Err("it is not a folder".to_owned());
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| io::Error::from(error).to_string())
    }
    #[cfg(not(unix))]
    Ok(())
}

#[cfg(unix)]
fn loose_mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
const fn loose_mode(_: &Path) -> Option<u32> {
    None
}

async fn of_project(given: &Given) -> Vec<Finding> {
    let (policy, Some(settings)) = (&given.settings.policy, &given.settings.project) else { return Vec::new() };
    let mut findings = vec![of_api_key(&settings.key)];
    let project = match Project::new(settings) {
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
    format!("{} usable (keys: {})", keys.iter().count(), counts.join(", "))
}

/// Without a token the endpoint refuses; in which words tells who did.
async fn of_user_endpoint(project: &Arc<Project>, url: &str) -> (Finding, Option<i64>) {
    const CHECK: &str = "user_endpoint";
    let (UserAnswer { status, body }, headers) = match project.ask_without_token().await {
        Ok(answer) => answer,
        Err(problem) => return (failed(CHECK, format!("{url}: {problem}"), "check SUPABASE_URL and the network"), None),
    };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = body.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
    let finding = match status {
        401 if message.contains("API key") => failed(
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

async fn of_upstream(proxy: &ProxySettings) -> Finding {
    const CHECK: &str = "upstream";
    const REMEDY: &str = "start it, or correct UPSTREAM_URL";
    let Some(upstream) = &proxy.upstream else {
        return ok(CHECK, "UPSTREAM_URL is not set: the gateway itself answers, with the identity of the caller");
    };
    let address = if upstream.has_port() { upstream.authority.clone() } else { format!("{}:80", upstream.authority) };
    let limit = proxy.connect_timeout.map_or(PATIENCE, Duration::from_secs);
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => ok(CHECK, format!("{} takes connections", upstream.origin())),
        Ok(Err(error)) => failed(CHECK, format!("{}: {error}", upstream.origin()), REMEDY),
        Err(_) => failed(CHECK, format!("{}: no connection within {} s", upstream.origin(), limit.as_secs()), REMEDY),
    }
}

fn of_listener(address: SocketAddr) -> Finding {
    const CHECK: &str = "listen";
    match server::listen(address) {
        Ok(_) => ok(CHECK, format!("{address} is free")),
        Err(server::StartError::Listen { error, .. }) if error.kind() == ErrorKind::AddrInUse => failed(
            CHECK,
            format!("{address} is in use, perhaps by a gateway that runs already"),
            "stop what listens there, or choose another address with --listen or AUTH_LISTEN",
        ),
        Err(error) => failed(CHECK, error.to_string(), "choose another address with --listen or AUTH_LISTEN"),
    }
}
