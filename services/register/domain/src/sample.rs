//! A sample of real places for demonstrations and tests: cities of all continents, countries with their regime in one
//! year, and town twinnings.
//!
//! Identifiers, codes and locations are from GeoNames (CC BY 4.0); populations are rounded. The sample is not kept up
//! to date. In production, a node imports its register from a published file.

use crate::city::fields::degrees;
use hansa_kernel::RecordId;
use hansa_proto::register::{
    CityRow, CityTier, CountryProfile, CountryRow, RegimeClass, RegimeFact, RegimeScheme, SourceRegister,
    country_row::Fact,
};

/// The source of the cities.
pub const CITIES_SOURCE: &str = "GeoNames (CC BY 4.0), a sample";
/// The source of the regimes.
pub const REGIMES_SOURCE: &str = "Regimes of the World, by Our World in Data from V-Dem (CC BY 4.0), a sample";
/// The year of the regimes.
pub const REGIMES_YEAR: i32 = 2024;

/// A city of the sample.
#[derive(Clone, Copy, Debug)]
pub struct SampleCity {
    /// The GeoNames id.
    pub geonames: &'static str,
    /// The name.
    pub name: &'static str,
    /// ISO 3166-1 alpha-2.
    pub country: &'static str,
    /// The GeoNames code of the first-level division.
    pub subdivision_code: &'static str,
    /// Residents, rounded.
    pub population: i32,
    /// Latitude and longitude in hundred-thousandths of a degree.
    pub location: (i32, i32),
    /// IANA time zone.
    pub time_zone: &'static str,
    /// The tier of government.
    pub tier: CityTier,
}

impl SampleCity {
    /// Returns the id of the city's record.
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId::from_source("geonames", self.geonames)
    }

    /// Returns the city as a row of an import.
    #[must_use]
    pub fn row(&self) -> CityRow {
        CityRow {
            source_register: SourceRegister::Geonames as i32,
            source_key: self.geonames.into(),
            display_name: self.name.into(),
            country_code: self.country.into(),
            subdivision_code: self.subdivision_code.into(),
            tier: self.tier as i32,
            population: Some(self.population),
            location: Some(degrees(self.location)),
            time_zone: self.time_zone.into(),
        }
    }
}

/// A town twinning of the sample.
#[derive(Clone, Copy, Debug)]
pub struct SampleTie {
    /// The GeoNames id of one city.
    pub a: &'static str,
    /// The GeoNames id of the other city.
    pub b: &'static str,
    /// The year of the signature, if known.
    pub year: Option<i32>,
}

impl SampleTie {
    /// Returns the ids of both cities' records.
    #[must_use]
    pub fn ids(&self) -> [RecordId; 2] {
        [self.a, self.b].map(|key| RecordId::from_source("geonames", key))
    }
}

/// Returns the countries of the sample as rows of an import: a profile and a regime per country.
#[must_use]
pub fn country_rows() -> Vec<CountryRow> {
    COUNTRIES.iter().flat_map(|(iso2, iso3, name, class)| [profile(iso2, iso3, name), regime(iso2, *class)]).collect()
}

fn profile(iso2: &str, iso3: &str, name: &str) -> CountryRow {
    let profile = CountryProfile {
        alpha3_code: iso3.into(),
        display_name: name.into(),
        source: "ISO 3166-1".into(),
        ..Default::default()
    };
    CountryRow { country_code: iso2.into(), fact: Some(Fact::Profile(profile)) }
}

fn regime(iso2: &str, class: RegimeClass) -> CountryRow {
    let regime = RegimeFact {
        scheme: RegimeScheme::Row as i32,
        year: REGIMES_YEAR,
        regime_class: class as i32,
        value: (class as i32 - RegimeClass::ClosedAutocracy as i32).to_string(),
        source: REGIMES_SOURCE.into(),
    };
    CountryRow { country_code: iso2.into(), fact: Some(Fact::Regime(regime)) }
}

const fn city(
    geonames: &'static str,
    name: &'static str,
    country: &'static str,
    subdivision_code: &'static str,
    population: i32,
    location: (i32, i32),
    time_zone: &'static str,
) -> SampleCity {
    SampleCity {
        geonames,
        name,
        country,
        subdivision_code,
        population,
        location,
        time_zone,
        tier: CityTier::Municipality,
    }
}

