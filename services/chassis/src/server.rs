//! The gRPC server: layers in a named order, limits on everything, health, reflection, a clean drain.

use crate::{
    config::Config,
    guard::{Away, Guard},
    limits::{CALL_DEADLINE, CONNECTION_STREAMS, DRAIN, DRAIN_CONNECTIONS, HEADER_BYTES, KEEPALIVE, KEEPALIVE_ANSWER},
    panics::CatchPanics,
};
use anyhow::Context;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::RoutesBuilder,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::HealthReporter,
};

/// The name by which health tells whether the process is alive, whatever it waits for.
pub const LIVE: &str = "hansa.live";

/// Serves routes until `stop` is cancelled, then lets running calls end.
///
/// # Errors
/// Where a certificate cannot be read, or the server fails.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    mut routes: RoutesBuilder,
    guard: Guard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (reporter, health) = health(ServingStatus::Serving).await;
    routes.add_service(health);
    if config.reflection {
        // Clients in use speak either version of the protocol; grpcurl before 1.9 the older one alone.
        let contract = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(hansa_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // What a refusal carries, so that clients can show it.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        routes.add_service(contract().build_v1().context("the contract cannot be reflected")?);
        routes.add_service(contract().build_v1alpha().context("the contract cannot be reflected")?);
    }
    let draining = stop.clone();
    let open = guard.clone();
    // From the outside in: what panics, then who calls and whether there is room.
    let serving = builder(config)?
        .layer(CatchPanics)
        .layer(guard)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming(listener), async move {
            draining.cancelled().await;
            reporter.set_service_status("", ServingStatus::NotServing).await;
        });
    tokio::select! {
        outcome = serving => outcome.context("the server failed"),
        () = drained(&open, &stop) => Ok(()),
    }
}

/// Serves health alone, which says NOT_SERVING, until it is `ready`: something that the node stands on is away at its start.
/// Every other call is told so.
///
/// # Errors
/// As `serve`.
pub async fn wait(config: &Config, listener: TcpListener, ready: CancellationToken) -> anyhow::Result<()> {
    let mut routes = RoutesBuilder::default();
    let (_reporter, health) = health(ServingStatus::NotServing).await;
    routes.add_service(health);
    let waiting = builder(config)?
        .layer(Away)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming(listener), ready.clone().cancelled_owned());
    let deadline = async {
        ready.cancelled().await;
        sleep(DRAIN_CONNECTIONS).await;
    };
    tokio::select! {
        outcome = waiting => outcome.context("the server failed"),
        () = deadline => Ok(()),
    }
}

/// Health as a probe asks for it: by no name whether calls are served, by `LIVE` whether the process is alive.
async fn health(serving: ServingStatus) -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", serving).await;
    reporter.set_service_status(LIVE, ServingStatus::Serving).await;
    (reporter, health)
}

/// The server's own setting counts for addresses alone, not for listeners: without this one, an answer of more than one packet
/// waits 40 ms for the caller's delayed acknowledgement.
fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

fn builder(config: &Config) -> anyhow::Result<Server> {
    let mut server = Server::builder()
        .timeout(CALL_DEADLINE)
        .max_concurrent_streams(CONNECTION_STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER));
    if let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) {
        server = server.tls_config(tls(config, certificate, key)?).context("the certificate cannot be used")?;
    }
    Ok(server)
}

/// Ends when it is time to leave, whoever is still connected.
async fn drained(open: &Guard, stop: &CancellationToken) {
    stop.cancelled().await;
    if timeout(DRAIN, open.none_left()).await.is_err() {
        tracing::warn!("calls were still running when the time to drain was over");
    } else {
        sleep(DRAIN_CONNECTIONS).await;
        tracing::info!("connections were still open on which nothing ran");
    }
}

fn tls(config: &Config, certificate: &std::path::Path, key: &std::path::Path) -> anyhow::Result<ServerTlsConfig> {
    let read = |file: &std::path::Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(read(certificate)?, read(key)?));
    if let Some(ca) = &config.tls_client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(ca)?));
    }
    Ok(tls)
}
