//! A bare gRPC server that answers each `GetCity` with the same city, without token, policy or record.

use crate::node::Process;
use hansa_proto::register::{City, GetCityRequest};
use prost::Message;
use std::{
    convert::Infallible,
    future::Ready,
    pin::Pin,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

#[derive(Clone)]
struct Echo(Arc<City>);

struct Answer(Arc<City>);

impl NamedService for Echo {
    const NAME: &'static str = "hansa.register.v1.CityService";
}

impl UnaryService<GetCityRequest> for Answer {
    type Response = City;
    type Future = Ready<Result<Response<City>, Status>>;

    fn call(&mut self, _request: Request<GetCityRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new((*self.0).clone())))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = Answer(self.0.clone());
        Box::pin(
            async move { Ok(Grpc::new(ProstCodec::<City, GetCityRequest>::default()).unary(answer, request).await) },
        )
    }
}

/// Serves the encoded city until the process ends.
pub async fn serve(hex: &str) -> anyhow::Result<()> {
    let city = City::decode(from_hex(hex).as_slice())?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("bare answers on {}", listener.local_addr()?);
    let echo = Echo(Arc::new(city));
    Ok(Server::builder()
        .tcp_nodelay(true)
        .add_service(echo)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?)
}

/// Starts the bare server in its own process.
pub fn start(city: &City) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--echo").arg(hex(&city.encode_to_vec())).stderr(Stdio::null());
    Process::start(command)
}

/// Encodes bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default()).collect()
}
