//! Views: the rows by which records are found. They are written with the change, and can be made again from the journal.

use crate::{
    bulk::{Writes, among},
    connection::Connection,
    store::StoreError,
};
use async_trait::async_trait;
use hansa_kernel::{RecordName, Refused};
use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    IntoActiveModel, Iterable, QueryFilter, QueryOrder, QuerySelect, Value,
};
use std::{any::Any, collections::HashMap, marker::PhantomData};
use uuid::Uuid;

/// Which rows a record has in one table. `State` is a record's state, or a mirror's.
pub trait View: Send + Sync + 'static {
    /// The state that the rows are made of.
    type State: Send + Sync + 'static;
    /// The table.
    type Entity: EntityTrait<Model: IntoActiveModel<Self::Row> + Send>;
    /// The rows.
    type Row: ActiveModelTrait<Entity = Self::Entity> + ActiveModelBehavior + PartialEq + Send;

    /// Whether a record has at most one row, with the record as its whole key: such rows are overwritten, others are
    /// deleted and written anew.
    const ONE_ROW: bool = true;

    /// The column that names the record.
    fn record_column() -> <Self::Entity as EntityTrait>::Column;

    /// The rows of a record in this state; none where it is not to be found here.
    fn rows(record: Uuid, state: &Self::State) -> Vec<Self::Row>;
}

