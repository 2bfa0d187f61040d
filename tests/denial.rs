//! Authorization (R-7, PL-1, PL-2). The test calls every rpc of the contract with every role in every relation to a
//! real record, and compares the answers with the policy table that the program prints.
//!
//! No record has members yet, so a caller cannot have the relation `member`. The table still contains that relation.
#![allow(clippy::unwrap_used, missing_docs)]

use futures::{StreamExt, stream};
use hansa_kernel::{
    Relation::{self, Owner, Party, Public, Stranger},
    Role,
};
use hansa_proto::changes::ListChangesRequest;
use hansa_tests::{
    Caller, Platform, Shape,
    filler::{fill, set},
    raw::{self, methods, scope, short},
    refusals::{brief, denied, shape},
    world::World,
};
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage, prost::Message};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const AT_ONCE: usize = 16;
/// Roles that only people of the node may hold.
const NODE_ROLES: [&str; 3] = ["steward", "auditor", "operator"];

/// The kinds of records that rpcs name, by the content of the field that names the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Agreement,
    City,
    Tenant,
    Country,
    Network,
    Membership,
    /// The membership of a city in the network, named by the city.
    MembershipOf,
    Office,
    /// The office of a city, named by the city.
    OfficeOf,
    Strategy,
    Evaluation,
    /// The portfolio of a city, named by the city.
    PortfolioOf,
    /// A new strategy of a city, named by the city.
    StrategyOf,
    /// A new agreement of a city, named by the city.
    AgreementOf,
    Rubric,
    /// The first change of a record.
    ChangeOf,
    /// The first activity of an agreement, which its version names.
    ActivityOf,
}
use Named::{
    ActivityOf, Agreement, AgreementOf, ChangeOf, City, Country, Evaluation, Membership, MembershipOf, Network, Office,
    OfficeOf, PortfolioOf, Rubric, Strategy, StrategyOf, Tenant,
};

/// The subject of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The record that this field names.
    One(&'static str, Named),
    /// The records in a list. The caller gets only those that it may see.
    Each(Named),
    /// A new record, or data of the caller only.
    New,
}
use About::{Each, New, One};

