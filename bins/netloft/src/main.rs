//! The Netloft command line: reads the arguments and hands over.

mod args;
mod commands;
mod demo;
mod enter;
mod output;
mod up;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::args::{Cli, Command, DemoCommand};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to report that the report failed.
            let _ = writeln!(io::stderr(), "netloft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        // Must come before any thread: it may enter a user namespace.
        Command::Up(args) => up::run(&args).map(|()| 0),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "netloft", &mut io::stdout());
            Ok(0)
        }
        Command::Demo(command) => runtime()?.block_on(demo(command, &cli.common)),
        command => runtime()?.block_on(commands::carry_out(command, &cli.common)),
    }
}

async fn demo(command: DemoCommand, common: &args::Common) -> anyhow::Result<u8> {
    match command {
        DemoCommand::Serve { port, name } => {
            demo::serve::run(port, &name, netloft_rpc::shutdown_requested()).await?;
        }
        DemoCommand::Call(args) => {
            demo::call::run(&commands::registry(common)?, &args, netloft_rpc::shutdown_requested()).await?;
        }
    }
    Ok(0)
}

/// One thread: the kernel ends a command of `netloft run` when the thread that started it ends.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}
