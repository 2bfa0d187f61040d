//! `hansa config`: prints all settings, and where each comes from.

use crate::{
    cli::{Cli, NodeOptions},
    node::SERVICES,
    output,
};
use clap::CommandFactory;
use hansa_chassis::config_report::{Setting, settings};
use serde_json::{Value, json};

/// Prints the settings. JSON also contains the services, and the variables that only the command line reads.
///
/// # Errors
/// If the configuration is invalid.
pub fn run(options: &NodeOptions) -> anyhow::Result<()> {
    let settings = settings(options.config.as_deref(), options.overrides(None))?;
    if options.json {
        let command = Cli::command();
        let mut alone: Vec<String> = command.get_arguments().filter_map(clap::Arg::get_env).filter_map(text).collect();
        alone.sort();
        return output::print_json(
            &json!({"settings": settings, "services": SERVICES.map(|service| service.name), "command_line": alone}),
        );
    }
    let row = |Setting { key, variable, value, from }| {
        let value = match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        vec![key, variable.unwrap_or_default(), value, from]
    };
    println!("{}", output::table(&["key", "variable", "value", "from"], settings.into_iter().map(row)));
    Ok(())
}

fn text(name: &std::ffi::OsStr) -> Option<String> {
    name.to_str().map(str::to_owned)
}
