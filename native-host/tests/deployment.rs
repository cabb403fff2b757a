//! Deployment files of every kind: loaded, saved and given a token, and not a byte changed that need not be.

#[path = "../../tests/cases/mod.rs"]
mod cases;

use std::fs;

use nodetool_auth::{generate_secure_token, load_deployment_config, save_deployment_config};
use proptest::prelude::*;

/// Lines of settings that others may have written, under keys of their own.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        "[a-zA-Z0-9]{0,12}",
        "\"[a-zäß #:]{0,12}\"",
        "'[a-z \"#]{0,8}'",
        Just("[1, 2, {a: b}]".to_owned()),
        Just("{a: 1, b: [~]}".to_owned()),
        Just("|\n  several\n   lines\n".to_owned()),
        Just("\n  - deep\n  - worker_auth_token: deeper".to_owned()),
        Just("&anchor x".to_owned()),
    ];
    let setting = (value, "( +# [a-zé:]{0,10})?");
    let line = prop_oneof![
        6 => setting.prop_map(|(value, comment)| if value.contains('\n') { value } else { format!("{value}{comment}") }).prop_map(|value| format!("KEY: {value}")),
        1 => "# [a-zü: ]{0,20}",
        1 => Just(String::new()),
        1 => Just("   ".to_owned()),
    ];
    prop::collection::vec(line, 0..8)
        .prop_map(|lines| lines.iter().enumerate().map(|(index, line)| line.replacen("KEY", &format!("key{index}"), 1)).collect())
}

/// How the token stands in it, if it does.
fn token_line() -> impl Strategy<Value = Option<String>> {
    let value = prop_oneof![
        Just(String::new()),
        Just("~".to_owned()),
        "[a-zA-Z][a-zA-Z0-9_-]{5,40}",
        "'[a-zA-Z0-9]{5,20}'",
        "[0-9]{5,20}"
    ];
    proptest::option::of((" {0,3}", value, "( +# [a-zé]{0,10})?").prop_map(|(space, value, comment)| {
        let space = if value.is_empty() { space } else { format!(" {space}") };
        format!("worker_auth_token:{space}{value}{comment}")
    }))
}

fn file() -> impl Strategy<Value = String> {
    (lines(), token_line(), any::<prop::sample::Index>(), any::<bool>(), any::<bool>()).prop_map(
        |(mut lines, token, at, is_windows, is_ended)| {
            if let Some(token) = token {
                lines.insert(at.index(lines.len() + 1), token);
            }
            let end = if is_windows { "\r\n" } else { "\n" };
            let mut text = lines.join("\n").replace('\n', end);
            if is_ended {
                text.push_str(end);
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(cases::config(200))]

    #[test]
    fn a_round_trip_is_the_identity(text in file()) {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.yaml"), folder.path().join("two.yaml"));
        fs::write(&one, &text).unwrap();
        let config = load_deployment_config(&one).unwrap();
        save_deployment_config(&two, &config).unwrap();
        prop_assert_eq!(fs::read_to_string(&two).unwrap(), &*text);
        save_deployment_config(&one, &config).unwrap();
        prop_assert_eq!(fs::read_to_string(&one).unwrap(), &*text);
    }

    #[test]
    fn a_token_changes_its_own_line_and_no_other(text in file()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.yaml");
        fs::write(&path, &text).unwrap();
        let token = generate_secure_token().unwrap();
        let changed = load_deployment_config(&path).unwrap().with_token(&token).unwrap();
        save_deployment_config(&path, &changed).unwrap();
        let saved = load_deployment_config(&path).unwrap();
        prop_assert_eq!(saved.token(), Some(&token));

        let after = fs::read_to_string(&path).unwrap();
        let rest = |text: &str| text.lines().filter(|line| !line.starts_with("worker_auth_token:")).collect::<Vec<_>>().join("\n");
        let is_own = |line: &&str| line.starts_with("worker_auth_token:");
        prop_assert_eq!(rest(&after), rest(&text));
        prop_assert_eq!(after.contains("\r\n"), text.contains("\r\n"));
        let comment = |text: &str| text.lines().find(is_own).and_then(|line| line.split_once(" #")).map(|(_, comment)| comment.to_owned());
        prop_assert_eq!(comment(&after), comment(&text));
        let own = after.lines().find(is_own).unwrap();
        prop_assert_eq!(own.split(' ').nth(1), Some(token.reveal()));
    }
}