const fn tie(a: &'static str, b: &'static str, year: Option<i32>) -> SampleTie {
    SampleTie { a, b, year }
}

/// The cities of the sample.
#[rustfmt::skip]
pub const CITIES: [SampleCity; 48] = [
    city("2988507", "Paris", "FR", "11", 2_140_000, (4_885_341, 234_880), "Europe/Paris"),
    city("3169070", "Rome", "IT", "07", 2_320_000, (4_189_193, 1_251_133), "Europe/Rome"),
    city("2996944", "Lyon", "FR", "84", 520_000, (4_574_906, 484_789), "Europe/Paris"),
    city("3173435", "Milan", "IT", "09", 1_370_000, (4_546_427, 918_951), "Europe/Rome"),
    city("2911298", "Hamburg", "DE", "04", 1_970_000, (5_355_073, 999_302), "Europe/Berlin"),
    city("2655603", "Birmingham", "GB", "ENG", 1_160_000, (5_248_142, -189_983), "Europe/London"),
    city("2925533", "Frankfurt am Main", "DE", "05", 650_000, (5_011_552, 868_417), "Europe/Berlin"),
    city("2652221", "Coventry", "GB", "ENG", 350_000, (5_240_656, -151_217), "Europe/London"),
    city("2935022", "Dresden", "DE", "13", 560_000, (5_105_089, 1_373_832), "Europe/Berlin"),
    city("472757", "Volgograd", "RU", "84", 1_010_000, (4_871_378, 4_449_760), "Europe/Volgograd"),
    city("498817", "Saint Petersburg", "RU", "66", 5_350_000, (5_993_863, 3_031_413), "Europe/Moscow"),
    city("3128760", "Barcelona", "ES", "56", 1_690_000, (4_138_879, 215_899), "Europe/Madrid"),
    city("1857910", "Kyoto", "JP", "22", 1_460_000, (3_502_107, 13_575_385), "Asia/Tokyo"),
    city("3176959", "Florence", "IT", "16", 370_000, (4_377_925, 1_124_626), "Europe/Rome"),
    city("1853909", "Osaka", "JP", "32", 2_750_000, (3_469_379, 13_550_107), "Asia/Tokyo"),
    city("1796236", "Shanghai", "CN", "23", 24_870_000, (3_122_222, 12_145_806), "Asia/Shanghai"),
    city("1275339", "Mumbai", "IN", "16", 12_690_000, (1_907_283, 7_288_261), "Asia/Kolkata"),
    city("5391959", "San Francisco", "US", "CA", 830_000, (3_777_493, -12_241_942), "America/Los_Angeles"),
    city("4887398", "Chicago", "US", "IL", 2_660_000, (4_185_003, -8_765_005), "America/Chicago"),
    city("5368361", "Los Angeles", "US", "CA", 3_820_000, (3_405_223, -11_824_368), "America/Los_Angeles"),
    city("6077243", "Montréal", "CA", "10", 1_760_000, (4_550_884, -7_358_781), "America/Toronto"),
    city("3435910", "Buenos Aires", "AR", "07", 2_890_000, (-3_461_315, -5_837_723), "America/Argentina/Buenos_Aires"),
    city("3448439", "São Paulo", "BR", "27", 12_400_000, (-2_354_750, -4_663_611), "America/Sao_Paulo"),
    city("3441575", "Montevideo", "UY", "10", 1_270_000, (-3_490_328, -5_618_816), "America/Montevideo"),
    city("3838583", "Rosario", "AR", "21", 950_000, (-3_294_682, -6_063_932), "America/Argentina/Cordoba"),
    city("3369157", "Cape Town", "ZA", "11", 4_770_000, (-3_392_584, 1_842_322), "Africa/Johannesburg"),
    city("3247449", "Aachen", "DE", "07", 270_000, (5_077_664, 608_342), "Europe/Berlin"),
    city("184745", "Nairobi", "KE", "05", 4_400_000, (-128_333, 3_681_667), "Africa/Nairobi"),
    city("2253354", "Dakar", "SN", "01", 2_650_000, (1_469_370, -1_744_406), "Africa/Dakar"),
    city("360630", "Cairo", "EG", "11", 9_610_000, (3_006_263, 3_124_967), "Africa/Cairo"),
    city("2464470", "Tunis", "TN", "36", 690_000, (3_681_897, 1_016_579), "Africa/Tunis"),
    city("745044", "Istanbul", "TR", "34", 15_700_000, (4_101_384, 2_894_966), "Europe/Istanbul"),
    city("1581130", "Hanoi", "VN", "01", 8_050_000, (2_102_450, 10_584_117), "Asia/Bangkok"),
    city("2158177", "Melbourne", "AU", "07", 5_440_000, (-3_781_400, 14_496_332), "Australia/Melbourne"),
    city("2193733", "Auckland", "NZ", "E7", 1_550_000, (-3_684_853, 17_476_349), "Pacific/Auckland"),
    city("250441", "Amman", "JO", "16", 1_280_000, (3_195_522, 3_594_503), "Asia/Amman"),
    city("1838524", "Busan", "KR", "10", 3_290_000, (3_510_168, 12_903_004), "Asia/Seoul"),
    city("2950159", "Berlin", "DE", "16", 3_430_000, (5_252_437, 1_341_053), "Europe/Berlin"),
    city("3094802", "Kraków", "PL", "77", 820_000, (5_006_143, 1_993_658), "Europe/Warsaw"),
    city("756135", "Warsaw", "PL", "78", 1_700_000, (5_222_977, 2_101_178), "Europe/Warsaw"),
    city("703448", "Kyiv", "UA", "12", 2_950_000, (5_045_466, 3_052_380), "Europe/Kyiv"),
    city("3674962", "Medellín", "CO", "02", 2_000_000, (624_500, -7_557_151), "America/Bogota"),
    city("1642911", "Jakarta", "ID", "04", 8_540_000, (-621_462, 10_684_513), "Asia/Jakarta"),
    city("1512569", "Tashkent", "UZ", "13", 1_980_000, (4_126_465, 6_921_627), "Asia/Tashkent"),
    city("344979", "Addis Ababa", "ET", "44", 3_860_000, (902_497, 3_874_689), "Africa/Addis_Ababa"),
    city("202061", "Kigali", "RW", "12", 1_130_000, (-194_995, 3_005_885), "Africa/Kigali"),
    city("1650357", "Bandung", "ID", "30", 2_530_000, (-692_222, 10_760_694), "Asia/Jakarta"),
    city("2945024", "Braunschweig", "DE", "06", 240_000, (5_226_594, 1_052_673), "Europe/Berlin"),
];

