//! Readers of the country files: profiles (codes and names), regimes, income groups, memberships and state structures.
//! The last four name a country by its three-letter code. [`Codes`], built from the profiles, maps that code to the
//! two-letter code.

use super::{Columns, Row, Unusable};
use hansa_proto::register::{
    Certainty, CountryProfile, CountryRow, IncomeFact, IncomeGroup, OrganizationFact, OrganizationStatus, RegimeClass,
    RegimeFact, RegimeScheme, StateStructure, StructureFact, country_row::Fact,
};
use std::collections::BTreeMap;

/// The columns of the file of profiles.
pub const PROFILES: [&str; 8] =
    ["iso2", "iso3", "name", "official_name", "un_since", "region", "subregion", "languages_iso639_3"];
/// The columns of the file of regimes.
pub const REGIMES: [&str; 5] = ["iso3", "year", "scheme", "value", "class"];
/// The columns of the file of income groups.
pub const INCOMES: [&str; 3] = ["iso3", "fiscal_year", "income_group"];
/// The columns of the file of memberships.
pub const MEMBERSHIPS: [&str; 5] = ["iso3", "organisation", "joined", "left", "status"];
/// The columns of the file of state structures.
pub const STRUCTURES: [&str; 3] = ["iso3", "structure", "certainty"];

/// Former states and places without an ISO code. Published files of regimes and incomes contain these codes, so a
/// refused row can say which place its code means.
const FORMER: [(&str, &str); 20] = [
    ("ANT", "Netherlands Antilles"),
    ("BDN", "Baden"),
    ("BVR", "Bavaria"),
    ("CSK", "Czechoslovakia"),
    ("DDR", "German Democratic Republic"),
    ("GDR", "German Democratic Republic"),
    ("PSG", "Gaza"),
    ("PSB", "British Palestine"),
    ("RVN", "Republic of Vietnam"),
    ("VDR", "Republic of Vietnam"),
    ("SCG", "Serbia and Montenegro"),
    ("SML", "Somaliland"),
    ("SUN", "Soviet Union"),
    ("YMD", "South Yemen"),
    ("YAR", "North Yemen"),
    ("YPR", "South Yemen"),
    ("YUG", "Yugoslavia"),
    ("XKS", "unassigned code"),
    ("ZZB", "Zanzibar"),
    ("CHI", "Channel Islands"),
];

/// Maps three-letter country codes to two-letter codes.
#[derive(Clone, Debug, Default)]
pub struct Codes(BTreeMap<String, String>);

impl Codes {
    /// Collects the codes of the profiles. Kosovo has no assigned three-letter code, so four codes that files use for
    /// it are added.
    #[must_use]
    pub fn of<'a>(profiles: impl IntoIterator<Item = &'a CountryRow>) -> Self {
        let mut codes = BTreeMap::new();
        for row in profiles {
            if let Some(Fact::Profile(profile)) = &row.fact {
                codes.insert(profile.alpha3_code.clone(), row.country_code.clone());
            }
        }
        if codes.values().any(|iso2| iso2 == "XK") {
            for alias in ["XKX", "UNK", "KSV", "XKO"] {
                codes.insert(alias.into(), "XK".into());
            }
        }
        Self(codes)
    }

    fn iso2(&self, row: &Row) -> Result<String, Unusable> {
        let iso3 = row.get("iso3");
        if let Some(iso2) = self.0.get(iso3) {
            return Ok(iso2.clone());
        }
        let former = FORMER.iter().find(|(code, _)| *code == iso3);
        Err(row.no(match former {
            Some((code, name)) => format!("{code} ({name}) has no code in ISO 3166-1 today"),
            None => format!("country `{iso3}` is not in the list of countries"),
        }))
    }
}

/// Finds the wanted columns in the header of a file.
///
/// # Errors
/// Returns line 1 and the name of the column if a column is missing.
pub fn columns(header: &[&str], wanted: &[&'static str]) -> Result<Columns, Unusable> {
    Columns::find(header, wanted)
}

fn fact(country_code: String, fact: Fact) -> CountryRow {
    CountryRow { country_code, fact: Some(fact) }
}

/// Parses a row of the file of profiles.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn profile(row: Row, source: &str) -> Result<CountryRow, Unusable> {
    let split = |c: char| c == ';' || c == ' ' || c == ',';
    let mut languages: Vec<String> =
        row.get("languages_iso639_3").split(split).filter(|code| !code.is_empty()).map(str::to_owned).collect();
    languages.sort_unstable();
    languages.dedup();
    let iso2 = crate::city::fields::country(row.get("iso2")).map_err(|refusal| row.no(refusal.message))?;
    if row.get("iso3").len() != 3 || row.get("name").is_empty() {
        return Err(row.no("a three-letter code and a name are required"));
    }
    let profile = CountryProfile {
        alpha3_code: row.get("iso3").into(),
        display_name: row.get("name").into(),
        official_name: row.get("official_name").into(),
        region: row.get("region").into(),
        subregion: row.get("subregion").into(),
        un_member_year: row.year("un_since")?,
        languages,
        source: source.into(),
    };
    Ok(fact(iso2, Fact::Profile(profile)))
}

