//! Many rows in one statement. On PostgreSQL each column is one array, so that the statement is the same whatever the
//! number of rows: the server prepares it once. Elsewhere, and for rows that arrays cannot carry, it is a list of values.

use crate::{limits::BIND_VARIABLES, store::StoreError};
use sea_orm::{
    ActiveModelTrait, ActiveValue, ConnectionTrait, DbBackend, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn,
    Statement, Value,
    sea_query::{ArrayType, OnConflict},
};

/// Inserts rows.
pub(crate) async fn insert<E, A>(db: &impl ConnectionTrait, rows: Vec<A>) -> Result<(), StoreError>
where
    E: EntityTrait,
    A: ActiveModelTrait<Entity = E> + Send,
{
    write(db, rows, None).await
}

/// Inserts rows, or overwrites those of the same key.
pub(crate) async fn upsert<E, A>(db: &impl ConnectionTrait, rows: Vec<A>) -> Result<(), StoreError>
where
    E: EntityTrait,
    A: ActiveModelTrait<Entity = E> + Send,
{
    let keys: Vec<E::Column> = E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect();
    write(db, rows, Some(keys)).await
}

async fn write<E, A>(db: &impl ConnectionTrait, rows: Vec<A>, keys: Option<Vec<E::Column>>) -> Result<(), StoreError>
where
    E: EntityTrait,
    A: ActiveModelTrait<Entity = E> + Send,
{
    if rows.is_empty() {
        return Ok(());
    }
    if db.get_database_backend() == DbBackend::Postgres
        && let Some(statement) = arrays(&rows, keys.as_deref())
    {
        return db.execute_raw(statement).await.map(drop);
    }
    let conflict = keys.map(|keys| {
        let others: Vec<E::Column> = E::Column::iter().filter(|column| !is_one_of(column, &keys)).collect();
        OnConflict::columns(keys).update_columns(others).to_owned()
    });
    for chunk in chunks(rows, E::Column::iter().count()) {
        let insert = E::insert_many(chunk);
        match &conflict {
            Some(conflict) => insert.on_conflict(conflict.clone()).exec_without_returning(db).await?,
            None => insert.exec_without_returning(db).await?,
        };
    }
    Ok(())
}

fn is_one_of<C: IdenStatic>(column: &C, keys: &[C]) -> bool {
    keys.iter().any(|key| key.as_str() == column.as_str())
}

/// The rows as a statement with an array a column; `None` where a column has values that no array takes, or some rows
/// have one where others have none.
fn arrays<E, A>(rows: &[A], keys: Option<&[E::Column]>) -> Option<Statement>
where
    E: EntityTrait,
    A: ActiveModelTrait<Entity = E>,
{
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for column in E::Column::iter() {
        let cells: Vec<Value> = rows.iter().filter_map(|row| set(row.get(column))).collect();
        // Not set anywhere: the column's default, which is NULL for those that may be NULL.
        if cells.is_empty() {
            continue;
        }
        let kind = kind(&cells[0])?;
        if cells.len() < rows.len() || cells.iter().any(|cell| self::kind(cell) != Some(kind.clone())) {
            return None;
        }
        names.push(format!("\"{}\"", column.as_str()));
        values.push(Value::Array(kind, Some(Box::new(cells))));
    }
    let table = E::default();
    let columns = names.join(", ");
    let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
    let mut sql =
        format!("INSERT INTO \"{}\" ({columns}) SELECT * FROM UNNEST({})", table.table_name(), places.join(", "));
    if let Some(keys) = keys {
        let list = |columns: Vec<E::Column>, shown: fn(&str) -> String| {
            columns.iter().map(|column| shown(column.as_str())).collect::<Vec<_>>().join(", ")
        };
        let others: Vec<E::Column> = E::Column::iter().filter(|column| !is_one_of(column, keys)).collect();
        let keys = list(keys.to_vec(), |name| format!("\"{name}\""));
        let then = match others.is_empty() {
            true => "NOTHING".to_owned(),
            false => format!("UPDATE SET {}", list(others, |name| format!("\"{name}\" = excluded.\"{name}\""))),
        };
        sql += &format!(" ON CONFLICT ({keys}) DO {then}");
    }
    Some(Statement::from_sql_and_values(DbBackend::Postgres, sql, values))
}

/// A value that is there; NULL counts as none.
fn set(value: ActiveValue<Value>) -> Option<Value> {
    match value {
        ActiveValue::Set(value) | ActiveValue::Unchanged(value) if value != value.as_null() => Some(value),
        _ => None,
    }
}

/// The kinds of value of which arrays are made here.
fn kind(value: &Value) -> Option<ArrayType> {
    Some(match value {
        Value::Bool(_) => ArrayType::Bool,
        Value::Int(_) => ArrayType::Int,
        Value::BigInt(_) => ArrayType::BigInt,
        Value::String(_) => ArrayType::String,
        Value::Bytes(_) => ArrayType::Bytes,
        Value::Uuid(_) => ArrayType::Uuid,
        _ => return None,
    })
}

fn chunks<A>(mut rows: Vec<A>, columns: usize) -> Vec<Vec<A>> {
    let size = (BIND_VARIABLES / columns.max(1)).max(1);
    let mut out = Vec::new();
    while rows.len() > size {
        let rest = rows.split_off(size);
        out.push(std::mem::replace(&mut rows, rest));
    }
    if !rows.is_empty() {
        out.push(rows);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tables::record;
    use sea_orm::Set;
    use uuid::Uuid;

    #[test]
    fn no_statement_binds_more_than_the_engine_takes() {
        let sizes: Vec<usize> = chunks(vec![(); 25_000], 10).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3_000; 8].into_iter().chain([1_000]).collect::<Vec<_>>());
        assert!(chunks(Vec::<()>::new(), 3).is_empty());
    }

    fn row(number: u128, frozen: Option<&str>) -> record::ActiveModel {
        record::ActiveModel {
            record: Set(Uuid::from_u128(number)),
            name: Set(format!("cities/{number}")),
            version: Set(1),
            head: Set(vec![1]),
            revision: Set(1),
            state: Set(vec![2]),
            due_at: Set(None),
            frozen: Set(frozen.map(str::to_owned)),
        }
    }

    #[test]
    fn one_statement_stands_for_any_number_of_rows() {
        let of = |rows: &[record::ActiveModel]| arrays(rows, Some(&[record::Column::Record])).map(|s| s.sql);
        let one = of(&[row(1, None)]).unwrap();
        assert_eq!(one, of(&[row(1, None), row(2, None)]).unwrap());
        assert!(one.ends_with("\"due_at\" = excluded.\"due_at\", \"frozen\" = excluded.\"frozen\""), "{one}");
        assert_ne!(one, of(&[row(1, Some("why"))]).unwrap());
        assert_eq!(of(&[row(1, Some("why")), row(2, None)]), None, "NULL beside a value goes another way");
    }
}
