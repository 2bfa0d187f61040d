//! What a decision needs to know beside the agreement, and the defaults that a node can change.

use super::sides::{Both, Which};
use hansa_kernel::{RecordId, TenantId};
use hansa_proto::partnerships::{AgreementKind, AgreementSettings, GuidelinesNeed, PartyEntry};
use serde::{Deserialize, Serialize};

/// What kind of body a city is (CT-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A municipality.
    Municipality,
    /// A second-tier government made of a centre and the municipalities around it.
    Metropolis,
    /// A part of a city; by default no party to an agreement.
    SubMunicipal,
    /// A region or another subnational government.
    Region,
}

/// What is known of a city at the moment of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CityFacts {
    /// Its record in the register.
    pub city: RecordId,
    /// Its name.
    pub display_name: String,
    /// What kind of body it is.
    pub tier: Tier,
    /// ISO 3166-1 alpha-2 code of its country.
    pub country: String,
    /// The tenant that it is on the platform; `None` where it has not joined.
    pub tenant: Option<TenantId>,
    /// Whether its country is democratic at the date (CT-3); `None` where that is not known.
    pub democratic: Option<bool>,
    /// Whether the register has no more than its name, which no source links to a municipality.
    pub unlinked: bool,
    /// The city that its records follow, where it is no more (CT-11).
    pub successor: Option<RecordId>,
    /// The kinds of agreement that its council votes on, where country or city changed the default (AG-1).
    pub council_vote: Option<Vec<AgreementKind>>,
    /// The kinds that are signed in a ceremony, where country or city changed the default (AG-1).
    pub ceremony: Option<Vec<AgreementKind>>,
}

/// What a decision needs beside the agreement. The sides are those of the agreement, or of the command that begins one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of each city.
    pub cities: Both<CityFacts>,
    /// The node's settings.
    pub settings: Settings,
}

impl Facts {
    /// Whether a side needs guidelines (AG-11).
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

/// What a kind of agreement asks for before it is in force (AG-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSettings {
    /// Both councils vote.
    pub council_vote: bool,
    /// Mayors sign in a ceremony.
    pub ceremony: bool,
}

/// The settings of agreements, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What each agreement copies when it begins.
    pub clock: Clock,
    /// Memorandum: no vote, no ceremony.
    pub memorandum: KindSettings,
    /// Cooperation: votes, no ceremony.
    pub cooperation: KindSettings,
    /// Twinning: votes and a ceremony.
    pub twinning: KindSettings,
    /// Whether a part of a city may be a party (CT-2): no.
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
    /// Those of a kind; an unspecified kind asks for nothing.
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

/// What an agreement's own clock runs by (AG-7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Months without activity until it is dormant: 24; 0 for never.
    pub dormancy_months: u32,
    /// Anniversaries that come up, in years, ascending: 1, 5, 10.
    pub anniversary_years: Vec<u32>,
    /// And every so many years after the last of these: 5; 0 for none.
    pub anniversary_every_years: u32,
    /// How many months before the day an anniversary comes up: 12.
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
