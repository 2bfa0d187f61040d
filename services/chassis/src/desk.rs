//! The desk: where the calls of a service come in. A handler opens the request, names the record and the rule, and renders
//! the answer; all that every call has in common is done here once.

use crate::{guard::Rpc, policy::Policy, status::to_status};
use hansa_journal::{Author, Command, Journal, Loaded, Receipt, RequestKey, Together, seal_texts};
use hansa_kernel::{
    Caller, Decision, Moment, Reason, Record, RecordId, RecordName, Refusal, Refused, Relation, Role, envelope,
    seal::{Sealed, seal},
};
use hansa_proto::{Texts, WriteRequest, types::Tombstone};
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// A command that has come in: authenticated, sealed, with its request id.
#[derive(Clone, Debug)]
pub struct Act<Q> {
    /// Who calls.
    pub caller: Caller,
    /// What is asked, with seals in place of its texts.
    pub request: Arc<Q>,
    /// Whether it is only tried.
    pub validate_only: bool,
    rpc: Arc<str>,
    seals: Vec<Sealed>,
    hash: [u8; 32],
    pub(crate) key: Option<RequestKey>,
    trace: Option<String>,
}

impl<Q> Act<Q> {
    /// A part of a command over many records: the command on one of them, with an id of its own that derives from the whole
    /// one's. Its texts are sealed anew, so that what is erased in one record stays in the others.
    ///
    /// # Errors
    /// Never for texts of the whole command, which were checked.
    pub fn part<P>(&self, record: RecordId, mut request: P) -> Result<Act<P>, Refusal>
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
        let key = self.key.map(|key| RequestKey { id: Uuid::new_v5(&key.id, record.0.as_bytes()), ..key });
        Ok(Act {
            caller: self.caller.clone(),
            request: Arc::new(request),
            validate_only: self.validate_only,
            rpc: self.rpc.clone(),
            seals,
            hash,
            key,
            trace: self.trace.clone(),
        })
    }

    /// Whether it bears an id by which a repetition is known.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        self.key.is_some()
    }
}

/// A service's desk.
#[derive(Clone, Debug)]
pub struct Desk {
    journal: Journal,
    policy: Arc<Policy>,
}

fn caller_of<Q>(request: &Request<Q>) -> Result<(Caller, Arc<str>), Refusal> {
    let extensions = request.extensions();
    match (extensions.get::<Caller>(), extensions.get::<Rpc>()) {
        (Some(caller), Some(Rpc(rpc))) => Ok((caller.clone(), rpc.clone())),
        // The guard stands before every service; a call that came around it is nobody's.
        _ => Err(Refusal::because(Reason::NotAuthenticated, "PL-2", "the call carries no valid token")),
    }
}

impl Desk {
    /// The desk of the service that owns the journal.
    #[must_use]
    pub fn new(journal: Journal, policy: Arc<Policy>) -> Self {
        Self { journal, policy }
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Opens a write: reads the caller, the request id, and seals the texts.
    ///
    /// # Errors
    /// A malformed request id, an oversized text.
    pub fn open<Q>(&self, request: Request<Q>) -> Result<Act<Q>, Status>
    where
        Q: WriteRequest + Texts + Message + Clone + Default,
    {
        self.opened(request).map_err(|refusal| to_status(&refusal))
    }

    fn opened<Q>(&self, request: Request<Q>) -> Result<Act<Q>, Refusal>
    where
        Q: WriteRequest + Texts + Message + Clone + Default,
    {
        let (caller, rpc) = caller_of(&request)?;
        // Of the span of this call: what it leads to hangs below it, and not beside it.
        let trace = hansa_journal::trace::current();
        let mut request = request.into_inner();
        let validate_only = request.validate_only();
        let key = self.key(&caller, &rpc, &request)?;
        let seals = seal_texts(&mut request)?;
        let request = request.without_id();
        let hash = envelope::hash(&request.encode_to_vec());
        Ok(Act { caller, request: Arc::new(request), validate_only, rpc, seals, hash, key, trace })
    }

    fn key<Q: WriteRequest + Message + Clone>(
        &self,
        caller: &Caller,
        rpc: &str,
        request: &Q,
    ) -> Result<Option<RequestKey>, Refusal> {
        if request.request_id().is_empty() {
            return Ok(None);
        }
        let id = Uuid::try_parse(request.request_id()).map_err(|_| Refusal::field("request_id", "is not a UUID"))?;
        let mut content = rpc.as_bytes().to_vec();
        content.extend(request.clone().without_id().encode_to_vec());
        let keyed = seal(&content, self.journal.node().derive("request fingerprints")).seal;
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&keyed[..16]);
        Ok(Some(RequestKey { tenant: caller.tenant, id, fingerprint }))
    }

