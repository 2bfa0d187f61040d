//! A city's international relations office (CT-5): one a city, and its tenant's own. A plain record.

use crate::{city::City, names};
use hansa_kernel::{
    Caller, Decision, RecordId, RecordName, Refusal, Refused,
    plain::{self, Plain, PlainType},
    text,
};
use hansa_proto::register::{
    self as proto, OfficeExistence, OfficeSeat, OfficeUpdated, UpdateOfficeRequest, office_change::Change,
};
use prost_types::FieldMask;

/// Most languages of an office.
const LANGUAGES: usize = 50;
/// Most permanent staff.
const STAFF: i32 = 100_000;

/// An office.
pub type Office = Plain<Offices>;

/// What offices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offices;

/// The id of a city's office.
#[must_use]
pub fn id_of(city: RecordId) -> RecordId {
    names::office_id(city)
}

impl PlainType for Offices {
    type Resource = proto::Office;
    const COLLECTION: &'static str = names::OFFICES;
    const REVISION: u32 = 2;
    const WRITABLE: &'static [&'static str] = &["existence", "seat", "staff_count", "languages", "contact"];
    const FIXED: &'static [&'static str] = &["city"];
    type Change = Change;

    fn changed(office: proto::Office, update_mask: FieldMask) -> Change {
        OfficeUpdated { office: Some(office), update_mask: Some(update_mask) }.into()
    }

    fn written(change: &Change) -> Option<(&proto::Office, &FieldMask)> {
        let Change::Updated(updated) = change;
        updated.office.as_ref().zip(updated.update_mask.as_ref())
    }

    fn validate(office: &proto::Office) -> Refused<()> {
        text::optional("office.contact", &office.contact)?;
        office.languages.iter().try_for_each(|language| text::language("office.languages", language))?;
        let twice = office.languages.iter().enumerate().any(|(i, l)| office.languages[..i].contains(l));
        if office.languages.len() > LANGUAGES || twice {
            let what = format!("must be at most {LANGUAGES}, each once");
            return Err(Refusal::field("office.languages", what).under("CT-5"));
        }
        if office.staff_count.is_some_and(|count| !(0..=STAFF).contains(&count)) {
            return Err(Refusal::field("office.staff_count", format!("must be between 0 and {STAFF}")).under("CT-5"));
        }
        let empty = office.seat() == OfficeSeat::Unspecified
            && office.staff_count.is_none()
            && office.languages.is_empty()
            && office.contact.is_empty();
        if office.existence() == OfficeExistence::None && !empty {
            return Err(Refusal::rule("CT-5", "an office that is not there has no seat, staff, languages or contact")
                .missing("office.existence", "says that there is none")
                .help("Say that it exists, or clear the other fields in the same update."));
        }
        Ok(())
    }
}

/// Writes what is known of an office. `city` is the one that the request names, as the register holds it; `before` is the
/// office as it is, `None` until it is first written.
///
/// # Errors
/// CT-5 where the city has not joined, or fields do not fit; PL-1 where it is not the caller's; PL-4.
pub fn update(
    before: Option<&Office>,
    city: (RecordId, &City),
    command: &UpdateOfficeRequest,
    caller: &Caller,
) -> Decision<Change> {
    let asked = command.office.clone().unwrap_or_default();
    owned(city, &asked, caller)?;
    plain::put(before, &asked, command.update_mask.as_ref())
}

fn owned(city: (RecordId, &City), asked: &proto::Office, caller: &Caller) -> Refused<()> {
    let name = RecordName::parse(&asked.name, Offices::COLLECTION, "office.name")?;
    if name.id != id_of(city.0) || asked.city != names::city_name(city.0) {
        return Err(Refusal::field("office.name", "is not the name of this city's office")
            .help("Take both from the city: its `name` and its `office`."));
    }
    match city.1.tenant() {
        Some(tenant) if tenant == caller.tenant => Ok(()),
        // Whether another city has an office is not to be told: absent and hidden look alike (PL-1).
        Some(_) => Err(Refusal::not_found(&name)),
        None => Err(Refusal::rule("CT-5", "a city's office is its own, and the city has not joined")
            .missing(asked.city.clone(), "must have joined")
            .help("Create the city's tenant first.")),
    }
}

#[cfg(test)]
#[path = "office/tests.rs"]
mod tests;
