//! Tenants: cities, secretariats and organizers (PL-1). The id of a tenant contains the hash of its first key.

use crate::{
    city::{self, City},
    names, rights,
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Caller, Decision, Emitted, FoldError, IntoResource, Moment, ReasonClass, Record, RecordId, RecordName,
    Refusal, Refused, Stamp, TenantId, mask, record::emit, text, time,
};
use hansa_proto::register::{
    self as proto, CreateTenantRequest, IdentityAct, IdentityEntry, KeyCustody, TenantCreated, TenantKeyRotated,
    TenantKind, TenantUpdated, UpdateTenantRequest, city_change, tenant_change::Change,
};
use serde::{Deserialize, Serialize};

/// Maximum number of entries of an identity log.
pub const IDENTITY_ENTRIES: usize = 100;

/// A tenant. Only the fold writes its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    id: TenantId,
    kind: TenantKind,
    display_name: String,
    city: Option<RecordId>,
    log: Vec<Entry>,
}

/// An entry of the identity log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    act: IdentityAct,
    key: [u8; 32],
    home: String,
    custody: KeyCustody,
    at: DateTime<Utc>,
}

impl Entry {
    fn fold(entry: &IdentityEntry) -> Result<Self, FoldError> {
        let key = entry.public_key.as_slice().try_into().map_err(|_| FoldError("a key has 32 bytes".into()))?;
        let at =
            time::instant("record_time", entry.record_time.as_ref()).map_err(|refusal| FoldError(refusal.message))?;
        Ok(Self { act: entry.act(), key, home: entry.home_node.clone(), custody: entry.key_custody(), at })
    }

    fn to_proto(&self, sequence: usize) -> IdentityEntry {
        IdentityEntry {
            sequence: i32::try_from(sequence).unwrap_or(i32::MAX),
            act: self.act as i32,
            public_key: self.key.to_vec(),
            home_node: self.home.clone(),
            key_custody: self.custody as i32,
            record_time: Some(time::timestamp(self.at)),
        }
    }
}

impl Tenant {
    /// Returns the kind of the tenant.
    #[must_use]
    pub fn kind(&self) -> TenantKind {
        self.kind
    }

    /// Returns the display name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// Returns the city that the tenant represents, if its kind is CITY.
    #[must_use]
    pub fn city(&self) -> Option<RecordId> {
        self.city
    }

    /// Returns the public key in force.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 32]> {
        self.log.last().map(|entry| entry.key)
    }

    /// Returns whether the host or the tenant holds the key in force.
    #[must_use]
    pub fn custody(&self) -> KeyCustody {
        self.log.last().map_or(KeyCustody::Unspecified, |entry| entry.custody)
    }

    fn rotated(mut self, rotated: &TenantKeyRotated) -> Result<Self, FoldError> {
        let entry = Entry::fold(&rotated.identity.clone().unwrap_or_default())?;
        if entry.act != IdentityAct::Rotated || self.log.iter().any(|before| before.key == entry.key) {
            return Err(FoldError("a rotation must name a key that the tenant has not used before".into()));
        }
        self.log.push(entry);
        Ok(self)
    }

    /// Converts the state to the resource of the contract.
    #[must_use]
    pub fn resource(&self, name: &RecordName, etag: &str) -> proto::Tenant {
        let now = self.log.last();
        proto::Tenant {
            name: name.to_string(),
            etag: etag.to_owned(),
            kind: self.kind as i32,
            display_name: self.display_name.clone(),
            city: self.city.map(names::city_name).unwrap_or_default(),
            home_node: now.map(|entry| entry.home.clone()).unwrap_or_default(),
            key_custody: now.map_or(0, |entry| entry.custody as i32),
            identity_log: self.log.iter().enumerate().map(|(i, entry)| entry.to_proto(i + 1)).collect(),
            create_time: None,
            update_time: None,
        }
    }
}

impl IntoResource for Tenant {
    type Resource = proto::Tenant;

    fn to_resource(&self, name: &RecordName, etag: &str, _: &Caller) -> proto::Tenant {
        self.resource(name, etag)
    }

    fn basic(tenant: proto::Tenant) -> proto::Tenant {
        proto::Tenant { identity_log: Vec::new(), ..tenant }
    }
}

impl Record for Tenant {
    const COLLECTION: &'static str = "tenants";
    const REVISION: u32 = 1;
    type Change = Change;

    fn fold(before: Option<Self>, change: &Change, _stamp: &Stamp) -> Result<Self, FoldError> {
        let created = match (before, change) {
            (None, Change::Created(created)) => created,
            (Some(tenant), Change::KeyRotated(rotated)) => return tenant.rotated(rotated),
            (Some(tenant), Change::Updated(updated)) => {
                return Ok(Self { display_name: updated.display_name.clone(), ..tenant });
            }
            (Some(_), Change::Created(_)) => return Err(FoldError("the tenant was already created".into())),
            (None, _) => return Err(FoldError("the first change of a tenant must be its creation".into())),
        };
        let entry = Entry::fold(&created.identity.clone().unwrap_or_default())?;
        let city = Some(created.city.as_str()).filter(|name| !name.is_empty());
        let city = city.map(|name| names::city_id("city", name)).transpose();
        Ok(Self {
            id: TenantId::from_key(&entry.key),
            kind: created.kind(),
            display_name: created.display_name.clone(),
            city: city.map_err(|refusal| FoldError(refusal.message))?,
            log: vec![entry],
        })
    }

    fn owner(&self) -> TenantId {
        self.id
    }

    fn audience(&self) -> Audience {
        Audience::default().and_public(true)
    }
}

