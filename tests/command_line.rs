//! The command line: exit codes, JSON output, tokens, imports, and maintenance of a node.
#![allow(clippy::unwrap_used, missing_docs)]

use hansa_tests::{Platform, Shape, eventually, world::World};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const HANSA: &str = env!("CARGO_BIN_EXE_hansa");
const CITIES: &str = "geonameid,name,country,admin1,population,lat,lon,timezone,feature_code\n\
    2935022,Dresden,DE,13,556227,51.05089,13.73832,Europe/Berlin,PPLA\n\
    2464470,Tunis,TN,38,693210,36.81897,10.16579,Africa/Tunis,PPLC\n\
    abc,Nowhere,DE,1,1,1,1,Europe/Berlin,PPL\n\
    11,Lost,DE,1,many,1,1,Europe/Berlin,PPL\n\
    12,Gone,DE,1,1,1,1,Europe/Berlin,PPLW\n\
    13,Off the map,DE,1,1,99.5,1,Europe/Berlin,PPL\n\
    14,,DE,1,1,1,1,Europe/Berlin,PPL\n\
    15,No country,,1,1,1,1,Europe/Berlin,PPL\n\
    16,Altstadt,DE,13,9000,51.05,13.73,Europe/Berlin,PPLX\n\
    17,\"Short, and quoted\",FR\n";

/// A data folder of the test. No process serves this node.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(HANSA);
        command.args(arguments).arg("--data").arg(self.0.path().join("data"));
        command.env_remove("HANSA_SERVER").env_remove("HANSA_TOKEN");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the program exits without a signal")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stdout)))
}

