//! Catches panics. A panic is a defect of the program; it must end neither the writer nor a subscription.

use futures::FutureExt;
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A computation panicked. The panic hook has logged the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panicked;

/// Runs `work` and catches a panic. The caller must discard whatever `work` may have left half done.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

/// The same for a future.
pub(crate) async fn catch_async<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}