/// The usual view: one row a record, in a table that is keyed by it. It makes the entity (`Model`, `Column` and the like) and
/// the [`View`] in the module where it stands, which has `sea_orm::entity::prelude` in scope.
///
/// ```text
/// view! {
///     /// Networks by name.
///     "networks" Networks of Network as |record, network| {
///         /// Its name in lower case.
///         sort_name: String = network.display_name().to_lowercase(),
///     }
/// }
/// ```
#[macro_export]
macro_rules! view {
    ($(#[$doc:meta])* $table:literal $view:ident of $state:ty as |$record:ident, $of:ident| {
        $($(#[$about:meta])* $column:ident: $type:ty = $value:expr,)*
    }) => {
        /// One row.
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
        #[sea_orm(table_name = $table)]
        pub struct Model {
            /// The record.
            #[sea_orm(primary_key, auto_increment = false)]
            pub record: Uuid,
            $($(#[$about])* pub $column: $type,)*
        }

        /// None.
        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}
        impl ActiveModelBehavior for ActiveModel {}

        $(#[$doc])*
        #[derive(Debug)]
        pub struct $view;

        impl $crate::View for $view {
            type State = $state;
            type Entity = Entity;
            type Row = ActiveModel;

            fn record_column() -> Column {
                Column::Record
            }

            fn rows($record: Uuid, $of: &$state) -> Vec<ActiveModel> {
                vec![ActiveModel {
                    $($column: ::sea_orm::ActiveValue::Set($value),)*
                    record: ::sea_orm::ActiveValue::Set($record),
                }]
            }
        }
    };
}

/// A view without its types: the journal keeps a list of them.
#[async_trait]
pub(crate) trait AnyView: Send + Sync {
    /// Collects the rows of one transaction.
    fn collector(&self) -> Box<dyn Collector>;
    /// All rows of records, as they are stored, in a form that can be compared.
    async fn stored(&self, db: &DatabaseTransaction, records: &[Uuid]) -> Result<Vec<String>, StoreError>;
    /// All rows of records after one and up to another.
    async fn stored_between(&self, db: &Connection, after: Uuid, last: Uuid) -> Result<Box<dyn Stored>, StoreError>;
    /// The table's name.
    fn table(&self) -> String;
}

/// Rows as they are stored, to be compared.
pub(crate) trait Stored: Send {
    /// Whether a record's rows are those of this state; none of one that is deleted.
    fn is_of(&self, record: Uuid, state: Option<&(dyn Any + Send + Sync)>) -> bool;
}

struct StoredOf<V: View>(HashMap<Uuid, Vec<Vec<Value>>>, PhantomData<fn() -> V>);

/// A row's values, in the order of its columns.
fn values<V: View>(row: &V::Row) -> Vec<Value> {
    let column = |column| row.get(column).into_value().unwrap_or(Value::Bool(None));
    <V::Entity as EntityTrait>::Column::iter().map(column).collect()
}

impl<V: View> Stored for StoredOf<V> {
    fn is_of(&self, record: Uuid, state: Option<&(dyn Any + Send + Sync)>) -> bool {
        let wanted = state.map(|state| rows::<V>(record, state)).unwrap_or_default();
        let found = self.0.get(&record).map_or(&[][..], Vec::as_slice);
        found.len() == wanted.len() && wanted.iter().all(|row| found.contains(&values::<V>(row)))
    }
}

/// What a record was before.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// It was not there.
    Nothing,
    /// It may have rows, and nobody knows which.
    Unknown,
    /// It was in this state, and its rows are of that.
    State(&'a (dyn Any + Send + Sync)),
}

/// The rows of one transaction in one table.
pub(crate) trait Collector: Send {
    /// Adds a record's rows where they are others than before.
    fn add(&mut self, record: Uuid, before: Before<'_>, state: &(dyn Any + Send + Sync));
    /// Takes a record's rows away.
    fn remove(&mut self, record: Uuid);
    /// Hands them over to be written.
    fn write(self: Box<Self>, writes: &mut Writes);
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
            .filter(among(db.get_database_backend(), V::record_column(), records.iter().copied()))
            .order_by_asc(V::record_column())
            .all(db)
            .await?;
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort_unstable();
        Ok(rows)
    }

    async fn stored_between(&self, db: &Connection, after: Uuid, last: Uuid) -> Result<Box<dyn Stored>, StoreError> {
        let column = V::record_column();
        let query = V::Entity::find().filter(column.gt(after)).filter(column.lte(last));
        let mut found: HashMap<Uuid, Vec<Vec<Value>>> = HashMap::new();
        for row in query.all(db).await? {
            let row = row.into_active_model();
            if let Some(Value::Uuid(Some(record))) = row.get(column).into_value() {
                found.entry(record).or_default().push(values::<V>(&row));
            }
        }
        Ok(Box::new(StoredOf::<V>(found, PhantomData)))
    }

    fn table(&self) -> String {
        sea_orm::EntityName::table_name(&V::Entity::default()).to_owned()
    }
}

fn rows<V: View>(record: Uuid, state: &(dyn Any + Send + Sync)) -> Vec<V::Row> {
    V::rows(record, state.downcast_ref::<V::State>().expect("a view is asked for its own kind of state alone"))
}

impl<V: View> Collector for Rows<V> {
    fn add(&mut self, record: Uuid, before: Before<'_>, state: &(dyn Any + Send + Sync)) {
        let now = rows::<V>(record, state);
        let may_have_some = match before {
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
        if may_have_some && (!V::ONE_ROW || now.is_empty()) {
            self.stale.push(record);
        }
        self.rows.extend(now);
    }

    fn remove(&mut self, record: Uuid) {
        self.stale.push(record);
    }

    fn write(self: Box<Self>, writes: &mut Writes) {
        writes.delete(V::record_column(), &self.stale);
        if V::ONE_ROW {
            writes.upsert(self.rows);
        } else {
            writes.insert(self.rows);
        }
    }
}

/// What a list's caller may leave out.
pub trait Asked: QueryFilter + Sized {
    /// Only rows with this number; all where it is 0, as an enum is that is not stated.
    #[must_use]
    fn where_stated(self, column: impl ColumnTrait, number: i32) -> Self {
        if number == 0 { self } else { self.filter(column.eq(number)) }
    }

    /// Only rows of the record that a field names; all where it is empty.
    ///
    /// # Errors
    /// INVALID_FIELD where it is no name of the collection.
    fn where_named(self, column: impl ColumnTrait, collection: &str, (field, name): (&str, &str)) -> Refused<Self> {
        if name.is_empty() {
            return Ok(self);
        }
        Ok(self.filter(column.eq(RecordName::parse(name, collection, field)?.id.0)))
    }
}

impl<E: EntityTrait> Asked for sea_orm::Select<E> {}

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
    db: &Connection,
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