/// The countries of the sample: alpha-2 code, alpha-3 code, name, and the regime in [`REGIMES_YEAR`].
#[rustfmt::skip]
pub const COUNTRIES: [(&str, &str, &str, RegimeClass); 32] = [
    ("AR", "ARG", "Argentina", RegimeClass::ElectoralDemocracy),
    ("AU", "AUS", "Australia", RegimeClass::LiberalDemocracy),
    ("BR", "BRA", "Brazil", RegimeClass::ElectoralDemocracy),
    ("CA", "CAN", "Canada", RegimeClass::ElectoralDemocracy),
    ("CN", "CHN", "China", RegimeClass::ClosedAutocracy),
    ("CO", "COL", "Colombia", RegimeClass::ElectoralDemocracy),
    ("DE", "DEU", "Germany", RegimeClass::LiberalDemocracy),
    ("EG", "EGY", "Egypt", RegimeClass::ElectoralAutocracy),
    ("ES", "ESP", "Spain", RegimeClass::LiberalDemocracy),
    ("ET", "ETH", "Ethiopia", RegimeClass::ElectoralAutocracy),
    ("FR", "FRA", "France", RegimeClass::LiberalDemocracy),
    ("GB", "GBR", "United Kingdom", RegimeClass::ElectoralDemocracy),
    ("ID", "IDN", "Indonesia", RegimeClass::ElectoralAutocracy),
    ("IN", "IND", "India", RegimeClass::ElectoralAutocracy),
    ("IT", "ITA", "Italy", RegimeClass::LiberalDemocracy),
    ("JO", "JOR", "Jordan", RegimeClass::ClosedAutocracy),
    ("JP", "JPN", "Japan", RegimeClass::LiberalDemocracy),
    ("KE", "KEN", "Kenya", RegimeClass::ElectoralDemocracy),
    ("KR", "KOR", "South Korea", RegimeClass::ElectoralDemocracy),
    ("NZ", "NZL", "New Zealand", RegimeClass::LiberalDemocracy),
    ("PL", "POL", "Poland", RegimeClass::ElectoralDemocracy),
    ("RU", "RUS", "Russia", RegimeClass::ElectoralAutocracy),
    ("RW", "RWA", "Rwanda", RegimeClass::ElectoralAutocracy),
    ("SN", "SEN", "Senegal", RegimeClass::ElectoralDemocracy),
    ("TN", "TUN", "Tunisia", RegimeClass::ElectoralAutocracy),
    ("TR", "TUR", "Türkiye", RegimeClass::ElectoralAutocracy),
    ("UA", "UKR", "Ukraine", RegimeClass::ElectoralAutocracy),
    ("US", "USA", "United States", RegimeClass::LiberalDemocracy),
    ("UY", "URY", "Uruguay", RegimeClass::LiberalDemocracy),
    ("UZ", "UZB", "Uzbekistan", RegimeClass::ElectoralAutocracy),
    ("VN", "VNM", "Vietnam", RegimeClass::ClosedAutocracy),
    ("ZA", "ZAF", "South Africa", RegimeClass::ElectoralDemocracy),
];

