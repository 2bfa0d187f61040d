//! `hansa demo`: loads a sample of real cities, and runs the journey between two of them.

use super::{import, serve};
use crate::{api::Api, files, journey, node::Node, session};
use anyhow::Context;
use hansa_chassis::Config;
use hansa_journal::SystemClock;
use hansa_proto::{
    partnerships::AgreementOrigin,
    register::{City, GetCityRequest},
};
use hansa_register_domain::sample;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Dresden and Tunis, as GeoNames ids. The sample contains both cities, and no twinning between them.
const CITIES: [&str; 2] = ["2935022", "2464470"];

/// Runs the journey on a node in a new temporary folder. Then the server runs until Ctrl-C, unless `once` is set.
///
/// # Errors
/// If the address is in use, or the node or the journey fails.
pub async fn run(listen: SocketAddr, once: bool) -> anyhow::Result<()> {
    let data = fresh_folder()?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let config = Config { data: data.clone(), listen: address, ..Config::default() };
    println!("Hansa, embedded: all data is in {}", data.display());
    let node = Node::open(config, &[], Arc::new(SystemClock)).await?;
    let keys = node.keys.clone();
    let stop = CancellationToken::new();
    let running = tokio::spawn(node.run(listener, stop.clone()));
    let url = format!("http://{address}");
    let steward = Api::new(session::connect(&url, None).await?, &session::steward(&keys)?)?;

    load(&steward).await?;
    let cities = [city(&steward, CITIES[0]).await?, city(&steward, CITIES[1]).await?];
    let played = journey::play(&steward, &keys, [&cities[0], &cities[1]]).await?;

    if !once {
        serve::stop_on_signal(stop.clone())?;
        println!("\nThe server listens on {url} until Ctrl-C. In another terminal, try:");
        let hansa = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("hansa"));
        let hansa = hansa.display();
        println!("  export HANSA_SERVER={url}");
        println!("  export HANSA_TOKEN={}", session::steward(&keys)?);
        println!("  {hansa} tenant list");
        println!("  {hansa} history {}", cities[0].name);
        println!("An observer of {} sees its agreement:", cities[0].display_name);
        let tenant = hansa_kernel::TenantId::parse(&city(&steward, CITIES[0]).await?.tenant, "tenant")?;
        let token = session::token(&keys, tenant, "observer", &[hansa_kernel::Role::Observer])?;
        println!("  {hansa} history {} --token {token}", played.agreement.name);
        stop.cancelled().await;
    }
    stop.cancel();
    running.await?
}

fn fresh_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("hansa-demo-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

async fn load(steward: &Api) -> anyhow::Result<()> {
    let mut report = import::Report::default();
    let cities = sample::CITIES.iter().enumerate().map(|(i, city)| (i + 1, city.row())).collect();
    import::send_cities(steward, cities, sample::CITIES_SOURCE, &mut report).await?;
    import::send_countries(steward, sample::country_rows(), &mut report).await?;
    let ties = sample::TIES.iter().enumerate().map(|(i, tie)| {
        let [a, b] = tie.ids().map(|id| format!("cities/{id}"));
        let origin = AgreementOrigin {
            source: "a sample of town twinnings".into(),
            external_id: format!("{}-{}", tie.a, tie.b),
            claimed_by: String::new(),
        };
        (i + 1, import::tie(a, b, origin))
    });
    let bar = files::bar(0, "ties");
    import::send_ties(steward, ties.collect(), &mut report).await?;
    bar.finish_and_clear();
    println!(
        "The sample is in: {} real cities, {} countries, {} town twinnings as attested agreements.",
        sample::CITIES.len(),
        sample::COUNTRIES.len(),
        sample::TIES.len()
    );
    if let Some((line, reason)) = report.refused.first() {
        anyhow::bail!("row {line} of the sample was refused: {reason}");
    }
    Ok(())
}

async fn city(steward: &Api, geonames: &str) -> anyhow::Result<City> {
    let id = hansa_kernel::RecordId::from_source("geonames", geonames);
    let request = GetCityRequest { name: format!("cities/{id}"), as_of_date: None };
    Ok(steward.cities().get_city(request).await?.into_inner())
}