/// The subject of each rpc. The test fails if an rpc is missing here.
const CALLS: &[(About, &str)] = &[
    (One("parent", Agreement), "ChangeService.ListChanges"),
    (One("parent", City), "ChangeService.ListChanges"),
    (One("parent", Tenant), "ChangeService.ListChanges"),
    (One("parent", Country), "ChangeService.ListChanges"),
    (One("parent", Office), "ChangeService.ListChanges"),
    (One("parent", Strategy), "ChangeService.ListChanges"),
    (One("parent", Evaluation), "ChangeService.ListChanges"),
    (One("parent", Network), "ChangeService.ListChanges"),
    (One("parent", Membership), "ChangeService.ListChanges"),
    (One("name", Network), "ChangeService.EraseTexts"),
    (One("name", Membership), "ChangeService.EraseTexts"),
    (One("name", Agreement), "ChangeService.EraseTexts"),
    (One("name", Office), "ChangeService.EraseTexts"),
    (One("name", Strategy), "ChangeService.EraseTexts"),
    (One("name", ChangeOf), "ChangeService.GetChange"),
    (Each(Agreement), "ChangeService.ListFeedEntries"),
    (New, "ChangeService.WatchFeed"),
    (New, "AgreementService.ProposeAgreement"),
    (One("initiator", AgreementOf), "AgreementService.ProposeAgreement"),
    (New, "AttestationService.ImportAgreement AttestationService.BatchImportAgreements"),
    (Each(Agreement), "AgreementService.ListAgreements"),
    (One("parent", Agreement), "PartnershipService.ListActivities PartnershipService.CreateActivity"),
    (One("name", ActivityOf), "PartnershipService.GetActivity"),
    (
        One("name", Agreement),
        "AgreementService.GetAgreement AgreementService.ExportAgreement AgreementService.OpenDialogue \
         AgreementService.ReviseTerms AgreementService.ProposeRationale AgreementService.ConfirmRationale \
         AgreementService.ProposePlan AgreementService.ConfirmPlan AgreementService.RecordCouncilVote \
         AgreementService.StateGuidelines AgreementService.OverrideGuidelines AgreementService.SignAgreement \
         AgreementService.DeclineAgreement AgreementService.WithdrawAgreement \
         PartnershipService.ProposeRevitalization PartnershipService.ConfirmRevitalization PartnershipService.SuspendAgreement \
         PartnershipService.LiftSuspension PartnershipService.ProposeRenewal PartnershipService.ConfirmRenewal \
         PartnershipService.EndAgreement AttestationService.ClaimAgreement AttestationService.AttestStep \
         AttestationService.ConfirmAttestation AttestationService.DisputeAttestation PartnershipService.SetCommittee \
         AgreementService.RetractAgreement",
    ),
    (New, "PartnershipService.EndAgreements PartnershipService.SuspendAgreements"),
    (
        One("name", City),
        "CityService.GetCity CityService.RenameCity CityService.SplitCity CityService.RecordMayorTerm \
         CityService.EndMayorTerm CityService.SetFact CityService.RetractCity",
    ),
    (One("successor", City), "CityService.MergeCities"),
    (One("city.name", City), "CityService.UpdateCity"),
    (Each(City), "CityService.ListCities"),
    (New, "CityService.CreateCity CityService.BatchImportCities"),
    (One("name", Country), "CountryService.GetCountry"),
    (Each(Country), "CountryService.ListCountries"),
    (New, "CountryService.BatchImportCountryFacts"),
    (One("name", Office), "OfficeService.GetOffice"),
    (One("office.city", OfficeOf), "OfficeService.UpdateOffice"),
    (One("name", Tenant), "TenantService.GetTenant TenantService.RotateTenantKey"),
    (One("tenant.name", Tenant), "TenantService.UpdateTenant"),
    (Each(Tenant), "TenantService.ListTenants"),
    (New, "TenantService.CreateTenant"),
    (One("name", Network), "NetworkService.GetNetwork"),
    (One("network.name", Network), "NetworkService.UpdateNetwork"),
    (One("network", Network), "NetworkService.CheckEligibility"),
    (Each(Network), "NetworkService.ListNetworks"),
    (New, "NetworkService.CreateNetwork NetworkService.GetCriteriaModel"),
    (One("city", MembershipOf), "MembershipService.ApplyForMembership"),
    (Each(Membership), "MembershipService.ListMemberships"),
    (
        One("name", Membership),
        "MembershipService.GetMembership MembershipService.ApproveMembership MembershipService.DeclineMembership \
         MembershipService.SuspendMembership MembershipService.ReinstateMembership MembershipService.LeaveMembership \
         MembershipService.ExpelMembership",
    ),
    (One("name", Evaluation), "EvaluationService.GetEvaluation"),
    (One("city", PortfolioOf), "EvaluationService.GetEvaluation"),
    (One("parent", Evaluation), "EvaluationService.ListFindings"),
    (
        One("city", PortfolioOf),
        "EvaluationService.ListEvaluations EvaluationService.WatchEvaluations EvaluationService.SimulatePortfolio",
    ),
    (One("name", Rubric), "EvaluationService.GetRubric"),
    (One("strategy.city", StrategyOf), "StrategyService.CreateStrategy"),
    (One("strategy.name", Strategy), "StrategyService.UpdateStrategy"),
    (Each(Strategy), "StrategyService.ListStrategies"),
    (
        One("name", Strategy),
        "StrategyService.GetStrategy StrategyService.SetGoal StrategyService.DeleteGoal \
         StrategyService.LinkTool StrategyService.UnlinkTool StrategyService.DiscardStrategy StrategyService.AdoptStrategy",
    ),
];

/// A record, and the relations of the four tenants to the record: `a`, `b`, `c` and the node.
struct Standing {
    record: String,
    relations: [Relation; 4],
    /// A record that does not exist, or that the same callers cannot see either.
    absent: String,
}

