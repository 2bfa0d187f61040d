//! A command: what is asked of one record, by whom, and the rule that decides it.

use crate::{
    beside::{Beside, Row},
    erasure::Erasing,
    kind::{AnyState, Step, bury, steps, typed},
    limits::CHANGE_BYTES,
    tables::request,
};
use ed25519_dalek::SigningKey;
use hansa_kernel::{
    Audience, Decision, Moment, Reason, Record, RecordName, Refusal, Refused, Stamp, TenantId, seal::Sealed,
};
use hansa_proto::types::{Actor, Tombstone};
use sea_orm::ActiveModelTrait;
use std::sync::Arc;
use uuid::Uuid;

/// Who gives a command.
#[derive(Clone, Debug, Default)]
pub struct Author {
    /// As it stands in the change.
    pub actor: Actor,
    /// The tenant that is bound by default.
    pub tenant: Option<TenantId>,
    /// W3C trace context, to follow the act through the bus.
    pub trace: Option<String>,
}

/// A caller's id for a request, with a keyed hash of its content: the id alone may not stand for two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// The caller's id.
    pub id: Uuid,
    /// HMAC of the method and the request, keyed by the node; it tells nothing of the content.
    pub fingerprint: [u8; 16],
}

impl RequestKey {
    /// Whether it stands for what was asked under this id before.
    ///
    /// # Errors
    /// Where it stands for something else.
    pub(crate) fn is_of(&self, before: &request::Model) -> Refused<()> {
        if before.fingerprint == self.fingerprint {
            return Ok(());
        }
        Err(Refusal::because(Reason::RequestIdReused, "PL-4", "this request id was used for another request")
            .missing("request_id", "a new UUID for a new request"))
    }
}

/// Who signs a change beside the node: a tenant, with a key that the node holds for it.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The tenant.
    pub tenant: TenantId,
    /// Its key.
    pub key: SigningKey,
}

type Authorise<R> = dyn Fn(Option<&R>) -> Result<(), Refusal> + Send + Sync;
type Decide<R> = dyn Fn(Option<&R>, Moment) -> Decision<<R as Record>::Change> + Send + Sync;
type Judge<R> = dyn Fn(&R, Moment) -> Refused<Tombstone> + Send + Sync;

/// What decides a command.
enum Rule<R: Record> {
    /// What happens to the record.
    Changes(Arc<Decide<R>>),
    /// Whether it may be deleted, and why it is (PL-8).
    Deletion(Arc<Judge<R>>),
}

/// A command on one record.
pub struct Command<R: Record> {
    pub(crate) name: RecordName,
    pub(crate) author: Author,
    pub(crate) request: Option<RequestKey>,
    pub(crate) etag: String,
    pub(crate) seals: Vec<Sealed>,
    pub(crate) command_hash: Vec<u8>,
    pub(crate) erasing: Option<Erasing>,
    pub(crate) authorise: Option<Arc<Authorise<R>>>,
    pub(crate) beside: Vec<Arc<dyn Beside>>,
    pub(crate) signers: Vec<Signer>,
    pub(crate) fresh: bool,
    rule: Rule<R>,
}

impl<R: Record> Command<R> {
    /// A command that is decided by a rule over the record's present state; `None` where there is no such record yet.
    pub fn new(
        name: RecordName,
        author: Author,
        decide: impl Fn(Option<&R>, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    ) -> Self {
        Self::by(name, author, Rule::Changes(Arc::new(decide)))
    }

    /// A command that deletes a record, where a rule permits it: its tombstone is its last change (PL-8).
    pub fn deletion(
        name: RecordName,
        author: Author,
        judge: impl Fn(&R, Moment) -> Refused<Tombstone> + Send + Sync + 'static,
    ) -> Self {
        Self::by(name, author, Rule::Deletion(Arc::new(judge)))
    }

    fn by(name: RecordName, author: Author, rule: Rule<R>) -> Self {
        Self {
            name,
            author,
            request: None,
            etag: String::new(),
            seals: Vec::new(),
            command_hash: Vec::new(),
            erasing: None,
            authorise: None,
            beside: Vec::new(),
            signers: Vec::new(),
            fresh: false,
            rule,
        }
    }

    /// The same, effective once for this request id.
    #[must_use]
    pub fn once(mut self, request: Option<RequestKey>) -> Self {
        self.request = request;
        self
    }

    /// The same, once the caller's relation to the record permits it. This comes before all else: a caller that may not
    /// see the record learns nothing of it.
    #[must_use]
    pub fn authorised(mut self, by: impl Fn(Option<&R>) -> Result<(), Refusal> + Send + Sync + 'static) -> Self {
        self.authorise = Some(Arc::new(by));
        self
    }

    /// The same, refused where the record's head is another by now. An empty tag asks for nothing.
    #[must_use]
    pub fn if_head(mut self, etag: impl Into<String>) -> Self {
        self.etag = etag.into();
        self
    }

    /// The values whose seals stand in the command, and the hash of the sealed command.
    #[must_use]
    pub fn sealed(mut self, seals: Vec<Sealed>, command_hash: [u8; 32]) -> Self {
        self.seals = seals;
        self.command_hash = command_hash.to_vec();
        self
    }

    /// A row of the service's own, written or overwritten in the same transaction where the command changes anything.
    #[must_use]
    pub fn beside<A: ActiveModelTrait + Clone + Send + Sync + 'static>(mut self, row: A) -> Self {
        self.beside.push(Arc::new(Row(row)));
        self
    }

