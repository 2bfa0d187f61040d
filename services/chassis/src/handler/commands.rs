//! The command handler: accepts a write request, builds commands of the journal, and responds with the resource.
//!
//! The usual rpc is one call, [`CommandHandler::execute`], with the rule. An rpc that creates a record, or needs more than the state
//! for its decision, calls `accept`, then `create` or `update`, then `respond`.

use crate::{
    handler::request::{caller_of, parse_name},
    policy::Policy,
    status::ApiError,
};
use hansa_journal::{Author, BoxedCommand, Command, IdempotencyKey, Journal, Receipt, Target, seal_texts};
use hansa_kernel::{
    Access, Caller, Decision, IntoResource, Moment, Record, RecordId, RecordName, Refusal, Refused, envelope,
    seal::{Sealed, seal},
};
use hansa_proto::{Texts, WriteRequest, types::Tombstone};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response};
use uuid::Uuid;

/// An accepted write request: its caller, the request with seals in place of its texts, and its idempotency key.
#[derive(Clone, Debug)]
pub struct CommandContext<Q> {
    /// The caller.
    pub caller: Caller,
    /// The request, with seals in place of its texts.
    pub request: Arc<Q>,
    /// Whether the command is only validated.
    pub validate_only: bool,
    access: Access,
    author: Author,
    seals: Vec<Sealed>,
    hash: [u8; 32],
    idempotency_key: Option<IdempotencyKey>,
}

impl<Q> CommandContext<Q> {
    /// Creates the context of a part of a command over many records: the request for one of them.
    ///
    /// Its idempotency key derives from the whole command's key and the record. Its texts are sealed again, so that an erasure in
    /// one record leaves the others unchanged.
    ///
    /// # Errors
    /// Never, because the texts of the whole command have been checked.
    pub fn part<P>(&self, record: RecordId, mut request: P) -> Refused<CommandContext<P>>
    where
        P: WriteRequest + Texts + Message,
    {
        request.visit_texts(&mut |text| {
            if let Some(sealed) = self.seals.iter().find(|sealed| sealed.seal[..] == text.seal[..]) {
                text.text = String::from_utf8_lossy(&sealed.value).into_owned();
            }
        });
        let seals = seal_texts(&mut request)?;
        let hash = envelope::hash(&request.encode_to_vec());
        let derive = |key: IdempotencyKey| IdempotencyKey { id: Uuid::new_v5(&key.id, record.0.as_bytes()), ..key };
        Ok(CommandContext {
            caller: self.caller.clone(),
            request: Arc::new(request),
            validate_only: self.validate_only,
            access: self.access.clone(),
            author: self.author.clone(),
            seals,
            hash,
            idempotency_key: self.idempotency_key.map(derive),
        })
    }

    /// Returns whether the request has an idempotency key.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.idempotency_key.is_some()
    }
}

/// A rule of the domain over the state of a record, the request and the caller, with or without the time. `Arity` only tells the two
/// forms apart.
pub trait Rule<R: Record, Q, Arity>: Send + Sync + 'static {
    /// Applies the rule.
    ///
    /// # Errors
    /// The refusal of the rule.
    fn decide(&self, state: &R, request: &Q, caller: &Caller, now: Moment) -> Decision<R::Change>;
}

/// Marks rules that take the time.
#[derive(Debug)]
pub struct WithTime;

/// Marks rules that do not depend on the time.
#[derive(Debug)]
pub struct WithoutTime;

