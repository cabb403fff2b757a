//! Every vector of the native host that a layer can be asked.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, request::Parts},
};
use nodetool_auth::{AuthLayer, Identity, Scheme, worker_auth_token};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{DEFAULT_HOST, Settings, body, get, service};

const IDENTITY: [&str; 3] = ["x-user-id", "x-auth-token-type", "x-auth-role"];

/// What a layer leaves as it is, and a proxy does not: it is about the client's own connection, which goes on.
const OF_CONNECTION: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];

type Failure = String;

/// With the setting that the native host has by default, a layer judges as the native host does.
#[tokio::test]
async fn vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("deployment.yaml").to_str().unwrap().to_owned();
    // For cases that name no token: the native host makes one.
    worker_auth_token(|name| (name == "NODETOOL_CONFIG_PATH").then(|| file.clone())).unwrap().unwrap();

    let (mut count, mut left_out, mut report) = (0, Vec::new(), String::new());
    for entry in fs::read_dir(folder).unwrap() {
        let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for case in cases.iter().filter(|case| is_for_layer(case)) {
            let Some(request) = request_of(case) else {
                left_out.push(case["name"].as_str().unwrap().to_owned());
                continue;
            };
            count += 1;
            let mut set: Settings = serde_json::from_value(case["settings"].clone()).unwrap();
            set.entry("ENV".to_owned()).or_insert_with(|| "development".to_owned());
            set.insert("NODETOOL_CONFIG_PATH".to_owned(), file.clone());
            if let Err(failure) = check(case, &set, request).await {
                report += &format!("{}\n    {failure}\n", case["name"]);
            }
        }
    }
    assert!(report.is_empty(), "of {count} runs, these failed:\n{report}");
    assert!(count > 800, "only {count} runs");
    assert!(left_out.len() < 40, "hyper cannot carry these: {left_out:#?}");
}

/// Not those that only the core runs, or the edge.
fn is_for_layer(case: &Value) -> bool {
    let hosts = case["hosts"].as_array();
    let is_native = hosts.is_none_or(|hosts| hosts.is_empty() || hosts.contains(&json!("native")));
    let is_of_core = ["store", "store_fails", "now"].iter().any(|name| !case[name].is_null());
    !case["request"].is_null() && is_native && !is_of_core
}

/// Nothing if the types of HTTP have no room for it: then hyper refuses it before anybody is asked.
fn request_of(case: &Value) -> Option<Request<Body>> {
    let described = &case["request"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    for header in described["headers"].as_array().into_iter().flatten() {
        let name = HeaderName::from_bytes(text(&header[0]).as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(text(&header[1]).as_bytes()).ok()?);
    }
    // What may leave it out is HTTP/1.0 only.
    let (is_old, has_host) = (described["no_host"] == json!(true), headers.contains_key("host"));
    if !has_host && !is_old {
        headers.insert("host", HeaderValue::from_static(DEFAULT_HOST));
    }
    let body = text(&described["body"]);
    if !body.is_empty() {
        headers.insert("content-length", body.len().into());
    }
    let target = text(&described["target"]);
    let uri: Uri = target.parse().ok().filter(|uri: &Uri| uri.to_string() == target)?;
    let mut request = Request::builder().method(described["method"].as_str()?).uri(uri).body(Body::from(body)).ok()?;
    *request.headers_mut() = headers;
    *request.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    let peer: IpAddr = case["peer"].as_str().unwrap_or("127.0.0.1").parse().unwrap();
    request.extensions_mut().insert(peer);
    Some(request)
}

async fn check(case: &Value, settings: &Settings, request: Request<Body>) -> Result<(), Failure> {
    let auth = AuthLayer::new(get(settings)).map_err(|error| error.to_string())?;
    let scheme = if case["scheme"] == json!("https") { Scheme::Https } else { Scheme::Http };
    let auth = auth.scheme(scheme).peer(|extensions| extensions.get::<IpAddr>().copied());
    let sent = request.headers().clone();
    let is_head = request.method() == "HEAD";
    let (service, asked) = service(&auth);
    let response = service.oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let answer = body(response).await;
    let asked = asked.lock().unwrap().take();

    if let Some(expected) = case["expect"]["forward"].as_object() {
        let (parts, body) = asked.ok_or_else(|| format!("answered {status} {answer:?}"))?;
        let target = expected.get("target").unwrap_or(&case["request"]["target"]);
        same("target", target, &json!(parts.uri.to_string()))?;
        same("body", &json!(case["request"]["body"].as_str().unwrap_or_default()), &json!(String::from_utf8_lossy(&body)))?;
        return check_forwarded(case, expected, &parts, &sent);
    }
    let expected = &case["expect"];
    // What the native host answers itself without an upstream, a layer leaves to its service.
    let is_built_in = case["settings"]["AUTH_HEALTH"] != json!("self")
        && expected["status"] == json!(200)
        && (!expected["json"]["method"].is_null() || !expected["json"]["status"].is_null());
    if is_built_in {
        let (parts, _) = asked.ok_or_else(|| format!("answered {status} {answer:?}"))?;
        let user = parts.extensions.get::<Identity>().map(|identity| json!(identity.user_id));
        return same("user", &expected["json"]["user_id"], &user.unwrap_or_default());
    }
    if let Some((parts, _)) = asked {
        return Err(format!("reached the service: {} {}", parts.method, parts.uri));
    }
    same("status", &expected["status"], &json!(status))?;
    let mut shown: Value =
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).map_err(|error| error.to_string())? };
    if let Some(timestamp) = shown.get_mut("timestamp") {
        *timestamp = json!("$timestamp");
    }
    if !is_head {
        same("body", &expected["json"], &shown)?;
    }
    let mut wanted: BTreeMap<String, String> = serde_json::from_value(expected["headers"].clone()).unwrap();
    wanted.insert("cache-control".to_owned(), "no-store".to_owned());
    if !expected["json"].is_null() {
        wanted.insert("content-type".to_owned(), "application/json".to_owned());
    }
    let got = headers.iter().filter(|(name, _)| *name != "x-request-id");
    let got: BTreeMap<String, String> =
        got.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect();
    same("headers", &json!(wanted), &json!(got))
}

