//! The calls of `wrangler` that read and write the token in KV.

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

use nodetool_edge_auth::Secret;
use serde_json::Value;
use tempfile::NamedTempFile;

const KEY: &str = "worker_auth_token";

/// What `wrangler` says of a local key that is not there, with status 0. No token has a space in it.
const NOT_FOUND: &str = "Value not found";

#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum WranglerError {
    #[error("`npx` cannot be run ({0}); it comes with Node, https://nodejs.org")]
    Npx(io::Error),
    #[error(
        "`{command}` failed:\n{output}\nRun it where wrangler.toml is (or name it with --config), after `npx wrangler login`; --namespace-id does without a binding"
    )]
    Failed { command: String, output: String },
    #[error("what KV holds is not a text")]
    NotText,
    #[error("cannot write a temporary file: {0}")]
    File(io::Error),
}

/// `wrangler` for one namespace.
pub(super) struct Wrangler {
    /// What says which namespace is meant, and where.
    pub(super) options: Vec<String>,
}

impl Wrangler {
    /// The value of the token in KV.
    pub(super) fn get(&self) -> Result<Option<Secret>, WranglerError> {
        let output = match self.run(&["get", KEY], &[]) {
            Ok(output) => output,
            // The API answers with an error for a key that is not there, as it does for much else.
            Err(error) => return if self.has_none()? { Ok(None) } else { Err(error) },
        };
        let value = Secret::new(String::from_utf8(output.stdout).map_err(|_| WranglerError::NotText)?);
        Ok(Some(value).filter(|value| value.reveal().trim() != NOT_FOUND))
    }

    fn has_none(&self) -> Result<bool, WranglerError> {
        let output = self.run(&["list"], &[format!("--prefix={KEY}")])?;
        let keys: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let keys = keys.as_ref().and_then(Value::as_array);
        Ok(keys.is_some_and(|keys| keys.iter().all(|key| key.get("name").is_some_and(|name| name != KEY))))
    }

    /// Writes it, by way of a file that nobody else can read: every user of a machine sees its command lines.
    pub(super) fn put(&self, value: &str) -> Result<(), WranglerError> {
        let mut file = NamedTempFile::new().map_err(WranglerError::File)?;
        file.write_all(value.as_bytes()).and_then(|()| file.flush()).map_err(WranglerError::File)?;
        self.run(&["put", KEY], &[format!("--path={}", file.path().display())]).map(drop)
    }

    fn run(&self, command: &[&str], further: &[String]) -> Result<Output, WranglerError> {
        let npx = if cfg!(windows) { "npx.cmd" } else { "npx" };
        let arguments = ["wrangler", "kv", "key"].iter().chain(command).map(ToString::to_string);
        let arguments: Vec<String> = arguments.chain(self.options.iter().cloned()).chain(further.iter().cloned()).collect();
        let output = Command::new(npx).args(&arguments).stdin(Stdio::null()).output().map_err(WranglerError::Npx)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        Err(WranglerError::Failed { command: shell(&["npx"], &arguments), output: said.join("\n").trim().to_owned() })
    }

    /// For a person or a script: what writes this text, which may hold `"$VARIABLES"` behind an end of its quotation.
    pub(super) fn put_command(&self, quoted: &str) -> String {
        let put = shell(&["npx", "wrangler", "kv", "key", "put", KEY, "--path=/dev/stdin"], &self.options);
        format!("printf %s {quoted} | {put}")
    }
}

/// A command line as a shell reads it.
fn shell(command: &[&str], arguments: &[String]) -> String {
    let arguments = arguments.iter().map(|argument| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:@".contains(&byte);
        if argument.bytes().all(is_plain) { argument.clone() } else { quote(argument) }
    });
    command.iter().map(ToString::to_string).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// A text that a shell takes for nothing but itself.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
