//! Calls to any rpc of the contract by its descriptor, with arbitrary bytes as the request.

use crate::Caller;
use bytes::{Buf, BufMut};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use std::{sync::LazyLock, time::Duration};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

/// The descriptors of the contract.
pub static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(hansa_proto::DESCRIPTORS).expect("the build encoded the contract"));

/// Maximum time that a test waits for an answer. The server's own deadline is shorter.
pub const DEADLINE: Duration = Duration::from_secs(45);

/// Returns all rpcs of the contract.
#[must_use]
pub fn methods() -> Vec<MethodDescriptor> {
    CONTRACT.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Returns the short name of an rpc, such as `CityService.GetCity`.
#[must_use]
pub fn short(method: &MethodDescriptor) -> String {
    format!("{}.{}", method.parent_service().name(), method.name())
}

/// Returns the HTTP path of an rpc.
#[must_use]
pub fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Returns the scope that a program's token needs for an rpc.
#[must_use]
pub fn scope(method: &MethodDescriptor) -> String {
    let area = method.parent_service().package_name().split('.').nth(1).unwrap_or_default().to_owned();
    let writes = method.input().get_field_by_name("validate_only").is_some();
    format!("{area}.{}", if writes { "write" } else { "read" })
}

/// A codec that passes bytes through unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buf.remaining()];
        buf.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

impl Caller {
    /// Calls an rpc with these bytes as its request. A stream is closed as soon as it has opened.
    ///
    /// # Errors
    /// The status of the rpc; `UNAVAILABLE` if the connection fails.
    ///
    /// # Panics
    /// If no answer arrives in time.
    pub async fn call(&self, method: &MethodDescriptor, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut grpc = Grpc::new(self.client(method)).max_decoding_message_size(64 * 1024 * 1024);
        let at: PathAndQuery = path(method).parse().expect("a path");
        let asked = async {
            grpc.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
            if method.is_server_streaming() {
                let opened = grpc.server_streaming(Request::new(message), at, Raw).await;
                return opened.map(|_| Vec::new());
            }
            Ok(grpc.unary(Request::new(message), at, Raw).await?.into_inner())
        };
        let answered = tokio::time::timeout(DEADLINE, asked).await;
        answered.unwrap_or_else(|_| panic!("{} does not answer", short(method)))
    }
}
