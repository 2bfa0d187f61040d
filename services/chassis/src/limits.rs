//! The limits of the gRPC server; tonic leaves most of them open by default. Each is enforced in one place and has a test.

use hansa_proto::handlers::MessageSizes;
use std::time::Duration;

/// Largest request message.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest response message.
pub const RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// Both, for the gRPC services.
pub const MESSAGE_SIZES: MessageSizes = MessageSizes { request_bytes: REQUEST_BYTES, response_bytes: RESPONSE_BYTES };
/// Most HTTP/2 streams per connection. A gateway may multiplex all callers over one connection. The client waits for a free stream.
pub const CONNECTION_STREAMS: u32 = 1_024;
/// How much of the body of a refused call is read and discarded.
pub const REFUSED_BYTES: usize = 64 * 1024;
/// How long the body of a refused call is awaited.
pub const REFUSED_WAIT: Duration = Duration::from_millis(250);
/// Most concurrent calls per process. More are refused with a hint to retry.
pub const PROCESS_CALLS: usize = 1_024;
/// Most concurrent calls per tenant; fewer if fewer permits are free.
pub const TENANT_CALLS: usize = 128;
/// Most concurrent streams per process.
pub const PROCESS_STREAMS: usize = 4_096;
/// Most concurrent streams per tenant; fewer if fewer permits are free.
pub const TENANT_STREAMS: usize = 100;
/// The delay before a retry that a refusal suggests, after a limit or an unavailable component.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest duration of a unary call; a caller may set a shorter deadline.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Largest header list.
pub const HEADER_BYTES: u32 = 16 * 1024;
/// How often an idle connection is pinged.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long the reply to a ping may take.
pub const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// The first pause between attempts to reach an unavailable database at the start; each later pause is twice as long.
pub const START_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause. The attempts never end; the supervisor of the process decides how long is too long.
pub const START_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long open calls may take to end after SIGTERM.
pub const DRAIN: Duration = Duration::from_secs(20);
/// How long idle connections may take to close after that. Some clients never respond.
pub const DRAIN_CONNECTIONS: Duration = Duration::from_secs(2);
/// How long the export of the last spans, logs and metrics may take.
pub const TELEMETRY_FLUSH: Duration = Duration::from_secs(3);
/// Verified tokens in the cache.
pub const VERIFIED_TOKENS: u64 = 10_000;
/// How long a verified token stays in the cache.
pub const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Longest accepted token.
pub const TOKEN_BYTES: usize = 8 * 1024;
/// Largest discovery document or key set of an issuer.
pub const ISSUER_ANSWER_BYTES: usize = 256 * 1024;
/// Most keys that are read from a key set.
pub const ISSUER_KEYS: usize = 100;
/// How long fetching the keys of an issuer may take.
pub const ISSUER_WAIT: Duration = Duration::from_secs(5);
/// How long keys are used before they are fetched again.
pub const ISSUER_KEYS_FRESH: Duration = Duration::from_secs(3_600);
/// How long keys are used at most while the issuer is unavailable.
pub const ISSUER_KEYS_STALE: Duration = Duration::from_secs(24 * 3_600);
/// Shortest time between two fetches, whatever unknown keys tokens name.
pub const ISSUER_PAUSE: Duration = Duration::from_secs(60);
/// Shortest time between two fetches while no key is known, because the issuer was unavailable.
pub const ISSUER_RETRY: Duration = Duration::from_secs(5);
/// Accepted sizes of RSA keys, in bits.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Records per page, by default.
pub const PAGE_DEFAULT: u64 = 50;
/// Records per page, at most.
pub const PAGE_MAX: u64 = 1_000;
