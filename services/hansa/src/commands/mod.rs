//! The commands, one file per command.

mod check_real;
mod config;
mod demo;
mod doctor;
mod erase;
mod export;
mod health;
mod history;
mod import;
mod migrate;
mod policy;
mod rebuild;
mod replay;
mod serve;
mod tenant;
mod token;
mod verify;

use crate::{
    cli::{Cli, Command, NodeOptions},
    session::Session,
};
use hansa_chassis::{Config, telemetry};

/// Runs a command with logging and telemetry.
///
/// # Errors
/// If the configuration is invalid or the command fails.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { node, command } = cli;
    let config = Config::read(node.config.as_deref(), node.overrides(None))?;
    let telemetry = telemetry::start(&config, &service_name(&command))?;
    let outcome = dispatch(node, config, command).await;
    tokio::task::spawn_blocking(|| telemetry.stop()).await?;
    outcome
}

/// Returns the service name for telemetry. A process that runs only some services carries their names.
fn service_name(command: &Command) -> String {
    match command {
        Command::Serve { only, .. } if !only.is_empty() => format!("hansa-{}", only.join("-")),
        _ => "hansa".into(),
    }
}

async fn dispatch(node: NodeOptions, config: Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve { listen, only } => {
            serve::run(Config::read(node.config.as_deref(), node.overrides(listen))?, &only).await
        }
        Command::Demo { listen, once } => demo::run(listen, once).await,
        Command::Import(what) => with_session(&node, async |session| import::run(session, what, node.json).await).await,
        Command::Tenant(what) => with_session(&node, async |session| tenant::run(session, what, node.json).await).await,
        Command::History { record } => {
            with_session(&node, async |session| history::run(session, &record, node.json).await).await
        }
        Command::Erase { record, seals, dry_run } => {
            with_session(&node, async |session| erase::run(session, &record, &seals, dry_run, node.json).await).await
        }
        Command::Export { agreement, output } => {
            with_session(&node, async |session| export::run(session, &agreement, &output).await).await
        }
        Command::Token { tenant, roles, subject, scopes, days } => {
            token::run(&config, tenant.as_deref(), &roles, &subject, &scopes, days)
        }
        Command::Verify { file, key } => verify::run(&file, key.as_deref(), node.json),
        Command::Rebuild => rebuild::run(config, node.json).await,
        Command::Replay { all } => replay::run(config, all, node.json).await,
        Command::Doctor => doctor::run(config, node.json).await,
        Command::Migrate { only } => migrate::run(config, &only).await,
        Command::Health { live } => health::run(&config, &node, live).await,
        Command::Config => config::run(&node),
        Command::Policy => policy::run(node.json),
        Command::CheckReal { folder } => check_real::run(config, &folder).await,
    }
}

/// Opens a session, does the work, and closes the session even if the work fails.
async fn with_session(
    options: &NodeOptions,
    work: impl AsyncFnOnce(&Session) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let session = Session::open(options).await?;
    let outcome = work(&session).await;
    let closed = session.close().await;
    outcome.and(closed)
}
