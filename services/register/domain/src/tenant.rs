//! A tenant: a city, a secretariat, an organiser (PL-1). Its id holds the hash of its first key.

use crate::{
    city::{self, City},
    names, rights,
};
use chrono::{DateTime, Utc};
use hansa_kernel::{
    Audience, Caller, Decision, Emitted, FoldError, IntoResource, Moment, Reason, Record, RecordId, RecordName,
    Refusal, Refused, Stamp, TenantId, text, time,
};
use hansa_proto::register::{
    self as proto, CreateTenantRequest, IdentityAct, IdentityEntry, KeyCustody, TenantCreated, TenantKeyRotated,
    TenantKind, city_change, tenant_change::Change,
};
use serde::{Deserialize, Serialize};

/// Most entries of an identity log.
pub const IDENTITY_ENTRIES: usize = 100;

/// A tenant. Its fields cannot be written but by the fold.
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
        let at = time::instant("time", entry.time.as_ref()).map_err(|refusal| FoldError(refusal.message))?;
        Ok(Self { act: entry.act(), key, home: entry.home_node.clone(), custody: entry.key_custody(), at })
    }

    fn to_proto(&self, sequence: usize) -> IdentityEntry {
        IdentityEntry {
            sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
            act: self.act as i32,
            public_key: self.key.to_vec(),
            home_node: self.home.clone(),
            key_custody: self.custody as i32,
            time: Some(time::timestamp(self.at)),
        }
    }
}

impl Tenant {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> TenantKind {
        self.kind
    }

    /// What it is called.
    #[must_use]
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// The city that it is.
    #[must_use]
    pub fn city(&self) -> Option<RecordId> {
        self.city
    }

    /// The key in force.
    #[must_use]
    pub fn key(&self) -> Option<[u8; 32]> {
        self.log.last().map(|entry| entry.key)
    }

    /// Who holds the key in force.
    #[must_use]
    pub fn custody(&self) -> KeyCustody {
        self.log.last().map_or(KeyCustody::Unspecified, |entry| entry.custody)
    }

    fn rotated(mut self, rotated: &TenantKeyRotated) -> Result<Self, FoldError> {
        let entry = Entry::fold(&rotated.identity.clone().unwrap_or_default())?;
        if entry.act != IdentityAct::Rotated || self.log.iter().any(|before| before.key == entry.key) {
            return Err(FoldError("a key takes the place of another once".into()));
        }
        self.log.push(entry);
        Ok(self)
    }

    /// As the contract shows it.
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
        }
    }
}

impl IntoResource for Tenant {
    type Resource = proto::Tenant;

    fn to_resource(&self, name: &RecordName, etag: &str, _: &Caller) -> proto::Tenant {
        self.resource(name, etag)
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
            (Some(_), Change::Created(_)) => return Err(FoldError("the tenant has begun before".into())),
            (None, _) => return Err(FoldError("a tenant begins with its creation".into())),
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

/// What the beginning of a tenant does: to its own record and, for a city, to the city's. Both or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    /// The tenant; its record has the same id.
    pub id: TenantId,
    /// What happens to its record.
    pub tenant: Vec<Emitted<Change>>,
    /// What happens to the city.
    pub city: Option<(RecordId, Vec<Emitted<city_change::Change>>)>,
}

/// What the host brings along for a new tenant.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The public half of the key that it made for the tenant.
    pub public_key: &'a [u8; 32],
    /// The node, `nodes/{node}`.
    pub home_node: &'a str,
}

impl Host<'_> {
    fn entry(&self, act: IdentityAct, sequence: usize, at: Moment) -> IdentityEntry {
        IdentityEntry {
            sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
            act: act as i32,
            public_key: self.public_key.to_vec(),
            home_node: self.home_node.to_owned(),
            key_custody: KeyCustody::Host as i32,
            time: Some(time::timestamp(at.now)),
        }
    }
}

/// The city that a request names.
///
/// # Errors
/// INVALID_FIELD where a city's tenant names none, or another names one.
pub fn city_of(command: &CreateTenantRequest) -> Refused<Option<RecordId>> {
    let asked = command.tenant.clone().unwrap_or_default();
    match (TenantKind::try_from(asked.kind).unwrap_or_default(), asked.city.as_str()) {
        (TenantKind::Unspecified, _) => Err(Refusal::field("tenant.kind", "is required").under("PL-1")),
        (TenantKind::City, name) => names::city_id("tenant.city", name).map(Some),
        (_, "") => Ok(None),
        _ => Err(Refusal::field("tenant.city", "must be empty for this kind").under("PL-1")),
    }
}

/// Begins a tenant. `city` is the one that `city_of` names, as the register holds it.
///
/// # Errors
/// CT-10 where the caller is no steward or the city has joined; CT-11 where the city is no more; PL-1, PL-4.
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
    // The tenant is bound by its own record from the first change on.
    let first = Emitted { party: Some(id), ..Emitted::new(created) };
    Ok(Founding { id, tenant: vec![first], city: city_change })
}

/// The public half of the key in force, where the host holds it.
///
/// # Errors
/// PL-5 where it does not.
pub fn hosted_key(state: &Tenant) -> Refused<[u8; 32]> {
    state.key().filter(|_| state.custody() == KeyCustody::Host).ok_or_else(|| {
        Refusal::rule("PL-5", "the host does not hold the tenant's key")
            .missing("key_custody", "is not the host's")
            .help("Whoever holds the key replaces it.")
    })
}

/// Replaces the key that the host holds. `old` is the public half of the one that the host signs with.
///
/// # Errors
/// PL-5 where the host does not hold the key; STALE where it was replaced meanwhile; LIMIT where it was too often.
pub fn rotate_key(state: &Tenant, old: &[u8; 32], host: Host, at: Moment) -> Decision<Change> {
    if hosted_key(state)? != *old {
        return Err(Refusal::because(Reason::Stale, "PL-4", "the key was replaced meanwhile")
            .help("Read the tenant again; send the command again where one more key is wanted."));
    }
    if state.log.len() >= IDENTITY_ENTRIES {
        return Err(Refusal::because(Reason::Limit, "PL-5", "the key was replaced too often")
            .missing("identity_log", format!("has {IDENTITY_ENTRIES} entries"))
            .help("Keep the key that stands: no other can follow it."));
    }
    let identity = host.entry(IdentityAct::Rotated, state.log.len() + 1, at);
    Ok(vec![Emitted { party: Some(state.id), ..Emitted::new(TenantKeyRotated { identity: Some(identity) }) }])
}

#[cfg(test)]
#[path = "tenant/tests.rs"]
mod tests;
