//! The Netloft registry as a process.

mod access;
mod args;
mod run;
mod settings;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use self::args::Args;
use self::settings::Settings;

/// What the operator said cannot be meant; the same code that the argument parser uses.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(command) = args.command.take() {
        return match run::carry_out(command) {
            Ok(done) => tell(&done),
            Err(error) => fail(&error, ExitCode::FAILURE),
        };
    }
    let settings = match args.options().and_then(Settings::of) {
        Ok(settings) => settings,
        Err(error) => return fail(&error, ExitCode::from(USAGE)),
    };
    match run::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

fn tell(done: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{done}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints an error with its causes, on one line.
fn fail(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    // There is nowhere left to report that the report failed.
    let _ = writeln!(std::io::stderr(), "registry-server: {error:#}");
    code
}
