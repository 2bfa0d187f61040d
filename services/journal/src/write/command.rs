//! A command: what is asked of one record, by whom, and the rule that decides it.

use crate::{
    limits::CHANGE_BYTES,
    privacy::erasure::Erasing,
    record::erased::{ErasedState, FoldedChange, bury, fold_emitted, typed},
    store::tables::request,
    write::side_row::{SideRow, TypedSideRow},
};
use chrono::{DateTime, Utc};
use ed25519_dalek::SigningKey;
use hansa_kernel::{
    Access, Audience, Decision, Moment, ReasonClass, Record, RecordName, Refusal, Refused, Relation, Stamp, TenantId,
    seal::Sealed,
};
use hansa_proto::types::{Actor, Tombstone};
use sea_orm::ActiveModelTrait;
use std::sync::Arc;
use uuid::Uuid;

/// Who gives a command.
#[derive(Clone, Debug, Default)]
pub struct Author {
    /// The actor that the change names.
    pub actor: Actor,
    /// The tenant that the change binds, unless the rule names another.
    pub tenant: Option<TenantId>,
    /// W3C trace context of the call; it travels with the change.
    pub trace: Option<String>,
}

/// A caller's id for a request (AIP-155), with a keyed hash of the request. The hash detects an id that is reused for a
/// different request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// The caller's id.
    pub id: Uuid,
    /// HMAC of rpc and request under a key of the node. It reveals nothing of the content.
    pub fingerprint: [u8; 16],
}

impl IdempotencyKey {
    /// Checks that a stored request with this id is the same request.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` if it is another request.
    pub(crate) fn check_matches(&self, stored: &request::Model) -> Refused<()> {
        if stored.fingerprint == self.fingerprint {
            return Ok(());
        }
        Err(Refusal::because(
            ReasonClass::RequestIdReused,
            "PL-4",
            "REQUEST_ID_REUSED",
            "this request id was used for another request",
        )
        .missing("request_id", "a new UUID for a new request"))
    }
}

/// A tenant that signs a change in addition to the node, with a key that the node holds for it.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The tenant.
    pub tenant: TenantId,
    /// Its key.
    pub key: SigningKey,
}

/// Whether the record of a command must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The record must exist; the caller gets NOT_FOUND otherwise.
    Existing,
    /// The command may create the record, of which the caller then counts as the owner.
    MayCreate,
}

type Decide<R> = dyn Fn(Option<&R>, Moment) -> Decision<<R as Record>::Change> + Send + Sync;
type Bury<R> = dyn Fn(&R, Moment) -> Refused<Tombstone> + Send + Sync;

/// The rule that decides a command.
enum Rule<R: Record> {
    /// Returns the changes of the record.
    Changes(Arc<Decide<R>>),
    /// Returns the tombstone if the record may be deleted (PL-8).
    Deletion(Arc<Bury<R>>),
}

/// A command on one record.
pub struct Command<R: Record> {
    name: RecordName,
    author: Author,
    idempotency_key: Option<IdempotencyKey>,
    etag: String,
    seals: Vec<Sealed>,
    command_hash: Vec<u8>,
    erasing: Option<Erasing>,
    access: Option<(Access, Target)>,
    side_rows: Vec<Arc<dyn SideRow>>,
    signers: Vec<Signer>,
    is_new_record: bool,
    rule: Rule<R>,
}

impl<R: Record> Command<R> {
    /// Creates a command that `decide` decides over the record's present state, which is `None` if the record does not exist.
    pub fn new(
        name: RecordName,
        author: Author,
        decide: impl Fn(Option<&R>, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    ) -> Self {
        Self::with_rule(name, author, Rule::Changes(Arc::new(decide)))
    }

    /// Creates a command that deletes a record if `bury` permits it. The tombstone is the record's last change (PL-8).
    pub fn deletion(
        name: RecordName,
        author: Author,
        bury: impl Fn(&R, Moment) -> Refused<Tombstone> + Send + Sync + 'static,
    ) -> Self {
        Self::with_rule(name, author, Rule::Deletion(Arc::new(bury)))
    }

    fn with_rule(name: RecordName, author: Author, rule: Rule<R>) -> Self {
        Self {
            name,
            author,
            idempotency_key: None,
            etag: String::new(),
            seals: Vec::new(),
            command_hash: Vec::new(),
            erasing: None,
            access: None,
            side_rows: Vec::new(),
            signers: Vec::new(),
            is_new_record: false,
            rule,
        }
    }

    /// Makes the command idempotent: a second command with this key gets the first one's receipt (PL-4).
    #[must_use]
    pub fn idempotent(mut self, key: Option<IdempotencyKey>) -> Self {
        self.idempotency_key = key;
        self
    }

    /// Restricts the command to callers whose relation to the record is granted. The writer checks this before anything else, so
    /// that a caller who may not see the record learns nothing of it.
    #[must_use]
    pub fn authorized(mut self, access: Access, target: Target) -> Self {
        self.access = Some((access, target));
        self
    }

    /// Refuses the command with ABORTED if the record's etag is not this one. An empty etag is not checked (AIP-154).
    #[must_use]
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.etag = etag.into();
        self
    }

    /// Adds the values whose seals the command contains, and the hash of the sealed command.
    #[must_use]
    pub fn sealed(mut self, seals: Vec<Sealed>, command_hash: [u8; 32]) -> Self {
        self.seals = seals;
        self.command_hash = command_hash.to_vec();
        self
    }

