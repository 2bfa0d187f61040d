//! `hansa check-real`: imports a folder of real data into a new node, runs the journey on it, and prints counts and
//! times. With `--database` and `--nats` the node uses those servers; the database must be empty.

use super::import;
use crate::{journey, session::Session};
use anyhow::bail;
use hansa_chassis::Config;
use hansa_kernel::RecordId;
use hansa_proto::register::{City, GetCityRequest};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Gdańsk and Porto, as GeoNames ids. The data contains both cities, and no twinning between them.
const CITIES: [&str; 2] = ["3099434", "2735943"];

/// Runs the check in a new temporary folder, and removes the folder if the check succeeds.
///
/// # Errors
/// If an import, the journey or a comparison of counts fails.
pub async fn run(config: Config, folder: &Path) -> anyhow::Result<()> {
    let data = std::env::temp_dir().join(format!("hansa-check-real-{}", uuid::Uuid::now_v7().simple()));
    let shape = if config.database.is_some() { "on PostgreSQL and NATS" } else { "embedded" };
    println!("real data, {shape}:");
    let config = Config { data: data.clone(), ..config };
    let session = Session::on(config, None).await?;
    let outcome = check(&session, folder).await;
    session.close().await?;
    outcome?;
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

async fn check(session: &Session, folder: &Path) -> anyhow::Result<()> {
    let api = &session.api;
    let cities = folder.join("cities.csv.gz");
    let source = "GeoNames (CC BY 4.0)";
    let first = timed("cities", import::import_cities(api, &cities, None, source)).await?;
    let again = timed("cities again", import::import_cities(api, &cities, None, source)).await?;
    expect("a second import of the cities changes nothing", again.of("created") + again.of("updated"), 0)?;
    expect("a second import leaves all cities unchanged", again.of("unchanged"), first.of("created"))?;
    let countries = timed("countries", import::import_countries(api, folder)).await?;
    expect("no country is refused", countries.of("countries refused"), 0)?;

    let file = folder.join("twin_ties.csv");
    let source = "Wikidata (CC0) and Wikipedia (CC BY-SA 4.0)";
    let ties = timed("ties", import::import_ties(api, &file, source)).await?;
    let again = timed("ties again", import::import_ties(api, &file, source)).await?;
    expect("a second import of the ties creates nothing", again.of("created"), 0)?;
    expect("a second import leaves all ties unchanged", again.of("unchanged"), ties.of("created"))?;
    println!("refused ties by reason:");
    for (reason, count) in ties.reasons() {
        println!("  {count:>6}  {reason}");
    }

    let Some(keys) = &session.keys else { bail!("the session has no keys") };
    let cities = [city(session, CITIES[0]).await?, city(session, CITIES[1]).await?];
    let start = Instant::now();
    let played = journey::play(api, keys, [&cities[0], &cities[1]]).await?;
    println!("journey: {} in {}", played.agreement.name, seconds(start.elapsed()));
    let [(before, after), _] = played.scores;
    if before == after {
        bail!("the agreement did not change the evaluation");
    }
    println!("check-real: 1 passed, 0 failed");
    Ok(())
}

async fn timed(
    what: &str,
    work: impl Future<Output = anyhow::Result<import::Report>>,
) -> anyhow::Result<import::Report> {
    let start = Instant::now();
    let report = work.await?;
    let counts: Vec<String> = report.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    println!("{what:<14} {:>8}  {}", seconds(start.elapsed()), counts.join(", "));
    Ok(report)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn expect(what: &str, found: u64, expected: u64) -> anyhow::Result<()> {
    if found == expected { Ok(()) } else { bail!("{what}: found {found}, expected {expected}") }
}

async fn city(session: &Session, geonames: &str) -> anyhow::Result<City> {
    let id = RecordId::from_source("geonames", geonames);
    let request = GetCityRequest { name: format!("cities/{id}"), as_of_date: None };
    Ok(session.api.cities().get_city(request).await?.into_inner())
}