/// Parses a row of the file of regimes.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn regime(row: Row, codes: &Codes, source: &str) -> Result<CountryRow, Unusable> {
    let iso2 = codes.iso2(&row)?;
    let scheme = match row.get("scheme") {
        "ROW" => RegimeScheme::Row,
        "FH" => RegimeScheme::FreedomHouse,
        "VDEM_LIBDEM" => RegimeScheme::VdemLibdem,
        other => return Err(row.no(format!("scheme `{other}` is unknown"))),
    };
    let class = match row.get("class") {
        "" if scheme == RegimeScheme::VdemLibdem => RegimeClass::Unspecified,
        "" => return Err(row.no("the class is missing")),
        name => {
            let class = RegimeClass::from_str_name(&format!("REGIME_CLASS_{name}"));
            class.ok_or_else(|| row.no(format!("class `{name}` is unknown")))?
        }
    };
    let regime = RegimeFact {
        scheme: scheme as i32,
        year: row.year("year")?,
        regime_class: class as i32,
        value: row.get("value").into(),
        source: source.into(),
    };
    Ok(fact(iso2, Fact::Regime(regime)))
}

/// Parses a row of the file of income groups.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn income(row: Row, codes: &Codes, source: &str) -> Result<CountryRow, Unusable> {
    let iso2 = codes.iso2(&row)?;
    let name = row.get("income_group");
    let group = IncomeGroup::from_str_name(&format!("INCOME_GROUP_{name}"))
        .filter(|group| *group != IncomeGroup::Unspecified)
        .ok_or_else(|| row.no(format!("income group `{name}` is unknown")))?;
    let income =
        IncomeFact { fiscal_year: row.year("fiscal_year")?, income_group: group as i32, source: source.into() };
    Ok(fact(iso2, Fact::Income(income)))
}

/// Parses a row of the file of memberships.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn membership(row: Row, codes: &Codes, source: &str) -> Result<CountryRow, Unusable> {
    let iso2 = codes.iso2(&row)?;
    let leave_year = row.year("left")?;
    let status = match row.get("status") {
        // Some lists still say MEMBER for a country that has left.
        "MEMBER" if leave_year != 0 => OrganizationStatus::Left,
        "MEMBER" => OrganizationStatus::Member,
        "SUSPENDED" => OrganizationStatus::Suspended,
        "LEFT" => OrganizationStatus::Left,
        "ASSOCIATE" | "APPLIED" => OrganizationStatus::Associate,
        other => return Err(row.no(format!("status `{other}` is unknown"))),
    };
    let organization = OrganizationFact {
        organization: row.get("organisation").into(),
        join_year: row.year("joined")?,
        leave_year,
        status: status as i32,
        source: source.into(),
    };
    Ok(fact(iso2, Fact::Organization(organization)))
}

/// Parses a row of the file of state structures. The file has no year column; its facts are dated `year`.
///
/// # Errors
/// Returns the line and the reason if the row cannot be used.
pub fn structure(row: Row, codes: &Codes, year: i32, source: &str) -> Result<CountryRow, Unusable> {
    let iso2 = codes.iso2(&row)?;
    let structure = match row.get("structure") {
        "FEDERAL" => StateStructure::Federal,
        "UNITARY" => StateStructure::Unitary,
        other => return Err(row.no(format!("structure `{other}` is unknown"))),
    };
    let certainty = match row.get("certainty") {
        "" => Certainty::Unspecified,
        "low" => Certainty::Low,
        "medium" => Certainty::Medium,
        "high" => Certainty::High,
        other => return Err(row.no(format!("certainty `{other}` is not known"))),
    } as i32;
    let structure = StructureFact { year, structure: structure as i32, certainty, source: source.into() };
    Ok(fact(iso2, Fact::Structure(structure)))
}
