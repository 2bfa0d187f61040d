//! Many rows of several tables, written by as few statements as may be. On PostgreSQL each column is one array, so that the
//! statement is the same whatever the number of rows, and the server prepares it once; the tables' statements are one, so
//! that all of it is one round trip.

use crate::{limits::BIND_VARIABLES, store::StoreError};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, IdenStatic, Iterable,
    PrimaryKeyToColumn, QueryResult, Statement, Value,
    sea_query::{ArrayType, Expr, ExprTrait, extension::postgres::PgFunc},
};
use std::fmt::Write;
use uuid::Uuid;

/// That a column holds one of these. On PostgreSQL they are one variable: the statement stays the same however many they
/// are. One alone is asked for as such, since PostgreSQL plans that once, and a list each time.
pub fn among<C: ColumnTrait>(engine: DbBackend, column: C, ids: impl IntoIterator<Item = Uuid>) -> Expr {
    let ids = Vec::from_iter(ids);
    match (engine, ids.as_slice()) {
        (_, [id]) => Expr::col(column.as_column_ref()).eq(*id),
        (DbBackend::Postgres, _) => Expr::col(column.as_column_ref()).eq(PgFunc::any(ids)),
        _ => column.is_in(ids),
    }
}

/// What is to be written: to each table once, and the first table first.
pub(crate) struct Writes {
    engine: DbBackend,
    /// What needs a statement of its own, before the rest.
    before: Vec<Statement>,
    /// One statement a table, with the places of its values.
    together: Vec<String>,
    values: Vec<Value>,
    /// What each row is written under the condition of.
    only: &'static str,
    /// The statement whose rows are answered, by its place in `together`, and their columns.
    answered: Option<(usize, &'static str)>,
}

/// The columns of a row's table.
type ColumnOf<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;

/// That nobody else has had the turn.
const IN_TURN: &str = " WHERE EXISTS (SELECT FROM turn)";

/// What is done with a row whose key is there.
#[derive(Clone, Copy)]
enum Meeting<'a> {
    /// The statement fails.
    Fail,
    /// It is overwritten, where a column is named all but that, which becomes what the text says.
    Overwrite(Option<(&'a str, &'a str)>),
    /// It is changed so: the text after `ON CONFLICT`.
    Change(&'a str),
}

impl Writes {
    /// Nothing yet.
    pub(crate) fn on(engine: DbBackend) -> Self {
        Self { engine, before: Vec::new(), together: Vec::new(), values: Vec::new(), only: "", answered: None }
    }

    /// The same, for `run_in_turn`.
    pub(crate) fn in_turn(engine: DbBackend) -> Self {
        Self { only: IN_TURN, ..Self::on(engine) }
    }

    /// Inserts rows.
    pub(crate) fn insert<A: ActiveModelTrait>(&mut self, rows: Vec<A>) {
        self.add(rows, Meeting::Fail);
    }

    /// Inserts rows, or overwrites those of the same key.
    pub(crate) fn upsert<A: ActiveModelTrait>(&mut self, rows: Vec<A>) {
        self.add(rows, Meeting::Overwrite(None));
    }

    /// The same, where one column of a row that is there becomes what a text says.
    pub(crate) fn upsert_but<A: ActiveModelTrait>(&mut self, rows: Vec<A>, (column, text): (ColumnOf<A>, &str)) {
        self.add(rows, Meeting::Overwrite(Some((IdenStatic::as_str(&column), text))));
    }

    /// Inserts rows, or changes those of the same key as the text after `ON CONFLICT` says.
    pub(crate) fn insert_or<A: ActiveModelTrait>(&mut self, rows: Vec<A>, change: &str) {
        self.add(rows, Meeting::Change(change));
    }

    /// The same, and has `run_in_turn` answer these columns of the rows as they stand then.
    pub(crate) fn insert_or_answering<A: ActiveModelTrait>(
        &mut self,
        rows: Vec<A>,
        change: &str,
        columns: &'static str,
    ) {
        let place = self.together.len();
        self.insert_or(rows, change);
        if let Some(text) = self.together.get_mut(place).filter(|_| self.only == IN_TURN) {
            text.push_str(&format!(" RETURNING {columns}"));
            self.answered = Some((place, columns));
        }
    }

