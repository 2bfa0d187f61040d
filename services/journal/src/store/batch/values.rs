//! The form of a batch that binds rows as lists of values: SQLite's, and PostgreSQL's for values that arrays cannot hold.

use super::insert::{Column, OnConflict, insert, put, put_list};
use crate::limits::BIND_VARIABLES;
use sea_orm::{ActiveModelTrait, DbBackend, Statement, Value};

/// Builds the statements that insert `rows` rows, each with as many rows as the engine can bind.
pub(super) fn insert_values<A: ActiveModelTrait>(
    engine: DbBackend,
    mut columns: Vec<Column>,
    rows: usize,
    on_conflict: OnConflict<'_>,
) -> Vec<Statement> {
    let width = columns.len();
    let size = (BIND_VARIABLES / width.max(1)).max(1);
    let mut statements = Vec::new();
    for from in (0..rows).step_by(size) {
        let chunk = from..(from + size).min(rows);
        let sql = insert::<A>(&columns, on_conflict, |sql| {
            sql.push_str("VALUES ");
            put_list(sql, 0..chunk.len(), |sql, row| {
                sql.push('(');
                put_list(sql, 1..=width, |sql, column| match engine {
                    DbBackend::Postgres => put(sql, format_args!("${}", row * width + column)),
                    _ => sql.push('?'),
                });
                sql.push(')');
            });
        });
        let mut values = Vec::with_capacity(chunk.len() * width);
        for row in chunk {
            values
                .extend(columns.iter_mut().map(|column| std::mem::replace(&mut column.cells[row], Value::Bool(None))));
        }
        statements.push(Statement::from_sql_and_values(engine, sql, values));
    }
    statements
}
