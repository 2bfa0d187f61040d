//! Test data: three cities that have joined, two that have not, and a record of each kind.

use crate::{
    Platform,
    cities::{self, City},
    eventually, networks, request_id,
};
use hansa_kernel::Role;
use hansa_proto::{
    changes::ListChangesRequest,
    partnerships::{AgreementOrigin, AgreementRow, AgreementState, ImportAgreementRequest},
    register::{GetCityRequest, ListCountriesRequest, Office, OfficeExistence, RegimeClass, UpdateOfficeRequest},
    strategy::GetEvaluationRequest,
};
use std::collections::HashMap;

/// Keys, names and countries of the cities. The last two have not joined.
const CITIES: [(&str, &str, &str); 5] =
    [("1", "Dresden", "DE"), ("2", "Tunis", "TN"), ("3", "Lyon", "FR"), ("4", "Oslo", "NO"), ("5", "Quito", "EC")];

/// The callers and record names of the test data.
pub struct World {
    /// The city that has the office, the strategy and the evaluation, and that proposed both agreements.
    pub a: City,
    /// The partner in both agreements.
    pub b: City,
    /// A city that is not a party to the agreements.
    pub c: City,
    /// A city that has not joined. The steward owns its record.
    pub unjoined: String,
    /// Another city that has not joined.
    pub another: String,
    /// An agreement between `a` and `b` in the state proposed.
    pub proposed: String,
    /// An agreement between `a` and `b` that is in force.
    pub active: String,
    /// An agreement between the two cities that have not joined, imported by the steward.
    pub imported: String,
    /// The office of `a`.
    pub office: String,
    /// The adopted strategy of `a`.
    pub strategy: String,
    /// The evaluation of `a`.
    pub evaluation: String,
    /// A country with known facts.
    pub country: String,
    /// A network whose secretariat is `a`.
    pub network: String,
    /// The membership of `b` in the network, in the state applied.
    pub applied: String,
    /// The membership of `c` in the network, in force.
    pub member: String,
}

impl World {
    /// Creates the test data on a platform.
    pub async fn on(platform: &Platform) -> Self {
        cities::enter(platform, &CITIES, &[("FR", RegimeClass::LiberalDemocracy)]).await;
        let [a, b, c] = ["1", "2", "3"].map(|key| cities::join(platform, key));
        let (a, b, c) = (a.await, b.await, c.await);
        let active = cities::propose(&a, &b).await.name;
        cities::prepare(&a, &b, &active).await;
        for side in [&a, &b] {
            let signed = side.mayor.agreements().sign_agreement(cities::signature(&active)).await.unwrap().into_inner();
            assert!(matches!(signed.state(), AgreementState::Signed | AgreementState::Active));
        }
        // Timers bring the agreement into force after the second signature, and announce its first anniversary.
        eventually("all timers of the agreement have fired", async || {
            let request = ListChangesRequest { parent: active.clone(), ..Default::default() };
            let changes = a.mayor.changes("partnerships").list_changes(request).await.ok()?.into_inner().changes;
            changes.last()?.payload_type.ends_with("AnniversaryApproached").then_some(())
        })
        .await;
        let proposed = cities::propose(&a, &b).await.name;
        let strategy = cities::adopt(&a).await.name;
        let evaluation = eventually("the evaluation of the strategy", async || {
            let request = GetEvaluationRequest { city: a.city.clone(), ..Default::default() };
            let found = a.mayor.evaluations().get_evaluation(request).await.ok()?.into_inner();
            (found.strategy == strategy && !found.name.is_empty()).then_some(found.name)
        })
        .await;
        let countries = platform.steward().countries().list_countries(ListCountriesRequest::default()).await.unwrap();
        let country = countries.into_inner().countries[0].name.clone();
        let (unjoined, another) = (cities::name("4"), cities::name("5"));
        let director = platform.caller(Some(&a.tenant), &[Role::Director]);
        let network = networks::found(&director, Vec::new()).await.name;
        let applied = networks::apply(&b, &network).await.name;
        let member = networks::apply(&c, &network).await.name;
        networks::approve(&director, &member).await;
        Self {
            network,
            applied,
            member,
            office: office(&a).await,
            imported: import(platform, &unjoined, &another).await,
            a,
            b,
            c,
            unjoined,
            another,
            proposed,
            active,
            strategy,
            evaluation,
            country,
        }
    }

    /// Returns valid texts for the request fields with these names.
    #[must_use]
    pub fn known(&self) -> HashMap<&'static str, String> {
        HashMap::from([
            ("initiator", self.a.city.clone()),
            ("partner", self.b.city.clone()),
            ("city", self.a.city.clone()),
            ("predecessors", self.unjoined.clone()),
            ("constituent_cities", self.another.clone()),
            ("successors", self.unjoined.clone()),
            ("continuing_city", self.unjoined.clone()),
            ("country_code", "FR".into()),
            ("tool", self.active.clone()),
            ("agreement", self.active.clone()),
            ("network", self.network.clone()),
            ("rubric", String::new()),
            ("parent_city", String::new()),
            ("parent", "feeds/partnerships".into()),
            ("superseded_agreement", String::new()),
        ])
    }
}

async fn office(city: &City) -> String {
    let request = GetCityRequest { name: city.city.clone(), as_of_date: None };
    let name = city.mayor.cities().get_city(request).await.unwrap().into_inner().office;
    let office = Office {
        name,
        city: city.city.clone(),
        existence: OfficeExistence::Exists as i32,
        languages: vec!["de".into()],
        ..Default::default()
    };
    let request = UpdateOfficeRequest {
        office: Some(office),
        update_mask: Some(mask(&["existence", "languages"])),
        request_id: request_id(),
        ..Default::default()
    };
    city.office.offices().update_office(request).await.unwrap().into_inner().name
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

async fn import(platform: &Platform, a: &str, b: &str) -> String {
    let request = ImportAgreementRequest {
        row: Some(AgreementRow {
            initiator: a.to_owned(),
            partner: b.to_owned(),
            origin: Some(AgreementOrigin {
                source: "a test".into(),
                external_id: "t1".into(),
                claimed_by: String::new(),
            }),
            ..Default::default()
        }),
        request_id: request_id(),
        ..Default::default()
    };
    // The partnerships service mirrors a city some time after its import.
    eventually("the partnerships service mirrors both cities of the tie", async || {
        match platform.steward().attestations().import_agreement(request.clone()).await {
            Ok(imported) => Some(imported.into_inner().name),
            Err(status) if status.code() == tonic::Code::NotFound => None,
            Err(status) => panic!("{status:?}"),
        }
    })
    .await
}
