//! The journal's own limits. Each is enforced at one place and tested there.

use std::time::Duration;

/// Most commands that one transaction decides.
pub const BATCH_COMMANDS: usize = 512;
/// Most commands of one tenant that one transaction decides while others call as well: so long one of theirs may have to wait.
pub const BATCH_PART: usize = 8;
/// Transactions after which a tenant beside which nobody calls counts as alone.
pub const BATCHES_ALONE: usize = 128;
/// Most commands that wait for the writer or are being decided; beyond it a caller is told to try again.
pub const QUEUED_COMMANDS: usize = 4_096;
/// Largest change, as it is signed; NATS takes messages of 1 MiB.
pub const CHANGE_BYTES: usize = 512 * 1024;
/// Most records that one atomic command may touch.
pub const COMMAND_RECORDS: usize = 100;
/// How often a command is tried again when another replica was faster.
pub const COMMAND_TRIES: u32 = 3;
/// Most bind variables of one statement; SQLite takes 32,766.
pub const BIND_VARIABLES: usize = 30_000;
/// States kept in memory, a service.
pub const CACHED_STATES: u64 = 50_000;
/// Most timers that one round fires.
pub const TIMERS_A_ROUND: u64 = 500;
/// Shortest time between two looks of a timer loop where nothing was due.
pub const TIMER_PAUSE: Duration = Duration::from_millis(250);
/// Longest sleep of a timer loop.
pub const TIMER_PERIOD: Duration = Duration::from_secs(30);
/// Most changes that a subscription takes in one transaction.
pub const SUBSCRIPTION_BATCH: u64 = 500;
/// Mirrors that a subscription remembers, so that it need not read them again.
pub const REMEMBERED_MIRRORS: usize = 10_000;
/// Longest wait of a subscription before it looks by itself.
pub const SUBSCRIPTION_PERIOD: Duration = Duration::from_secs(5);
/// How long what goes on beside the calls waits before it tries again what did not succeed.
pub const WORKER_RETRY: Duration = Duration::from_secs(1);
/// Records that a rebuild reads and compares together.
pub const REBUILT_TOGETHER: u64 = 2_000;
/// Records that a rebuild writes anew together, and holds meanwhile.
pub const REBUILT_UNDER_LOCK: usize = 500;
/// How long a request id is remembered. A request that comes again later has effect again.
pub const REQUEST_MEMORY: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often what is past that is forgotten.
pub const REQUEST_SWEEP: Duration = Duration::from_secs(3_600);
/// Changes a page, by default and at most.
pub const PAGE_DEFAULT: u64 = 100;
/// See `PAGE_DEFAULT`.
pub const PAGE_MOST: u64 = 1_000;
/// How long SQLite waits for a lock.
pub const SQLITE_BUSY: Duration = Duration::from_secs(10);
/// What a connection to a file keeps of its pages, in KiB. The operating system keeps more of them.
pub const SQLITE_CACHE_KIB: u32 = 4_000;
/// Rows that SQLite has ready before it waits until they are taken.
pub const SQLITE_ROWS: usize = 1_000;
/// How often the write-ahead log is tried to be emptied after an erasure; each try waits for readers as long as for a lock.
pub const SCRUB_TRIES: u32 = 3;
/// Most texts that one erasure takes; a message about it must fit through the broker.
pub const ERASED_TEXTS: usize = 10_000;
/// How long a caller waits for a connection to PostgreSQL before it is told that the database is away.
pub const POSTGRES_WAIT: Duration = Duration::from_secs(3);
/// How long the broker may take to answer.
pub const BROKER_WAIT: Duration = Duration::from_secs(5);
/// How long a connection to the broker may take to come up before it counts as away.
pub const BROKER_GREETING: Duration = Duration::from_secs(2);
/// A change that the broker does not have after so long tells that the relay does not get through.
pub const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);
/// How long a stream keeps messages. Who was away longer has everything published again.
pub const STREAM_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often those who follow a stream are told that time goes on, where they get nothing else; well below `STREAM_AGE`.
pub const PULSE_PERIOD: Duration = Duration::from_secs(24 * 3_600);
/// Changes on their way to the broker at once.
pub const PUBLISH_WINDOW: usize = 256;
/// Batches that wait for the relay; beyond it the sweep takes over.
pub const RELAY_BACKLOG: usize = 1_024;
/// Envelopes that are remembered as the node's, so that their signature is looked at once.
pub const KNOWN_ENVELOPES: u64 = 16_384;
/// Most changes that are published and not yet marked so; what is over is published once more.
pub const MARKS_WAITING: usize = 65_536;
/// How long it may take until it is written down what was published; well below `SWEEP_AFTER`.
pub const MARK_PERIOD: Duration = Duration::from_millis(100);
/// How often the relay looks for what was left behind.
pub const SWEEP_PERIOD: Duration = Duration::from_millis(500);
/// How often it is counted what the broker lacks, for those who watch.
pub const BACKLOG_PERIOD: Duration = Duration::from_secs(10);
/// How often it is counted what somebody must look after: frozen records, timers overdue, quarantine.
pub const VITALS_PERIOD: Duration = Duration::from_secs(30);
/// How long a change may wait for the process that committed it before the sweep takes it.
pub const SWEEP_AFTER: Duration = Duration::from_secs(1);
/// Changes that one sweep claims at once.
pub const SWEEP_ROWS: u64 = 500;
/// Largest answer about a record's past; NATS takes 1 MiB.
pub const HISTORY_REPLY_BYTES: usize = 512 * 1024;
/// How long a subscriber waits for it.
pub const HISTORY_WAIT: Duration = Duration::from_secs(5);
/// How long the broker waits for an acknowledgement.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// Messages of a subscription that are not acknowledged yet.
pub const ACK_PENDING: i64 = 5_000;
/// Connections of a service to PostgreSQL. What `POSTGRES_WRITES` and `POSTGRES_READS` leave is for transactions.
pub const POSTGRES_CONNECTIONS: u32 = 10;
/// Statements that write and stand alone, at once.
pub const POSTGRES_WRITES: u32 = 3;
/// Statements that read and stand alone, at once.
pub const POSTGRES_READS: u32 = 3;
/// Connections of a service to its file, beside that of the writer.
pub const SQLITE_READERS: u32 = 4;
/// How long a connection does statements in use before the pool gets it back.
pub const CONNECTION_KEPT: Duration = Duration::from_secs(60);
/// How long a connection may have been idle and still be taken for alive; after that it is asked first.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(1);
/// Most records that one look-up reads together.
pub const LOOKUP_RECORDS: usize = 256;
/// Most records of one reader that are looked up together with what others ask for; more have a statement of their own.
pub const LOOKUP_FEW: usize = 8;
/// Look-ups at once.
pub const LOOKUPS: usize = 2;
/// Keys of a queue that one round takes, and that are handed over to it; what is more is looked for in the database.
pub const QUEUE_TOGETHER: u64 = 128;
/// Keys of them that are worked on at once, where each is worked on for itself.
pub const QUEUE_AT_ONCE: usize = 32;
