//! Views (projections): the rows by which lists filter and sort. The writer writes them in the transaction of the change, and a
//! rebuild can make them again from the journal.

use crate::store::{
    batch::{SqlBatch, is_any_of},
    connection::Connection,
    error::{JournalError, StoreError},
};
use async_trait::async_trait;
use hansa_kernel::{RecordName, Refusal, Refused};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IdenStatic, IntoActiveModel, Iterable, ModelTrait,
    QueryFilter, QueryOrder, QuerySelect, Value,
};
use std::{any::Any, collections::HashMap, marker::PhantomData};
use uuid::Uuid;

/// A projection of record states, or of mirror states, into the rows of one table.
///
/// A view is a sea-orm entity whose table has the column `record`:
///
/// ```text
/// #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
/// #[sea_orm(table_name = "networks")]
/// pub struct Model {
///     #[sea_orm(primary_key, auto_increment = false)]
///     pub record: Uuid,
///     pub sort_name: String,
/// }
///
/// view_entity!();
///
/// impl View for Entity {
///     type State = Network;
///
///     fn rows(record: Uuid, network: &Network) -> Vec<Model> {
///         vec![Model { record, sort_name: network.display_name().to_lowercase() }]
///     }
/// }
/// ```
pub trait View: EntityTrait<Model: IntoActiveModel<<Self as EntityTrait>::ActiveModel> + PartialEq + Send> {
    /// The projected state.
    type State: Send + Sync + 'static;

    /// Whether a record has at most one row, whose key is the record alone. Such a row is overwritten; several rows are deleted
    /// and inserted again.
    const ONE_ROW: bool = true;

    /// Returns the rows of a record in this state; none if lists must not find it.
    fn rows(record: Uuid, state: &Self::State) -> Vec<Self::Model>;
}

/// Returns the column `record` of a view.
///
/// # Panics
/// If the table has no such column.
fn record_column<V: View>() -> V::Column {
    V::Column::iter().find(|column| column.as_str() == "record").expect("a view has the column `record`")
}

/// Declares what sea-orm requires of an entity without relations and hooks.
#[macro_export]
macro_rules! view_entity {
    () => {
        /// The entity has no relations.
        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}
        impl ActiveModelBehavior for ActiveModel {}
    };
}

/// A view without its types.
#[async_trait]
pub(crate) trait ErasedView: Send + Sync {
    /// Creates a collector for the rows of one batch.
    fn collector(&self) -> Box<dyn RowCollector>;
    /// Reads the stored rows of some records, in a form that can be compared.
    async fn stored(&self, db: &DatabaseTransaction, records: &[Uuid]) -> Result<Vec<String>, StoreError>;
    /// Reads the stored rows of the records after `after`, up to and including `last`.
    async fn stored_between(&self, db: &Connection, after: Uuid, last: Uuid)
    -> Result<Box<dyn StoredRows>, StoreError>;
    /// Returns the name of the table.
    fn table(&self) -> String;
}

/// Stored rows of one view, for a comparison with what they should be.
pub(crate) trait StoredRows: Send {
    /// Returns whether the stored rows of a record equal those of `state`. `None` stands for a deleted record, which has no rows.
    fn matches(&self, record: Uuid, state: Option<&(dyn Any + Send + Sync)>) -> bool;
}

struct TypedStoredRows<V: View>(HashMap<Uuid, Vec<V::Model>>);

impl<V: View> StoredRows for TypedStoredRows<V> {
    fn matches(&self, record: Uuid, state: Option<&(dyn Any + Send + Sync)>) -> bool {
        let wanted = state.map(|state| rows::<V>(record, state)).unwrap_or_default();
        let found = self.0.get(&record).map_or(&[][..], Vec::as_slice);
        found.len() == wanted.len() && wanted.iter().all(|row| found.contains(row))
    }
}

/// What the view rows of a record were made of.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// The record did not exist and has no rows.
    Nothing,
    /// The record may have any rows.
    Unknown,
    /// The rows were made of this state.
    State(&'a (dyn Any + Send + Sync)),
}

/// The rows of one batch in one table.
pub(crate) trait RowCollector: Send {
    /// Adds the rows of a record if they differ from those before.
    fn add(&mut self, record: Uuid, before: Before<'_>, state: &(dyn Any + Send + Sync));
    /// Removes the rows of a record.
    fn remove(&mut self, record: Uuid);
    /// Adds the rows to the batch.
    fn write(self: Box<Self>, batch: &mut SqlBatch);
}

/// The view `V` as an [`ErasedView`].
pub(crate) struct ViewType<V>(pub PhantomData<fn() -> V>);

struct Rows<V: View> {
    rows: Vec<V::Model>,
    stale: Vec<Uuid>,
}

#[async_trait]
impl<V: View> ErasedView for ViewType<V> {
    fn collector(&self) -> Box<dyn RowCollector> {
        Box::new(Rows::<V> { rows: Vec::new(), stale: Vec::new() })
    }