/// Returns line and reason of each row that the import refused.
fn refused(report: &Value) -> Vec<(u64, String)> {
    let rows = report["refused"].as_array().unwrap();
    rows.iter().map(|row| (row["line"].as_u64().unwrap(), row["reason"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let node = Node::new();
    for usage in [&["fly"][..], &[], &["token"], &["import", "rivers", "x"], &["history"], &["policy", "--no-such"]] {
        let output = node.run(usage);
        assert_eq!(code(&output), 2, "{usage:?}: {}", said(&output));
    }
    for fine in [&["--help"][..], &["--version"], &["policy"], &["import", "--help"]] {
        assert_eq!(code(&node.run(fine)), 0, "{fine:?}");
    }
    let absent = "agreements/01890000-0000-7000-8000-000000000000";
    let tenant = "tenants/01890000-0000-7000-8000-000000000000";
    for refused in [
        &["history", absent][..],
        &["history", "agreements/x"],
        &["token", "--role", "emperor", "--subject", "x"],
        &["token", "--role", "mayor", "--subject", "x", "--tenant", "dresden"],
        &["token", "--role", "mayor", "--subject", "x", "--tenant", tenant, "--days", "367"],
        &["token", "--role", "mayor", "--subject", "x", "--days", "0"],
        &["export", absent, "--output", "/dev/null"],
        &["tenant", "join", "cities/01890000-0000-7000-8000-000000000000"],
        &["tenant", "list", "--token", "nonsense"],
    ] {
        let output = node.run(refused);
        assert_eq!(code(&output), 3, "{refused:?}: {}", said(&output));
        assert!(said(&output).starts_with("hansa: "), "{}", said(&output));
    }
    // No process listens on this port: the listener is dropped right away.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = node.run(&["tenant", "list", "--server", &format!("http://{free}"), "--token", "x"]);
    assert_eq!(code(&away), 4, "{}", said(&away));
    let missing = node.run(&["import", "cities", "/no/such/file.csv"]);
    assert_eq!(code(&missing), 1, "{}", said(&missing));
    assert!(said(&missing).contains("/no/such/file.csv"));
}

#[test]
fn every_json_output_parses() {
    let node = Node::new();
    let cities = node.file("cities.csv", CITIES);
    json(&node.run(&["import", "cities", &cities, "--json"]));
    let city = format!("cities/{}", hansa_kernel::RecordId::from_source("geonames", "2935022"));
    let made = json(&node.run(&["tenant", "join", &city, "--json"]));
    assert_eq!((made["display_name"].as_str(), made["city"].as_str()), (Some("Dresden"), Some(city.as_str())));
    let tenants = json(&node.run(&["tenant", "list", "--json"]));
    assert_eq!(tenants.as_array().unwrap().len(), 1);
    let history = json(&node.run(&["history", &city, "--json"]));
    let versions: Vec<i64> = history.as_array().unwrap().iter().map(|row| row["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [1, 2], "PL-3: one change for the import, one for the join");
    assert!(history[0]["actor"]["person"].is_string() && history[0]["claim_time"].is_string(), "{history}");
    let looks = json(&node.run(&["doctor", "--json"]));
    assert!(looks.as_array().unwrap().len() > 8 && looks.as_array().unwrap().iter().all(|look| look["well"] == true));
    let rebuilt = json(&node.run(&["rebuild", "--json"]));
    for service in rebuilt.as_array().unwrap() {
        assert!(service["differing"].as_array().unwrap().is_empty(), "{rebuilt}");
        assert!(service["broken"].as_array().unwrap().is_empty(), "{rebuilt}");
    }
    assert!(rebuilt[0]["records"].as_u64().unwrap() >= 4, "{rebuilt}");
    assert_eq!(json(&node.run(&["replay", "--json"])), Value::Array(Vec::new()));
    assert!(json(&node.run(&["policy", "--json"])).as_array().unwrap().len() > 100);
}

#[test]
fn ct1_cities_are_imported_from_named_columns_and_bad_rows_are_told() {
    let node = Node::new();
    let file = node.file("cities.csv", CITIES);
    let first = json(&node.run(&["import", "cities", &file, "--json"]));
    assert_eq!(first["outcomes"]["created"], 4, "{first}");
    let bad = refused(&first);
    let lines: Vec<u64> = bad.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [4, 5, 6, 7, 8, 9], "{bad:?}");
    for ((_, reason), why) in
        bad.iter().zip(["geonameid is not a number", "population", "destroyed", "latitude", "display_name", "country"])
    {
        assert!(reason.contains(why), "`{reason}` does not say {why}");
    }
    let again = json(&node.run(&["import", "cities", &file, "--json"]));
    assert_eq!((&again["outcomes"]["unchanged"], &again["outcomes"]["created"]), (&4.into(), &Value::Null), "{again}");
    let moved = node.file("moved.csv", &CITIES.replace("556227", "560000"));
    let moved = json(&node.run(&["import", "cities", &moved, "--json"]));
    assert_eq!((&moved["outcomes"]["updated"], &moved["outcomes"]["unchanged"]), (&1.into(), &3.into()), "{moved}");
    let headless = node.file("headless.csv", "name,country\nDresden,DE\n");
    let headless = node.run(&["import", "cities", &headless]);
    assert!(code(&headless) != 0 && said(&headless).contains("geonameid"), "{}", said(&headless));
    let empty = node.run(&["import", "cities", &node.file("empty.csv", "")]);
    assert!(code(&empty) != 0 && said(&empty).contains("empty"), "{}", said(&empty));
    assert_eq!(code(&node.run(&["rebuild"])), 0);
}

#[test]
fn ct1_cities_are_imported_from_geonames_own_dump() {
    let node = Node::new();
    let row = |id: &str, name: &str, class: &str, code: &str| {
        format!(
            "{id}\t{name}\t{name}\t\t51.05\t13.73\t{class}\t{code}\tDE\t\t13\t\t\t\t556227\t\t117\tEurope/Berlin\t2026-01-01\n"
        )
    };
    let dump = [
        row("1", "Dresden", "P", "PPLA"),
        row("2", "Elbe", "H", "STM"),
        "3\ttoo short\n".to_owned(),
        row("4", "A \"quote\" of its own", "P", "PPL"),
        row("5", "Ruin", "P", "PPLH"),
    ];
    let file = node.file("DE.txt", &dump.concat());
    let first = json(&node.run(&["import", "cities", &file, "--json"]));
    assert_eq!(first["outcomes"]["created"], 2, "{first}");
    assert_eq!(refused(&first).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 5], "{first}");
    // A file name with another extension needs an explicit format.
    let other = node.file("dump.tsv", &dump.concat());
    let again = json(&node.run(&["import", "cities", &other, "--format", "geonames", "--json"]));
    assert_eq!(again["outcomes"]["unchanged"], 2, "{again}");
}

#[test]
fn ag13_ties_are_imported_with_unlinked_ends_and_without_parts_of_cities() {
    let node = Node::new();
    json(&node.run(&["import", "cities", &node.file("cities.csv", CITIES), "--json"]));
    let header =
        "tie_id,a_id,a_name,a_country,a_tier,a_lat,a_lon,b_id,b_name,b_country,b_tier,b_lat,b_lon,claimed_by\n";
    let rows = [
        "t1,g2935022,Dresden,DE,MUNICIPALITY,,,g2464470,Tunis,TN,MUNICIPALITY,,,both\n",
        "t2,g2935022,Dresden,DE,MUNICIPALITY,,,xq1,Brazzaville,CG,MUNICIPALITY,-4.26,15.24,a\n",
        "t3,g2935022,Dresden,DE,MUNICIPALITY,,,xq2,Block 7,TN,SUB_MUNICIPAL,,,a\n",
        "t4,g16,Altstadt,DE,SUB_MUNICIPAL,,,g2464470,Tunis,TN,MUNICIPALITY,,,a\n",
        "t5,g2935022,Dresden,DE,MUNICIPALITY,,,xq3,Saxony,DE,REGION,,,a\n",
        "t6,g2935022,Dresden,DE,MUNICIPALITY,,,xq4,Odd,DE,PLANET,,,a\n",
        "t7,g2935022,Dresden,DE,MUNICIPALITY,,,g2935022,Dresden,DE,MUNICIPALITY,,,a\n",
        "t8,g2935022,Dresden,DE,MUNICIPALITY,,,g999999999,Atlantis,GR,MUNICIPALITY,,,a\n",
    ];
    let file = node.file("ties.csv", &(header.to_owned() + &rows.concat()));
    let first = json(&node.run(&["import", "ties", &file, "--json"]));
    let of = |report: &Value, outcome: &str| report["outcomes"][outcome].as_u64().unwrap_or(0);
    assert_eq!((of(&first, "created"), of(&first, "unlinked cities created")), (4, 3), "{first}");
    let mut bad = refused(&first);
    bad.sort();
    assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 5, 7, 8], "{bad:?}");
    for ((_, reason), why) in bad.iter().zip(["CT-2", "CT-2", "PLANET", "AG-4"]) {
        assert!(reason.contains(why), "`{reason}` does not say {why}");
    }
    let again = json(&node.run(&["import", "ties", &file, "--json"]));
    assert_eq!((of(&again, "unchanged"), of(&again, "created")), (4, 0), "{again}");
    assert_eq!(of(&again, "unlinked cities created"), 0, "{again}");
    let region = format!("cities/{}", hansa_kernel::RecordId::from_source("ties", "xq3"));
    assert_eq!(json(&node.run(&["history", &region, "--json"])).as_array().unwrap().len(), 1);
    assert_eq!(code(&node.run(&["rebuild"])), 0);
}

#[tokio::test]
async fn an_import_that_is_killed_half_way_can_be_run_again() {
    const ROWS: u64 = 20_000;
    let node = Node::new();
    let header = CITIES.lines().next().unwrap();
    let rows: String = (1..=ROWS).map(|n| format!("{n},City {n},DE,1,{n},1,1,Europe/Berlin,PPL\n")).collect();
    let file = node.file("many.csv", &format!("{header}\n{rows}"));
    let mut import = node.command(&["import", "cities", &file]).stdout(Stdio::null()).spawn().unwrap();
    let grown = |file: &Path| std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 2_000_000);
    let written = node.0.path().join("data/register.db-wal");
    eventually("the import has begun", async || grown(&written).then_some(())).await;
    import.kill().unwrap();
    assert!(!import.wait().unwrap().success(), "the import ended before the test killed it");
    let rest = json(&node.run(&["import", "cities", &file, "--json"]));
    let of = |outcome: &str| rest["outcomes"][outcome].as_u64().unwrap_or(0);
    assert!(of("created") > 0 && of("unchanged") > 0, "{rest}");
    assert_eq!(of("created") + of("unchanged"), ROWS, "{rest}");
    assert_eq!(json(&node.run(&["import", "cities", &file, "--json"]))["outcomes"]["unchanged"], ROWS);
    let rebuilt = json(&node.run(&["rebuild", "--json"]));
    assert_eq!(
        (&rebuilt[0]["records"], &rebuilt[0]["changes"]),
        (&ROWS.into(), &ROWS.into()),
        "an import that runs again creates no record twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_served_is_talked_to_and_not_opened_twice() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let world = World::on(&platform).await;
    let second = platform.hansa(&["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(code(&second), 1, "{}", said(&second));
    assert!(said(&second).contains("is in use") && said(&second).contains("--server"), "{}", said(&second));
    for opens in [&["rebuild"][..], &["doctor"], &["tenant", "list"]] {
        assert_eq!(
            code(&platform.hansa(opens).output().unwrap()),
            1,
            "{opens:?} opened a node that another process serves"
        );
    }
    let server = format!("http://{}", platform.address());
    let history = platform.hansa(&["history", &world.active, "--server", &server, "--json"]).output().unwrap();
    let public = json(&history);
    let own = platform.token_for(Some(&world.a.tenant), "observer", &[]);
    let history =
        platform.hansa(&["history", &world.active, "--server", &server, "--token", &own, "--json"]).output().unwrap();
    let whole = json(&history);
    let count = |changes: &Value| changes.as_array().unwrap().len();
    assert!(count(&public) > 0 && count(&public) < count(&whole), "PL-1: a party sees more than the steward");
    platform.stop();
    assert_eq!(code(&platform.hansa(&["rebuild"]).output().unwrap()), 0, "the stored state differs from the journal");
    assert_eq!(code(&platform.hansa(&["doctor"]).output().unwrap()), 0);
}

#[test]
fn what_would_not_be_safe_does_not_start() {
    let node = Node::new();
    let at = |arguments: &[&str], words: &str| {
        let output = node.run(arguments);
        assert!(code(&output) != 0 && said(&output).contains(words), "{arguments:?}: {}", said(&output));
    };
    at(&["serve", "--listen", "0.0.0.0:0"], "loopback");
    at(&["serve", "--listen", "[::]:0"], "loopback");
    at(&["serve", "--listen", "127.0.0.1:0", "--database", "postgres://x"], "NATS");
    at(&["serve", "--listen", "127.0.0.1:0", "--only", "register"], "NATS");
    at(&["serve", "--listen", "127.0.0.1:0", "--config", &node.file("x.toml", "dtaa = 'x'")], "dtaa");
    let tls = node.file("tls.toml", "tls_certificate = '/no/such.pem'\ntls_key = '/no/such.key'");
    at(&["serve", "--listen", "127.0.0.1:0", "--config", &tls], "/no/such");
    let key = node.0.path().join("data/node.key");
    std::fs::write(&key, "xyz").unwrap();
    at(&["token", "--role", "mayor", "--subject", "x"], "node.key");
    std::fs::remove_file(&key).unwrap();
    assert_eq!(code(&node.run(&["doctor"])), 0);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, mode).unwrap();
    let open = node.run(&["doctor", "--json"]);
    assert_eq!(code(&open), 1, "the doctor accepted a key file that other users may read");
    assert!(String::from_utf8_lossy(&open.stdout).contains("644"));
}

#[test]
fn settings_say_where_they_are_from() {
    let node = Node::new();
    let file = node.file("hansa.toml", "log_json = true");
    let output =
        node.command(&["config", "--json", "--config", &file]).env("HANSA_NATS", "nats://x:secret@host:4222").output();
    let told = json(&output.unwrap());
    let of = |key: &str| told["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone();
    assert_eq!(of("data")["from"], "command line");
    assert_eq!(of("nats")["from"], "variable");
    assert_eq!(of("nats")["value"], "nats://x:***@host:4222");
    assert!(of("log_json")["from"].as_str().unwrap().ends_with("hansa.toml"));
    assert_eq!(of("listen")["from"], "default");
    assert!(told["command_line"].as_array().unwrap().contains(&Value::from("HANSA_SERVER")));
    let unknown = node.command(&["config"]).env("HANSA_NOSUCH", "1").output().unwrap();
    assert_eq!(code(&unknown), 1, "an unknown variable is refused");
}

#[test]
fn a_database_is_brought_up_before_anyone_serves() {
    let node = Node::new();
    let output = node.run(&["migrate"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    for service in ["register", "partnerships", "networks", "strategy"] {
        assert!(node.0.path().join(format!("data/{service}.db")).exists(), "{service}");
    }
    assert_eq!(code(&node.run(&["migrate"])), 0, "a second migration fails");
    let wrong = node.run(&["migrate", "--only", "registers"]);
    assert_eq!(code(&wrong), 1);
    assert!(said(&wrong).contains("register, partnerships, networks, strategy"), "{}", said(&wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_who_serves() {
    let mut platform = Platform::start(HANSA, Shape::Embedded).await;
    let server = format!("http://{}", platform.address());
    let asked = |server: &str| Command::new(HANSA).args(["health", "--server", server]).output().unwrap();
    let lives = |server: &str| Command::new(HANSA).args(["health", "--live", "--server", server]).output().unwrap();
    assert_eq!(code(&asked(&server)), 0, "{}", said(&asked(&server)));
    assert_eq!(code(&lives(&server)), 0, "{}", said(&lives(&server)));
    platform.stop();
    for answer in [asked(&server), lives(&server)] {
        assert_eq!(code(&answer), 4, "the probe found a server after the program stopped");
    }
}
