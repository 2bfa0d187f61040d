//! The parts of an `INSERT` that both forms of binding share: columns, the statement's head and its `ON CONFLICT` clause.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityName, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn, Value,
    sea_query::ArrayType,
};
use std::fmt::Write;
use uuid::Uuid;

/// What happens to a row whose key exists.
#[derive(Clone, Copy)]
pub(super) enum OnConflict<'a> {
    /// The statement fails.
    Fail,
    /// All columns are overwritten. The named column, if any, is set to the given SQL expression.
    Overwrite(Option<(&'a str, &'a str)>),
    /// The SQL after `ON CONFLICT`.
    Clause(&'a str),
}

/// One column of some rows.
pub(super) struct Column {
    pub name: &'static str,
    nullable: bool,
    null: Value,
    pub cells: Vec<Value>,
}

/// Collects the columns for which some row has a value or NULL. The other columns get their defaults.
pub(super) fn columns<A: ActiveModelTrait>(mut rows: Vec<A>) -> Vec<Column> {
    let mut columns = Vec::new();
    for column in <A::Entity as EntityTrait>::Column::iter() {
        let cells: Vec<Option<Value>> = rows.iter_mut().map(|row| row.take(column).into_value()).collect();
        let Some(null) = cells.iter().flatten().next().map(Value::as_null) else { continue };
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| null.clone())).collect();
        columns.push(Column { name: IdenStatic::as_str(&column), nullable: column.def().is_null(), null, cells });
    }
    columns
}

impl Column {
    /// Returns the array type of the values. For a type whose arrays the driver cannot bind with NULLs, also returns the value
    /// that represents NULL in the array, and its SQL literal.
    fn array_type(&self) -> Option<(ArrayType, Option<(Value, &'static str)>)> {
        Some(match &self.null {
            Value::Bool(_) => (ArrayType::Bool, None),
            Value::Int(_) => (ArrayType::Int, Some((i32::MIN.into(), "'-2147483648'::int"))),
            Value::BigInt(_) => (ArrayType::BigInt, Some((i64::MIN.into(), "'-9223372036854775808'::bigint"))),
            Value::String(_) => (ArrayType::String, Some((String::new().into(), "''"))),
            Value::Bytes(_) => (ArrayType::Bytes, Some((Vec::<u8>::new().into(), "''::bytea"))),
            Value::Uuid(_) => {
                (ArrayType::Uuid, Some((Uuid::nil().into(), "'00000000-0000-0000-0000-000000000000'::uuid")))
            }
            _ => return None,
        })
    }

    /// Returns whether the values can be bound as one array.
    pub(super) fn fits_array(&self) -> bool {
        match self.array_type() {
            Some((_, Some((placeholder, _)))) if self.nullable => !self.cells.contains(&placeholder),
            Some(_) => !self.cells.contains(&self.null),
            None => false,
        }
    }

    /// Converts the values into one array.
    pub(super) fn into_array(self) -> Value {
        let (array_type, placeholder) = self.array_type().unwrap_or((ArrayType::Bool, None));
        let placeholder = placeholder.map_or(Value::Bool(None), |(placeholder, _)| placeholder);
        let cell = |cell: Value| if cell == self.null { placeholder.clone() } else { cell };
        Value::Array(array_type, Some(Box::new(self.cells.into_iter().map(cell).collect())))
    }

    /// Writes the SQL that reads one value back from the unnested array.
    pub(super) fn write_unnested(&self, sql: &mut String) {
        match self.array_type() {
            Some((_, Some((_, literal)))) if self.nullable => {
                put(sql, format_args!("NULLIF(\"{}\", {literal})", self.name));
            }
            _ => put(sql, format_args!("\"{}\"", self.name)),
        }
    }
}

/// Builds the statement that inserts into a row's table what `source` writes: `SELECT` or `VALUES`.
pub(super) fn insert<A: ActiveModelTrait>(
    columns: &[Column],
    on_conflict: OnConflict<'_>,
    source: impl FnOnce(&mut String),
) -> String {
    let (table, mut sql) = (A::Entity::default(), String::with_capacity(64 + 64 * columns.len()));
    put(&mut sql, format_args!("INSERT INTO \"{}\" (", table.table_name()));
    put_names(&mut sql, columns);
    sql.push_str(") ");
    source(&mut sql);
    match on_conflict {
        OnConflict::Fail => {}
        OnConflict::Clause(clause) => put(&mut sql, format_args!(" ON CONFLICT {clause}")),
        OnConflict::Overwrite(except) => put_overwrite::<A>(&mut sql, columns, except),
    }
    sql
}

fn put_overwrite<A: ActiveModelTrait>(sql: &mut String, columns: &[Column], except: Option<(&str, &str)>) {
    let keys = || <A::Entity as EntityTrait>::PrimaryKey::iter().map(|key| IdenStatic::as_str(&key.into_column()));
    sql.push_str(" ON CONFLICT (");
    put_list(sql, keys(), |sql, key| put(sql, format_args!("\"{key}\"")));
    let mut others = columns.iter().filter(|column| keys().all(|key| key != column.name)).peekable();
    if others.peek().is_none() {
        return sql.push_str(") DO NOTHING");
    }
    sql.push_str(") DO UPDATE SET ");
    put_list(sql, others, |sql, Column { name, .. }| match except.filter(|(column, _)| column == name) {
        Some((_, text)) => put(sql, format_args!("\"{name}\" = {text}")),
        None => put(sql, format_args!("\"{name}\" = excluded.\"{name}\"")),
    });
}

pub(super) fn put(sql: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = sql.write_fmt(text);
}

/// Writes items, separated by commas.
pub(super) fn put_list<T>(sql: &mut String, items: impl IntoIterator<Item = T>, each: impl Fn(&mut String, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        each(sql, item);
    }
}

pub(super) fn put_names(sql: &mut String, columns: &[Column]) {
    put_list(sql, columns, |sql, column| put(sql, format_args!("\"{}\"", column.name)));
}
