//! `hansa health`: whether a server serves. For probes, where there is no shell and no other client.

use crate::{cli::NodeOptions, session::connect};
use hansa_chassis::{Config, server::LIVE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Asks. Who serves nothing is away, for the exit code; with `live`, who is not there at all.
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

/// Where the server of this configuration is reached from its own machine.
fn own(config: &Config) -> String {
    let ip = match config.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if config.tls_certificate.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, config.listen.port()))
}