    /// Whether the caller may do this to a record that stands so to it. A stranger learns nothing.
    fn authorise(policy: &Policy, rpc: &str, caller: &Caller, relation: Relation, name: &str) -> Result<(), Refusal> {
        if policy.permits(rpc, caller, relation) {
            Ok(())
        } else if relation == Relation::Stranger {
            Err(Refusal::not_found(name))
        } else {
            Err(Refusal::not_permitted("your role, or how your city stands to the record, does not permit this")
                .missing(name, format!("your tenant is {} here", relation.as_str()))
                .help("Ask someone of the record's own side, in a role that may: `hansa policy` prints which."))
        }
    }

    /// The caller as it stands in the change: in the first of its roles that permits the call.
    fn author<Q>(&self, act: &Act<Q>) -> Author {
        let role: Option<Role> = act.caller.acting_as(&self.policy.roles_for(&act.rpc));
        Author { actor: act.caller.actor(role), tenant: Some(act.caller.tenant), trace: act.trace.clone() }
    }

    /// A command on a record that must be there.
    pub fn on<R, Q, F>(&self, act: &Act<Q>, name: RecordName, etag: &str, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(&R, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    {
        let (caller, request, target) = (act.caller.clone(), act.request.clone(), name.clone());
        let command = Command::new(name.clone(), self.author(act), move |state: Option<&R>, at| {
            let state = state.ok_or_else(|| Refusal::not_found(&target))?;
            rule(state, &request, &caller, at)
        });
        self.about(act, command, name, etag)
    }

    /// A command that deletes a record, where the rule permits it (PL-8).
    pub fn delete<R, Q, F>(&self, act: &Act<Q>, name: RecordName, etag: &str, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(&R, &Q, &Caller) -> Refused<Tombstone> + Send + Sync + 'static,
    {
        let (caller, request) = (act.caller.clone(), act.request.clone());
        let command =
            Command::deletion(name.clone(), self.author(act), move |state: &R, _| rule(state, &request, &caller));
        self.about(act, command, name, etag)
    }

    /// What holds for every command on a record that must be there.
    fn about<R: Record, Q>(&self, act: &Act<Q>, command: Command<R>, name: RecordName, etag: &str) -> Command<R> {
        let (policy, rpc, who) = (self.policy.clone(), act.rpc.clone(), act.caller.clone());
        command
            .authorised(move |state: Option<&R>| {
                let state = state.ok_or_else(|| Refusal::not_found(&name))?;
                Self::authorise(&policy, &rpc, &who, state.relation(&who), name.as_str())
            })
            .if_head(etag)
            .sealed(act.seals.clone(), act.hash)
            .once(act.key)
    }

    /// A command that makes a record. Where there is one already, the rule hears of it.
    pub fn make<R, Q, F>(&self, act: &Act<Q>, name: RecordName, rule: F) -> Command<R>
    where
        R: Record,
        Q: Send + Sync + 'static,
        F: Fn(Option<&R>, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    {
        let (caller, request) = (act.caller.clone(), act.request.clone());
        let (policy, rpc, who, subject) = (self.policy.clone(), act.rpc.clone(), act.caller.clone(), name.clone());
        Command::new(name, self.author(act), move |state: Option<&R>, at| rule(state, &request, &caller, at))
            .authorised(move |state: Option<&R>| {
                let relation = state.map_or(Relation::Owner, |state| state.relation(&who));
                Self::authorise(&policy, &rpc, &who, relation, subject.as_str())
            })
            .sealed(act.seals.clone(), act.hash)
            .once(act.key)
    }

    /// Decides a command.
    ///
    /// # Errors
    /// As the rule or the platform refuses.
    pub async fn submit<R: Record, Q>(&self, act: &Act<Q>, command: Command<R>) -> Result<Receipt<R>, Status> {
        self.submit_with(act, command, Vec::new()).await
    }

    /// Decides commands that take effect together.
    ///
    /// # Errors
    /// As the first rule that refuses.
    pub async fn submit_with<R: Record, Q>(
        &self,
        act: &Act<Q>,
        command: Command<R>,
        others: Vec<Together>,
    ) -> Result<Receipt<R>, Status> {
        self.journal.submit_together(command, others, act.validate_only).await.map_err(|refusal| to_status(&refusal))
    }

    /// Answers with a resource, its texts resolved.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn answer<M: Texts, Q>(&self, act: &Act<Q>, resource: M) -> Result<Response<M>, Status> {
        let mut resource = [resource];
        self.journal.resolve_texts(&mut resource, &act.seals).await.map_err(|refusal| to_status(&refusal))?;
        let [resource] = resource;
        Ok(Response::new(resource))
    }

    /// Reads a record that the caller may see.
    ///
    /// # Errors
    /// NOT_FOUND where there is none, or the caller may not see it; by PL-8 where it was deleted.
    pub async fn read<R: Record, Q>(&self, request: &Request<Q>, name: &RecordName) -> Result<Loaded<R>, Status> {
        let read = async {
            let (caller, rpc) = caller_of(request)?;
            let loaded = self.journal.load_or_tombstone::<R>(name).await?.ok_or_else(|| Refusal::not_found(name))?;
            Self::authorise(&self.policy, &rpc, &caller, loaded.state.relation(&caller), name.as_str())?;
            match loaded.deleted_at {
                Some(at) => Err(Refusal::deleted(name, at)),
                None => Ok(loaded),
            }
        };
        read.await.map_err(|refusal: Refusal| to_status(&refusal))
    }

    /// Reads records of a page, without those that the caller may not see: a view can be a moment behind the policy.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn read_each<R: Record, Q>(&self, request: &Request<Q>, ids: &[Uuid]) -> Result<Vec<Loaded<R>>, Status> {
        let read = async {
            let (caller, rpc) = caller_of(request)?;
            let mut loaded = self.journal.load_each::<R>(ids).await?;
            loaded.retain(|one| self.policy.permits(&rpc, &caller, one.state.relation(&caller)));
            Ok(loaded)
        };
        read.await.map_err(|refusal: Refusal| to_status(&refusal))
    }

    /// Resolves the texts of resources that were read.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn resolve<M: Texts>(&self, mut resources: Vec<M>) -> Result<Vec<M>, Status> {
        self.journal.resolve_texts(&mut resources, &[]).await.map_err(|refusal| to_status(&refusal))?;
        Ok(resources)
    }

    /// The caller of a read that is about no one record, once the policy permits it to those who stand so to `name`.
    ///
    /// # Errors
    /// NOT_FOUND for a stranger whom the policy does not permit it, PERMISSION_DENIED for anyone else.
    pub fn permit<Q>(&self, request: &Request<Q>, relation: Relation, name: &str) -> Result<Caller, Status> {
        let permitted = caller_of(request).and_then(|(caller, rpc)| {
            Self::authorise(&self.policy, &rpc, &caller, relation, name)?;
            Ok(caller)
        });
        permitted.map_err(|refusal| to_status(&refusal))
    }

    /// The caller of a read.
    ///
    /// # Errors
    /// Where the call came around the guard.
    pub fn caller<Q>(&self, request: &Request<Q>) -> Result<Caller, Status> {
        caller_of(request).map(|(caller, _)| caller).map_err(|refusal| to_status(&refusal))
    }
}

/// A new record's id: ordered by time, random otherwise.
#[must_use]
pub fn new_id() -> RecordId {
    RecordId(Uuid::now_v7())
}
