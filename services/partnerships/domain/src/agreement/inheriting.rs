//! Who holds a side: the city that claims it (AG-13), or the one that the records of a city follow that is no more (CT-11).

use super::{Agreement, Change, CityFacts, Life, Which, sides::Side};
use chrono::NaiveDate;
use hansa_kernel::{Decision, Happened, Misfit, RecordId, TenantId, time};
use hansa_proto::partnerships::{AgreementEnded, PartyEntry, PartySucceeded};

/// Puts the successor of a city in its place, from a day on. Where the successor is the other side, nothing is left to agree
/// on, and the agreement ends. One that is over keeps its names, and so does one that has followed already.
///
/// # Errors
/// Never; it is a decision like the others.
pub fn inherit(state: &Agreement, city: RecordId, successor: &CityFacts, since: NaiveDate) -> Decision<Change> {
    let side = Which::ALL.into_iter().find(|&which| state.sides[which].city == city);
    let Some(which) = side.filter(|_| !matches!(state.life, Life::Over(_))) else { return Ok(Vec::new()) };
    let (side, date) = (&state.sides[which], Some(time::date(since)));
    let happened = |change: Change, party| vec![Happened { party, ..Happened::new(change) }];
    if state.sides[which.other()].city == successor.city {
        let ended = AgreementEnded { city: side.name(), date, ..AgreementEnded::default() };
        return Ok(happened(ended.into(), side.tenant));
    }
    let tenant = successor.tenant.or(side.tenant);
    let entry = PartyEntry {
        city: super::sides::city_name(successor.city),
        display_name: successor.display_name.clone(),
        country_code: successor.country.clone(),
        tenant: tenant.map(TenantId::name).unwrap_or_default(),
        guidelines_need: side.need as i32,
    };
    Ok(happened(PartySucceeded { city: side.name(), successor: Some(entry), effective_date: date }.into(), tenant))
}

impl Agreement {
    /// The side of a city that is succeeded, after that.
    pub(super) fn succeeded(&mut self, which: Which, successor: Side) {
        let side = &mut self.sides[which];
        (side.city, side.display_name, side.country) = (successor.city, successor.display_name, successor.country);
        if let Some(tenant) = successor.tenant {
            self.taken_by(which, tenant);
        }
    }

    /// A side that its city took over. The first after an import takes the record.
    pub(super) fn claimed(&mut self, which: Which, tenant: TenantId) -> Result<(), Misfit> {
        if self.side_of(tenant).is_some() {
            return Err(Misfit("the tenant has a side".into()));
        }
        if !self.at_home() {
            self.owner = tenant;
        }
        self.taken_by(which, tenant);
        Ok(())
    }

    /// A tenant takes a side, and the record where that was the side's before.
    fn taken_by(&mut self, which: Which, tenant: TenantId) {
        if self.sides[which].tenant.replace(tenant) == Some(self.owner) {
            self.owner = tenant;
        }
        if !self.readers.contains(&tenant) {
            self.readers.push(tenant);
        }
    }
}