    async fn stored(&self, db: &DatabaseTransaction, records: &[Uuid]) -> Result<Vec<String>, StoreError> {
        let column = record_column::<V>();
        let rows = V::find()
            .filter(is_any_of(db.get_database_backend(), column, records.iter().copied()))
            .order_by_asc(column)
            .all(db)
            .await?;
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort_unstable();
        Ok(rows)
    }

    async fn stored_between(
        &self,
        db: &Connection,
        after: Uuid,
        last: Uuid,
    ) -> Result<Box<dyn StoredRows>, StoreError> {
        let column = record_column::<V>();
        let query = V::find().filter(column.gt(after)).filter(column.lte(last));
        let mut found: HashMap<Uuid, Vec<V::Model>> = HashMap::new();
        for row in query.all(db).await? {
            if let Value::Uuid(Some(record)) = row.get(column) {
                found.entry(record).or_default().push(row);
            }
        }
        Ok(Box::new(TypedStoredRows::<V>(found)))
    }

    fn table(&self) -> String {
        sea_orm::EntityName::table_name(&V::default()).to_owned()
    }
}

fn rows<V: View>(record: Uuid, state: &(dyn Any + Send + Sync)) -> Vec<V::Model> {
    V::rows(record, state.downcast_ref::<V::State>().expect("a view only gets states of its own record type"))
}

impl<V: View> RowCollector for Rows<V> {
    fn add(&mut self, record: Uuid, before: Before<'_>, state: &(dyn Any + Send + Sync)) {
        let now = rows::<V>(record, state);
        let may_have_rows = match before {
            Before::Nothing => false,
            Before::Unknown => true,
            Before::State(state) => {
                let old = rows::<V>(record, state);
                if old == now {
                    return;
                }
                !old.is_empty()
            }
        };
        if may_have_rows && (!V::ONE_ROW || now.is_empty()) {
            self.stale.push(record);
        }
        self.rows.extend(now);
    }

    fn remove(&mut self, record: Uuid) {
        self.stale.push(record);
    }

    fn write(self: Box<Self>, batch: &mut SqlBatch) {
        batch.delete(record_column::<V>(), &self.stale);
        let rows: Vec<V::ActiveModel> = self.rows.into_iter().map(IntoActiveModel::into_active_model).collect();
        if V::ONE_ROW {
            batch.upsert(rows);
        } else {
            batch.insert(rows);
        }
    }
}

/// Filters of a list that the caller may leave out.
pub trait FilterExt: QueryFilter + Sized {
    /// Keeps rows whose enum column has this number. Zero, the number of UNSPECIFIED, keeps all rows.
    #[must_use]
    fn filter_enum(self, column: impl ColumnTrait, number: i32) -> Self {
        if number == 0 { self } else { self.filter(column.eq(number)) }
    }

    /// Keeps rows of the record that a field of the request names. An empty name keeps all rows.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the name is not one of the collection.
    fn filter_name(self, column: impl ColumnTrait, collection: &str, (field, name): (&str, &str)) -> Refused<Self> {
        if name.is_empty() {
            return Ok(self);
        }
        Ok(self.filter(column.eq(RecordName::parse(name, collection, field)?.id.0)))
    }
}

impl<E: EntityTrait> FilterExt for sea_orm::Select<E> {}

/// A page of record ids that a view query returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOfIds {
    /// The records, in the order of the list.
    pub ids: Vec<Uuid>,
    /// The sort keys of the last record, if there are more.
    pub next: Option<Vec<String>>,
}

/// Reads a page of a view by keyset pagination: the rows after the keys `after`, ordered by `sort` and then by `record`.
///
/// # Errors
/// `INVALID_FIELD` if `after` is not a pair of keys of this list; `UNAVAILABLE` if the database is unavailable.
pub async fn keyset<E: EntityTrait>(
    db: &Connection,
    query: sea_orm::Select<E>,
    (sort, record): (E::Column, E::Column),
    after: Option<&[String]>,
    size: u64,
) -> Result<PageOfIds, JournalError> {
    let mut query = query;
    if let Some(keys) = after {
        let (key, id) = match keys {
            [key, id] => Uuid::try_parse(id).ok().map(|id| (key.clone(), id)),
            _ => None,
        }
        .ok_or_else(|| Refusal::field("page_token", "is not from this list"))?;
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
        .await?;
    let has_more = rows.len() as u64 > size;
    rows.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| has_more).map(|(key, id)| vec![key.clone(), id.to_string()]);
    Ok(PageOfIds { ids: rows.into_iter().map(|(_, id)| id).collect(), next })
}
