//! The facts that a decision needs in addition to the agreement, and the defaults that a node can change.

use super::sides::{Both, Which};
use hansa_kernel::{RecordId, TenantId};
use hansa_proto::partnerships::{AgreementSettings, GuidelinesNeed, PartyEntry};
use hansa_proto::types::AgreementKind;
use serde::{Deserialize, Serialize};

/// The type of body that a city is (CT-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A municipality.
    Municipality,
    /// A second-tier government of a centre and the municipalities around it.
    Metropolis,
    /// A part of a city. By default it cannot be a party to an agreement.
    SubMunicipal,
    /// A region or another subnational government.
    Region,
}

/// The facts of a city at the time of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CityFacts {
    /// The city's record in the register.
    pub city: RecordId,
    /// The city's name.
    pub display_name: String,
    /// The type of body.
    pub tier: Tier,
    /// ISO 3166-1 alpha-2 code of the country.
    pub country: String,
    /// The city's tenant; `None` if the city has not joined the platform.
    pub tenant: Option<TenantId>,
    /// Whether the country is democratic at that time (CT-3); `None` if unknown.
    pub democratic: Option<bool>,
    /// Whether the register has only the city's name, and no source links the name to a municipality.
    pub unregistered: bool,
    /// The successor of a city that was merged or split (CT-11).
    pub successor: Option<RecordId>,
    /// The kinds of agreement that the council votes on; `None` if neither country nor city changes the default
    /// (AG-1).
    pub council_vote: Option<Vec<AgreementKind>>,
    /// The kinds that are signed in a ceremony; `None` if neither country nor city changes the default (AG-1).
    pub ceremony: Option<Vec<AgreementKind>>,
}

/// The facts that a decision needs in addition to the agreement. The sides are those of the agreement, or of the
/// command that creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The facts of each city.
    pub cities: Both<CityFacts>,
    /// The node's settings.
    pub settings: Settings,
}

impl Facts {
    /// Returns whether a side needs guidelines (AG-11).
    #[must_use]
    pub fn guidelines_need(&self, which: Which) -> GuidelinesNeed {
        match (self.cities[which].democratic, self.cities[which.other()].democratic) {
            (Some(false), _) | (_, Some(true)) => GuidelinesNeed::None,
            (Some(true), Some(false)) => GuidelinesNeed::Required,
            _ => GuidelinesNeed::Unknown,
        }
    }

    pub(super) fn entry(&self, which: Which, tenant: Option<TenantId>) -> PartyEntry {
        let facts = &self.cities[which];
        PartyEntry {
            city: super::sides::city_name(facts.city),
            display_name: facts.display_name.clone(),
            country_code: facts.country.clone(),
            tenant: tenant.map(TenantId::name).unwrap_or_default(),
            guidelines_need: self.guidelines_need(which) as i32,
        }
    }
}

/// The formalities that a kind of agreement requires before it enters into force (AG-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSettings {
    /// Whether both councils vote.
    pub council_vote: bool,
    /// Whether the mayors sign in a ceremony.
    pub ceremony: bool,
}

/// The node's settings for agreements, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The clock that each new agreement copies.
    pub clock: Clock,
    /// Memorandum. Default: no vote, no ceremony.
    pub memorandum: KindSettings,
    /// Cooperation. Default: votes, no ceremony.
    pub cooperation: KindSettings,
    /// Twinning. Default: votes and a ceremony.
    pub twinning: KindSettings,
    /// Whether a part of a city may be a party (CT-2). Default: no.
    pub sub_municipal_parties: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            memorandum: KindSettings { council_vote: false, ceremony: false },
            cooperation: KindSettings { council_vote: true, ceremony: false },
            twinning: KindSettings { council_vote: true, ceremony: true },
            sub_municipal_parties: false,
        }
    }
}

impl Settings {
    /// Returns the settings of a kind. An unspecified kind requires nothing.
    #[must_use]
    pub fn of(&self, kind: AgreementKind) -> KindSettings {
        match kind {
            AgreementKind::Unspecified => KindSettings { council_vote: false, ceremony: false },
            AgreementKind::Memorandum => self.memorandum,
            AgreementKind::Cooperation => self.cooperation,
            AgreementKind::Twinning => self.twinning,
        }
    }
}

/// The periods of an agreement's own clock (AG-7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Months without activity after which an agreement is dormant. Default: 24; 0 means never.
    pub dormancy_months: u32,
    /// The anniversaries to announce, in years, ascending. Default: 1, 5, 10.
    pub anniversary_years: Vec<u32>,
    /// The interval of further anniversaries after the last of these, in years. Default: 5; 0 means none.
    pub anniversary_every_years: u32,
    /// Months between the announcement and the anniversary. Default: 12.
    pub anniversary_notice_months: u32,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            dormancy_months: 24,
            anniversary_years: vec![1, 5, 10],
            anniversary_every_years: 5,
            anniversary_notice_months: 12,
        }
    }
}

impl Clock {
    pub(super) fn to_proto(&self) -> AgreementSettings {
        AgreementSettings {
            dormancy_months: self.dormancy_months.cast_signed(),
            anniversary_years: self.anniversary_years.iter().map(|years| years.cast_signed()).collect(),
            anniversary_every_years: self.anniversary_every_years.cast_signed(),
            anniversary_notice_months: self.anniversary_notice_months.cast_signed(),
        }
    }

    pub(super) fn from_proto(settings: &AgreementSettings) -> Self {
        let whole = |n: i32| u32::try_from(n).unwrap_or(0);
        Self {
            dormancy_months: whole(settings.dormancy_months),
            anniversary_years: settings.anniversary_years.iter().map(|&years| whole(years)).collect(),
            anniversary_every_years: whole(settings.anniversary_every_years),
            anniversary_notice_months: whole(settings.anniversary_notice_months),
        }
    }
}
