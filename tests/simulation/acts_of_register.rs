//! Commands of the register.

use crate::acts::{City, Mind, Order};
use hansa_kernel::{RecordName, Role, TenantId};
use hansa_proto::register::{
    BatchImportCitiesRequest, BatchImportCountryFactsRequest, CityRow, CityTier, CountryRow, CreateTenantRequest, Fact,
    MayorTerm, MergeCitiesRequest, Office, OfficeExistence, RecordMayorTermRequest, RegimeClass, RegimeFact,
    RegimeScheme, RenameCityRequest, RetractCityRequest, RotateTenantKeyRequest, SetFactRequest, SourceRegister,
    SplitCityRequest, Tenant, TenantKind, UpdateOfficeRequest, country_row,
};
use hansa_register_domain::office;

/// Returns the path of an rpc.
macro_rules! path {
    ($service:literal, $rpc:literal) => {
        concat!("/hansa.register.v1.", $service, "Service/", $rpc)
    };
}

/// Returns the name of a city's office.
pub fn office_of(city: &str) -> String {
    let id = RecordName::parse(city, "cities", "city").unwrap().id;
    format!("offices/{}", office::id_of(id))
}

impl Mind<'_> {
    pub fn of_register(&mut self) -> Order {
        match self.dice.below(24) {
            // The initial world contains no ended cities and no rotated keys.
            0 | 1 if self.errs => self.succession(),
            2 | 3 if self.errs => self.rotate(),
            4 if self.errs => self.retract_city(),
            0..=2 => {
                let cities = self.known.cities.clone();
                self.import_cities(&cities)
            }
            3..=7 => self.rename(),
            8 | 9 => self.fact(),
            10..=13 => {
                let cities = self.known.cities.clone();
                let outside: Vec<City> = cities.iter().filter(|city| city.tenant.is_none()).cloned().collect();
                let from = if outside.is_empty() || self.chance(1, 3) { &cities } else { &outside };
                let city = self.dice.pick(from).clone();
                self.join(&city)
            }
            14..=17 => self.office(),
            18..=20 => self.country(),
            _ => self.term(),
        }
    }

    /// Returns a city, and the caller that maintains its entry.
    fn kept(&mut self) -> (City, (TenantId, Role)) {
        let cities = self.known.cities.clone();
        let city = self.dice.pick(&cities).clone();
        let keeper = city.tenant.map_or((self.known.steward, Role::Steward), |tenant| (tenant, Role::IrOfficer));
        (city, keeper)
    }

    /// Merges a city into another, or splits a city.
    fn succession(&mut self) -> Order {
        let (city, by) = self.kept();
        let days = *self.dice.pick(&[0, 0, -3, 1, 20]);
        let effective_date = self.days(days);
        let mut others: Vec<City> = self.known.cities.iter().filter(|other| other.name != city.name).cloned().collect();
        let other = others.swap_remove(self.dice.below(others.len() as u64) as usize);
        if self.chance(2, 3) {
            let beside = others.iter().filter(|other| city.tenant.is_none() && other.tenant.is_none());
            let beside = beside.take(self.dice.below(2) as usize).map(|other| other.name.clone());
            let request = MergeCitiesRequest {
                successor: other.name.clone(),
                etag: self.etag(""),
                request_id: self.id(),
                validate_only: self.tried,
                predecessors: std::iter::once(city.name.clone()).chain(beside).collect(),
                effective_date,
            };
            return self.order(path!("City", "MergeCities"), &other.name, by, &request);
        }
        let part = self.dice.pick(&others).name.clone();
        let heir = if self.chance(1, 2) { other.name.clone() } else { String::new() };
        let request = SplitCityRequest {
            name: city.name.clone(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
            successors: vec![other.name, part],
            continuing_city: heir,
            effective_date,
        };
        self.order(path!("City", "SplitCity"), &city.name, by, &request)
    }

    /// Rotates the key of a tenant.
    fn rotate(&mut self) -> Order {
        let joined: Vec<TenantId> = self.known.cities.iter().filter_map(|city| city.tenant).collect();
        let tenant = *self.dice.pick(&joined);
        let own = self.chance(2, 3);
        let by = if own { (tenant, Role::Mayor) } else { (self.known.steward, Role::Steward) };
        let request = RotateTenantKeyRequest {
            name: tenant.name(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("Tenant", "RotateTenantKey"), &tenant.name(), by, &request)
    }

    fn retract_city(&mut self) -> Order {
        let cities = self.known.cities.clone();
        let city = self.dice.pick(&cities).clone();
        let request = RetractCityRequest {
            name: city.name.clone(),
            reason: self.text(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
        };
        self.order(path!("City", "RetractCity"), &city.name, (self.known.steward, Role::Steward), &request)
    }

    pub fn import_cities(&mut self, cities: &[City]) -> Order {
        let rows = cities.iter().map(|city| CityRow {
            source_register: SourceRegister::Geonames as i32,
            source_key: city.key.into(),
            display_name: format!("City {}", city.key),
            country_code: city.country.into(),
            tier: CityTier::Municipality as i32,
            population: Some(100_000 + self.dice.below(3) as i32 * 1_000),
            ..Default::default()
        });
        let rows = rows.collect();
        let (request_id, validate_only) = (self.id(), self.tried);
        let request = BatchImportCitiesRequest { rows, source: "a test".into(), request_id, validate_only };
        let by = (self.known.steward, Role::Steward);
        Order { many: true, ..self.order(path!("City", "BatchImportCities"), "", by, &request) }
    }

    pub fn country(&mut self) -> Order {
        let countries: Vec<&str> = self.known.cities.iter().map(|city| city.country).collect();
        let country = *self.dice.pick(&countries);
        let class = *self.dice.pick(&[RegimeClass::LiberalDemocracy, RegimeClass::ClosedAutocracy]);
        self.regimes(&[(country, class)])
    }

    pub fn regimes(&mut self, regimes: &[(&str, RegimeClass)]) -> Order {
        let row = |(country, class): &(&str, RegimeClass)| {
            let fact = RegimeFact {
                scheme: RegimeScheme::Row as i32,
                year: 2024,
                regime_class: *class as i32,
                source: "a test".into(),
                ..Default::default()
            };
            CountryRow { country_code: (*country).into(), fact: Some(country_row::Fact::Regime(fact)) }
        };
        let rows = regimes.iter().map(row).collect();
        let (request_id, validate_only) = (self.id(), self.tried);
        let request = BatchImportCountryFactsRequest { rows, request_id, validate_only };
        let by = (self.known.steward, Role::Steward);
        Order { many: true, ..self.order(path!("Country", "BatchImportCountryFacts"), "", by, &request) }
    }

    fn rename(&mut self) -> Order {
        let (city, by) = self.kept();
        let request = RenameCityRequest {
            name: city.name.clone(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
            display_name: format!("City {}", self.id()),
            correction: true,
            ..Default::default()
        };
        self.order(path!("City", "RenameCity"), &city.name, by, &request)
    }

    fn fact(&mut self) -> Order {
        let (city, by) = self.kept();
        let fact = Fact {
            key: "languages".into(),
            value: (*self.dice.pick(&["fra", "deu, fra", "ara"])).into(),
            source: "statute".into(),
            as_of_date: self.days(-30),
        };
        let request = SetFactRequest {
            name: city.name.clone(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
            fact: Some(fact),
        };
        self.order(path!("City", "SetFact"), &city.name, by, &request)
    }

    pub fn join(&mut self, city: &City) -> Order {
        let tenant = Tenant { kind: TenantKind::City as i32, city: city.name.clone(), ..Default::default() };
        let (request_id, validate_only) = (self.id(), self.tried);
        let request = CreateTenantRequest { tenant: Some(tenant), request_id, validate_only };
        let by = (self.known.steward, Role::Steward);
        self.order(path!("Tenant", "CreateTenant"), &city.name, by, &request)
    }

    fn office(&mut self) -> Order {
        let (city, by) = self.kept();
        let existence = *self.dice.pick(&[OfficeExistence::Exists, OfficeExistence::None]);
        let office = Office {
            name: office_of(&city.name),
            city: city.name.clone(),
            existence: existence as i32,
            languages: if existence == OfficeExistence::Exists { vec!["fr".into()] } else { Vec::new() },
            contact: self.text(),
            etag: self.etag(""),
            ..Default::default()
        };
        let paths = ["existence", "languages", "contact"].map(str::to_owned).to_vec();
        let request = UpdateOfficeRequest {
            update_mask: Some(prost_types::FieldMask { paths }),
            request_id: self.id(),
            validate_only: self.tried,
            office: Some(office),
        };
        let name = request.office.as_ref().map(|office| office.name.clone()).unwrap_or_default();
        self.order(path!("Office", "UpdateOffice"), &name, by, &request)
    }

    fn term(&mut self) -> Order {
        let (city, by) = self.kept();
        let term = MayorTerm { person_name: self.text(), start_date: self.days(-10), ..Default::default() };
        let request = RecordMayorTermRequest {
            name: city.name.clone(),
            etag: self.etag(""),
            request_id: self.id(),
            validate_only: self.tried,
            term: Some(term),
            next_election_date: self.months(12),
        };
        self.order(path!("City", "RecordMayorTerm"), &city.name, by, &request)
    }
}
