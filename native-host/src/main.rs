//! `nodetool-auth`: authentication in front of an API where there is no edge. `nodetool-auth --help` tells the rest.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodetool_auth::main()
}