    /// Inserts a row, or overwrites that of the same key, by a statement of its own: others of its table may be written too.
    pub(crate) fn upsert_apart<A: ActiveModelTrait>(&mut self, row: A) {
        self.list::<A>(columns(vec![row]), 1, Meeting::Overwrite(None));
    }

    /// Deletes the rows of some records, before anything is inserted.
    pub(crate) fn delete<C: ColumnTrait>(&mut self, column: C, ids: &[Uuid]) {
        if !ids.is_empty() {
            let delete = <C::EntityName as Default>::default();
            let mut query = sea_orm::sea_query::Query::delete();
            query.from_table(delete.table_ref()).and_where(among(self.engine, column, ids.iter().copied()));
            self.before.push(self.engine.build(&query));
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.together.is_empty()
    }

    /// Whether one statement does all of it, so that it needs no transaction.
    pub(crate) fn at_once(&self) -> bool {
        self.before.is_empty() && self.engine == DbBackend::Postgres
    }

    /// Writes it.
    pub(crate) async fn run(self, db: &impl ConnectionTrait) -> Result<(), StoreError> {
        for statement in self.before {
            db.execute_raw(statement).await?;
        }
        if let Some(sql) = one(self.together) {
            db.execute_raw(Statement::from_sql_and_values(self.engine, sql, self.values)).await?;
        }
        Ok(())
    }

    /// Writes it by one statement, where the cursor of that name still stands at `turn`, and moves that on. Answers nothing
    /// where it does not: who writes in turn waits here for whoever is before it, and then writes nothing. Otherwise there is
    /// a row for each one that is to be answered, and one of NULLs where there is none.
    pub(crate) async fn run_in_turn(
        mut self,
        db: &impl ConnectionTrait,
        name: &str,
        turn: i64,
    ) -> Result<Option<Vec<QueryResult>>, StoreError> {
        self.values.extend([name.into(), turn.into()]);
        let last = self.values.len();
        let turn = format!(
            "turn AS (UPDATE cursors SET position = position + 1 WHERE subscription = ${} AND position = ${last} \
             RETURNING position)",
            last - 1
        );
        let main = match self.answered {
            Some((place, columns)) => format!("SELECT {columns} FROM turn LEFT JOIN also{place} ON TRUE"),
            None => "SELECT position FROM turn".to_owned(),
        };
        self.together.insert(0, main.clone());
        let sql = match one(self.together) {
            Some(sql) if sql.starts_with("WITH ") => sql.replacen("WITH ", &format!("WITH {turn}, "), 1),
            _ => format!("WITH {turn} {main}"),
        };
        let rows = db.query_all_raw(Statement::from_sql_and_values(self.engine, sql, self.values)).await?;
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }

    fn add<A: ActiveModelTrait>(&mut self, rows: Vec<A>, meeting: Meeting<'_>) {
        let count = rows.len();
        let columns = columns(rows);
        if columns.is_empty() {
            return;
        }
        if self.engine != DbBackend::Postgres || !columns.iter().all(Column::is_array) {
            return self.list::<A>(columns, count, meeting);
        }
        let (first, only) = (self.values.len() + 1, self.only);
        self.together.push(text::<A>(&columns, meeting, |sql| {
            sql.push_str("SELECT ");
            listed(sql, &columns, |sql, column| column.show(sql));
            sql.push_str(" FROM UNNEST(");
            listed(sql, first..first + columns.len(), |sql, place| put(sql, format_args!("${place}")));
            sql.push_str(") AS given(");
            names(sql, &columns);
            sql.push(')');
            sql.push_str(only);
        }));
        self.values.extend(columns.into_iter().map(Column::array));
    }

    /// Rows as lists of values, as many a statement as the engine takes.
    fn list<A: ActiveModelTrait>(&mut self, mut columns: Vec<Column>, rows: usize, meeting: Meeting<'_>) {
        let (engine, width) = (self.engine, columns.len());
        let size = (BIND_VARIABLES / width.max(1)).max(1);
        for from in (0..rows).step_by(size) {
            let here = from..(from + size).min(rows);
            let sql = text::<A>(&columns, meeting, |sql| {
                sql.push_str("VALUES ");
                listed(sql, 0..here.len(), |sql, row| {
                    sql.push('(');
                    listed(sql, 1..=width, |sql, column| match engine {
                        DbBackend::Postgres => put(sql, format_args!("${}", row * width + column)),
                        _ => sql.push('?'),
                    });
                    sql.push(')');
                });
            });
            let mut values = Vec::with_capacity(here.len() * width);
            for row in here {
                values.extend(
                    columns.iter_mut().map(|column| std::mem::replace(&mut column.cells[row], Value::Bool(None))),
                );
            }
            self.before.push(Statement::from_sql_and_values(engine, sql, values));
        }
    }
}

/// One statement of several. PostgreSQL runs the main one first, then the others from the last to the first.
fn one(mut together: Vec<String>) -> Option<String> {
    if together.len() < 2 {
        return together.pop();
    }
    let main = together.remove(0);
    let others: Vec<String> =
        together.iter().enumerate().rev().map(|(at, text)| format!("also{at} AS ({text})")).collect();
    Some(format!("WITH {} {main}", others.join(", ")))
}

/// A column of some rows.
struct Column {
    name: &'static str,
    nullable: bool,
    null: Value,
    cells: Vec<Value>,
}

/// The columns that some row has a value or NULL for. The others have their defaults.
fn columns<A: ActiveModelTrait>(mut rows: Vec<A>) -> Vec<Column> {
    let mut columns = Vec::new();
    for column in <A::Entity as EntityTrait>::Column::iter() {
        let cells: Vec<Option<Value>> = rows.iter_mut().map(|row| row.take(column).into_value()).collect();
        let Some(null) = cells.iter().flatten().next().map(Value::as_null) else { continue };
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| null.clone())).collect();
        columns.push(Column { name: IdenStatic::as_str(&column), nullable: column.def().is_null(), null, cells });
    }
    columns
}

