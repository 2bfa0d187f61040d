//! The view of memberships, and the query that lists them.

use hansa_chassis::Page;
use hansa_journal::{FilterExt, JournalError, PageOfIds, Store, View, keyset, view_entity};
use hansa_kernel::{Record, RecordName, TenantId};
use hansa_networks_domain::Membership;
use hansa_proto::networks::{ListMembershipsRequest, MembershipState as S};
use sea_orm::{Condition, QueryFilter, entity::prelude::*};

fn id(name: &str) -> Uuid {
    RecordName::parse_any(name, "name").map(|name| name.id.0).unwrap_or_default()
}

/// A row of the view: one membership with its network, city, state and audience.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "memberships")]
pub struct Model {
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record: Uuid,
    /// The id as text.
    pub sort_key: String,
    /// The network.
    pub network: Uuid,
    /// The city.
    pub city: Uuid,
    /// `MembershipState`.
    pub state: i32,
    /// The tenant of the network's secretariat.
    pub secretariat: Uuid,
    /// The city's tenant.
    pub member: Uuid,
    /// Whether the record is public.
    pub public: bool,
}

view_entity!();

impl View for Entity {
    type State = Membership;

    fn rows(record: Uuid, membership: &Membership) -> Vec<Model> {
        vec![Model {
            record,
            sort_key: record.to_string(),
            network: id(membership.network()),
            city: id(membership.city()),
            state: membership.state() as i32,
            secretariat: membership.owner().0,
            member: membership.member().0,
            public: membership.audience().public,
        }]
    }
}

/// Returns a page of the memberships that a tenant may see.
///
/// # Errors
/// `INVALID_FIELD` if the network or the city is malformed; `UNAVAILABLE` if the database is unavailable.
pub async fn list(
    store: &Store,
    tenant: TenantId,
    request: &ListMembershipsRequest,
    page: &Page,
) -> Result<PageOfIds, JournalError> {
    let party = Condition::any().add(Column::Secretariat.eq(tenant.0)).add(Column::Member.eq(tenant.0));
    // Only the two parties may learn that a former member has applied again.
    let lists_applications = [S::Applied, S::Declined].contains(&request.state());
    let seen = if lists_applications { party } else { party.add(Column::Public.eq(true)) };
    let query = Entity::find()
        .filter(seen)
        .filter_name(Column::Network, "networks", ("network", &request.network))?
        .filter_name(Column::City, "cities", ("city", &request.city))?
        .filter_enum(Column::State, request.state);
    keyset(store.reader(), query, (Column::SortKey, Column::Record), page.after.as_deref(), page.size).await
}
