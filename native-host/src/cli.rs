//! The command line: flags and environment variables become settings, and a subcommand does something with them.

mod check;
mod completions;
mod explain;
mod health;
mod output;
mod rotate_kv;
mod serve;
mod token;

use std::{collections::BTreeMap, env, path::Path, process::ExitCode};

use clap::{Arg, ArgMatches, Command};
use nodetool_edge_auth::{Host, Provider, SETTINGS, Settings, SettingsErrors};

use crate::{
    memory, project, server,
    store::{self, Found, StoreError},
};

/// Wrong settings: `EX_CONFIG` of sysexits.h. Any other failure to start ends with 1.
const EXIT_MISCONFIGURED: u8 = 78;

const HELP: &str = "Each setting is also read from the environment variable of its name. Secrets are read from there only: a command line is visible to every user of a machine.\n\nExit status: 0 after a stop by signal, 78 if a setting is wrong, 1 if it could not start for another reason or the command line is not understood.";

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    // First, since what has been given stays.
    memory::keep_small();
    // Every subcommand has tokens in its hands.
    if let Err(error) = memory::keep_private() {
        eprintln!("nodetool-auth: a core dump of this process could hold tokens, and cannot be forbidden: {error}");
    }
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => {
            // Help and version go to standard output and are no failure.
            let _ = answer.print();
            return if answer.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match matches.subcommand() {
        Some(("check", arguments)) => return check::run(arguments),
        Some(("explain", arguments)) => return explain::run(arguments),
        Some(("completions", arguments)) => return completions::run(arguments),
        Some(("health", arguments)) => return health::run(arguments),
        Some(("token", arguments)) => return token::run(arguments),
        _ => {}
    }
    let arguments = matches.subcommand_matches("serve").unwrap_or(&matches);
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Settings(errors)) => {
            eprintln!("nodetool-auth cannot start, because of its settings:\n{errors}");
            ExitCode::from(EXIT_MISCONFIGURED)
        }
        Err(failure) => {
            eprintln!("nodetool-auth cannot start: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &ArgMatches) -> Result<(), Failure> {
    let inherited = server::inherited()?;
    let mut values = given(arguments);
    if let Some(listening) = &inherited {
        // Who may pass by default depends on who can get here.
        values.insert("AUTH_LISTEN", listening.address().to_string());
    }
    serve::run(Given::of(values)?, inherited)
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Project(#[from] project::Unusable),
    #[error(transparent)]
    Server(#[from] server::StartError),
}

/// What the settings say, and where the deployment file is.
struct Given {
    settings: Settings,
    values: BTreeMap<&'static str, String>,
}

impl Given {
    fn by(arguments: &ArgMatches) -> Result<Self, SettingsErrors> {
        Self::of(given(arguments))
    }

    fn of(values: BTreeMap<&'static str, String>) -> Result<Self, SettingsErrors> {
        let mut settings = Settings::parse(Host::Native, |name| values.get(name).cloned())?;
        settings.warnings.extend(slips(env::vars_os().filter_map(|(name, _)| name.into_string().ok())));
        Ok(Self { settings, values })
    }

    /// The tokens of a gateway with these settings, if it asks anybody for one. `in_file` finds those that are not here.
    fn found(&self, in_file: impl FnOnce(&Path) -> Result<Found, StoreError>) -> Result<Option<Found>, StoreError> {
        match (&self.settings.token, self.settings.policy.provider()) {
            (Some(token), _) => Ok(Some(Found::in_environment(token.clone()))),
            // Nobody will ever be asked for a token.
            (None, Provider::None) => Ok(None),
            (None, _) => in_file(&store::config_path(|name| self.values.get(name).cloned())?).map(Some),
        }
    }
}

/// Every setting that a flag or a variable gives; a flag goes before a variable.
fn given(arguments: &ArgMatches) -> BTreeMap<&'static str, String> {
    let value = |name: &'static str| {
        // A blank flag is none, and does not stand in the way of a variable.
        let flag = arguments.try_get_one::<String>(name).ok().flatten().filter(|flag| !flag.trim().is_empty()).cloned();
        flag.or_else(|| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    };
    SETTINGS.iter().filter_map(|setting| value(setting.name).map(|value| (setting.name, value))).collect()
}

/// Variables that are settings but for one slip: what they were to change stays as it is, which may be less than was meant.
fn slips(variables: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let is_setting = |name: &str| SETTINGS.iter().any(|setting| setting.name == name);
    // Of short names too many others are like them.
    let meant = |name: &str| {
        let mut settings = SETTINGS.iter().map(|setting| setting.name).filter(|setting| setting.len() >= 8);
        settings.find(|setting| strsim::osa_distance(setting, name) == 1)
    };
    variables.filter(move |name| !is_setting(name)).filter_map(move |name| {
        let setting = meant(&name)?;
        Some(format!("{name} is not a setting, and does nothing; rename it to {setting} if that is meant, or unset it"))
    })
}

fn command() -> Command {
    let serve = Command::new("serve").about("Run the gateway (the default)").after_help(HELP).args(flags());
    Command::new("nodetool-auth")
        .about("Authentication in front of an API: checks every request, and forwards those that may pass")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(HELP)
        .subcommand(serve)
        .subcommand(token::command())
        .subcommand(check::command())
        .subcommand(explain::command())
        .subcommand(completions::command())
        .subcommand(health::command())
        .args_conflicts_with_subcommands(true)
        .args(flags())
}

fn flags() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().filter(|setting| !setting.is_secret).map(|setting| {
        let long = setting.name.to_ascii_lowercase().replace('_', "-");
        let flag = Arg::new(setting.name).long(long).value_name(setting.values).help(setting.help).allow_hyphen_values(false);
        if setting.name == "AUTH_LISTEN" { flag.visible_alias("listen") } else { flag }
    })
}

#[cfg(test)]
mod tests {
    use super::{command, given, slips};

    #[test]
    fn a_slip_of_the_pen_is_told_and_what_has_nothing_to_do_with_it_is_not() {
        let told = |name: &str| slips([name.to_owned()].into_iter()).next();
        for (slip, meant) in [
            ("AUTH_PROVIDR", "AUTH_PROVIDER"),
            ("AUTH_PROIVDER", "AUTH_PROVIDER"),
            ("SUPABASE_URLS", "SUPABASE_URL"),
            ("LOGLEVEL", "LOG_LEVEL"),
        ] {
            assert!(told(slip).is_some_and(|told| told.contains(slip) && told.contains(&format!("to {meant} "))), "{slip}");
        }
        for other in
            ["AUTH_PROVIDER", "ENV", "EN", "ENVS", "PATH", "SUPABASE_ANON_KEY", "AUTH_SECRET", "auth_provider", "AUTH_TLS_CERT"]
        {
            assert_eq!(told(other), None, "{other}");
        }
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_settings_and_secrets_have_none() {
        let matches =
            command().get_matches_from(["nodetool-auth", "serve", "--listen", "127.0.0.1:9", "--auth-provider", "static"]);
        let values = given(matches.subcommand_matches("serve").unwrap());
        assert_eq!(values["AUTH_LISTEN"], "127.0.0.1:9");
        assert_eq!(values["AUTH_PROVIDER"], "static");
        assert!(command().try_get_matches_from(["nodetool-auth", "--worker-auth-token", "x"]).is_err());
        assert!(command().try_get_matches_from(["nodetool-auth", "--admin-token", "x"]).is_err());
    }
}
