//! Errors of the database, and the error type of the journal.

use hansa_kernel::{ReasonClass, Refusal};
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};
use std::fmt::Display;

/// A failure of the database.
pub type StoreError = DbErr;

/// Why an operation of the journal failed.
///
/// Every variant converts into a [`Refusal`]. The conversion logs what the database or the broker reported; the caller gets only
/// the refusal.
#[derive(Debug)]
pub enum JournalError {
    /// A rule or the platform refused the operation.
    Refused(Refusal),
    /// The database failed.
    Store(StoreError),
    /// The broker failed.
    Broker(String),
}

impl JournalError {
    /// Wraps an error of the broker, or of a message that it delivered.
    pub(crate) fn broker(error: impl Display) -> Self {
        Self::Broker(error.to_string())
    }
}

impl From<Refusal> for JournalError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<Kind> From<async_nats::error::Error<Kind>> for JournalError
where
    Kind: Clone + std::fmt::Debug + Display + PartialEq,
{
    fn from(error: async_nats::error::Error<Kind>) -> Self {
        Self::broker(error)
    }
}

impl From<tokio::time::error::Elapsed> for JournalError {
    fn from(error: tokio::time::error::Elapsed) -> Self {
        Self::broker(error)
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Refused(refusal) => refusal,
            JournalError::Store(error) => unavailable_store(&error),
            JournalError::Broker(error) => {
                tracing::warn!(error, "the broker failed");
                Self::because(ReasonClass::Unavailable, "PL-4", "BROKER_UNAVAILABLE", "the broker is unavailable")
                    .help("Nothing is lost. The service reconnects by itself.")
            }
        }
    }
}

impl Display for JournalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Broker(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for JournalError {}

/// The refusal for a text that PostgreSQL cannot store.
const UNSTORABLE: &str = "contains a character that no text of a record may contain";

/// Logs what the database reported and returns the caller's refusal.
pub(crate) fn unavailable_store(error: &StoreError) -> Refusal {
    // PostgreSQL cannot store NUL in a text. Rules keep it out of records, but a list filter may contain it.
    if error.to_string().contains("invalid byte sequence for encoding") {
        return Refusal::field("request", UNSTORABLE);
    }
    tracing::error!(%error, "the database failed");
    Refusal::because(ReasonClass::Unavailable, "PL-4", "DATABASE_UNAVAILABLE", "the database is unavailable")
        .help("Retry with the same request_id; a command that was already applied is not applied twice.")
}

/// Returns whether the database server is unreachable or starting up, so that a retry may succeed.
#[must_use]
pub fn is_away(error: &StoreError) -> bool {
    use RuntimeErr::SqlxError;
    use sqlx::Error;
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(SqlxError(error)) | DbErr::Exec(SqlxError(error)) | DbErr::Query(SqlxError(error)) => {
            match &**error {
                Error::Io(_) | Error::PoolTimedOut => true,
                // Too many connections; shutting down; crashed; starting up.
                Error::Database(error) => {
                    matches!(error.code().as_deref(), Some("53300" | "57P01" | "57P02" | "57P03"))
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Returns whether a statement failed because another transaction wrote the same rows. The caller may try again.
pub(crate) fn is_conflict(error: &StoreError) -> bool {
    let text = error.to_string();
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
        || is_stale_generation(error)
        || text.contains("deadlock detected")
        || text.contains("could not serialize")
}

/// Returns whether the statement set `records.revision` to NULL: a rebuild has replaced the snapshot since it was read.
fn is_stale_generation(error: &StoreError) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let sqlx::Error::Database(error) = &**error else { return false };
    let is_of_records = error.table() == Some("records") || error.message().ends_with("records.revision");
    error.kind() == sqlx::error::ErrorKind::NotNullViolation && is_of_records
}
