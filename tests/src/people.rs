//! Callers: a token with clients for all services.

use hansa_proto::{
    changes::change_service_client::ChangeServiceClient,
    networks::{membership_service_client::MembershipServiceClient, network_service_client::NetworkServiceClient},
    partnerships::{
        agreement_service_client::AgreementServiceClient, attestation_service_client::AttestationServiceClient,
        partnership_service_client::PartnershipServiceClient,
    },
    register::{
        city_service_client::CityServiceClient, country_service_client::CountryServiceClient,
        office_service_client::OfficeServiceClient, tenant_service_client::TenantServiceClient,
    },
    strategy::{evaluation_service_client::EvaluationServiceClient, strategy_service_client::StrategyServiceClient},
};
use std::collections::HashMap;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel on which each call carries the token.
pub type Client = InterceptedService<Channel, Bearer>;

/// A caller: channels to all services, and a token.
#[derive(Clone)]
pub struct Caller {
    channels: HashMap<&'static str, Channel>,
    bearer: Bearer,
}

macro_rules! services {
    ($($name:ident: $client:ident at $service:literal),* $(,)?) => {
        impl Caller {
            $(
                /// Returns a client of the service.
                #[must_use]
                pub fn $name(&self) -> $client<Client> {
                    $client::with_interceptor(self.channels[$service].clone(), self.bearer.clone())
                }
            )*
        }
    };
}

services! {
    cities: CityServiceClient at "register",
    countries: CountryServiceClient at "register",
    tenants: TenantServiceClient at "register",
    offices: OfficeServiceClient at "register",
    agreements: AgreementServiceClient at "partnerships",
    partnerships: PartnershipServiceClient at "partnerships",
    attestations: AttestationServiceClient at "partnerships",
    networks: NetworkServiceClient at "networks",
    memberships: MembershipServiceClient at "networks",
    strategies: StrategyServiceClient at "strategy",
    evaluations: EvaluationServiceClient at "strategy",
}

impl Caller {
    /// Creates a caller with a token, or without one if `token` is empty.
    #[must_use]
    pub fn new(channels: HashMap<&'static str, Channel>, token: &str) -> Self {
        let bearer = (!token.is_empty()).then(|| format!("Bearer {token}").parse().expect("a token is ASCII"));
        Self { channels, bearer: Bearer(bearer) }
    }

    /// Returns the same caller with one channel for all services.
    #[must_use]
    pub fn through(&self, channel: &Channel) -> Self {
        let channels = self.channels.keys().map(|service| (*service, channel.clone())).collect();
        Self { channels, bearer: self.bearer.clone() }
    }

    /// Returns a client of the service that has the rpc. The rpcs that every service has go to the partnerships
    /// service.
    pub(crate) fn client(&self, method: &prost_reflect::MethodDescriptor) -> Client {
        let service = method.parent_service().package_name().split('.').nth(1).unwrap_or_default().to_owned();
        let channel = self.channels.get(service.as_str()).unwrap_or_else(|| &self.channels["partnerships"]).clone();
        InterceptedService::new(channel, self.bearer.clone())
    }

    /// Returns a client for the changes of a service.
    #[must_use]
    pub fn changes(&self, service: &str) -> ChangeServiceClient<Client> {
        ChangeServiceClient::with_interceptor(self.channels[service].clone(), self.bearer.clone())
    }
}
