//! Views: the rows by which records are found. They are written with the change, and can be made again from the journal.

use crate::store::{StoreError, insert, upsert};
use async_trait::async_trait;
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use std::any::Any;
use std::marker::PhantomData;
use uuid::Uuid;

/// Which rows a record has in one table. `State` is a record's state, or a mirror's.
pub trait View: Send + Sync + 'static {
    /// The state that the rows are made of.
    type State: Send + Sync + 'static;
    /// The table.
    type Entity: EntityTrait;
    /// The rows.
    type Row: ActiveModelTrait<Entity = Self::Entity> + ActiveModelBehavior + Send;

    /// Whether a record has at most one row, with the record as its whole key: such rows are overwritten, others are
    /// deleted and written anew.
    const ONE_ROW: bool = true;

    /// The column that names the record.
    fn record_column() -> <Self::Entity as EntityTrait>::Column;

    /// The rows of a record in this state; none where it is not to be found here.
    fn rows(record: Uuid, state: &Self::State) -> Vec<Self::Row>;
}

/// A view without its types: the journal keeps a list of them.
#[async_trait]
pub(crate) trait AnyView: Send + Sync {
    /// Collects the rows of one transaction.
    fn collector(&self) -> Box<dyn Collector>;
    /// All rows of records, as they are stored, in a form that can be compared.
    async fn stored(&self, db: &DatabaseTransaction, records: &[Uuid]) -> Result<Vec<String>, StoreError>;
    /// The table's name.
    fn table(&self) -> String;
}

/// The rows of one transaction in one table.
#[async_trait]
pub(crate) trait Collector: Send {
    /// Adds a record's rows; `existed` says whether it may have older ones.
    fn add(&mut self, record: Uuid, state: &(dyn Any + Send + Sync), existed: bool);
    /// Takes a record's rows away.
    fn remove(&mut self, record: Uuid);
    /// Writes them.
    async fn write(self: Box<Self>, db: &DatabaseTransaction) -> Result<(), StoreError>;
}

pub(crate) struct ViewOf<V>(pub PhantomData<fn() -> V>);

struct Rows<V: View> {
    rows: Vec<V::Row>,
    stale: Vec<Uuid>,
}

#[async_trait]
impl<V: View> AnyView for ViewOf<V> {
    fn collector(&self) -> Box<dyn Collector> {
        Box::new(Rows::<V> { rows: Vec::new(), stale: Vec::new() })
    }

    async fn stored(&self, db: &DatabaseTransaction, records: &[Uuid]) -> Result<Vec<String>, StoreError> {
        let rows = V::Entity::find()
            .filter(V::record_column().is_in(records.iter().copied()))
            .order_by_asc(V::record_column())
            .all(db)
            .await?;
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort_unstable();
        Ok(rows)
    }

    fn table(&self) -> String {
        sea_orm::EntityName::table_name(&V::Entity::default()).to_owned()
    }
}

#[async_trait]
impl<V: View> Collector for Rows<V> {
    fn add(&mut self, record: Uuid, state: &(dyn Any + Send + Sync), existed: bool) {
        let state = state.downcast_ref::<V::State>().expect("a view is asked for its own kind of state alone");
        let rows = V::rows(record, state);
        if existed && (!V::ONE_ROW || rows.is_empty()) {
            self.stale.push(record);
        }
        self.rows.extend(rows);
    }

    fn remove(&mut self, record: Uuid) {
        self.stale.push(record);
    }

    async fn write(self: Box<Self>, db: &DatabaseTransaction) -> Result<(), StoreError> {
        if !self.stale.is_empty() {
            V::Entity::delete_many().filter(V::record_column().is_in(self.stale)).exec(db).await?;
        }
        if V::ONE_ROW {
            upsert::<V::Entity, _>(db, self.rows).await
        } else {
            insert::<V::Entity, _>(db, self.rows).await
        }
    }
}

/// A page of records that a view found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The records, in the order of the list.
    pub ids: Vec<Uuid>,
    /// The sort keys of the last one, where there is more.
    pub next: Option<Vec<String>>,
}

/// Reads a page of a view by its keys: rows after `after`, ordered by `sort` and then by the record.
///
/// # Errors
/// INVALID_FIELD where `after` is no pair of keys; where the database is away.
pub async fn keyset<E: EntityTrait>(
    db: &sea_orm::DatabaseConnection,
    query: sea_orm::Select<E>,
    (sort, record): (E::Column, E::Column),
    after: Option<&[String]>,
    size: u64,
) -> Result<Found, hansa_kernel::Refusal> {
    let mut query = query;
    if let Some(keys) = after {
        let (key, id) = match keys {
            [key, id] => Uuid::try_parse(id).ok().map(|id| (key.clone(), id)),
            _ => None,
        }
        .ok_or_else(|| hansa_kernel::Refusal::field("page_token", "is not from this list"))?;
        query = query.filter(
            sea_orm::Condition::any()
                .add(sort.gt(key.clone()))
                .add(sea_orm::Condition::all().add(sort.eq(key)).add(record.gt(id))),
        );
    }
    let mut rows: Vec<(String, Uuid)> = query
        .select_only()
        .columns([sort, record])
        .order_by_asc(sort)
        .order_by_asc(record)
        .limit(size + 1)
        .into_tuple()
        .all(db)
        .await
        .map_err(|error| crate::store::storage(&error))?;
    let more = rows.len() as u64 > size;
    rows.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|(key, id)| vec![key.clone(), id.to_string()]);
    Ok(Found { ids: rows.into_iter().map(|(_, id)| id).collect(), next })
}