/// The twinnings of the sample.
#[rustfmt::skip]
pub const TIES: [SampleTie; 34] = [
    tie("2988507", "3169070", Some(1956)), // Paris, Rome
    tie("2652221", "472757", Some(1944)), // Coventry, Volgograd
    tie("2652221", "2935022", Some(1959)), // Coventry, Dresden
    tie("2935022", "2911298", Some(1987)), // Dresden, Hamburg
    tie("2935022", "3176959", Some(1978)), // Dresden, Florence
    tie("2935022", "498817", Some(1961)), // Dresden, Saint Petersburg
    tie("4887398", "3173435", Some(1973)), // Chicago, Milan
    tie("4887398", "756135", Some(1960)), // Chicago, Warsaw
    tie("4887398", "1853909", Some(1973)), // Chicago, Osaka
    tie("4887398", "1796236", Some(1985)), // Chicago, Shanghai
    tie("4887398", "2655603", Some(1993)), // Chicago, Birmingham
    tie("4887398", "2911298", Some(1994)), // Chicago, Hamburg
    tie("4887398", "703448", Some(1991)), // Chicago, Kyiv
    tie("4887398", "1838524", Some(2007)), // Chicago, Busan
    tie("4887398", "250441", Some(2004)), // Chicago, Amman
    tie("2925533", "3173435", None), // Frankfurt am Main, Milan
    tie("2925533", "2655603", None), // Frankfurt am Main, Birmingham
    tie("2925533", "360630", None), // Frankfurt am Main, Cairo
    tie("1857910", "3176959", Some(1965)), // Kyoto, Florence
    tie("1857910", "703448", None), // Kyoto, Kyiv
    tie("2950159", "5368361", Some(1967)), // Berlin, Los Angeles
    tie("2950159", "1642911", None), // Berlin, Jakarta
    tie("2950159", "1512569", None), // Berlin, Tashkent
    tie("1650357", "2945024", Some(1960)), // Bandung, Braunschweig
    tie("3247449", "3369157", None), // Aachen, Cape Town
    tie("1796236", "2911298", Some(1986)), // Shanghai, Hamburg
    tie("2253354", "3173435", None), // Dakar, Milan
    tie("2253354", "3838583", None), // Dakar, Rosario
    tie("2464470", "250441", None), // Tunis, Amman
    tie("3128760", "3441575", None), // Barcelona, Montevideo
    tie("2158177", "1853909", Some(1978)), // Melbourne, Osaka
    tie("1838524", "2193733", Some(1996)), // Busan, Auckland
    tie("1581130", "756135", None), // Hanoi, Warsaw
    tie("3173435", "3448439", None), // Milan, São Paulo
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_sample_can_be_imported_and_fits_together() {
        CITIES.iter().for_each(|city| crate::city::check(&city.row()).unwrap());
        let cities: BTreeSet<_> = CITIES.iter().map(SampleCity::id).collect();
        assert_eq!(cities.len(), CITIES.len());
        assert!(TIES.iter().flat_map(SampleTie::ids).all(|id| cities.contains(&id)));
        let countries: BTreeSet<_> = COUNTRIES.iter().map(|(iso2, ..)| *iso2).collect();
        assert!(CITIES.iter().all(|city| countries.contains(city.country)));
    }
}
