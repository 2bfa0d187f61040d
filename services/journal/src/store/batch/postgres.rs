//! The PostgreSQL form of a batch: arrays of values, statements combined by `WITH`, and the fence.

use super::insert::{Column, OnConflict, insert, put, put_list, put_names};
use sea_orm::ActiveModelTrait;

/// The condition that the fencing token still has the expected value.
pub(super) const FENCED: &str = " WHERE EXISTS (SELECT FROM turn)";

/// Builds the statement that inserts rows whose columns are bound as arrays, numbered from `first`.
pub(super) fn insert_arrays<A: ActiveModelTrait>(
    columns: &[Column],
    first: usize,
    condition: &str,
    on_conflict: OnConflict<'_>,
) -> String {
    insert::<A>(columns, on_conflict, |sql| {
        sql.push_str("SELECT ");
        put_list(sql, columns, |sql, column| column.write_unnested(sql));
        sql.push_str(" FROM UNNEST(");
        put_list(sql, first..first + columns.len(), |sql, place| put(sql, format_args!("${place}")));
        sql.push_str(") AS given(");
        put_names(sql, columns);
        sql.push(')');
        sql.push_str(condition);
    })
}

/// Combines statements into one, the first as the main statement and the others as its `WITH` queries.
///
/// PostgreSQL does not specify in which order it runs them, and nothing depends on it for correctness: unique keys decide
/// conflicts, and a deadlock is a conflict too. Today it runs the main statement first and then the others from last to first.
/// The text follows that order, so that replicas lock the rows of `records` first and by id, and deadlocks stay rare.
pub(super) fn combine(mut statements: Vec<String>) -> Option<String> {
    if statements.len() < 2 {
        return statements.pop();
    }
    let main = statements.remove(0);
    let others: Vec<String> =
        statements.iter().enumerate().rev().map(|(at, text)| format!("also{at} AS ({text})")).collect();
    Some(format!("WITH {} {main}", others.join(", ")))
}

/// Combines statements below a fence: they write only if the token, whose name and expected value are the last two of
/// `values` bound values, has not moved. `returning` is the statement whose rows are the result, and their columns.
pub(super) fn fenced(mut statements: Vec<String>, values: usize, returning: Option<(usize, &'static str)>) -> String {
    let turn = format!(
        "turn AS (UPDATE cursors SET position = position + 1 WHERE subscription = ${} AND position = ${values} \
         RETURNING position)",
        values - 1
    );
    let main = match returning {
        Some((index, columns)) => format!("SELECT {columns} FROM turn LEFT JOIN also{index} ON TRUE"),
        None => "SELECT position FROM turn".to_owned(),
    };
    statements.insert(0, main.clone());
    match combine(statements) {
        Some(sql) if sql.starts_with("WITH ") => sql.replacen("WITH ", &format!("WITH {turn}, "), 1),
        _ => format!("WITH {turn} {main}"),
    }
}
