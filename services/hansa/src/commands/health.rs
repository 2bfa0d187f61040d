//! `hansa health`: asks a server whether it serves. For probes in images that contain no shell and no other client.

use crate::{cli::NodeOptions, session::connect};
use hansa_chassis::{Config, server::LIVE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Asks the health service of a server; with `live`, only whether the process is alive.
///
/// # Errors
/// `UNAVAILABLE` if the server does not serve or cannot be reached, which sets the exit code.
pub async fn run(config: &Config, options: &NodeOptions, live: bool) -> anyhow::Result<()> {
    let url = options.server.clone().unwrap_or_else(|| own(config));
    let channel = connect(&url, Some(options)).await?;
    let service = if live { LIVE } else { "" }.to_owned();
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service }).await?.into_inner();
    let does = if live { "live" } else { "serve" };
    if answer.status() != ServingStatus::Serving {
        return Err(Status::unavailable(format!("{url} does not {does}")).into());
    }
    println!("{url} {does}s");
    Ok(())
}

/// Returns the URL at which this machine reaches the configured server.
fn own(config: &Config) -> String {
    let ip = match config.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if config.tls_certificate.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, config.listen.port()))
}
