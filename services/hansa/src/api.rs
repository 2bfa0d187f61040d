//! Clients of all services, which send a token with every call.

use anyhow::Context;
use hansa_proto::{
    changes::change_service_client::ChangeServiceClient,
    partnerships::{
        agreement_service_client::AgreementServiceClient, attestation_service_client::AttestationServiceClient,
    },
    register::{
        city_service_client::CityServiceClient, country_service_client::CountryServiceClient,
        office_service_client::OfficeServiceClient, tenant_service_client::TenantServiceClient,
    },
    strategy::{evaluation_service_client::EvaluationServiceClient, strategy_service_client::StrategyServiceClient},
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Adds a bearer token to each call.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Line = InterceptedService<Channel, Bearer>;

/// The clients of all services for one caller.
#[derive(Clone, Debug)]
pub struct Api {
    channel: Channel,
    bearer: Bearer,
}

/// Maximum size of a response, in bytes.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

macro_rules! services {
    ($($name:ident: $client:ident),* $(,)?) => {
        impl Api {
            $(
                /// Returns a client of the service.
                pub fn $name(&self) -> $client<Line> {
                    $client::with_interceptor(self.channel.clone(), self.bearer.clone())
                        .max_decoding_message_size(ANSWER_BYTES)
                }
            )*
        }
    };
}

services! {
    changes: ChangeServiceClient,
    cities: CityServiceClient,
    countries: CountryServiceClient,
    tenants: TenantServiceClient,
    offices: OfficeServiceClient,
    agreements: AgreementServiceClient,
    attestations: AttestationServiceClient,
    strategies: StrategyServiceClient,
    evaluations: EvaluationServiceClient,
}

impl Api {
    /// Creates the clients for the holder of a token.
    ///
    /// # Errors
    /// If the token contains characters that a header cannot contain.
    pub fn new(channel: Channel, token: &str) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {token}").parse().context("the token is malformed")?;
        Ok(Self { channel, bearer: Bearer(bearer) })
    }

    /// Returns clients of the same server for the holder of another token.
    ///
    /// # Errors
    /// If the token contains characters that a header cannot contain.
    pub fn with(&self, token: &str) -> anyhow::Result<Self> {
        Self::new(self.channel.clone(), token)
    }
}

/// Returns a new random request id.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
