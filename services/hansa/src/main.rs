//! The binary `hansa`: server, client and maintenance commands of a node.

mod api;
mod cli;
mod commands;
mod files;
mod journey;
mod output;
mod session;

use clap::Parser;
use hansa::node;
use std::process::ExitCode;

/// Replaces the system's allocator, which takes a fifth of the program's CPU time under load.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit codes. `--help` lists them too (`cli::Cli`).
mod exit {
    /// Any other failure.
    pub const FAILED: u8 = 1;
    /// The platform refused the call, because of a rule, a missing permission or a malformed field.
    pub const REFUSED: u8 = 3;
    /// The server or its database is unavailable.
    pub const AWAY: u8 = 4;
}

fn main() -> ExitCode {
    hansa_chassis::panics::install_hook();
    end_quietly_when_nobody_reads();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hansa: cannot start the runtime: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hansa: {}", output::explain(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// Installs a panic hook that ends the program with success if the reader of its output closes the pipe (`| head`).
fn end_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        if said.starts_with("failed printing to stdout") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

fn code(error: &anyhow::Error) -> u8 {
    let away = |code| matches!(code, tonic::Code::Unavailable | tonic::Code::DeadlineExceeded);
    match error.downcast_ref::<tonic::Status>() {
        Some(status) if away(status.code()) => exit::AWAY,
        Some(status) if status.code() != tonic::Code::Internal => exit::REFUSED,
        _ if error.is::<tonic::transport::Error>() => exit::AWAY,
        _ if error.chain().any(|cause| cause.is::<hansa_journal::StoreError>()) => exit::AWAY,
        _ if error.is::<hansa_kernel::Refusal>() => exit::REFUSED,
        _ => exit::FAILED,
    }
}
