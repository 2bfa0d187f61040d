//! `hansa health`: whether a server serves. For probes, where there is no shell and no other client.

use crate::{cli::NodeOptions, session::connect};
use hansa_chassis::Config;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tonic::Status;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Asks. Who serves nothing is away, for the exit code.
pub async fn run(config: &Config, options: &NodeOptions) -> anyhow::Result<()> {
    let url = options.server.clone().unwrap_or_else(|| own(config));
    let channel = connect(&url, Some(options)).await?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await?.into_inner();
    if answer.status() != ServingStatus::Serving {
        return Err(Status::unavailable(format!("{url} does not serve")).into());
    }
    println!("{url} serves");
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
