//! Tests of the readers of published files.
#![allow(clippy::unwrap_used)]

use super::*;
use countries::Codes;
use hansa_proto::register::SourceRegister;
use hansa_proto::register::{OrganizationStatus, RegimeClass, RegimeScheme, country_row::Fact};

fn split(line: &str) -> Vec<&str> {
    line.split(',').collect()
}

#[test]
fn degrees_are_read_as_text() {
    assert_eq!(degrees_e5("48.85341"), Some(4_885_341));
    assert_eq!(degrees_e5("-0.1"), Some(-10_000));
    assert_eq!(degrees_e5("7"), Some(700_000));
    assert_eq!(degrees_e5("1.2345678"), Some(123_456));
    assert!(["", "x", "1.x", "--1", "99999999"].iter().all(|text| degrees_e5(text).is_none()));
}

#[test]
fn cities_are_read_by_named_columns_in_any_order() {
    let header = split("name,geonameid,country,admin1,population,lat,lon,timezone,feature_code,more");
    let columns = cities_csv::columns(&header).unwrap();
    let read = |line: &str| cities_csv::parse(columns.row(7, &split(line)));
    let city = read("Paris,2988507,FR,11,2138551,48.85341,2.3488,Europe/Paris,PPLC,x").unwrap();
    assert_eq!(
        (city.source_key.as_str(), city.population, city.tier()),
        ("2988507", Some(2_138_551), CityTier::Municipality)
    );
    assert_eq!(read("Soho,6545251,GB,ENG,0,51.5,-0.1,,PPLX").unwrap().tier(), CityTier::SubMunicipal);
    let bad = read("Troy,1,TR,,0,1,1,,PPLH").unwrap_err();
    assert_eq!(bad.to_string(), "line 7: the place is historical");
    for line in ["Paris,x,FR,,,,,,", ",1,FR,,,,,,", "Paris,1,FRA,,,,,,", "Paris,1,FR,,many,,,,", "Paris,1,FR,,,91,1,,"]
    {
        assert_eq!(read(line).unwrap_err().line, 7, "{line}");
    }
    assert!(cities_csv::columns(&["name"]).unwrap_err().reason.contains("geonameid"));
}

#[test]
fn the_dump_of_geonames_is_read_by_place() {
    let line = "2988507\tParis\tParis\tLutece\t48.85341\t2.3488\tP\tPPLC\tFR\t\t11\t75\t751\t75056\t2138551\t\t42\tEurope/Paris\t2024-01-01";
    let fields: Vec<_> = line.split('\t').collect();
    let city = geonames::parse(1, &fields).unwrap();
    assert_eq!((city.subdivision_code.as_str(), city.time_zone.as_str()), ("11", "Europe/Paris"));
    assert!(geonames::parse(1, &fields[1..]).unwrap_err().reason.contains("18 columns"));
    let mut hill = fields.clone();
    hill[6] = "T";
    assert!(geonames::parse(3, &hill).is_err());
}

#[test]
fn unlinked_ends_of_ties_become_cities() {
    let columns = ties::columns(&ties::COLUMNS).unwrap();
    let line = "g1,Lyon,FR,MUNICIPALITY,1,1,xab12,Somewhere,DE,REGION,,";
    let ends = ties::parse(columns.row(2, &split(line)));
    assert_eq!(ends[0].as_ref().unwrap().source_key, "g1");
    let end = ends[1].as_ref().unwrap();
    assert_eq!(
        (end.source_register(), end.source_key.as_str(), end.tier()),
        (SourceRegister::Ties, "xab12", CityTier::Region)
    );
    assert!(end.location.is_none());
}

// CT-3.
#[test]
fn ct_3_country_files_are_read_and_former_states_are_left_out() {
    let columns = countries::columns(&countries::PROFILES, &countries::PROFILES).unwrap();
    let line = split("FR,FRA,France,French Republic,1945,Europe,Western Europe,fra");
    let france = countries::profile(columns.row(2, &line), "list").unwrap();
    let codes = Codes::of([&france]);

    let columns = countries::columns(&countries::REGIMES, &countries::REGIMES).unwrap();
    let regime = |line: &str| countries::regime(columns.row(3, &split(line)), &codes, "OWID");
    let Some(Fact::Regime(fact)) = regime("FRA,2020,ROW,3,LIBERAL_DEMOCRACY").unwrap().fact else { panic!("a regime") };
    assert_eq!((fact.scheme(), fact.regime_class()), (RegimeScheme::Row, RegimeClass::LiberalDemocracy));
    assert!(regime("FRA,2020,VDEM_LIBDEM,0.8,").is_ok());
    assert!(regime("CSK,1980,ROW,0,CLOSED_AUTOCRACY").unwrap_err().reason.contains("Czechoslovakia"));
    for bad in ["XXX,2020,ROW,3,LIBERAL_DEMOCRACY", "FRA,2020,ROW,3,GOOD", "FRA,2020,ROW,3,", "FRA,x,ROW,3,FREE"] {
        assert!(regime(bad).is_err(), "{bad}");
    }

    let columns = countries::columns(&countries::MEMBERSHIPS, &countries::MEMBERSHIPS).unwrap();
    let left = countries::membership(columns.row(4, &split("FRA,EU,1973-01-01,2020-01-31,MEMBER")), &codes, "list");
    let Some(Fact::Organization(fact)) = left.unwrap().fact else { panic!("an organization") };
    assert_eq!((fact.join_year, fact.leave_year, fact.status()), (1973, 2020, OrganizationStatus::Left));

    let columns = countries::columns(&countries::INCOMES, &countries::INCOMES).unwrap();
    assert!(countries::income(columns.row(5, &split("FRA,2020,HIGH")), &codes, "WB").is_ok());
    assert!(countries::income(columns.row(5, &split("FRA,2020,RICH")), &codes, "WB").is_err());
    let columns = countries::columns(&countries::STRUCTURES, &countries::STRUCTURES).unwrap();
    assert!(countries::structure(columns.row(6, &split("FRA,UNITARY,high")), &codes, 2024, "hand").is_ok());
}
