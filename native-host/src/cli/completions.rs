//! `nodetool-auth completions`: the command line, for the shells that complete it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

pub(super) fn command() -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell)).help("The shell to complete commands in");
    Command::new("completions")
        .about("Print what a shell needs to complete this program's command lines")
        .after_help("Exit status: 0 if it was printed, 1 if not.")
        .arg(shell)
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    let Some(shell) = arguments.get_one::<Shell>("shell") else { return ExitCode::FAILURE };
    // Gathered first: the generator panics where nobody reads any more.
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut super::command(), "nodetool-auth", &mut script);
    match io::stdout().lock().write_all(mended(&String::from_utf8_lossy(&script)).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// For bash the generator spells the hyphen of a program's name in two ways, and no case of the script is ever reached behind
/// a subcommand (<https://github.com/clap-rs/clap/issues/6421>). In a script without that mistake there is nothing to mend.
fn mended(script: &str) -> String {
    script.replace("nodetool__subcmd__auth", "nodetool__auth")
}