fn check_forwarded(
    case: &Value,
    expected: &serde_json::Map<String, Value>,
    parts: &Parts,
    sent: &HeaderMap,
) -> Result<(), Failure> {
    let values =
        |name: &str| parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect::<Vec<_>>();
    let set = expected["set"].as_object().unwrap();
    for name in IDENTITY {
        same(name, &json!(set.get(name).into_iter().collect::<Vec<_>>()), &json!(values(name)))?;
    }
    if let Some(name) =
        parts.headers.keys().find(|name| name.as_str().contains('_') && IDENTITY.contains(&&*name.as_str().replace('_', "-")))
    {
        return Err(format!("{name} goes on"));
    }
    let identity = parts.extensions.get::<Identity>();
    same("extension", &set.get("x-user-id").cloned().unwrap_or_default(), &json!(identity.map(|identity| &identity.user_id)))?;
    same(
        "role",
        &set.get("x-auth-role").cloned().unwrap_or_default(),
        &json!(identity.and_then(|identity| identity.role.as_ref())),
    )?;
    for (name, value) in set {
        let host = sent.get("host").map_or("", |host| host.to_str().unwrap());
        let value = match value.as_str().unwrap() {
            "$peer" => case["peer"].as_str().unwrap_or("127.0.0.1"),
            "$host" => host,
            value => value,
        };
        same(name, &json!([value]), &json!(values(name)))?;
    }
    for (name, value) in expected.get("kept").and_then(Value::as_object).into_iter().flatten() {
        // hyper trims what it reads from a socket.
        let kept: Vec<_> = values(name).into_iter().map(str::trim).collect();
        same(name, &json!([value]), &json!(kept))?;
    }
    for name in expected.get("dropped").and_then(Value::as_array).into_iter().flatten() {
        let name = name.as_str().unwrap().to_ascii_lowercase();
        let of_client: Vec<_> = sent.get_all(&name).iter().collect();
        let leaked = parts.headers.get_all(&name).iter().any(|value| of_client.contains(&value));
        if leaked && !OF_CONNECTION.contains(&&*name) {
            return Err(format!("{name} goes on"));
        }
    }
    Ok(())
}

fn same(what: &str, expected: &Value, got: &Value) -> Result<(), Failure> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected}, got {got}")) }
}