    /// The same, on a record whose id was made for it: nobody looks for it before it is written.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// Who signs the changes beside the node.
    #[must_use]
    pub fn signed_by(mut self, signers: Vec<Signer>) -> Self {
        self.signers = signers;
        self
    }

    /// The values that are erased in the same transaction, where the command changes anything.
    #[must_use]
    pub fn erasing(mut self, erasing: Erasing) -> Self {
        self.erasing = Some(erasing);
        self
    }
}

/// What a command led to.
#[derive(Clone, Debug)]
pub struct Receipt<R> {
    /// The record.
    pub name: RecordName,
    /// Its state after the command.
    pub state: Arc<R>,
    /// Its version.
    pub version: u64,
    /// Its head: what a later command may name as its `etag`.
    pub etag: String,
    /// Whether this is the first answer to a request that was sent before.
    pub repeated: bool,
}

/// A command without its type.
pub(crate) trait AnyCommand: Send + Sync {
    fn name(&self) -> &RecordName;
    fn author(&self) -> &Author;
    fn request(&self) -> Option<&RequestKey>;
    fn etag(&self) -> &str;
    fn seals(&self) -> &[Sealed];
    fn command_hash(&self) -> &[u8];
    fn erasing(&self) -> Option<&Erasing>;
    fn beside(&self) -> &[Arc<dyn Beside>];
    fn signers(&self) -> &[Signer];
    fn is_fresh(&self) -> bool;
    fn authorise(&self, before: Option<&AnyState>) -> Result<(), Refusal>;
    fn decide(&self, before: Option<&AnyState>, stamp: &Stamp, moment: Moment) -> Result<Vec<Step>, Refusal>;
}

impl<R: Record> AnyCommand for Command<R> {
    fn name(&self) -> &RecordName {
        &self.name
    }

    fn author(&self) -> &Author {
        &self.author
    }

    fn request(&self) -> Option<&RequestKey> {
        self.request.as_ref()
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

    fn beside(&self) -> &[Arc<dyn Beside>] {
        &self.beside
    }

    fn signers(&self) -> &[Signer] {
        &self.signers
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn authorise(&self, before: Option<&AnyState>) -> Result<(), Refusal> {
        self.authorise.as_ref().map_or(Ok(()), |authorise| authorise(before.map(|state| typed::<R>(state))))
    }

    fn decide(&self, before: Option<&AnyState>, stamp: &Stamp, moment: Moment) -> Result<Vec<Step>, Refusal> {
        let happened = match &self.rule {
            Rule::Changes(decide) => decide(before.map(|state| typed::<R>(state)), moment)?,
            Rule::Deletion(judge) => {
                let before = before.ok_or_else(|| Refusal::not_found(&self.name))?;
                let tombstone = judge(typed::<R>(before), moment)?;
                return Ok(vec![bury::<R>(before, &tombstone, stamp)]);
            }
        };
        steps::<R>(before, happened, stamp).map_err(|misfit| {
            tracing::error!(record = %self.name, %misfit, "a rule decided what cannot be folded");
            Refusal::because(Reason::Internal, "PL-3", "the platform contradicts itself; nothing was changed")
        })
    }
}

/// A change that does not fit through the broker would stop the relay of its service for ever.
pub(crate) fn within_change_limit(envelope: &[u8]) -> Result<(), Refusal> {
    if envelope.len() > CHANGE_BYTES {
        return Err(Refusal::because(Reason::Limit, "PL-4", format!("a change takes at most {CHANGE_BYTES} bytes"))
            .help("Nothing was changed. Send less in one command."));
    }
    Ok(())
}

/// Checks what every record must hold to before it is written.
pub(crate) fn within_audience_limit(audience: &Audience) -> Result<(), Refusal> {
    if audience.tenants.len() > hansa_kernel::limits::AUDIENCE_TENANTS {
        return Err(Refusal::because(Reason::Limit, "PL-1", "the record would be shared with too many tenants")
            .help("Share it with fewer."));
    }
    Ok(())
}