    /// Adds a row of the service's own table. If the command changes anything, the row is upserted in the same transaction.
    #[must_use]
    pub fn side_row<A: ActiveModelTrait + Clone + Send + Sync + 'static>(mut self, row: A) -> Self {
        self.side_rows.push(Arc::new(TypedSideRow(row)));
        self
    }

    /// States that the record's id was generated for this command, so that the writer need not read the record.
    #[must_use]
    pub fn new_record(mut self) -> Self {
        self.is_new_record = true;
        self
    }

    /// Adds tenants that sign the changes in addition to the node.
    #[must_use]
    pub fn signed_by(mut self, signers: Vec<Signer>) -> Self {
        self.signers = signers;
        self
    }

    /// Erases values in the same transaction, if the command changes anything.
    #[must_use]
    pub fn erasing(mut self, erasing: Erasing) -> Self {
        self.erasing = Some(erasing);
        self
    }
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Receipt<R> {
    /// The record.
    pub name: RecordName,
    /// Its state after the command.
    pub state: Arc<R>,
    /// When it was created, and when it last changed.
    pub times: (DateTime<Utc>, DateTime<Utc>),
    /// Its version.
    pub version: u64,
    /// Its etag after the command.
    pub etag: String,
    /// How many changes the command has appended; 0 if it changed nothing, and for a replayed request.
    pub changes: u64,
    /// Whether the request had been answered before, and this is the first answer again.
    pub replayed: bool,
}

/// A command without its type.
pub(crate) trait ErasedCommand: Send + Sync {
    fn name(&self) -> &RecordName;
    fn author(&self) -> &Author;
    fn idempotency_key(&self) -> Option<&IdempotencyKey>;
    fn etag(&self) -> &str;
    fn seals(&self) -> &[Sealed];
    fn command_hash(&self) -> &[u8];
    fn erasing(&self) -> Option<&Erasing>;
    fn side_rows(&self) -> &[Arc<dyn SideRow>];
    fn signers(&self) -> &[Signer];
    fn is_new_record(&self) -> bool;
    /// Checks the caller's relation to the record.
    fn authorize(&self, before: Option<&ErasedState>) -> Refused<()>;
    /// Runs the rule and folds what it emits.
    fn decide(&self, before: Option<&ErasedState>, stamp: &Stamp, moment: Moment) -> Refused<Vec<FoldedChange>>;
}

impl<R: Record> ErasedCommand for Command<R> {
    fn name(&self) -> &RecordName {
        &self.name
    }

    fn author(&self) -> &Author {
        &self.author
    }

    fn idempotency_key(&self) -> Option<&IdempotencyKey> {
        self.idempotency_key.as_ref()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn seals(&self) -> &[Sealed] {
        &self.seals
    }

    fn command_hash(&self) -> &[u8] {
        &self.command_hash
    }

    fn erasing(&self) -> Option<&Erasing> {
        self.erasing.as_ref()
    }

    fn side_rows(&self) -> &[Arc<dyn SideRow>] {
        &self.side_rows
    }

    fn signers(&self) -> &[Signer] {
        &self.signers
    }

    fn is_new_record(&self) -> bool {
        self.is_new_record
    }

    fn authorize(&self, before: Option<&ErasedState>) -> Refused<()> {
        let Some((access, target)) = &self.access else { return Ok(()) };
        let relation = match (before, target) {
            (Some(state), _) => typed::<R>(state).relation(access.caller()),
            (None, Target::MayCreate) => Relation::Owner,
            (None, Target::Existing) => return Err(Refusal::not_found(&self.name)),
        };
        access.check(relation, self.name.as_str())
    }

    fn decide(&self, before: Option<&ErasedState>, stamp: &Stamp, moment: Moment) -> Refused<Vec<FoldedChange>> {
        let emitted = match &self.rule {
            Rule::Changes(decide) => decide(before.map(|state| typed::<R>(state)), moment)?,
            Rule::Deletion(rule) => {
                let before = before.ok_or_else(|| Refusal::not_found(&self.name))?;
                let tombstone = rule(typed::<R>(before), moment)?;
                return Ok(vec![bury::<R>(before, &tombstone, stamp)]);
            }
        };
        fold_emitted::<R>(before, emitted, stamp).map_err(|error| {
            tracing::error!(record = %self.name, %error, "a rule emitted a change that cannot be folded");
            Refusal::because(
                ReasonClass::Internal,
                "PL-3",
                "INTERNAL",
                "internal error: a rule emitted an invalid change",
            )
        })
    }
}

/// Checks the size of a change: a larger one would not fit into a message of the broker, and would block its relay for ever.
///
/// # Errors
/// `LIMIT` under PL-4.
pub(crate) fn check_change_size(envelope: &[u8]) -> Refused<()> {
    if envelope.len() > CHANGE_BYTES {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "PL-4",
            "CHANGE_TOO_LARGE",
            format!("a change takes at most {CHANGE_BYTES} bytes"),
        )
        .help("Nothing was changed. Send less in one command."));
    }
    Ok(())
}

/// Checks the number of tenants in an audience.
///
/// # Errors
/// `LIMIT` under PL-1.
pub(crate) fn check_audience_size(audience: &Audience) -> Refused<()> {
    if audience.tenants.len() > hansa_kernel::limits::AUDIENCE_TENANTS {
        return Err(Refusal::because(
            ReasonClass::Limit,
            "PL-1",
            "TOO_MANY_TENANTS",
            "the record would be shared with too many tenants",
        )
        .help("Share it with fewer."));
    }
    Ok(())
}
