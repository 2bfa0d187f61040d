//! Logs at the most verbose level, errors and the output of commands contain no secret and no text of a user.
//! tracing.rs checks the OTLP export.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_proto::strategy::{CreateStrategyRequest, Strategy};
use hansa_tests::{Platform, Servers, eventually, request_id, text, world::World};
use std::{fs, path::Path, process::Command};
use tonic::Code;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
/// A part of every text that the test sends.
const WORDS: &str = "xWORDSx of Ana Müller";

fn draft(city: &str, title: &str) -> CreateStrategyRequest {
    let strategy = Strategy { city: city.into(), title: text(title), ..Default::default() };
    CreateStrategyRequest { strategy: Some(strategy), request_id: request_id(), validate_only: false }
}

/// Runs a command. Returns its output and its log.
fn told(arguments: &[&str], database: &str, nats: &str, data: &Path, token: &str) -> String {
    let mut command = Command::new(HANSA);
    command.args(arguments).args(["--database", database, "--nats", nats, "--token", token, "--data"]).arg(data);
    let output = command.env("HANSA_LOG", "debug,hansa=trace").output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_program_says_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, data) = (Servers::start(), folder.path().join("data"));
    let wordy = vec![("HANSA_LOG", "debug,hansa=trace".to_owned()), ("RUST_BACKTRACE", "1".to_owned())];
    let mut platform = Platform::on_with(HANSA, &data, &servers.settings(), wordy).await;
    let world = World::on(&platform).await;
    let token = platform.token_for(Some(&world.a.tenant), "mayor", &[]);
    let mayor = platform.with_token(&token);
    let mut said = String::new();
    mayor.strategies().create_strategy(draft(&world.a.city, WORDS)).await.unwrap();
    // Refused requests: a text that is too long, a city of another tenant, an invalid token.
    for (city, title, caller) in [
        (&world.a.city, WORDS.repeat(2_000), &mayor),
        (&world.b.city, WORDS.into(), &mayor),
        (&world.a.city, WORDS.into(), &platform.with_token(&format!("{token}xFORGEDx"))),
    ] {
        said += &format!("{:?}", caller.strategies().create_strategy(draft(city, &title)).await.unwrap_err());
    }
    // Without its servers the program logs errors with their causes.
    servers.kill("postgres");
    let away = mayor.strategies().create_strategy(draft(&world.a.city, WORDS)).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable);
    said += &format!("{away:?}");
    servers.kill("nats");
    servers.revive("postgres");
    servers.revive("nats");
    eventually("recovery", async || mayor.strategies().create_strategy(draft(&world.a.city, WORDS)).await.ok()).await;
    platform.stop();

    let database = servers.database();
    let password = database.split([':', '@']).nth(2).unwrap();
    assert!(password.len() > 16, "{database}");
    let none = format!("{}/nobody_made_it", database.rsplit_once('/').unwrap().0);
    let (nowhere, malformed) =
        (database.replace("127.0.0.1", "nowhere.invalid"), database.replace("127.0.0.1:", "x:y"));
    for wrong in [&none, &nowhere, &malformed] {
        for arguments in [&["doctor"][..], &["rebuild"], &["tenant", "list"]] {
            said += &told(arguments, wrong, &servers.nats(), &data, &token);
        }
    }
    let nats = format!("nats://hansa:{password}@x:y");
    for nats in [&servers.nats(), &nats] {
        said += &told(&["doctor", "--json"], &database, nats, &data, &token);
    }
    said += &fs::read_to_string(data.with_extension("log")).unwrap();

    let key = fs::read_to_string(data.join("node.key")).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    for secret in [password, key.trim(), parts[1], parts[2], "xFORGEDx", "xWORDSx", "Ana Müller"] {
        let line = said.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the output contains {secret}");
    }
    for heard in ["DEBUG", "the database failed", "the broker", "nobody_made_it"] {
        assert!(said.contains(heard), "the output does not contain {heard}, so the test reads the wrong output");
    }
}