fn standings(world: &World) -> BTreeMap<Named, Vec<Standing>> {
    let absent = |name: &str| {
        let (collection, rest) = name.split_once('/').unwrap();
        let (_, below) = rest.split_once('/').map_or((rest, String::new()), |(id, below)| (id, format!("/{below}")));
        format!("{collection}/{}{below}", hansa_tests::request_id())
    };
    let stand = |record: &str, relations| Standing { record: record.into(), relations, absent: absent(record) };
    let own = [Owner, Stranger, Stranger, Stranger];
    let public = [Owner, Public, Public, Public];
    let stewards = [Public, Public, Public, Owner];
    BTreeMap::from([
        (
            Agreement,
            vec![
                stand(&world.proposed, [Owner, Party, Stranger, Stranger]),
                stand(&world.active, [Owner, Party, Public, Public]),
                stand(&world.imported, stewards),
            ],
        ),
        (City, vec![stand(&world.a.city, public), stand(&world.unjoined, stewards)]),
        (Tenant, vec![stand(&world.a.tenant, public)]),
        (Country, vec![stand(&world.country, stewards)]),
        (Network, vec![stand(&world.network, public)]),
        (
            Membership,
            vec![
                stand(&world.applied, [Owner, Party, Stranger, Stranger]),
                stand(&world.member, [Owner, Public, Party, Public]),
            ],
        ),
        // An application is visible to its parties only. A caller that may not act for the city gets the same answer
        // for a city that has not applied.
        (
            MembershipOf,
            vec![Standing {
                absent: world.a.city.clone(),
                ..stand(&world.b.city, [Stranger, Owner, Stranger, Stranger])
            }],
        ),
        (Office, vec![stand(&world.office, own)]),
        // `b` has joined and has no office.
        (OfficeOf, vec![Standing { absent: world.b.city.clone(), ..stand(&world.a.city, own) }]),
        (Strategy, vec![stand(&world.strategy, own)]),
        (Evaluation, vec![stand(&world.evaluation, own)]),
        (PortfolioOf, vec![stand(&world.a.city, own)]),
        // Cities are public, so a denial reveals only that the caller may not act for the city.
        (StrategyOf, vec![Standing { absent: world.b.city.clone(), ..stand(&world.a.city, own) }]),
        (AgreementOf, vec![Standing { absent: world.unjoined.clone(), ..stand(&world.a.city, own) }]),
        (Rubric, vec![stand("rubrics/hansa-2026", [Public; 4])]),
        (
            ChangeOf,
            vec![
                stand(&format!("{}/changes/1", world.proposed), [Owner, Party, Stranger, Stranger]),
                stand(&format!("{}/changes/1", world.office), own),
                stand(&format!("{}/changes/1", world.strategy), own),
                stand(&format!("{}/changes/1", world.applied), [Owner, Party, Stranger, Stranger]),
            ],
        ),
        (ActivityOf, vec![stand(&format!("{}/activities/1", world.proposed), [Owner, Party, Stranger, Stranger])]),
    ])
}

/// The policy table that the program prints: the permitted roles by rpc and relation.
struct Table(BTreeMap<(String, String), BTreeSet<String>>);

impl Table {
    fn of(platform: &Platform) -> Self {
        let printed = platform.hansa(&["policy", "--json"]).output().unwrap();
        assert!(printed.status.success());
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&printed.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let roles = |row: &serde_json::Value| row["roles"].as_array().unwrap().iter().map(text).collect();
        Self(rows.iter().map(|row| ((text(&row["rpc"]), text(&row["relation"])), roles(row))).collect())
    }

    fn permits(&self, method: &MethodDescriptor, role: &str, relation: Relation) -> bool {
        let row = self.0.get(&(raw::path(method), relation.as_str().to_owned()));
        row.is_some_and(|roles| roles.contains(role))
    }

    fn permits_at_all(&self, method: &MethodDescriptor, role: &str) -> bool {
        Relation::ALL.into_iter().any(|relation| self.permits(method, role, relation))
    }
}

struct Someone {
    tenant: usize,
    role: String,
    caller: Caller,
}

fn role_name(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// Returns one caller for each role of each tenant.
fn everyone(platform: &Platform, world: &World) -> Vec<Someone> {
    let scopes: BTreeSet<String> = methods().iter().map(scope).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let tenants = [Some(&world.a.tenant), Some(&world.b.tenant), Some(&world.c.tenant), None];
    let roles: Vec<String> = (1..).map_while(|number| Role::try_from(number).ok()).map(role_name).collect();
    assert!(roles.len() >= 13, "{roles:?}");
    let mut people = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        for role in roles.iter().filter(|role| tenant.is_none() || !NODE_ROLES.contains(&role.as_str())) {
            let granted = if role == "service_account" { &scopes[..] } else { &[] };
            let token = platform.token_for(tenant.map(String::as_str), role, granted);
            people.push(Someone { tenant: index, role: role.clone(), caller: platform.with_token(&token) });
        }
    }
    people
}

