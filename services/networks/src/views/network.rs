//! Networks by name.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, keyset, view};
use hansa_kernel::Refusal;
use hansa_networks_domain::Network;
use hansa_proto::networks::ListNetworksRequest;
use sea_orm::entity::prelude::*;

view! {
    /// Networks by name, kind and scope.
    "networks" Networks of Network as |record, network| {
        /// Its name in lower case.
        sort_name: String = network.get().display_name.to_lowercase(),
        /// `NetworkKind`.
        kind: i32 = network.get().kind,
        /// `NetworkScope`.
        scope: i32 = network.get().scope,
    }
}

/// A page of networks, by name.
///
/// # Errors
/// Where the database is away.
pub async fn list(store: &Store, asked: &ListNetworksRequest, page: &Page) -> Result<Found, Refusal> {
    let query = Entity::find().where_stated(Column::Kind, asked.kind).where_stated(Column::Scope, asked.scope);
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
