//! A panic is a mistake in the program. It must end neither a writer nor a subscription, nor what others asked of them.

use crate::{
    job::{Done, Job},
    journal::Inner,
};
use futures::FutureExt;
use hansa_kernel::{Misfit, Reason, Refusal};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What one piece of work is decided to be. A rule that panics spoils nobody else's: nothing of it is in the batch yet.
pub(crate) fn decided(work: impl FnOnce() -> Result<Vec<Done>, Refusal>) -> Result<Vec<Done>, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let refusal = Refusal::because(Reason::Internal, "PL-4", "the platform made a mistake in deciding this");
        Err(refusal.help("Nothing was changed. Tell the node's operator when it was."))
    })
}

/// What becomes of a mirror. A fold that panics would do so again at each start: its record is put into quarantine.
pub(crate) fn folded<T>(work: impl FnOnce() -> Result<T, Misfit>) -> Result<T, Misfit> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Misfit("the platform made a mistake in folding it".into())))
}

/// A panic outside of a rule ends the batch and not the writer. Its callers hear that it is not known what stands.
pub(crate) async fn survived(inner: &Inner, batch: impl Future<Output = Vec<Job>>) -> Vec<Job> {
    AssertUnwindSafe(batch).catch_unwind().await.unwrap_or_else(|_| {
        inner.cache.invalidate_all();
        Vec::new()
    })
}
