//! Limits of the gRPC server; tonic's own defaults leave most of these open. Each is enforced at one place and tested.

use std::time::Duration;

/// Largest message that is read.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest message that is sent.
pub const RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Most HTTP/2 streams of one connection: a gateway may bring the calls of everyone. Beyond it a client waits by itself.
pub const CONNECTION_STREAMS: u32 = 1_024;
/// How much is read of a call that is refused before it is read.
pub const REFUSED_BYTES: usize = 64 * 1024;
/// How long what a refused call brings is waited for.
pub const REFUSED_WAIT: Duration = Duration::from_millis(250);
/// Most calls at once in the whole process; beyond it a caller is told at once to try again.
pub const PROCESS_CALLS: usize = 1_024;
/// Most calls at once of one tenant; fewer where fewer are free.
pub const TENANT_CALLS: usize = 128;
/// Most streams at once in the whole process.
pub const PROCESS_STREAMS: usize = 4_096;
/// Most streams at once of one tenant; fewer where fewer are free.
pub const TENANT_STREAMS: usize = 100;
/// When a caller is told to try again that was refused for a limit, or because a part is away.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest that a unary call may take; a caller may ask for less.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Largest list of headers.
pub const HEADER_BYTES: u32 = 16 * 1024;
/// How often an idle connection is asked whether it is alive.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
pub const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// How long the first wait for a database is that is away at the start; each is twice as long as the one before.
pub const START_PAUSE: Duration = Duration::from_millis(250);
/// How long such a wait is at most. There is no end to them: who supervises the process decides when it was too long.
pub const START_PAUSE_MOST: Duration = Duration::from_secs(5);
/// How long running calls may take to end after SIGTERM.
pub const DRAIN: Duration = Duration::from_secs(20);
/// How long connections on which nothing runs any more may take to close then. Some never answer.
pub const DRAIN_CONNECTIONS: Duration = Duration::from_secs(2);
/// How long the last spans, logs and metrics may take to leave.
pub const TELEMETRY_FLUSH: Duration = Duration::from_secs(3);
/// Tokens that are remembered as verified.
pub const VERIFIED_TOKENS: u64 = 10_000;
/// Longest a verified token is trusted without looking again.
pub const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Longest token that is looked at.
pub const TOKEN_BYTES: usize = 8 * 1024;
/// Largest description or key set of an issuer that is read.
pub const ISSUER_ANSWER_BYTES: usize = 256 * 1024;
/// Most keys of an issuer that are looked at.
pub const ISSUER_KEYS: usize = 100;
/// How long an issuer may take to give its keys.
pub const ISSUER_WAIT: Duration = Duration::from_secs(5);
/// How long keys of an issuer are used before it is asked again.
pub const ISSUER_KEYS_FRESH: Duration = Duration::from_secs(3_600);
/// How long they are used at most while the issuer is away.
pub const ISSUER_KEYS_STALE: Duration = Duration::from_secs(24 * 3_600);
/// How long an issuer is not asked again, whatever keys tokens name.
pub const ISSUER_PAUSE: Duration = Duration::from_secs(60);
/// The same while none of its keys is known, because it was away.
pub const ISSUER_RETRY: Duration = Duration::from_secs(5);
/// Bits of an RSA key that is accepted.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Records a page, where the caller does not say.
pub const PAGE_DEFAULT: u64 = 50;
/// Records a page, at most.
pub const PAGE_MOST: u64 = 1_000;
