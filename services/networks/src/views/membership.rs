//! Memberships by network and city, and by who may see them.

use hansa_chassis::page::Page;
use hansa_journal::{Asked, Found, Store, keyset, view};
use hansa_kernel::{Record, RecordName, Refusal, TenantId};
use hansa_networks_domain::Membership;
use hansa_proto::networks::{ListMembershipsRequest, MembershipState as S};
use sea_orm::{Condition, QueryFilter, entity::prelude::*};

fn id(name: &str) -> Uuid {
    RecordName::parse_any(name, "name").map(|name| name.id.0).unwrap_or_default()
}

view! {
    /// Memberships by network, city and state.
    "memberships" Memberships of Membership as |record, membership| {
        /// Its id as text.
        sort_key: String = record.to_string(),
        /// The network.
        network: Uuid = id(membership.network()),
        /// The city.
        city: Uuid = id(membership.city()),
        /// `MembershipState`.
        state: i32 = membership.state() as i32,
        /// The tenant of the network's secretariat.
        secretariat: Uuid = membership.owner().0,
        /// The city's tenant.
        member: Uuid = membership.member().0,
        /// Whether everyone sees that it is there.
        public: bool = membership.audience().public,
    }
}

/// A page of the memberships that a tenant may see.
///
/// # Errors
/// INVALID_FIELD where network or city are no names; where the database is away.
pub async fn list(
    store: &Store,
    tenant: TenantId,
    asked: &ListMembershipsRequest,
    page: &Page,
) -> Result<Found, Refusal> {
    let party = Condition::any().add(Column::Secretariat.eq(tenant.0)).add(Column::Member.eq(tenant.0));
    // That a former member has applied again is told to the two parties alone.
    let asks_who_applied = [S::Applied, S::Declined].contains(&asked.state());
    let seen = if asks_who_applied { party } else { party.add(Column::Public.eq(true)) };
    let query = Entity::find()
        .filter(seen)
        .where_named(Column::Network, "networks", ("network", &asked.network))?
        .where_named(Column::City, "cities", ("city", &asked.city))?
        .where_stated(Column::State, asked.state);
    keyset(store.reader(), query, (Column::SortKey, Column::Record), page.after.as_deref(), page.size).await
}