/// Returns a well-formed request that names a record.
fn request(method: &MethodDescriptor, about: About, record: &str, world: &World) -> Vec<u8> {
    let mut known = world.known();
    match about {
        // A filter could hide the records that the test looks for.
        Each(_) => known.extend(["city", "country_code", "partner"].map(|filter| (filter, String::new()))),
        One("name", Evaluation) => drop(known.insert("city", String::new())),
        _ => {}
    }
    let mut message = match about {
        Each(_) => DynamicMessage::new(method.input()),
        _ => fill(&method.input(), &known),
    };
    match about {
        One(field, _) => set(&mut message, field, record),
        Each(_) => {
            message.set_field_by_name("page_size", prost_reflect::Value::I32(1_000));
            if method.name() == "ListFeedEntries" {
                set(&mut message, "parent", "feeds/partnerships");
            }
        }
        New => {}
    }
    if let One("office.city", _) = about {
        set(&mut message, "office.name", &office_of(record));
    }
    message.encode_to_vec()
}

/// A function that builds a request.
type Make = fn(&MethodDescriptor, About, &str, &World) -> Vec<u8>;

/// Returns a request with only a record name, a request id and a stale etag. The request is not well formed otherwise.
fn bare(method: &MethodDescriptor, about: About, record: &str, _: &World) -> Vec<u8> {
    let mut message = DynamicMessage::new(method.input());
    if let One(field, _) = about {
        set(&mut message, field, record);
    }
    for (field, value) in [("etag", "00"), ("request_id", &hansa_tests::request_id())] {
        if message.descriptor().get_field_by_name(field).is_some() {
            set(&mut message, field, value);
        }
    }
    message.encode_to_vec()
}

/// Returns the name of a city's office, which derives from the name of the city.
fn office_of(city: &str) -> String {
    let id: hansa_kernel::RecordId = hansa_kernel::RecordName::parse(city, "cities", "city").unwrap().id;
    format!("offices/{}", id.of("office"))
}

struct Trial<'a> {
    method: MethodDescriptor,
    about: About,
    someone: &'a Someone,
    /// The record and the caller's relation to it, if the call is about a record.
    on: Option<(&'a Standing, Relation)>,
}

impl Trial<'_> {
    /// Makes the call. Returns a description of the error if the answer is wrong.
    async fn run(&self, world: &World, table: &Table) -> Option<String> {
        let record = self.on.map_or("", |(standing, _)| &standing.record);
        let message = request(&self.method, self.about, record, world);
        let answer = self.someone.caller.call(&self.method, message).await;
        let relation = self.on.map_or(Owner, |(_, relation)| relation);
        let role = &self.someone.role;
        let permitted = table.permits(&self.method, role, relation);
        let at_all = table.permits_at_all(&self.method, role);
        let wrong = match &answer {
            Ok(_) if relation == Stranger => Some("a stranger gets the record"),
            Ok(_) if !(permitted || self.on.is_none() && at_all) => Some("the call succeeds without permission"),
            Ok(_) => None,
            Err(status) => match status.code() {
                Code::Internal | Code::Unknown | Code::Unimplemented | Code::Unauthenticated => Some("the call fails"),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Some("the service is not available"),
                _ if !at_all && !denied(status) => Some("a call that the role may never make is not denied"),
                _ if !at_all => None,
                Code::PermissionDenied if permitted && denied(status) => Some("a permitted call is denied"),
                Code::NotFound if relation == Stranger => None,
                // A new record of another tenant's city: the city is public, so a denial reveals nothing.
                _ if relation == Stranger && matches!(self.about, One(_, AgreementOf | MembershipOf | StrategyOf)) => {
                    None
                }
                _ if relation == Stranger => Some("the answer to a stranger is not NOT_FOUND"),
                _ if !permitted && self.on.is_some() && !denied(status) => Some("a forbidden call is not denied"),
                _ => None,
            },
        };
        let (rpc, tenant) = (short(&self.method), self.someone.tenant);
        let told = |why: &str| Some(format!("{rpc} as {role} of {tenant} on {record} ({relation:?}): {why}"));
        if let Some(wrong) = wrong {
            return told(&format!("{wrong}: {}", brief(&answer)));
        }
        let Some((standing, Stranger)) = self.on else { return None };
        let own = [&world.a.city, &world.b.city, &world.c.city];
        if own.get(self.someone.tenant) == Some(&&standing.absent) {
            return None;
        }
        // Once with a whole request, and once with only the name and a stale etag.
        let answers = [(request as Make, Some(answer.clone())), (bare as Make, None)];
        for (make, hidden) in answers {
            let ask = async |record: &str| {
                self.someone.caller.call(&self.method, make(&self.method, self.about, record, world)).await
            };
            let hidden = match hidden {
                Some(hidden) => hidden,
                None => ask(record).await,
            };
            let absent = ask(&standing.absent).await;
            let alike = match (&hidden, &absent) {
                (Err(hidden), Err(absent)) => shape(hidden) == shape(absent),
                _ => false,
            };
            if !alike {
                return told(&format!("hidden answers {}, absent answers {}", brief(&hidden), brief(&absent)));
            }
        }
        None
    }
}

