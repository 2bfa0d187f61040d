//! What handlers read from requests: names of records, the caller, the rpc.

use crate::auth_layer::Rpc;
use hansa_kernel::{Caller, ReasonClass, Record, RecordName, Refusal, Refused};
use std::sync::Arc;
use tonic::Request;

/// Parses the name of a record in a field of a request.
///
/// # Errors
/// `INVALID_FIELD` if it is not a name of the record's collection.
pub fn parse_name<R: Record>(field: &str, name: &str) -> Refused<RecordName> {
    RecordName::parse(name, R::COLLECTION, field)
}

/// Returns the caller and the rpc that the auth layer has put into the request.
pub(super) fn caller_of<Q>(request: &Request<Q>) -> Refused<(Caller, Arc<str>)> {
    let extensions = request.extensions();
    match (extensions.get::<Caller>(), extensions.get::<Rpc>()) {
        (Some(caller), Some(Rpc(rpc))) => Ok((caller.clone(), rpc.clone())),
        // The auth layer wraps every service, so a call without a caller did not pass it.
        _ => Err(Refusal::because(
            ReasonClass::NotAuthenticated,
            "PL-2",
            "TOKEN_INVALID",
            "the call carries no valid token",
        )),
    }
}
