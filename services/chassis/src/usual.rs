//! The usual calls, whole: show a record, list a page of them, take a step with one. What is left to a service is the rule.

use crate::{Act, Desk, Page, ask};
use hansa_journal::{Command, Found, Together};
use hansa_kernel::{Caller, Decision, Moment, Record, RecordName, Refused, Shown};
use hansa_proto::{Texts, WriteRequest, types::Tombstone};
use prost::Message;
use tonic::{Request, Response, Status};

/// The record that a field names.
///
/// # Errors
/// INVALID_ARGUMENT where it is no name of this collection.
pub fn named<R: Record>(field: &str, name: &str) -> Result<RecordName, Status> {
    ask(RecordName::parse(name, R::COLLECTION, field))
}

/// A rule that time has no part in.
pub fn timeless<R, Q, C>(
    rule: fn(&R, &Q, &Caller) -> Decision<C>,
) -> impl Fn(&R, &Q, &Caller, Moment) -> Decision<C> + Send + Sync + 'static
where
    R: 'static,
    Q: 'static,
    C: 'static,
{
    move |state, asked, caller, _| rule(state, asked, caller)
}

impl Desk {
    /// Shows a record that the caller may see.
    ///
    /// # Errors
    /// As `read` says.
    pub async fn get<R: Shown, Q>(&self, request: &Request<Q>, name: &str) -> Result<Response<R::Resource>, Status> {
        let (caller, name) = (self.caller(request)?, named::<R>("name", name)?);
        let found = self.read::<R, _>(request, &name).await?;
        let mut shown = self.resolve(vec![found.state.shown(&name, &found.etag, &caller)]).await?;
        Ok(Response::new(shown.swap_remove(0)))
    }

    /// Shows what was found for a page, with the token of the next.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn listed<R: Shown, Q>(
        &self,
        request: &Request<Q>,
        page: &Page,
        found: Found,
    ) -> Result<(Vec<R::Resource>, String), Status> {
        let caller = self.caller(request)?;
        let records = self.read_each::<R, _>(request, &found.ids).await?;
        let shown = records.iter().map(|one| one.state.shown(&one.name, &one.etag, &caller)).collect();
        Ok((self.resolve(shown).await?, page.next(found.next)))
    }

    /// What a request that was made before led to, where it is refused now before a rule hears of it: what it looks up may be
    /// gone since. Otherwise as it is decided (PL-4).
    ///
    /// # Errors
    /// As it is refused.
    pub async fn once<R: Shown, Q>(
        &self,
        act: &Act<Q>,
        decided: impl Future<Output = Result<Response<R::Resource>, Status>>,
    ) -> Result<Response<R::Resource>, Status> {
        let refused = match decided.await {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        let Some(key) = &act.key else { return Err(refused) };
        match ask(self.journal().first_answer::<R>(key).await)? {
            Some(receipt) => self.answer(act, receipt.state.shown(&receipt.name, &receipt.etag, &act.caller)).await,
            None => Err(refused),
        }
    }

    /// Decides a command, and shows what came of it.
    ///
    /// # Errors
    /// As the rule or the platform refuses.
    pub async fn done<R: Shown, Q>(&self, act: &Act<Q>, command: Command<R>) -> Result<Response<R::Resource>, Status> {
        self.done_with(act, command, Vec::new()).await
    }

    /// The same for commands that take effect together.
    ///
    /// # Errors
    /// As the first rule that refuses.
    pub async fn done_with<R: Shown, Q>(
        &self,
        act: &Act<Q>,
        command: Command<R>,
        others: Vec<Together>,
    ) -> Result<Response<R::Resource>, Status> {
        let receipt = self.submit_with(act, command, others).await?;
        self.answer(act, receipt.state.shown(&receipt.name, &receipt.etag, &act.caller)).await
    }

    /// One request, one record, one rule.
    ///
    /// # Errors
    /// As the rule or the platform refuses.
    pub async fn step<R, Q, F>(&self, request: Request<Q>, rule: F) -> Result<Response<R::Resource>, Status>
    where
        R: Shown,
        Q: WriteRequest + Texts + Message + Clone + Default + 'static,
        F: Fn(&R, &Q, &Caller, Moment) -> Decision<R::Change> + Send + Sync + 'static,
    {
        let act = self.open(request)?;
        let (field, name) = act.request.target();
        let command = self.on(&act, named::<R>(field, name)?, act.request.etag(), rule);
        self.done(&act, command).await
    }

    /// One request, one record, and the rule that says whether it may be deleted (PL-8).
    ///
    /// # Errors
    /// As the rule or the platform refuses.
    pub async fn remove<R, Q, F>(&self, request: Request<Q>, rule: F) -> Result<Response<()>, Status>
    where
        R: Record,
        Q: WriteRequest + Texts + Message + Clone + Default + 'static,
        F: Fn(&R, &Q, &Caller) -> Refused<Tombstone> + Send + Sync + 'static,
    {
        let act = self.open(request)?;
        let (field, name) = act.request.target();
        let command = self.delete(&act, named::<R>(field, name)?, act.request.etag(), rule);
        self.submit(&act, command).await?;
        Ok(Response::new(()))
    }
}
