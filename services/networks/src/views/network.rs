//! The view of networks, and the query that lists them.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_networks_domain::Network;
use hansa_proto::networks::ListNetworksRequest;
use sea_orm::entity::prelude::*;

/// A row of the view: one network with its name, kind and scope.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "networks")]
pub struct Model {
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The display name in lower case.
    pub sort_name: String,
    /// `NetworkKind`.
    pub kind: i32,
    /// `NetworkScope`.
    pub scope: i32,
}

view_entity!();

impl View for Entity {
    type State = Network;

    fn rows(record: Uuid, network: &Network) -> Vec<Model> {
        vec![Model {
            record,
            sort_name: network.get().display_name.to_lowercase(),
            kind: network.get().kind,
            scope: network.get().scope,
        }]
    }
}

/// Returns a page of networks, sorted by name.
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable.
pub async fn list(store: &Store, request: &ListNetworksRequest, page: &Page) -> Result<PageOfIds, JournalError> {
    let query = Entity::find().filter_enum(Column::Kind, request.kind).filter_enum(Column::Scope, request.scope);
    keyset(store.reader(), query, (Column::SortName, Column::Record), page.after.as_deref(), page.size).await
}
