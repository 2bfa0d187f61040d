//! Batched SQL: many rows of several tables in as few statements as possible.
//!
//! On PostgreSQL every column of a table is bound as one array ([`postgres`]). The text of a statement thus does not depend on
//! the number of rows, the server prepares it once, and the statements of all tables are combined into one round trip. On
//! SQLite, and for rows that do not fit into arrays, rows are bound as lists of values ([`values`]).

mod insert;
mod postgres;
mod values;

use crate::store::error::StoreError;
use insert::{Column, OnConflict, columns};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, IdenStatic, QueryResult, Statement, Value,
    sea_query::{Expr, ExprTrait, extension::postgres::PgFunc},
};
use uuid::Uuid;

/// Builds the condition that a column equals one of some ids.
///
/// On PostgreSQL the ids are bound as one array, so that the text does not depend on their number. A single id is compared
/// with `=`, because PostgreSQL caches the plan of that and plans a list anew each time.
pub fn is_any_of<C: ColumnTrait>(engine: DbBackend, column: C, ids: impl IntoIterator<Item = Uuid>) -> Expr {
    let ids = Vec::from_iter(ids);
    match (engine, ids.as_slice()) {
        (_, [id]) => Expr::col(column.as_column_ref()).eq(*id),
        (DbBackend::Postgres, _) => Expr::col(column.as_column_ref()).eq(PgFunc::any(ids)),
        _ => column.is_in(ids),
    }
}

/// The columns of a row's table.
type ColumnOf<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;

/// The rows that one unit of work writes. Each table is written by one statement, the table that was added first comes first.
pub(crate) struct SqlBatch {
    engine: DbBackend,
    /// Statements that run on their own, before `combined`.
    separate: Vec<Statement>,
    /// One statement per table; their placeholders number `values` consecutively.
    combined: Vec<String>,
    values: Vec<Value>,
    /// The condition under which each row is written: empty, or the fence (`run_fenced`).
    condition: &'static str,
    /// The statement of `combined` whose rows `run_fenced` returns, and their columns.
    returning: Option<(usize, &'static str)>,
}

impl SqlBatch {
    /// Creates an empty batch.
    pub(crate) fn new(engine: DbBackend) -> Self {
        Self { engine, separate: Vec::new(), combined: Vec::new(), values: Vec::new(), condition: "", returning: None }
    }

    /// Creates an empty batch for `run_fenced`.
    pub(crate) fn fenced(engine: DbBackend) -> Self {
        Self { condition: postgres::FENCED, ..Self::new(engine) }
    }

    /// Inserts rows. The statement fails if a key exists.
    pub(crate) fn insert<A: ActiveModelTrait>(&mut self, rows: Vec<A>) {
        self.add(rows, OnConflict::Fail);
    }

    /// Inserts rows and overwrites those whose key exists.
    pub(crate) fn upsert<A: ActiveModelTrait>(&mut self, rows: Vec<A>) {
        self.add(rows, OnConflict::Overwrite(None));
    }

    /// Like `upsert`, but sets one column of an existing row to the SQL expression `text`.
    pub(crate) fn upsert_with<A: ActiveModelTrait>(&mut self, rows: Vec<A>, (column, text): (ColumnOf<A>, &str)) {
        self.add(rows, OnConflict::Overwrite(Some((IdenStatic::as_str(&column), text))));
    }

    /// Inserts rows; `clause` is the SQL after `ON CONFLICT` for those whose key exists.
    pub(crate) fn insert_or<A: ActiveModelTrait>(&mut self, rows: Vec<A>, clause: &str) {
        self.add(rows, OnConflict::Clause(clause));
    }

    /// Like `insert_or`; `run_fenced` then returns these columns of the rows as written.
    pub(crate) fn insert_or_returning<A: ActiveModelTrait>(
        &mut self,
        rows: Vec<A>,
        clause: &str,
        columns: &'static str,
    ) {
        let index = self.combined.len();
        self.insert_or(rows, clause);
        if let Some(text) = self.combined.get_mut(index).filter(|_| self.condition == postgres::FENCED) {
            text.push_str(&format!(" RETURNING {columns}"));
            self.returning = Some((index, columns));
        }
    }

    /// Upserts one row by a statement of its own, because the batch may write other rows of the same table.
    pub(crate) fn upsert_separately<A: ActiveModelTrait>(&mut self, row: A) {
        self.add_values::<A>(columns(vec![row]), 1, OnConflict::Overwrite(None));
    }

    /// Deletes the rows of some records. Deletions run before insertions.
    pub(crate) fn delete<C: ColumnTrait>(&mut self, column: C, ids: &[Uuid]) {
        if !ids.is_empty() {
            let table = <C::EntityName as Default>::default();
            let mut query = sea_orm::sea_query::Query::delete();
            query.from_table(sea_orm::EntityName::table_ref(&table)).and_where(is_any_of(
                self.engine,
                column,
                ids.iter().copied(),
            ));
            self.separate.push(self.engine.build(&query));
        }
    }

