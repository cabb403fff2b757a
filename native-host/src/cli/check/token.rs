//! The static token, and the file that it may come from.

use nodetool_edge_auth::{Secret, mask_token};

use super::{super::Given, Finding, failed, ok, warning};
use crate::store::{self, Found, StoreError, TokenSource};

/// A token of fewer characters is one that somebody made up.
const SAFE_TOKEN: usize = 24;

pub(super) fn of_token(given: &Given) -> Vec<Finding> {
    match given.found(store::look) {
        Ok(Some(found)) => {
            let (of_file, of_tokens) = (of_file(&found.source), of_tokens(&found));
            [Some(of_file), Some(of_tokens), of_conflict(&found)].into_iter().flatten().collect()
        }
        Ok(None) => {
            vec![ok("deployment_file", "not needed: nobody is asked for a token"), ok("token", "nobody is asked for one")]
        }
        Err(error) => {
            let remedy = match error {
                StoreError::NoHome => "set NODETOOL_CONFIG_PATH or WORKER_AUTH_TOKEN",
                StoreError::Read { .. } => "run this as the user whose file it is, or set WORKER_AUTH_TOKEN",
                _ => "correct the file, or set WORKER_AUTH_TOKEN",
            };
            let of_token = failed("token", "unknown, since the deployment file cannot be used", remedy);
            vec![failed("deployment_file", error.to_string(), remedy), of_token]
        }
    }
}

fn of_file(source: &TokenSource) -> Finding {
    const CHECK: &str = "deployment_file";
    let (path, is_written) = match source {
        TokenSource::Environment => return ok(CHECK, "not needed: the token comes from the environment"),
        TokenSource::File(path) => (path, false),
        TokenSource::Generated(path) => (path, true),
    };
    let shown = path.display();
    if is_written {
        match store::is_writable(path) {
            Err(error) => {
                let remedy = "make the folder writable, name another file with NODETOOL_CONFIG_PATH, or set WORKER_AUTH_TOKEN";
                return failed(CHECK, format!("a token cannot be saved to {shown}: {error}"), remedy);
            }
            Ok(is_there) if !path.exists() => {
                let folder = if is_there { "its folder is writable" } else { "its folder would be made" };
                let other = store::path_of_nodetool().filter(|other| other != path && other.exists());
                return match other {
                    Some(other) => warning(
                        CHECK,
                        format!("{shown} does not exist; {folder}; NodeTool's own file is {}", other.display()),
                        format!("set NODETOOL_CONFIG_PATH={} to use that one", other.display()),
                    ),
                    None => ok(CHECK, format!("{shown} does not exist; {folder}")),
                };
            }
            Ok(_) => {}
        }
    }
    match store::loose_mode(path) {
        Some(loose) => warning(CHECK, loose.to_string(), format!("run: {}", loose.remedy())),
        None if cfg!(unix) => ok(CHECK, format!("{shown} can be read, and by no other user")),
        // Who else can read it is not a matter of a mode there.
        None => ok(CHECK, format!("{shown} can be read")),
    }
}

fn of_tokens(found: &Found) -> Finding {
    const CHECK: &str = "token";
    if let Err(error) = found.tokens() {
        return failed(CHECK, error.to_string(), "change it, or set WORKER_AUTH_TOKEN");
    }
    match (&found.token, &found.source) {
        (Some(token), _) => of_strength(token, found),
        (None, TokenSource::Generated(path)) => {
            ok(CHECK, format!("none yet: the first start generates one, and saves it to {}", path.display()))
        }
        (None, source) if found.is_empty() => {
            failed(CHECK, format!("none, and accepted_tokens is empty, from: {source}"), "run: nodetool-auth token rotate")
        }
        (None, source) => ok(CHECK, format!("only hashes, under accepted_tokens, from: {source}")),
    }
}

fn of_conflict(found: &Found) -> Option<Finding> {
    Some(warning("token_keys", found.conflict()?, "remove one of them, or make them equal"))
}

fn of_strength(token: &Secret, found: &Found) -> Finding {
    const CHECK: &str = "token";
    let key = found.key.map_or_else(String::new, |key| format!("{key}, "));
    let source = format!("{key}from: {}", found.source);
    let (shown, length) = (mask_token(token.reveal()), token.reveal().chars().count());
    if length >= SAFE_TOKEN {
        return ok(CHECK, format!("{shown} {source}"));
    }
    let how = match found.source {
        TokenSource::Environment => "set WORKER_AUTH_TOKEN to one that `nodetool-auth token generate` prints",
        _ => "run: nodetool-auth token rotate",
    };
    warning(CHECK, format!("{shown} {source}; it has {length} characters, fewer than {SAFE_TOKEN}"), how)
}
