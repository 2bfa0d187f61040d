//! Changes of a side's holder: a city claims its side (AG-13), or a successor replaces a city (CT-11).

use super::{Agreement, Change, CityFacts, Life, Which, sides::Side};
use chrono::NaiveDate;
use hansa_kernel::{Decision, Emitted, FoldError, RecordId, TenantId, time};
use hansa_proto::partnerships::{AgreementEnded, PartyEntry, PartySucceeded};

/// Replaces a city with its successor from a day on. If the successor is the other side, the agreement ends. An
/// agreement that is over, or whose side has already passed to the successor, stays unchanged.
///
/// # Errors
/// Never. The return type is a `Decision` like that of other rules.
pub fn inherit(state: &Agreement, city: RecordId, successor: &CityFacts, since: NaiveDate) -> Decision<Change> {
    let side = Which::ALL.into_iter().find(|&which| state.sides[which].city == city);
    let Some(which) = side.filter(|_| !matches!(state.life, Life::Over(_))) else { return Ok(Vec::new()) };
    let (side, date) = (&state.sides[which], Some(time::date(since)));
    let emit = |change: Change, party| vec![Emitted { party, ..Emitted::new(change) }];
    if state.sides[which.other()].city == successor.city {
        let ended = AgreementEnded { city: side.name(), last_date: date, ..AgreementEnded::default() };
        return Ok(emit(ended.into(), side.tenant));
    }
    let tenant = successor.tenant.or(side.tenant);
    let entry = PartyEntry {
        city: super::sides::city_name(successor.city),
        display_name: successor.display_name.clone(),
        country_code: successor.country.clone(),
        tenant: tenant.map(TenantId::name).unwrap_or_default(),
        guidelines_need: side.need as i32,
    };
    Ok(emit(PartySucceeded { city: side.name(), successor: Some(entry), effective_date: date }.into(), tenant))
}

impl Agreement {
    /// Replaces the city of a side with its successor.
    pub(super) fn succeeded(&mut self, which: Which, successor: Side) {
        let side = &mut self.sides[which];
        (side.city, side.display_name, side.country) = (successor.city, successor.display_name, successor.country);
        if let Some(tenant) = successor.tenant {
            self.taken_by(which, tenant);
        }
    }

    /// Gives a side to the tenant that claims it. The first claim after an import also takes over the record.
    pub(super) fn claimed(&mut self, which: Which, tenant: TenantId) -> Result<(), FoldError> {
        if self.side_of(tenant).is_some() {
            return Err(FoldError("the tenant has a side".into()));
        }
        if !self.at_home() {
            self.owner = tenant;
        }
        self.taken_by(which, tenant);
        Ok(())
    }

    /// Sets the tenant of a side. If the side's previous tenant owned the record, the new tenant becomes the owner.
    fn taken_by(&mut self, which: Which, tenant: TenantId) {
        if self.sides[which].tenant.replace(tenant) == Some(self.owner) {
            self.owner = tenant;
        }
        if !self.readers.contains(&tenant) {
            self.readers.push(tenant);
        }
    }
}
