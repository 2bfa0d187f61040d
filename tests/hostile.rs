//! Hostile callers: random and broken messages, made from the descriptor of each rpc, wrong protocols, slow and
//! half-closed connections. The program refuses each of them, keeps running, and serves other callers meanwhile.
//!
//! `HANSATEST_SEED` repeats a storm, `HANSATEST_ROUNDS` makes it longer.
#![allow(clippy::unwrap_used, missing_docs)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hansa_chassis::limits::TENANT_CALLS;
use hansa_proto::{
    changes::ListChangesRequest,
    partnerships::GetAgreementRequest,
    register::{GetCityRequest, RenameCityRequest},
};
use hansa_tests::{
    Caller, Platform, Shape, cities,
    filler::fill,
    hostile::{Dice, HARMS, Harm, request, with_each_text},
    raw::{Raw, methods, path, short},
    refusals::brief,
    rule,
    world::World,
};
use prost_reflect::{
    DynamicMessage, MethodDescriptor, Value,
    prost::{
        Message,
        encoding::{WireType, encode_key, encode_varint},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Request, Status, client::Grpc, codegen::http};
use tonic_types::StatusExt;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// Default number of rounds over all rpcs, kinds of harm and callers.
const ROUNDS: u64 = 4;
/// Maximum growth of the program's memory in a storm, in KiB.
const GROWTH_KIB: u64 = 256 * 1024;
/// Maximum time for the call of a good caller while others do harm.
const PATIENCE: Duration = Duration::from_secs(5);
/// Number of bad connections that are open together.
const BAD_CONNECTIONS: usize = 200;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process is alive");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns whether a broken request may get this answer.
fn bearable(answer: &Result<Vec<u8>, Status>) -> bool {
    let Err(status) = answer else { return true };
    let code = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::ResourceExhausted
    );
    // The transport itself refuses oversize messages, without error info. All other refusals name a rule.
    code && (status.code() == Code::OutOfRange || status.get_details_error_info().is_some())
}

async fn versions(world: &World) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for record in [&world.proposed, &world.active, &world.a.city, &world.office, &world.strategy] {
        let request = ListChangesRequest { parent: record.clone(), page_size: 1_000, ..Default::default() };
        let changes = world.a.mayor.changes("partnerships").list_changes(request).await.unwrap().into_inner();
        found.insert(record.clone(), changes.changes.len());
    }
    found
}

/// Runs a storm. Returns the wrong answers by the kind of request.
async fn storm(platform: &Platform, world: &World, only_tried: bool) -> BTreeMap<String, String> {
    let callers = [("mayor", &world.a.mayor), ("steward", &platform.steward()), ("stranger", &world.c.mayor)];
    let seed = variable("HANSATEST_SEED", chrono::Utc::now().timestamp_micros().cast_unsigned());
    println!("HANSATEST_SEED={seed}");
    let (memory, start) = (memory_kib(platform.process_id()), Instant::now());
    let (mut dice, known, mut wrong, mut count) = (Dice::new(seed), world.known(), BTreeMap::new(), 0);
    for _ in 0..variable("HANSATEST_ROUNDS", ROUNDS) {
        for method in methods() {
            for harm in HARMS {
                let (who, caller) = *dice.of(&callers);
                let mut message = request(&mut dice, &method, harm, &known);
                last_word(&method, harm, only_tried, &mut message);
                let answer = caller.call(&method, message).await;
                count += 1;
                if !bearable(&answer) {
                    let what = format!("{} {harm:?} as {who}", short(&method));
                    wrong.entry(what).or_insert_with(|| brief(&answer));
                }
            }
        }
    }
    let grown = memory_kib(platform.process_id()).saturating_sub(memory);
    println!("{count} messages in {:.1} s, grown by {grown} KiB", start.elapsed().as_secs_f64());
    assert!(grown < GROWTH_KIB, "the program grew by {grown} KiB");
    wrong
}

