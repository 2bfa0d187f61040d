//! The gRPC server: layers in a named order, limits on everything, health, reflection, a clean drain.

use crate::{
    config::Config,
    guard::Guard,
    limits::{
        CALL_DEADLINE, CONNECTION_CALLS, CONNECTION_STREAMS, DRAIN, HEADER_BYTES, KEEPALIVE, KEEPALIVE_ANSWER,
        PROCESS_CALLS,
    },
};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::RoutesBuilder,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tower::limit::GlobalConcurrencyLimitLayer;

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
    let (reporter, health) = tonic_health::server::health_reporter();
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
    let mut server = Server::builder()
        .timeout(CALL_DEADLINE)
        .concurrency_limit_per_connection(CONNECTION_CALLS)
        .max_concurrent_streams(CONNECTION_STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER));
    if let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) {
        server = server.tls_config(tls(config, certificate, key)?).context("the certificate cannot be used")?;
    }
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let draining = stop.clone();
    // The server's own setting counts for addresses alone, not for listeners: without this one, an answer of more than one
    // packet waits 40 ms for the caller's delayed acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // From the outside in: how many at once, then who calls.
    let serving = server
        .layer(GlobalConcurrencyLimitLayer::new(PROCESS_CALLS))
        .layer(guard)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, async move {
            draining.cancelled().await;
            reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        });
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = serving => outcome.context("the server failed"),
        () = deadline => {
            tracing::warn!("calls were still running when the time to drain was over");
            Ok(())
        }
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