    /// Returns whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.separate.is_empty() && self.combined.is_empty()
    }

    /// Returns whether one statement writes everything, so that no transaction is needed.
    pub(crate) fn is_single_statement(&self) -> bool {
        self.separate.is_empty() && self.engine == DbBackend::Postgres
    }

    /// Writes the rows.
    pub(crate) async fn run(self, db: &impl ConnectionTrait) -> Result<(), StoreError> {
        for statement in self.separate {
            db.execute_raw(statement).await?;
        }
        if let Some(sql) = postgres::combine(self.combined) {
            db.execute_raw(Statement::from_sql_and_values(self.engine, sql, self.values)).await?;
        }
        Ok(())
    }

    /// Writes the rows by one statement, on condition that the fencing token `name` still has the value `fence`, and increments
    /// it. Returns `None` without writing if the token has moved: another replica has written since.
    ///
    /// Otherwise returns the rows that `insert_or_returning` asked for, or one row of NULLs if there are none.
    pub(crate) async fn run_fenced(
        mut self,
        db: &impl ConnectionTrait,
        name: &str,
        fence: i64,
    ) -> Result<Option<Vec<QueryResult>>, StoreError> {
        self.values.extend([name.into(), fence.into()]);
        let sql = postgres::fenced(self.combined, self.values.len(), self.returning);
        let rows = db.query_all_raw(Statement::from_sql_and_values(self.engine, sql, self.values)).await?;
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }

    fn add<A: ActiveModelTrait>(&mut self, rows: Vec<A>, on_conflict: OnConflict<'_>) {
        let count = rows.len();
        let columns = columns(rows);
        if columns.is_empty() {
            return;
        }
        if self.engine != DbBackend::Postgres || !columns.iter().all(Column::fits_array) {
            return self.add_values::<A>(columns, count, on_conflict);
        }
        let first = self.values.len() + 1;
        self.combined.push(postgres::insert_arrays::<A>(&columns, first, self.condition, on_conflict));
        self.values.extend(columns.into_iter().map(Column::into_array));
    }

    fn add_values<A: ActiveModelTrait>(&mut self, columns: Vec<Column>, rows: usize, on_conflict: OnConflict<'_>) {
        self.separate.extend(values::insert_values::<A>(self.engine, columns, rows, on_conflict));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tables::{cursor, record};
    use sea_orm::Set;

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

    fn upserts(engine: DbBackend, rows: &[record::ActiveModel]) -> SqlBatch {
        let mut batch = SqlBatch::new(engine);
        batch.upsert(rows.to_vec());
        batch
    }

    #[test]
    fn no_statement_binds_more_than_the_engine_takes() {
        let rows: Vec<record::ActiveModel> = (0..10_000).map(|number| row(number, None)).collect();
        let batch = upserts(DbBackend::Sqlite, &rows);
        let bound: Vec<usize> = batch.separate.iter().map(|s| s.values.as_ref().unwrap().0.len()).collect();
        assert_eq!(bound, [30_000, 30_000, 20_000]);
        assert!(upserts(DbBackend::Sqlite, &[]).separate.is_empty());
    }

    #[test]
    fn one_statement_serves_any_number_of_rows() {
        let of = |rows: &[record::ActiveModel]| {
            let batch = upserts(DbBackend::Postgres, rows);
            assert!(batch.is_single_statement() && batch.values.len() == 8);
            batch.combined
        };
        let one = of(&[row(1, None)]);
        assert_eq!(one, of(&[row(1, None), row(2, None)]));
        assert_eq!(one, of(&[row(1, Some("why")), row(2, None)]), "with NULL and without");
        assert!(one[0].contains("NULLIF(\"frozen\", '')"), "{one:?}");
        assert!(one[0].ends_with("\"due_at\" = excluded.\"due_at\", \"frozen\" = excluded.\"frozen\""), "{one:?}");
    }

    #[test]
    fn the_placeholder_of_null_is_never_a_value() {
        let batch = upserts(DbBackend::Postgres, &[row(1, Some("")), row(2, None)]);
        assert!(!batch.is_single_statement() && batch.combined.is_empty());
        assert_eq!(batch.separate.len(), 1);
    }

    #[test]
    fn several_tables_are_one_statement() {
        let mut batch = upserts(DbBackend::Postgres, &[row(1, None)]);
        let cursor = cursor::ActiveModel { subscription: Set("s".into()), position: Set(1) };
        batch.insert(vec![cursor]);
        let sql = postgres::combine(batch.combined).unwrap();
        let (also, main) = sql.split_once(") INSERT INTO \"records\"").unwrap();
        assert!(
            also.starts_with("WITH also0 AS (INSERT INTO \"cursors\"") && also.contains("UNNEST($9, $10)"),
            "{also}"
        );
        assert!(main.contains("UNNEST($1, $2"), "{main}");
    }
}