fn put(sql: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = sql.write_fmt(text);
}

/// Writes some, with commas in between.
fn listed<T>(sql: &mut String, items: impl IntoIterator<Item = T>, each: impl Fn(&mut String, T)) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        each(sql, item);
    }
}

fn names(sql: &mut String, columns: &[Column]) {
    listed(sql, columns, |sql, column| put(sql, format_args!("\"{}\"", column.name)));
}

/// The statement that inserts into one table what `source` writes.
fn text<A: ActiveModelTrait>(columns: &[Column], meeting: Meeting<'_>, source: impl FnOnce(&mut String)) -> String {
    let (table, mut sql) = (A::Entity::default(), String::with_capacity(64 + 64 * columns.len()));
    put(&mut sql, format_args!("INSERT INTO \"{}\" (", table.table_name()));
    names(&mut sql, columns);
    sql.push_str(") ");
    source(&mut sql);
    match meeting {
        Meeting::Fail => {}
        Meeting::Change(how) => put(&mut sql, format_args!(" ON CONFLICT {how}")),
        Meeting::Overwrite(but) => overwrite::<A>(&mut sql, columns, but),
    }
    sql
}

fn overwrite<A: ActiveModelTrait>(sql: &mut String, columns: &[Column], but: Option<(&str, &str)>) {
    let keys = || <A::Entity as EntityTrait>::PrimaryKey::iter().map(|key| IdenStatic::as_str(&key.into_column()));
    sql.push_str(" ON CONFLICT (");
    listed(sql, keys(), |sql, key| put(sql, format_args!("\"{key}\"")));
    let mut others = columns.iter().filter(|column| keys().all(|key| key != column.name)).peekable();
    if others.peek().is_none() {
        return sql.push_str(") DO NOTHING");
    }
    sql.push_str(") DO UPDATE SET ");
    listed(sql, others, |sql, Column { name, .. }| match but.filter(|(column, _)| column == name) {
        Some((_, text)) => put(sql, format_args!("\"{name}\" = {text}")),
        None => put(sql, format_args!("\"{name}\" = excluded.\"{name}\"")),
    });
}

