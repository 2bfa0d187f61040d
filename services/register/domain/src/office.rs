//! A city's international relations office (CT-5). A city has at most one, and the city's tenant owns it. An office
//! is a plain record.

use crate::{city::City, names};
use hansa_kernel::{
    Caller, Decision, RecordId, RecordName, Refusal, Refused,
    plain::{self, Plain, PlainType},
    text,
};
use hansa_proto::register::{
    self as proto, OfficeCreated, OfficeExistence, OfficeSeat, OfficeUpdated, UpdateOfficeRequest,
    office_change::Change,
};
use prost_types::FieldMask;

/// Maximum number of languages of an office.
const LANGUAGES: usize = 50;
/// Maximum number of permanent staff.
const STAFF: i32 = 100_000;

/// An office.
pub type Office = Plain<Offices>;

/// The plain record type of offices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offices;

/// Returns the id of a city's office.
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

    fn created(office: proto::Office) -> Change {
        OfficeCreated { office: Some(office) }.into()
    }

    fn updated(office: proto::Office, update_mask: FieldMask) -> Change {
        OfficeUpdated { office: Some(office), update_mask: Some(update_mask) }.into()
    }

    fn written(change: &Change) -> Option<(&proto::Office, Option<&FieldMask>)> {
        match change {
            Change::Created(created) => Some((created.office.as_ref()?, None)),
            Change::Updated(updated) => Some((updated.office.as_ref()?, Some(updated.update_mask.as_ref()?))),
        }
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
            return Err(Refusal::rule(
                "CT-5",
                "NO_OFFICE_FIELDS",
                "an office that does not exist has no seat, staff, languages or contact",
            )
            .missing("office.existence", "says that the city has no office")
            .help("Set the existence to EXISTS, or clear the other fields in the same update."));
        }
        Ok(())
    }
}

/// Writes the fields of an office. `city` is the register's entry of the city that the request names. `before` is the
/// present office, or `None` before the first write.
///
/// # Errors
/// Refused under CT-5 if the city has not joined or the fields contradict each other; under PL-1 if another tenant
/// owns the city; under PL-4 if a name or a path of the update mask is invalid.
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
            .help("Copy both names from the city: its `name` and its `office`."));
    }
    match city.1.tenant() {
        Some(tenant) if tenant == caller.tenant => Ok(()),
        // The caller must not learn whether another city has an office, so the answer is the same in both cases (PL-1).
        Some(_) => Err(Refusal::not_found(&name)),
        None => Err(Refusal::rule("CT-5", "CITY_NOT_JOINED", "a city that has not joined cannot have an office")
            .missing(asked.city.clone(), "must have joined")
            .help("Create the city's tenant first.")),
    }
}

#[cfg(test)]
#[path = "office/tests.rs"]
mod tests;