impl<R, Q, F> Rule<R, Q, WithTime> for F
where
    R: Record,
    F: Fn(&R, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
{
    fn decide(&self, state: &R, request: &Q, caller: &Caller, now: Moment) -> Decision<R::Change> {
        self(state, request, caller, now)
    }
}

impl<R, Q, F> Rule<R, Q, WithoutTime> for F
where
    R: Record,
    F: Fn(&R, &Q, &Caller) -> Decision<R::Change> + Send + Sync + 'static,
{
    fn decide(&self, state: &R, request: &Q, caller: &Caller, _: Moment) -> Decision<R::Change> {
        self(state, request, caller)
    }
}

/// Handles the write rpcs of one service.
#[derive(Clone, Debug)]
pub struct CommandHandler {
    journal: Journal,
    policy: Arc<Policy>,
}

impl CommandHandler {
    /// Creates the command handler of the service that owns the journal.
    #[must_use]
    pub fn new(journal: Journal, policy: Arc<Policy>) -> Self {
        Self { journal, policy }
    }

    /// Accepts a write request: reads caller and idempotency key, and seals the texts.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the request id is not a UUID, or a text is too long.
    pub fn accept<Q>(&self, request: Request<Q>) -> Refused<CommandContext<Q>>
    where
        Q: WriteRequest + Texts + Message + Clone + Default,
    {
        let (caller, rpc) = caller_of(&request)?;
        let author = Author {
            // The caller acts in the first of its roles that the policies permit to make this call.
            actor: caller.actor(caller.acting_as(&self.policy.roles_for(&rpc))),
            tenant: Some(caller.tenant),
            // Of the span of this call, so that the spans of its effects become its children.
            trace: hansa_journal::trace::current(),
        };
        let access = self.policy.access(&rpc, &caller);
        let mut request = request.into_inner();
        let validate_only = request.validate_only();
        let idempotency_key = self.idempotency_key(&caller, &rpc, &request)?;
        let seals = seal_texts(&mut request)?;
        let request = request.without_id();
        let hash = envelope::hash(&request.encode_to_vec());
        Ok(CommandContext {
            caller,
            request: Arc::new(request),
            validate_only,
            access,
            author,
            seals,
            hash,
            idempotency_key,
        })
    }

    fn idempotency_key<Q: WriteRequest + Message + Clone>(
        &self,
        caller: &Caller,
        rpc: &str,
        request: &Q,
    ) -> Refused<Option<IdempotencyKey>> {
        if request.request_id().is_empty() {
            return Ok(None);
        }
        let id = Uuid::try_parse(request.request_id()).map_err(|_| Refusal::field("request_id", "is not a UUID"))?;
        let mut content = rpc.as_bytes().to_vec();
        content.extend(request.clone().without_id().encode_to_vec());
        let keyed = seal(&content, self.journal.node().derive("request fingerprints")).seal;
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&keyed[..16]);
        Ok(Some(IdempotencyKey { tenant: caller.tenant, id, fingerprint }))
    }

    /// Builds a command that updates an existing record.
    pub fn update<R, Q, F>(&self, context: &CommandContext<Q>, name: RecordName, etag: &str, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(&R, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    {
        let (caller, request, target) = (context.caller.clone(), context.request.clone(), name.clone());
        let command = Command::new(name, context.author.clone(), move |state: Option<&R>, now| {
            let state = state.ok_or_else(|| Refusal::not_found(&target))?;
            rule(state, &request, &caller, now)
        });
        complete(context, command.if_match(etag), Target::Existing)
    }

    /// Builds a command that deletes an existing record if the rule permits it (PL-8).
    pub fn delete<R, Q, F>(&self, context: &CommandContext<Q>, name: RecordName, etag: &str, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(&R, &Q, &Caller) -> Refused<Tombstone> + Send + Sync + 'static,
    {
        let (caller, request) = (context.caller.clone(), context.request.clone());
        let rule = move |state: &R, _: Moment| rule(state, &request, &caller);
        complete(context, Command::deletion(name, context.author.clone(), rule).if_match(etag), Target::Existing)
    }

    /// Builds a command that creates a record. If the record exists, the rule gets its state.
    pub fn create<R, Q, F>(&self, context: &CommandContext<Q>, name: RecordName, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(Option<&R>, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    {
        let (caller, request) = (context.caller.clone(), context.request.clone());
        let rule = move |state: Option<&R>, now| rule(state, &request, &caller, now);
        complete(context, Command::new(name, context.author.clone(), rule), Target::MayCreate)
    }

    /// Submits a command.
    ///
    /// # Errors
    /// The refusal of the rule or of the platform.
    pub async fn submit<R: Record, Q>(&self, context: &CommandContext<Q>, command: Command<R>) -> Refused<Receipt<R>> {
        self.journal.submit(command, context.validate_only).await
    }

    /// Submits a command, and responds with the resource.
    ///
    /// # Errors
    /// The refusal of the rule or of the platform.
    pub async fn respond<R: IntoResource, Q>(
        &self,
        context: &CommandContext<Q>,
        command: Command<R>,
    ) -> Result<Response<R::Resource>, ApiError> {
        self.respond_atomically(context, command, Vec::new()).await
    }

    /// Submits commands that take effect together, and responds with the resource of the first.
    ///
    /// # Errors
    /// The first refusal among them.
    pub async fn respond_atomically<R: IntoResource, Q>(
        &self,
        context: &CommandContext<Q>,
        command: Command<R>,
        others: Vec<BoxedCommand>,
    ) -> Result<Response<R::Resource>, ApiError> {
        let receipt = self.journal.submit_atomically(command, others, context.validate_only).await?;
        self.resource(context, &receipt).await
    }

    async fn resource<R: IntoResource, Q>(
        &self,
        context: &CommandContext<Q>,
        receipt: &Receipt<R>,
    ) -> Result<Response<R::Resource>, ApiError> {
        let resource = receipt.state.to_resource(&receipt.name, &receipt.etag, &context.caller);
        let resource = super::queries::with_times(resource, receipt.times);
        self.resolve(context, resource).await
    }

    /// Responds with a message after filling in its texts.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the database is unavailable.
    pub async fn resolve<M: Texts, Q>(&self, context: &CommandContext<Q>, message: M) -> Result<Response<M>, ApiError> {
        let mut message = [message];
        self.journal.resolve_texts(&mut message, &context.seals).await?;
        let [message] = message;
        Ok(Response::new(message))
    }

    /// Runs `handle`. If it fails, returns the first answer to the request, in case the request was answered before (PL-4).
    ///
    /// Use this around lookups that can refuse before the writer sees the command: what they look up may have been deleted since
    /// the first request.
    ///
    /// # Errors
    /// The refusal of `handle`, if the request was not answered before.
    pub async fn replay_or<R: IntoResource, Q>(
        &self,
        context: &CommandContext<Q>,
        handle: impl Future<Output = Result<Response<R::Resource>, ApiError>>,
    ) -> Result<Response<R::Resource>, ApiError> {
        let error = match handle.await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let Some(key) = &context.idempotency_key else { return Err(error) };
        match self.journal.replayed_receipt::<R>(key).await? {
            Some(receipt) => self.resource(context, &receipt).await,
            None => Err(error),
        }
    }

    /// Handles an rpc that updates the one record that its request names.
    ///
    /// # Errors
    /// The refusal of the rule or of the platform.
    pub async fn execute<R, Q, Arity>(
        &self,
        request: Request<Q>,
        rule: impl Rule<R, Q, Arity>,
    ) -> Result<Response<R::Resource>, ApiError>
    where
        R: IntoResource,
        Q: WriteRequest + Texts + Message + Clone + Default + 'static,
    {
        let context = self.accept(request)?;
        let (field, name) = context.request.target();
        let rule = move |state: &R, request: &Q, caller: &Caller, now| rule.decide(state, request, caller, now);
        let command = self.update(&context, parse_name::<R>(field, name)?, context.request.etag(), rule);
        self.respond(&context, command).await
    }

    /// Handles an rpc that deletes the one record that its request names (PL-8).
    ///
    /// # Errors
    /// The refusal of the rule or of the platform.
    pub async fn execute_delete<R, Q, F>(&self, request: Request<Q>, rule: F) -> Result<Response<()>, ApiError>
    where
        R: Record,
        Q: WriteRequest + Texts + Message + Clone + Default + 'static,
        F: Fn(&R, &Q, &Caller) -> Refused<Tombstone> + Send + Sync + 'static,
    {
        let context = self.accept(request)?;
        let (field, name) = context.request.target();
        let command = self.delete(&context, parse_name::<R>(field, name)?, context.request.etag(), rule);
        self.submit(&context, command).await?;
        Ok(Response::new(()))
    }
}

/// Adds to a command what every command of the context carries.
fn complete<R: Record, Q>(context: &CommandContext<Q>, command: Command<R>, target: Target) -> Command<R> {
    command
        .authorized(context.access.clone(), target)
        .sealed(context.seals.clone(), context.hash)
        .idempotent(context.idempotency_key)
}

/// Generates the id of a new record: a UUIDv7, ordered by time and random otherwise.
#[must_use]
pub fn new_id() -> RecordId {
    RecordId(Uuid::now_v7())
}
