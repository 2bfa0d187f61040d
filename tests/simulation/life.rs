//! One life of a node: the node opens its files, runs step by step, and crashes without warning.

use crate::broker::{Brokers, Unruly};
use hansa::node::Node;
use hansa_chassis::{Config, Module, auth_layer::Rpc, policy::Policy};
use hansa_journal::{Journal, JournalSource, ManualClock, Source, Subscription, Worker};
use hansa_kernel::{Caller, Refusal};
use hansa_tests::raw::Raw;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};
use tokio::{runtime::Runtime, sync::Notify};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, service::Routes};

/// An incoming call: rpc, caller and request.
#[derive(Clone)]
pub struct Call {
    /// Path of the rpc, for example `/hansa.partnerships.v1.AgreementService/SignAgreement`.
    pub path: &'static str,
    pub who: Caller,
    pub bytes: Vec<u8>,
}

impl Call {
    /// Returns the service of the rpc.
    pub fn service(&self) -> &'static str {
        self.path.split('.').nth(1).unwrap()
    }
}

/// The result of a step. `None` if the node crashed during the step.
pub type Stepped<T> = Option<T>;

/// A running node, on a runtime of its own in this thread. Only the writers run by themselves, and only while `look`
/// or a step drives the runtime. So the test decides where the node crashes.
pub struct Life {
    runtime: Runtime,
    routes: Option<Routes>,
    pub journals: Vec<Journal>,
    pub workers: Vec<Box<dyn Worker>>,
    /// Notified if a source wants the node to crash.
    cut: Arc<Notify>,
    lock: Option<Box<dyn std::any::Any>>,
}

/// The policy, which is the same for all lives.
static POLICY: OnceLock<Arc<Policy>> = OnceLock::new();

impl Life {
    /// Opens the node in a folder. With `brokers` the subscriptions get their changes from simulated brokers,
    /// otherwise from the journals of the other services.
    pub fn begin(folder: &Path, clock: &ManualClock, brokers: Option<&Brokers>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cut = Arc::new(Notify::new());
        let config = Config { data: folder.to_owned(), ..Config::default() };
        let open = Node::open(config, &[], Arc::new(clock.clone()));
        let node = runtime.block_on(open).expect("the node opens its files");
        let journals: Vec<Journal> = node.modules.iter().map(|module| module.journal.clone()).collect();
        let policy = POLICY.get_or_init(|| Arc::new(Module::policy(&node.modules).unwrap()));
        let source = |subscription: &Subscription, from: &'static str| -> anyhow::Result<Box<dyn Source>> {
            let owner = journals.iter().find(|journal| journal.service() == from).unwrap();
            let honest = JournalSource::new(owner);
            Ok(match brokers {
                None => Box::new(honest),
                Some(brokers) => Box::new(Unruly::new(honest, brokers.of(subscription.name()), cut.clone())),
            })
        };
        let parts = node.parts(policy, source, &CancellationToken::new()).unwrap();
        let routes = Some(parts.routes.routes());
        Self { runtime, routes, journals, workers: parts.workers, cut, lock: Some(Box::new(parts.lock)) }
    }

    /// Returns the journal of a service.
    pub fn journal(&self, service: &str) -> &Journal {
        self.journals.iter().find(|journal| journal.service() == service).unwrap()
    }

    /// Drives the runtime until the work is done.
    pub fn look<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Makes a call. With `commits` the node crashes after this number of commits, before the last one is reported.
    pub fn call(&self, call: &Call, commits: Option<u64>) -> Stepped<Result<Vec<u8>, Status>> {
        let mut request = Request::new(call.bytes.clone());
        request.extensions_mut().insert(call.who.clone());
        request.extensions_mut().insert(Rpc(call.path.into()));
        let routes = self.routes.clone().unwrap();
        let answered = async {
            let mut grpc = Grpc::new(routes);
            grpc.ready().await.map_err(|error| Status::new(Code::Unavailable, error.to_string()))?;
            let answer = grpc.unary(request, PathAndQuery::from_static(call.path), Raw).await;
            answer.map(tonic::Response::into_inner)
        };
        self.look(until_cut(&self.journals, &self.cut, commits, answered))
    }

    /// Lets a worker take a step. With `commits` the node crashes as in `call`.
    pub fn step(&mut self, worker: usize, commits: Option<u64>) -> Stepped<Result<usize, Refusal>> {
        let step = self.workers[worker].step();
        self.runtime.block_on(until_cut(&self.journals, &self.cut, commits, step))
    }
}

impl Drop for Life {
    /// Drops all work in progress, as if the process was killed.
    fn drop(&mut self) {
        let within = self.runtime.enter();
        (self.routes, self.lock) = (None, None);
        self.workers.clear();
        self.journals.clear();
        drop(within);
    }
}

/// Runs the work until it is done, until the node has made `commits` commits, or until `cut` is notified.
async fn until_cut<T>(
    journals: &[Journal],
    cut: &Notify,
    commits: Option<u64>,
    work: impl Future<Output = T>,
) -> Stepped<T> {
    let mut committed: Vec<_> = journals.iter().map(Journal::committed).collect();
    let mut left = commits;
    tokio::pin!(work);
    loop {
        let commit = futures::future::select_all(committed.iter_mut().map(|one| Box::pin(one.changed())));
        tokio::select! {
            biased;
            () = cut.notified() => return None,
            _ = commit, if left.is_some() => left = left.map(|left| left - 1),
            done = &mut work => return Some(done),
        }
        if left == Some(0) {
            return None;
        }
    }
}
