//! The journal's limits. Each is enforced in one place and has a test.

use std::time::Duration;

/// Most commands that one transaction decides.
pub const BATCH_COMMANDS: usize = 512;
/// Most commands of one tenant in a batch while other tenants wait too; it bounds how long a newcomer waits.
pub const BATCH_SHARE: usize = 8;
/// Batches after which a tenant that alone sends commands is no longer held to `BATCH_SHARE`.
pub const SOLE_TENANT_BATCHES: usize = 128;
/// Most commands that wait for the writer or are being decided. More are refused with a hint to retry.
pub const QUEUED_COMMANDS: usize = 4_096;
/// Largest signed change. NATS accepts messages of 1 MiB.
pub const CHANGE_BYTES: usize = 512 * 1024;
/// Most records that one atomic command may touch.
pub const COMMAND_RECORDS: usize = 100;
/// How often the writer decides a command again after a conflict.
pub const COMMAND_TRIES: u32 = 3;
/// Most bind variables of one statement. SQLite accepts 32,766.
pub const BIND_VARIABLES: usize = 30_000;
/// States in the cache, per service.
pub const CACHED_STATES: u64 = 50_000;
/// Most timers that one round fires.
pub const TIMER_BATCH: u64 = 500;
/// Shortest time between two reads of due timers.
pub const TIMER_PAUSE: Duration = Duration::from_millis(250);
/// Longest time between two reads of due timers.
pub const TIMER_PERIOD: Duration = Duration::from_secs(30);
/// Most changes that a subscription applies in one transaction.
pub const SUBSCRIPTION_BATCH: u64 = 500;
/// Mirrors in the cache of a subscription.
pub const CACHED_MIRRORS: usize = 10_000;
/// Longest time that a subscription or a work queue waits before it reads the database by itself.
pub const SUBSCRIPTION_PERIOD: Duration = Duration::from_secs(5);
/// How long a worker waits after a failed step.
pub const WORKER_RETRY: Duration = Duration::from_secs(1);
/// Records that a rebuild reads and compares together.
pub const REBUILD_PAGE: u64 = 2_000;
/// Records that a rebuild locks and writes together.
pub const REBUILD_LOCKED: usize = 500;
/// How long an idempotency key is kept. A request that is repeated later takes effect again.
pub const IDEMPOTENCY_RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often expired idempotency keys are deleted.
pub const IDEMPOTENCY_SWEEP: Duration = Duration::from_secs(3_600);
/// Changes per page, by default.
pub const PAGE_DEFAULT: u64 = 100;
/// Changes per page, at most.
pub const PAGE_MAX: u64 = 1_000;
/// How long SQLite waits for a lock.
pub const SQLITE_BUSY: Duration = Duration::from_secs(10);
/// Page cache of one connection to a file, in KiB. The operating system caches more pages.
pub const SQLITE_CACHE_KIB: u32 = 4_000;
/// Rows that a SQLite query produces ahead of its reader.
pub const SQLITE_ROWS: usize = 1_000;
/// How often an erasure tries to truncate the write-ahead log. Each try waits for readers as long as for a lock.
pub const SCRUB_TRIES: u32 = 3;
/// Most texts that one erasure names. Its change must fit into a message of the broker.
pub const ERASED_TEXTS: usize = 10_000;
/// How long a caller waits for a connection to PostgreSQL before the database counts as unavailable.
pub const POSTGRES_WAIT: Duration = Duration::from_secs(3);
/// How long a request to the broker may take.
pub const BROKER_WAIT: Duration = Duration::from_secs(5);
/// How long the first connection to the broker may take before the broker counts as unavailable.
pub const BROKER_GREETING: Duration = Duration::from_secs(2);
/// Age of an unpublished change from which `hansa doctor` reports that the relay is stuck.
pub const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);
/// How long a stream keeps messages. A subscriber that was away longer has everything published again.
pub const STREAM_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often a service publishes a pulse; well below `STREAM_AGE`.
pub const PULSE_PERIOD: Duration = Duration::from_secs(24 * 3_600);
/// Changes in flight to the broker.
pub const PUBLISH_WINDOW: usize = 256;
/// Batches that wait for the relay. The sweep publishes what exceeds it.
pub const RELAY_BACKLOG: usize = 1_024;
/// Hashes of envelopes whose signature has been verified, per process.
pub const KNOWN_ENVELOPES: u64 = 16_384;
/// Most acknowledged changes that wait to be marked as published. The sweep publishes what exceeds it again.
pub const PUBLISHED_BACKLOG: usize = 65_536;
/// How often the relay marks acknowledged changes as published; well below `SWEEP_AFTER`.
pub const PUBLISHED_PERIOD: Duration = Duration::from_millis(100);
/// How often the relay looks for unpublished changes.
pub const SWEEP_PERIOD: Duration = Duration::from_millis(500);
/// How often the relay counts unpublished changes for the metric.
pub const BACKLOG_PERIOD: Duration = Duration::from_secs(10);
/// How often the health metrics are recorded: frozen records, overdue timers, quarantine.
pub const HEALTH_PERIOD: Duration = Duration::from_secs(30);
/// Age of an unpublished change from which the sweep of any replica publishes it.
pub const SWEEP_AFTER: Duration = Duration::from_secs(1);
/// Changes that one sweep claims together.
pub const SWEEP_ROWS: u64 = 500;
/// Largest reply to a request for a record's history. NATS accepts 1 MiB.
pub const HISTORY_REPLY_BYTES: usize = 512 * 1024;
/// How long a subscriber waits for that reply.
pub const HISTORY_WAIT: Duration = Duration::from_secs(5);
/// How long the broker waits for an acknowledgement before it delivers a message again.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// Most unacknowledged messages of a subscription.
pub const ACK_PENDING: i64 = 5_000;
/// Connections of a service to PostgreSQL. Transactions use those that `POSTGRES_WRITES` and `POSTGRES_READS` leave.
pub const POSTGRES_CONNECTIONS: u32 = 10;
/// Single-statement writes that run concurrently.
pub const POSTGRES_WRITES: u32 = 3;
/// Single-statement reads that run concurrently.
pub const POSTGRES_READS: u32 = 3;
/// Connections of a service to its file for reading.
pub const SQLITE_READERS: u32 = 4;
/// How long a busy connection is kept before it returns to the pool.
pub const CONNECTION_KEPT: Duration = Duration::from_secs(60);
/// How long a connection may be idle before it is checked again.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(1);
/// Most keys that one statement of a loader reads.
pub const LOOKUP_RECORDS: usize = 256;
/// Most keys of one caller that are read through a loader. More are read by a statement of their own.
pub const LOOKUP_BATCH_MAX: usize = 8;
/// Statements of a loader that run concurrently.
pub const LOOKUPS: usize = 2;
/// Most keys of a work queue that one round takes, or that are handed over in memory.
pub const QUEUE_BATCH: u64 = 128;
/// Keys that are worked on concurrently, if the worker takes them one by one.
pub const QUEUE_CONCURRENCY: usize = 32;