/// The changes that create a tenant: to the tenant's record and, for a city's tenant, to the city. They are applied
/// together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    /// The id of the tenant and of its record.
    pub id: TenantId,
    /// The changes to the tenant's record.
    pub tenant: Vec<Emitted<Change>>,
    /// The changes to the city.
    pub city: Option<(RecordId, Vec<Emitted<city_change::Change>>)>,
}

/// The host's part of a new identity entry.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The public half of the key that the host generated for the tenant.
    pub public_key: &'a [u8; 32],
    /// The name of the host, `nodes/{node}`.
    pub home_node: &'a str,
}

impl Host<'_> {
    fn entry(&self, act: IdentityAct, sequence: usize, at: Moment) -> IdentityEntry {
        IdentityEntry {
            sequence: i32::try_from(sequence).unwrap_or(i32::MAX),
            act: act as i32,
            public_key: self.public_key.to_vec(),
            home_node: self.home_node.to_owned(),
            key_custody: KeyCustody::Host as i32,
            record_time: Some(time::timestamp(at.now)),
        }
    }
}

/// Returns the city that a request names.
///
/// # Errors
/// `INVALID_FIELD` if the kind is missing, if a city's tenant names no city, or if a tenant of another kind names one.
pub fn city_of(command: &CreateTenantRequest) -> Refused<Option<RecordId>> {
    let asked = command.tenant.clone().unwrap_or_default();
    match (TenantKind::try_from(asked.kind).unwrap_or_default(), asked.city.as_str()) {
        (TenantKind::Unspecified, _) => Err(Refusal::field("tenant.kind", "is required").under("PL-1")),
        (TenantKind::City, name) => names::city_id("tenant.city", name).map(Some),
        (_, "") => Ok(None),
        _ => Err(Refusal::field("tenant.city", "must be empty for this kind").under("PL-1")),
    }
}

/// Creates a tenant. `city` is the register's entry of the city that [`city_of`] returns.
///
/// # Errors
/// Refused under CT-10 if the caller is not a steward or the city has joined; under CT-11 if the city has ended;
/// under PL-1 if kind and city do not fit; under PL-4 if the display name is invalid. `NOT_FOUND` if the city is not
/// in the register.
pub fn create(
    command: &CreateTenantRequest,
    city: Option<(RecordId, &City)>,
    host: Host,
    caller: &Caller,
    at: Moment,
) -> Refused<Founding> {
    rights::steward(caller)?;
    let asked = command.tenant.clone().unwrap_or_default();
    let named = city_of(command)?;
    let id = TenantId::from_key(host.public_key);
    let city = match (named, city) {
        (None, _) => None,
        (Some(named), Some((found, city))) if named == found => Some((found, city)),
        (Some(_), _) => return Err(Refusal::not_found(asked.city)),
    };
    let default = city.map(|(_, city)| city.display_name().to_owned()).unwrap_or_default();
    let display_name = if asked.display_name.is_empty() { default } else { asked.display_name };
    text::name("tenant.display_name", &display_name)?;
    let identity = host.entry(IdentityAct::Created, 1, at);
    let city_change = city.map(|(of, city)| city::join(city, id, caller, at).map(|change| (of, change))).transpose()?;
    let created = TenantCreated { kind: asked.kind, display_name, city: asked.city, identity: Some(identity) };
    // The new tenant is the party of its own first change.
    let first = Emitted { party: Some(id), ..Emitted::new(created) };
    Ok(Founding { id, tenant: vec![first], city: city_change })
}

/// Updates the display name of a tenant.
///
/// # Errors
/// `INVALID_FIELD` if the mask names another field, or the name is empty or too long.
pub fn update(state: &Tenant, command: &UpdateTenantRequest, _: &Caller) -> Decision<Change> {
    mask::fields(command.update_mask.as_ref(), &["display_name"])?;
    let display_name = command.tenant.clone().unwrap_or_default().display_name;
    text::name("tenant.display_name", &display_name)?;
    if display_name == state.display_name { Ok(Vec::new()) } else { emit(TenantUpdated { display_name }) }
}

/// Returns the public half of the key in force.
///
/// # Errors
/// Refused under PL-5 if the host does not hold that key.
pub fn hosted_key(state: &Tenant) -> Refused<[u8; 32]> {
    state.key().filter(|_| state.custody() == KeyCustody::Host).ok_or_else(|| {
        Refusal::rule("PL-5", "KEY_NOT_HOSTED", "the host does not hold the tenant's key")
            .missing("key_custody", "is not the host's")
            .help("Ask the holder of the key to replace it.")
    })
}

/// Replaces the key that the host holds. `old` is the public half of the key that the host signs with.
///
/// # Errors
/// Refused under PL-5 if the host does not hold the key. `STALE` if the key in force is no longer `old`; `LIMIT` if the
/// identity log is full.
pub fn rotate_key(state: &Tenant, old: &[u8; 32], host: Host, at: Moment) -> Decision<Change> {
    if hosted_key(state)? != *old {
        return Err(Refusal::because(
            ReasonClass::Stale,
            "PL-4",
            "KEY_REPLACED",
            "another request has replaced the key in the meantime",
        )
        .help("Read the tenant again. Send the command again if the key must be replaced once more."));
    }
    if state.log.len() >= IDENTITY_ENTRIES {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "PL-5",
            "TOO_MANY_KEYS",
            "the key has been replaced too often",
        )
        .missing("identity_log", format!("has {IDENTITY_ENTRIES} entries"))
        .help("Keep the key in force. It cannot be replaced again."));
    }
    let identity = host.entry(IdentityAct::Rotated, state.log.len() + 1, at);
    Ok(vec![Emitted { party: Some(state.id), ..Emitted::new(TenantKeyRotated { identity: Some(identity) }) }])
}

#[cfg(test)]
#[path = "tenant/tests.rs"]
mod tests;
