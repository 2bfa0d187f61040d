//! A city's international relations office (CT-5): one a city, and its tenant's own. A plain record: the state is what
//! the contract shows, the change says which fields are new.

use crate::{city::City, rights};
use hansa_kernel::{
    Audience, Caller, Decision, Misfit, Record, RecordId, RecordName, Refusal, Refused, Stamp, TenantId,
    record::happened, text,
};
use hansa_proto::{
    register::{self as proto, OfficeExistence, OfficeSeat, OfficeUpdated, UpdateOfficeRequest, office_change::Change},
    types::LocalizedText,
};
use prost_types::FieldMask;
use serde::{Deserialize, Serialize};

/// The fields that can be written.
const FIELDS: [&str; 5] = ["existence", "seat", "staff_count", "languages", "contact"];
/// Most languages of an office.
const LANGUAGES: usize = 50;
/// Most permanent staff.
const STAFF: i32 = 100_000;

/// An office. Its fields cannot be written but by the fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Office {
    owner: TenantId,
    city: RecordId,
    existence: OfficeExistence,
    seat: OfficeSeat,
    staff_count: Option<i32>,
    languages: Vec<String>,
    contact: Vec<LocalizedText>,
}

/// The id of a city's office.
#[must_use]
pub fn id_of(city: RecordId) -> RecordId {
    city.of("office")
}

impl Office {
    fn blank(owner: TenantId, city: RecordId) -> Self {
        Self {
            owner,
            city,
            existence: OfficeExistence::Unspecified,
            seat: OfficeSeat::Unspecified,
            staff_count: None,
            languages: Vec::new(),
            contact: Vec::new(),
        }
    }

    /// The city whose office it is.
    #[must_use]
    pub fn city(&self) -> RecordId {
        self.city
    }

    /// As the contract shows it.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::Office {
        proto::Office {
            name: name.to_string(),
            etag: etag.to_owned(),
            city: rights::city_name(self.city),
            existence: self.existence as i32,
            seat: self.seat as i32,
            staff_count: self.staff_count,
            languages: self.languages.clone(),
            contact: self.contact.clone(),
        }
    }

    fn apply(&mut self, path: &str, from: &proto::Office) {
        match path {
            "existence" => self.existence = from.existence(),
            "seat" => self.seat = from.seat(),
            "staff_count" => self.staff_count = from.staff_count,
            "languages" => self.languages.clone_from(&from.languages),
            "contact" => self.contact.clone_from(&from.contact),
            _ => {}
        }
    }
}

impl Record for Office {
    const COLLECTION: &'static str = "offices";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, stamp: &Stamp) -> Result<Self, Misfit> {
        let Change::Updated(updated) = change;
        let from = updated.office.clone().unwrap_or_default();
        let city = rights::city_id("city", &from.city).map_err(|refusal| Misfit(refusal.message))?;
        let mut office = match before {
            Some(office) => office,
            None => Self::blank(crate::city::first_owner(stamp)?, city),
        };
        if office.city != city {
            return Err(Misfit("it is another city's office".into()));
        }
        for path in updated.update_mask.iter().flat_map(|mask| &mask.paths) {
            office.apply(path, &from);
        }
        Ok(office)
    }

    fn owner(&self) -> TenantId {
        self.owner
    }

    fn audience(&self) -> Audience {
        Audience::of([self.owner])
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
    let paths = masked(command.update_mask.as_ref())?;
    let current = before.cloned().unwrap_or_else(|| Office::blank(caller.tenant, city.0));
    let (mut next, mut new) = (current.clone(), Vec::new());
    for path in paths {
        let so_far = next.clone();
        next.apply(path, &asked);
        if next != so_far {
            new.push(path.to_owned());
        }
    }
    known(&asked)?;
    validate(&next)?;
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let mut office = Office::blank(caller.tenant, city.0);
    new.iter().for_each(|path| office.apply(path, &asked));
    let office = proto::Office {
        name: String::new(),
        ..office.resource(&RecordName::new(Office::COLLECTION, id_of(city.0)), "")
    };
    happened(OfficeUpdated { office: Some(office), update_mask: Some(FieldMask { paths: new }) })
}

fn owned(city: (RecordId, &City), asked: &proto::Office, caller: &Caller) -> Refused<()> {
    let name = RecordName::parse(&asked.name, Office::COLLECTION, "office.name")?;
    if name.id != id_of(city.0) || asked.city != rights::city_name(city.0) {
        return Err(Refusal::field("office.name", "is not the name of this city's office")
            .help("Take both from the city: its `name` and its `office`."));
    }
    match city.1.tenant() {
        Some(tenant) if tenant == caller.tenant => Ok(()),
        Some(_) => Err(Refusal::not_found(&name)),
        None => Err(Refusal::rule("CT-5", "a city's office is its own, and the city has not joined")
            .missing(asked.city.clone(), "must have joined")
            .help("Create the city's tenant first.")),
    }
}

fn masked(mask: Option<&FieldMask>) -> Refused<Vec<&'static str>> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Err(Refusal::field("update_mask", "is required"));
    }
    if paths == ["*"] {
        return Ok(FIELDS.to_vec());
    }
    let field = |path: &String| {
        FIELDS.into_iter().find(|field| field == path).ok_or_else(|| {
            Refusal::field("update_mask", format!("`{}` cannot be updated", text::excerpt(path)))
                .help(format!("Name any of {}.", FIELDS.join(", ")))
        })
    };
    paths.iter().map(field).collect()
}

fn known(asked: &proto::Office) -> Refused<()> {
    let known = OfficeExistence::try_from(asked.existence).is_ok() && OfficeSeat::try_from(asked.seat).is_ok();
    if known { Ok(()) } else { Err(Refusal::field("office", "holds a value that is not known").under("CT-5")) }
}

fn validate(office: &Office) -> Refused<()> {
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
    let empty = office.seat == OfficeSeat::Unspecified
        && office.staff_count.is_none()
        && office.languages.is_empty()
        && office.contact.is_empty();
    if office.existence == OfficeExistence::None && !empty {
        return Err(Refusal::rule("CT-5", "an office that is not there has no seat, staff, languages or contact")
            .missing("office.existence", "says that there is none")
            .help("Say that it exists, or clear the other fields in the same update."));
    }
    Ok(())
}

#[cfg(test)]
#[path = "office/tests.rs"]
mod tests;