/// Returns the answer to a list as text, which contains the names of the records at any depth.
fn listed(method: &MethodDescriptor, answer: &[u8]) -> String {
    let answer = DynamicMessage::decode(method.output(), answer).unwrap();
    format!("{answer:?}")
}

async fn tables(platform: &Platform, world: &World) -> usize {
    let (table, standings, people) = (Table::of(platform), standings(world), everyone(platform, world));
    let methods: BTreeMap<String, MethodDescriptor> = methods().into_iter().map(|m| (short(&m), m)).collect();
    let paths: BTreeSet<String> = methods.values().map(raw::path).collect();
    let printed: BTreeSet<String> = table.0.keys().map(|(rpc, _)| rpc.clone()).collect();
    assert_eq!(paths, printed, "every rpc must have a policy, and every policy must belong to an rpc");
    let calls: Vec<(About, &MethodDescriptor)> = CALLS
        .iter()
        .flat_map(|(about, rpcs)| rpcs.split_whitespace().map(|rpc| (*about, rpc)))
        .map(|(about, rpc)| {
            (about, methods.get(rpc).unwrap_or_else(|| panic!("{rpc} is not an rpc: remove it from CALLS")))
        })
        .collect();
    let covered: BTreeSet<String> = calls.iter().map(|(_, method)| short(method)).collect();
    let missing: Vec<&String> = methods.keys().filter(|rpc| !covered.contains(*rpc)).collect();
    assert!(missing.is_empty(), "these rpcs are missing: add them to CALLS with their subject: {missing:?}");

    let mut trials = Vec::new();
    let mut wrong = Vec::new();
    for (about, method) in &calls {
        for someone in &people {
            let on: Vec<_> = match about {
                One(_, named) => standings[named].iter().map(|s| Some((s, s.relations[someone.tenant]))).collect(),
                _ => vec![None],
            };
            let trial = |on| Trial { method: (*method).clone(), about: *about, someone, on };
            trials.extend(on.into_iter().map(trial));
        }
    }
    let mut count = trials.len();
    let mut running = stream::iter(&trials).map(|trial| trial.run(world, &table)).buffer_unordered(AT_ONCE);
    while let Some(found) = running.next().await {
        wrong.extend(found);
    }
    for (about, method) in &calls {
        let Each(named) = about else { continue };
        for someone in &people {
            let Ok(answer) = someone.caller.call(method, request(method, *about, "", world)).await else { continue };
            let shown = listed(method, &answer);
            for standing in &standings[named] {
                let relation = standing.relations[someone.tenant];
                let permitted = table.permits(method, &someone.role, relation);
                count += 1;
                if shown.contains(&standing.record) != permitted {
                    let (rpc, role) = (short(method), &someone.role);
                    wrong.push(format!(
                        "{rpc} as {role} of {} lists {} ({relation:?})",
                        someone.tenant, standing.record
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} rpcs by {} people", methods.len(), people.len());
    count
}

async fn versions(platform: &Platform, world: &World) -> BTreeMap<String, usize> {
    let auditor = &world.a.mayor;
    let mut found = BTreeMap::new();
    let is_record = |name: &str| !name.starts_with("rubrics/") && name.matches('/').count() == 1;
    for standing in standings(world).values().flatten().filter(|s| is_record(&s.record)) {
        let request = ListChangesRequest { parent: standing.record.clone(), page_size: 1_000, ..Default::default() };
        let caller = if standing.relations[3] == Owner { platform.steward() } else { auditor.clone() };
        let changes = caller.changes("partnerships").list_changes(request).await.unwrap().into_inner().changes;
        found.insert(standing.record.clone(), changes.len());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_every_rpc_by_every_role_in_every_relation_is_as_the_policy_says() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let before = versions(&platform, &world).await;
    assert!(before.len() >= 10 && before.values().all(|length| *length > 0), "{before:?}");
    let start = Instant::now();
    let trials = tables(&platform, &world).await;
    println!("{trials} trials in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(versions(&platform, &world).await, before, "the calls changed a record");
    platform.stop();
}
