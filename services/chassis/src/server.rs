//! The gRPC server: its layers and their order, limits, TLS, health, reflection and draining.

use crate::{
    auth_layer::{AuthLayer, StartupLayer},
    config::Config,
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

/// The health service name that reports whether the process is alive, even if it is not ready.
pub const LIVE: &str = "hansa.live";

/// Serves routes until `stop` is cancelled, then waits up to `DRAIN` for open calls.
///
/// # Errors
/// If a certificate cannot be read, or the server fails.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    mut routes: RoutesBuilder,
    auth: AuthLayer,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (reporter, health) = health(ServingStatus::Serving).await;
    routes.add_service(health);
    if config.reflection {
        // Both versions of the protocol: grpcurl before 1.9 only speaks the older one.
        let contract = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(hansa_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // The details of refusals, so that clients can decode them.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        routes.add_service(contract().build_v1().context("cannot start reflection")?);
        routes.add_service(contract().build_v1alpha().context("cannot start reflection")?);
    }
    let draining = stop.clone();
    let open = auth.clone();
    // From the outside in: catch panics, then shed load and authenticate.
    let serving = builder(config)?
        .layer(CatchPanics)
        .layer(auth)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming(listener), async move {
            draining.cancelled().await;
            reporter.set_service_status("", ServingStatus::NotServing).await;
        });
    tokio::select! {
        outcome = serving => outcome.context("the server failed"),
        () = drain(&open, &stop) => Ok(()),
    }
}

/// Serves only health, with the status NOT_SERVING, until `ready` is cancelled: the node is waiting for its database. Every other call
/// is refused with UNAVAILABLE.
///
/// # Errors
/// As `serve`.
pub async fn wait(config: &Config, listener: TcpListener, ready: CancellationToken) -> anyhow::Result<()> {
    let mut routes = RoutesBuilder::default();
    let (_reporter, health) = health(ServingStatus::NotServing).await;
    routes.add_service(health);
    let waiting = builder(config)?
        .layer(StartupLayer)
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

/// Creates the health service. The empty name reports whether calls are served, `LIVE` whether the process is alive.
async fn health(serving: ServingStatus) -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", serving).await;
    reporter.set_service_status(LIVE, ServingStatus::Serving).await;
    (reporter, health)
}

/// Accepts connections without Nagle's algorithm. tonic's setting has no effect on a listener that is passed in; without this one, a
/// response of several packets waits 40 ms for the caller's delayed acknowledgement.
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
        server = server.tls_config(tls(config, certificate, key)?).context("cannot use the certificate")?;
    }
    Ok(server)
}

/// Returns when draining is over, even if connections are still open.
async fn drain(open: &AuthLayer, stop: &CancellationToken) {
    stop.cancelled().await;
    if timeout(DRAIN, open.drained()).await.is_err() {
        tracing::warn!("calls were still open after the drain period");
    } else {
        sleep(DRAIN_CONNECTIONS).await;
        tracing::info!("closed idle connections after the drain period");
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