/// Appends `validate_only` to a message, because a broken message may have lost the field and would be a real
/// command. In protobuf the last value of a field counts.
fn last_word(method: &MethodDescriptor, harm: Harm, only_tried: bool, message: &mut Vec<u8>) {
    let whole = !matches!(harm, Harm::Cut | Harm::Deep | Harm::Noise);
    if let Some(field) = method.input().get_field_by_name("validate_only").filter(|_| whole) {
        encode_key(field.number(), WireType::Varint, message);
        encode_varint(u64::from(only_tried), message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_a_storm_of_broken_messages_is_refused_and_leaves_no_trace() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let before = versions(&world).await;
    let wrong = storm(&platform, &world, true).await;
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
    assert_eq!(versions(&world).await, before, "a storm with `validate_only` changed a record");
    the_journey_still_works(&platform, &world).await;
    platform.stop();
}

/// Runs the storm without `validate_only`, so accepted commands take effect. PostgreSQL is stricter with texts than
/// SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn r6_a_storm_in_earnest_on_postgres_keeps_everything_in_order() {
    let mut platform = Platform::start(HANSA, Shape::OneProcess).await;
    let world = World::on(&platform).await;
    let wrong = storm(&platform, &world, false).await;
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
    the_journey_still_works(&platform, &world).await;
    platform.stop();
    for looks in ["rebuild", "doctor"] {
        let output = platform.hansa(&[looks, "--json"]).output().unwrap();
        assert!(output.status.success(), "{looks}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Replaces each text of each request, one at a time, by characters that a database or a log may not accept.
/// Commands take effect.
#[tokio::test(flavor = "multi_thread")]
async fn r6_no_text_is_too_strange_for_postgres() {
    let mut platform = Platform::start(HANSA, Shape::OneProcess).await;
    let world = World::on(&platform).await;
    let (steward, known, mut wrong, mut count) = (platform.steward(), world.known(), Vec::new(), 0);
    for method in methods() {
        let whole = fill(&method.input(), &known);
        for strange in ["a\0b", "\u{ffff}\u{200b}", "\r\n\u{1b}[31m"] {
            for (place, message) in with_each_text(&whole, strange).into_iter().enumerate() {
                let mut bytes = message.encode_to_vec();
                last_word(&method, Harm::Random, false, &mut bytes);
                for (who, caller) in [("mayor", &world.a.mayor), ("steward", &steward)] {
                    let answer = caller.call(&method, bytes.clone()).await;
                    count += 1;
                    // A text that fails only in the database would make other commands of the batch fail too.
                    let late = method.input().get_field_by_name("validate_only").is_some()
                        && answer.as_ref().is_err_and(|status| status.message().starts_with("request:"));
                    if late || !bearable(&answer) {
                        wrong.push(format!(
                            "{} as {who}, {strange:?} as text {place}: {}",
                            short(&method),
                            brief(&answer)
                        ));
                    }
                }
            }
        }
    }
    println!("{count} messages");
    assert!(count > 1_000, "{count}");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    platform.stop();
    assert!(platform.hansa(&["rebuild"]).output().unwrap().status.success());
}

async fn the_journey_still_works(platform: &Platform, world: &World) {
    cities::enter(platform, &[("91", "Bergen", "NO"), ("92", "Porto", "PT")], &[]).await;
    let [a, b] = [cities::join(platform, "91").await, cities::join(platform, "92").await];
    let name = cities::propose(&a, &b).await.name;
    cities::prepare(&a, &b, &name).await;
    for side in [&a, &b] {
        side.mayor.agreements().sign_agreement(cities::signature(&name)).await.unwrap();
    }
    let shown = world.b.observer.agreements().get_agreement(GetAgreementRequest { name }).await.unwrap().into_inner();
    assert_eq!(shown.state(), hansa_proto::partnerships::AgreementState::Active);
}

/// Sends page sizes out of range, and page tokens of other lists, of other queries, and forged ones.
#[tokio::test(flavor = "multi_thread")]
async fn r6_page_sizes_and_tokens_out_of_range_are_refused() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let caller = &world.a.mayor;
    let (mut tokens, mut lists) = (BTreeSet::new(), Vec::new());
    for method in methods() {
        let input = method.input();
        let (Some(size), Some(token)) = (input.get_field_by_name("page_size"), input.get_field_by_name("page_token"))
        else {
            continue;
        };
        let mut request = DynamicMessage::new(input);
        let parent = match method.name() {
            "ListFeedEntries" => "feeds/partnerships",
            "ListFindings" => &world.evaluation,
            _ => &world.active,
        };
        for (field, record) in [("parent", parent), ("city", &world.a.city)] {
            // For lists other than ListEvaluations, the city is a filter.
            if method.input().get_field_by_name(field).is_some()
                && (field == "parent" || method.name() == "ListEvaluations")
            {
                request.set_field_by_name(field, Value::String(record.to_owned()));
            }
        }
        request.set_field(&size, Value::I32(1));
        let answer = caller.call(&method, request.encode_to_vec()).await.unwrap();
        let answer = DynamicMessage::decode(method.output(), answer.as_slice()).unwrap();
        let next = answer.get_field_by_name("next_page_token").unwrap().as_str().unwrap().to_owned();
        tokens.insert(next.clone());
        lists.push((method, request, size, token, next));
    }
    assert!(lists.len() >= 8, "{}", lists.len());
    let mut count = 0;
    for (method, request, size, token, own) in lists {
        let ask = async |page_size: i32, page_token: &str| {
            let mut request = request.clone();
            request.set_field(&size, Value::I32(page_size));
            request.set_field(&token, Value::String(page_token.to_owned()));
            caller.call(&method, request.encode_to_vec()).await
        };
        for negative in [-1, i32::MIN] {
            let refused = ask(negative, "").await.unwrap_err();
            assert_eq!(
                (refused.code(), rule(&refused).as_str()),
                (Code::InvalidArgument, "PL-4"),
                "{}",
                short(&method)
            );
        }
        assert!(ask(i32::MAX, "").await.is_ok(), "{}: a size beyond the limit is clamped", short(&method));
        for foreign in tokens.iter().filter(|token| **token != own && !token.is_empty()) {
            let refused = ask(1, foreign).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{} with a foreign token", short(&method));
        }
        for made in tampered(&own) {
            let answer = ask(1, &made).await;
            assert!(bearable(&answer), "{} with the token {made}: {}", short(&method), brief(&answer));
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
    platform.stop();
}

/// Returns page tokens with a correct query hash and a forged position.
fn tampered(own: &str) -> Vec<String> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(own) else { return Vec::new() };
    let Ok(token) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return vec!["%%%".into(), "e30".into()];
    };
    let places =
        ["", "-1", "0", "x", "\0", "18446744073709551615", "18446744073709551614", "9223372036854775807", "''"];
    let mut lies: Vec<serde_json::Value> = vec![serde_json::json!([]), serde_json::json!({}), serde_json::json!(null)];
    let length = token["after"].as_array().map_or(1, Vec::len);
    lies.extend(places.iter().map(|place| serde_json::json!(vec![place; length])));
    lies.extend(places.iter().map(|place| serde_json::json!(vec![place; length + 7])));
    lies.push(serde_json::json!(["x".repeat(3_000)]));
    let with = |after| {
        let mut token = token.clone();
        token["after"] = after;
        URL_SAFE_NO_PAD.encode(token.to_string())
    };
    lies.into_iter().map(with).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_oversize_and_malformed_requests_are_refused_with_what_is_wrong() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    for method in methods() {
        let refused = world.a.mayor.call(&method, vec![0; 4 * 1024 * 1024 + 1]).await.unwrap_err();
        let code = matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted | Code::PermissionDenied);
        assert!(code, "{}: {refused:?}", short(&method));
    }
    for id in ["x", "1234", "00000000-0000-0000-0000-00000000000g", " ", "{}"] {
        let request = RenameCityRequest {
            name: world.a.city.clone(),
            display_name: "Elbflorenz".into(),
            request_id: id.into(),
            ..Default::default()
        };
        let refused = world.a.mayor.cities().rename_city(request).await.unwrap_err();
        assert_eq!((refused.code(), rule(&refused).as_str()), (Code::InvalidArgument, "PL-4"), "{id}: {refused:?}");
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "request_id");
    }
    for framing in [
        "\0\0\0\0\u{64}abc",
        "\u{1}\0\0\0\u{3}abc",
        "\u{7}\0\0\0\u{3}abc",
        "\0\0",
        "",
        "\0\0\0\0\u{3}abc\0\0\0\0\u{3}abc",
    ] {
        let status = framed(&platform, &world, framing).await;
        let code = status.code();
        assert!(matches!(code, Code::InvalidArgument | Code::Unimplemented), "{framing:?}: {status:?}");
    }
    platform.stop();
}

/// Sends a raw body, without the framing of gRPC.
async fn framed(platform: &Platform, world: &World, body: &str) -> Status {
    let token = platform.token_for(Some(&world.a.tenant), "mayor", &[]);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", platform.address())).unwrap();
    let mut channel = endpoint.connect().await.unwrap();
    let request = http::Request::post(format!("http://{}/hansa.register.v1.CityService/GetCity", platform.address()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(tonic::body::Body::new(body.to_owned()))
        .unwrap();
    std::future::poll_fn(|context| tonic::codegen::Service::poll_ready(&mut channel, context)).await.unwrap();
    let answer = tonic::codegen::Service::call(&mut channel, request).await.unwrap();
    Status::from_header_map(answer.headers()).expect("the headers contain the status")
}

async fn well(caller: &Caller, city: &str) -> Duration {
    let start = Instant::now();
    let request = GetCityRequest { name: city.to_owned(), as_of_date: None };
    let answer = tokio::time::timeout(PATIENCE, caller.cities().get_city(request)).await;
    answer.expect("a good caller gets its answer in time").expect("a good caller is served");
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn r6_bad_connections_do_not_hurt_the_others() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let memory = memory_kib(platform.process_id());
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut dice = Dice::new(variable("HANSATEST_SEED", 11));
    let noise: Vec<u8> = (0..4_096).flat_map(|_| dice.roll().to_le_bytes()).collect();
    // A frame with a declared length of 16 MiB, headers without an end, and streams that are reset right after their
    // start.
    let oversize = [preface, settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let unending = [preface, settings, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]].concat();
    let resets: Vec<u8> = (0..2_000u32)
        .flat_map(|n| {
            let id = (2 * n + 1).to_be_bytes();
            [&[0, 0, 1, 1, 4][..], &id, &[0x82], &[0, 0, 4, 3, 0], &id, &[0, 0, 0, 8]].concat()
        })
        .collect();
    let resets = [preface, settings, &resets].concat();
    let harms: [&[u8]; 9] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &preface[..7],
        preface,
        &[preface, &noise].concat(),
        &oversize,
        &unending,
        &resets,
    ];
    let mut open = Vec::new();
    for number in 0..BAD_CONNECTIONS {
        let mut line = TcpStream::connect(platform.address()).await.unwrap();
        // The program may close the connection during the write.
        let _ = line.write_all(harms[number % harms.len()]).await;
        if number % 2 == 0 {
            let _ = line.shutdown().await;
        }
        open.push(line);
    }
    let mut slowest = well(&world.a.mayor, &world.a.city).await;

    // More unfinished calls of one tenant than the tenant may have open.
    let get = methods().into_iter().find(|method| short(method) == "CityService.GetCity").unwrap();
    let token = platform.token_for(Some(&world.c.tenant), "mayor", &[]);
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", platform.address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut unfinished = tokio::task::JoinSet::new();
    for _ in 0..BAD_CONNECTIONS {
        let mut grpc = Grpc::new(channel.clone());
        let (at, token) = (path(&get).parse().unwrap(), format!("Bearer {token}"));
        unfinished.spawn(async move {
            let mut request = Request::new(tokio_stream::pending());
            request.metadata_mut().insert("authorization", token.parse().unwrap());
            grpc.ready().await.unwrap();
            grpc.client_streaming(request, at, Raw).await.map(tonic::Response::into_inner)
        });
    }
    for _ in 0..20 {
        slowest = slowest.max(well(&world.a.mayor, &world.a.city).await);
    }
    println!("the slowest good call took {slowest:?}");
    let grown = memory_kib(platform.process_id()).saturating_sub(memory);
    assert!(grown < GROWTH_KIB, "the program grew by {grown} KiB");
    let mut refused = 0;
    let (answered, code) = loop {
        let answered = unfinished.join_next().await.unwrap().unwrap();
        match answered.as_ref().err().map(Status::code) {
            Some(Code::ResourceExhausted) => refused += 1,
            code => break (answered, code),
        }
    };
    assert_eq!(
        refused,
        BAD_CONNECTIONS - TENANT_CALLS,
        "calls over the limit of the tenant are refused before any other call times out"
    );
    assert!(
        matches!(code, Some(Code::Cancelled | Code::DeadlineExceeded)),
        "a call that never finishes does not time out: {answered:?}"
    );
    unfinished.shutdown().await;
    drop(open);
    // The program closes a connection that does not speak HTTP/2.
    let mut garbage = TcpStream::connect(platform.address()).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, garbage.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "the program does not close the connection");
    the_journey_still_works(&platform, &world).await;
    platform.stop();
}
