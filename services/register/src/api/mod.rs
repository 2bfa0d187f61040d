//! The gRPC methods: open the request, name the record and the rule, render the answer.

pub mod city;
pub mod country;
pub mod office;
pub mod tenant;

use hansa_chassis::{Desk, ask};
use hansa_kernel::RecordId;
use hansa_register_domain::{City, tier::Known};
use std::collections::BTreeMap;
use tonic::Status;

/// The entries of cities that a command names.
async fn cities(desk: &Desk, ids: &[RecordId]) -> Result<BTreeMap<RecordId, City>, Status> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let loaded = ask(desk.journal().load_each::<City>(&ids).await)?;
    Ok(loaded.into_iter().map(|city| (city.name.id, (*city.state).clone())).collect())
}

async fn known(desk: &Desk, ids: &[RecordId]) -> Result<Known, Status> {
    Ok(cities(desk, ids).await?.iter().map(|(id, city)| (*id, city.into())).collect())
}
