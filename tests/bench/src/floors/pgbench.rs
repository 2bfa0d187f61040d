//! The floor for PostgreSQL: pgbench runs a transaction with the same row writes as the program, one statement each.

use super::{echo::hex, sample::Sample};
use anyhow::Context;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use std::{path::PathBuf, process::Command};

/// A filled schema with the same tables as the register's, and a script that writes to it.
pub struct Floor {
    pgbench: PathBuf,
    database: String,
    script: tempfile::NamedTempFile,
    records: usize,
}

impl Floor {
    /// Creates the tables in a separate schema of the program's database.
    pub async fn make(
        pgbench: PathBuf,
        database: &str,
        db: &DatabaseConnection,
        sample: &Sample,
        records: usize,
    ) -> anyhow::Result<Self> {
        let (head, state) = (hex(&sample.head), hex(&sample.state));
        let name = &sample.sort_name;
        let mut sql = String::from("DROP SCHEMA IF EXISTS floor CASCADE; CREATE SCHEMA floor;");
        for table in ["changes", "requests", "feed", "records", "cities"] {
            sql += &format!("CREATE TABLE floor.{table} (LIKE register.{table} INCLUDING ALL);");
        }
        sql += &format!(
            "INSERT INTO floor.records (record, name, version, head, revision, state) \
             SELECT md5(i::text)::uuid, 'cities/' || md5(i::text)::uuid, 1, decode('{head}', 'hex'), 1, \
             decode('{state}', 'hex') FROM generate_series(1, {records}) i;\
             INSERT INTO floor.cities SELECT md5(i::text)::uuid, '{name}', 'DE', 1, 1, false, true \
             FROM generate_series(1, {records}) i;"
        );
        db.execute_unprepared(&sql).await?;
        // VACUUM cannot run inside the implicit transaction of several statements.
        db.execute_unprepared("VACUUM ANALYZE floor.records").await?;
        db.execute_unprepared("VACUUM ANALYZE floor.cities").await?;
        let script = tempfile::NamedTempFile::new()?;
        std::fs::write(script.path(), text(sample))?;
        Ok(Self { pgbench, database: database.to_owned(), script, records })
    }

    /// Measures transactions per second with `clients` concurrent clients.
    pub fn run(&self, clients: usize, seconds: u64) -> anyhow::Result<f64> {
        let threads = clients.min(2);
        let output = Command::new(&self.pgbench)
            .args(["-n", "-M", "prepared", "-f"])
            .arg(self.script.path())
            .args(["-D", &format!("records={}", self.records)])
            .args(["-c", &clients.to_string(), "-j", &threads.to_string(), "-T", &seconds.to_string()])
            .arg(&self.database)
            .output()
            .context("pgbench does not start")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")).and_then(|rest| rest.split(' ').next());
        let said = || format!("pgbench said: {text}{}", String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "{}", said());
        rate.and_then(|rate| rate.parse().ok()).with_context(said)
    }
}

fn text(sample: &Sample) -> String {
    let bytes = |bytes: &[u8]| format!("decode('{}', 'hex')", hex(bytes));
    let Sample { kind, sort_name, .. } = sample;
    let (envelope, signatures) = (bytes(&sample.envelope), bytes(&sample.signatures));
    let (head, state) = (bytes(&sample.head), bytes(&sample.state));
    let tenant = "'0190a000-0000-7000-8000-000000000001'";
    format!(
        "\\set r random(1, :records)\n\
         \\set v random(1, 1000000000000)\n\
         BEGIN;\n\
         INSERT INTO floor.changes (record, version, payload_type, envelope, signatures, received_at) \
         VALUES (md5(:r::text)::uuid, :v, '{kind}', {envelope}, {signatures}, :v);\n\
         INSERT INTO floor.requests (tenant, request, fingerprint, record, version, created_at) \
         VALUES ({tenant}, uuidv7(), decode('00112233445566778899aabbccddeeff', 'hex'), md5(:r::text)::uuid, :v, :v);\n\
         INSERT INTO floor.feed (tenant, record, version) \
         VALUES ('00000000-0000-0000-0000-000000000000', md5(:r::text)::uuid, :v);\n\
         INSERT INTO floor.records (record, name, version, head, revision, state) \
         VALUES (md5(:r::text)::uuid, 'cities/' || md5(:r::text)::uuid, :v, {head}, 1, {state}) \
         ON CONFLICT (record) DO UPDATE SET name = excluded.name, version = excluded.version, head = excluded.head, \
         revision = excluded.revision, state = excluded.state, due_at = excluded.due_at, frozen = excluded.frozen;\n\
         INSERT INTO floor.cities (record, sort_name, country, tier, size_class, joined, registered) \
         VALUES (md5(:r::text)::uuid, '{sort_name}', 'DE', 1, 1, false, true) \
         ON CONFLICT (record) DO UPDATE SET sort_name = excluded.sort_name, country = excluded.country, \
         tier = excluded.tier, size_class = excluded.size_class, joined = excluded.joined, registered = excluded.registered;\n\
         COMMIT;\n"
    )
}