impl Column {
    /// The kind of its values, and what stands for NULL in an array of them, which the driver cannot have in it.
    fn kind(&self) -> Option<(ArrayType, Option<(Value, &'static str)>)> {
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

    /// Whether its values fit into one array.
    fn is_array(&self) -> bool {
        match self.kind() {
            Some((_, Some((stands, _)))) if self.nullable => !self.cells.contains(&stands),
            Some(_) => !self.cells.contains(&self.null),
            None => false,
        }
    }

    /// The column as one array, where its values fit into one.
    fn array(self) -> Value {
        let (kind, stands) = self.kind().unwrap_or((ArrayType::Bool, None));
        let stands = stands.map_or(Value::Bool(None), |(stands, _)| stands);
        let cell = |cell: Value| if cell == self.null { stands.clone() } else { cell };
        Value::Array(kind, Some(Box::new(self.cells.into_iter().map(cell).collect())))
    }

    /// How it is taken out of its array.
    fn show(&self, sql: &mut String) {
        match self.kind() {
            Some((_, Some((_, literal)))) if self.nullable => {
                put(sql, format_args!("NULLIF(\"{}\", {literal})", self.name));
            }
            _ => put(sql, format_args!("\"{}\"", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tables::{cursor, record};
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

    fn upserts(engine: DbBackend, rows: &[record::ActiveModel]) -> Writes {
        let mut writes = Writes::on(engine);
        writes.upsert(rows.to_vec());
        writes
    }

    #[test]
    fn no_statement_binds_more_than_the_engine_takes() {
        let rows: Vec<record::ActiveModel> = (0..10_000).map(|number| row(number, None)).collect();
        let writes = upserts(DbBackend::Sqlite, &rows);
        let bound: Vec<usize> = writes.before.iter().map(|s| s.values.as_ref().unwrap().0.len()).collect();
        assert_eq!(bound, [30_000, 30_000, 20_000]);
        assert!(upserts(DbBackend::Sqlite, &[]).before.is_empty());
    }

    #[test]
    fn one_statement_stands_for_any_number_of_rows() {
        let of = |rows: &[record::ActiveModel]| {
            let writes = upserts(DbBackend::Postgres, rows);
            assert!(writes.at_once() && writes.values.len() == 8);
            writes.together
        };
        let one = of(&[row(1, None)]);
        assert_eq!(one, of(&[row(1, None), row(2, None)]));
        assert_eq!(one, of(&[row(1, Some("why")), row(2, None)]), "with NULL and without");
        assert!(one[0].contains("NULLIF(\"frozen\", '')"), "{one:?}");
        assert!(one[0].ends_with("\"due_at\" = excluded.\"due_at\", \"frozen\" = excluded.\"frozen\""), "{one:?}");
    }

    #[test]
    fn what_stands_for_null_is_never_a_value() {
        let writes = upserts(DbBackend::Postgres, &[row(1, Some("")), row(2, None)]);
        assert!(!writes.at_once() && writes.together.is_empty());
        assert_eq!(writes.before.len(), 1);
    }

    #[test]
    fn several_tables_are_one_statement() {
        let mut writes = upserts(DbBackend::Postgres, &[row(1, None)]);
        let cursor = cursor::ActiveModel { subscription: Set("s".into()), position: Set(1) };
        writes.insert(vec![cursor]);
        let sql = one(writes.together).unwrap();
        let (also, main) = sql.split_once(") INSERT INTO \"records\"").unwrap();
        assert!(
            also.starts_with("WITH also0 AS (INSERT INTO \"cursors\"") && also.contains("UNNEST($9, $10)"),
            "{also}"
        );
        assert!(main.contains("UNNEST($1, $2"), "{main}");
    }
}
