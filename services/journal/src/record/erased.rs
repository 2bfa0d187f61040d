//! A record type without its Rust types: snapshot, fold, timer and views, as the journal needs them.

use crate::record::view::{ErasedView, View, ViewType};
use chrono::{DateTime, Utc};
use hansa_kernel::{AssuranceLevel, Audience, Disclosed, Emitted, FoldError, Record, Stamp, TenantId, envelope, time};
use hansa_proto::{
    ChangeSet, Texts,
    types::{ChangeEnvelope, LocalizedText, Tombstone},
};
use prost::{Message, Name};
use std::{any::Any, marker::PhantomData, sync::Arc};

/// The state of a record with its deletion, without its type. It holds a [`Snapshot`].
pub(crate) type ErasedState = Arc<dyn Any + Send + Sync>;

/// The revision of the snapshot format that all record types share. Raise it if the format changes.
const SNAPSHOT_REVISION: i32 = 2 << 24;

/// The three high bits of a stored revision hold the rebuild generation: how often a rebuild has replaced the snapshot, modulo 8.
/// It fences writers that still cache the replaced state.
const GENERATION_SHIFT: u32 = 28;
pub(crate) const GENERATION_MASK: i32 = 7 << GENERATION_SHIFT;

/// Returns the rebuild generation that a stored revision contains, unshifted.
pub(crate) fn rebuild_generation(revision: i32) -> i32 {
    revision & GENERATION_MASK
}

/// Returns the revision of the state's shape that a stored revision contains.
pub(crate) fn shape(revision: i32) -> i32 {
    revision & !GENERATION_MASK
}

/// Returns the next rebuild generation.
pub(crate) fn next_rebuild_generation(generation: i32) -> i32 {
    generation.wrapping_add(1 << GENERATION_SHIFT) & GENERATION_MASK
}

/// The folded state of a record. A tombstone keeps the last state, which says who may know that the record existed.
#[derive(Clone)]
struct Snapshot<R> {
    state: Arc<R>,
    /// When the record was created, in microseconds since 1970.
    created_at: i64,
    /// When the record last changed, in microseconds since 1970.
    updated_at: i64,
    /// When the record was deleted, in microseconds since 1970.
    deleted_at: Option<i64>,
}

fn snapshot<R: Record>(state: &ErasedState) -> &Snapshot<R> {
    state.downcast_ref::<Snapshot<R>>().expect("the collection of a record determines the type of its state")
}

fn live<R: Record>(before: Option<&ErasedState>, state: R, stamp: &Stamp) -> ErasedState {
    let updated_at = stamp.at.timestamp_micros();
    let created_at = before.map_or(updated_at, |before| snapshot::<R>(before).created_at);
    Arc::new(Snapshot { state: Arc::new(state), created_at, updated_at, deleted_at: None })
}

fn buried<R: Record>(before: &ErasedState, stamp: &Stamp) -> ErasedState {
    let at = stamp.at.timestamp_micros();
    Arc::new(Snapshot { updated_at: at, deleted_at: Some(at), ..snapshot::<R>(before).clone() })
}

/// Returns whether a change of this type is a tombstone (PL-8).
pub(crate) fn is_tombstone(type_name: &str) -> bool {
    type_name.strip_prefix(Tombstone::PACKAGE).and_then(|rest| rest.strip_prefix('.')) == Some(Tombstone::NAME)
}

/// A change that a rule emitted, encoded, and the state after it.
pub(crate) struct FoldedChange {
    pub type_name: String,
    pub payload: Vec<u8>,
    pub party: Option<TenantId>,
    pub level: AssuranceLevel,
    pub after: ErasedState,
}

/// A record type without its Rust types.
pub(crate) trait ErasedRecord: Send + Sync {
    fn collection(&self) -> &'static str;
    /// Decodes a snapshot; `None` if it has another revision, and the record must be folded again.
    fn decode(&self, revision: i32, state: &[u8]) -> Option<ErasedState>;
    fn encode(&self, state: &ErasedState) -> (i32, Vec<u8>);
    fn fold(&self, before: Option<&ErasedState>, envelope: &ChangeEnvelope) -> Result<ErasedState, FoldError>;
    fn owner(&self, state: &ErasedState) -> TenantId;
    fn audience(&self, state: &ErasedState) -> Audience;
    /// Returns when the record was deleted (PL-8).
    fn deleted_at(&self, state: &ErasedState) -> Option<DateTime<Utc>>;
    /// Returns the `R` of the state, for views.
    fn inner<'a>(&self, state: &'a ErasedState) -> &'a (dyn Any + Send + Sync);
    fn due(&self, state: &ErasedState) -> Option<DateTime<Utc>>;
    /// Runs the record's timer and folds what it emits.
    fn fire(&self, state: &ErasedState, due: DateTime<Utc>, stamp: &Stamp) -> Result<Vec<FoldedChange>, FoldError>;
    fn views(&self) -> &[Box<dyn ErasedView>];
    fn add_view(&mut self, view: Box<dyn ErasedView>);
    /// Visits the texts of a payload and returns the payload again; `None` if the type is not a change of this record type.
    fn visit_texts(
        &self,
        type_name: &str,
        payload: &[u8],
        visit: &mut dyn FnMut(&mut LocalizedText),
    ) -> Option<Vec<u8>>;
    /// Returns what everyone may see of a change; nothing of one that cannot be decoded.
    fn disclosed(&self, type_name: &str, payload: &[u8]) -> Disclosed<Vec<u8>>;
}

/// The record type `R` as an [`ErasedRecord`].
pub(crate) struct RecordType<R> {
    views: Vec<Box<dyn ErasedView>>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> RecordType<R> {
    pub(crate) fn new() -> Self {
        const { assert!(R::REVISION < 1 << 24, "the revision must leave room for SNAPSHOT_REVISION") }
        Self { views: Vec::new(), record: PhantomData }
    }
}

/// Returns a view of records as a view without its types.
pub(crate) fn erased_view<V: View>() -> Box<dyn ErasedView> {
    Box::new(ViewType::<V>(PhantomData))
}

/// Returns the `R` of a state.
pub(crate) fn typed<R: Record>(state: &ErasedState) -> &R {
    &snapshot::<R>(state).state
}

/// Returns the `R` of a state, shared.
pub(crate) fn shared<R: Record>(state: &ErasedState) -> Arc<R> {
    snapshot::<R>(state).state.clone()
}

/// Returns when the record was created and when it last changed.
pub(crate) fn times<R: Record>(state: &ErasedState) -> (DateTime<Utc>, DateTime<Utc>) {
    let Snapshot { created_at, updated_at, .. } = snapshot::<R>(state);
    let at = |micros: &i64| DateTime::from_timestamp_micros(*micros).unwrap_or_default();
    (at(created_at), at(updated_at))
}

/// Returns when the record was deleted.
pub(crate) fn deleted_at<R: Record>(state: &ErasedState) -> Option<DateTime<Utc>> {
    snapshot::<R>(state).deleted_at.and_then(DateTime::from_timestamp_micros)
}

/// Folds what a rule emitted, one change after the other.
pub(crate) fn fold_emitted<R: Record>(
    before: Option<&ErasedState>,
    emitted: Vec<Emitted<R::Change>>,
    stamp: &Stamp,
) -> Result<Vec<FoldedChange>, FoldError> {
    let mut state: Option<R> = before.map(|s| typed::<R>(s).clone());
    let mut out: Vec<FoldedChange> = Vec::with_capacity(emitted.len());
    for (index, one) in emitted.into_iter().enumerate() {
        let stamp = Stamp {
            version: stamp.version + index as u64,
            party: one.party.or(stamp.party),
            level: one.level,
            ..stamp.clone()
        };
        let after = R::fold(state.take(), &one.change, &stamp)?;
        let earlier = out.last().map(|last| &last.after).or(before);
        let folded = live(earlier, after.clone(), &stamp);
        out.push(FoldedChange {
            type_name: one.change.type_name().to_owned(),
            payload: one.change.payload(),
            party: stamp.party,
            level: one.level,
            after: folded,
        });
        state = Some(after);
    }
    Ok(out)
}

/// Returns the change that deletes a record (PL-8).
pub(crate) fn bury<R: Record>(before: &ErasedState, tombstone: &Tombstone, stamp: &Stamp) -> FoldedChange {
    FoldedChange {
        type_name: Tombstone::full_name(),
        payload: tombstone.encode_to_vec(),
        party: stamp.party,
        level: stamp.level,
        after: buried::<R>(before, stamp),
    }
}

/// Folds stored envelopes from the first change.
pub(crate) fn fold_changes<'a>(
    record: &dyn ErasedRecord,
    envelopes: impl Iterator<Item = &'a [u8]>,
) -> Result<ErasedState, FoldError> {
    let mut state: Option<ErasedState> = None;
    for envelope in envelopes {
        let envelope = ChangeEnvelope::decode(envelope).map_err(|e| FoldError(format!("unreadable change: {e}")))?;
        state = Some(record.fold(state.as_ref(), &envelope)?);
    }
    state.ok_or_else(|| FoldError("the record has no changes".into()))
}

/// Returns the stamp of a stored change.
pub(crate) fn stamp(envelope: &ChangeEnvelope) -> Stamp {
    Stamp {
        version: envelope::version(envelope),
        at: time::instant("claim_time", envelope.claim_time.as_ref()).unwrap_or_default(),
        actor: envelope.actor.clone().unwrap_or_default(),
        party: TenantId::parse(&envelope.on_behalf_of, "on_behalf_of").ok(),
        level: envelope.assurance_level(),
    }
}

impl<R: Record> ErasedRecord for RecordType<R> {
    fn collection(&self) -> &'static str {
        R::COLLECTION
    }

    fn decode(&self, revision: i32, state: &[u8]) -> Option<ErasedState> {
        if shape(revision) != SNAPSHOT_REVISION | R::REVISION.cast_signed() {
            return None;
        }
        let (created_at, updated_at, deleted_at, state) =
            postcard::from_bytes::<(i64, i64, Option<i64>, R)>(state).ok()?;
        Some(Arc::new(Snapshot { state: Arc::new(state), created_at, updated_at, deleted_at }))
    }

    fn encode(&self, state: &ErasedState) -> (i32, Vec<u8>) {
        let Snapshot { state, created_at, updated_at, deleted_at } = snapshot::<R>(state);
        let bytes = postcard::to_stdvec(&(created_at, updated_at, deleted_at, state.as_ref()));
        let bytes = bytes.expect("a state is plain data");
        (SNAPSHOT_REVISION | R::REVISION.cast_signed(), bytes)
    }

    fn fold(&self, before: Option<&ErasedState>, envelope: &ChangeEnvelope) -> Result<ErasedState, FoldError> {
        if before.is_some_and(|state| snapshot::<R>(state).deleted_at.is_some()) {
            return Err(FoldError("a change follows a tombstone".into()));
        }
        if is_tombstone(&envelope.payload_type) {
            let before = before.ok_or_else(|| FoldError("the first change is a tombstone".into()))?;
            return Ok(buried::<R>(before, &stamp(envelope)));
        }
        let change = R::Change::decode(&envelope.payload_type, &envelope.payload)
            .map_err(|error| FoldError(format!("the payload cannot be decoded: {error}")))?
            .ok_or_else(|| FoldError(format!("the change type {} is unknown", envelope.payload_type)))?;
        let stamp = stamp(envelope);
        let after = R::fold(before.map(|state| typed::<R>(state).clone()), &change, &stamp)?;
        Ok(live(before, after, &stamp))
    }

    fn owner(&self, state: &ErasedState) -> TenantId {
        typed::<R>(state).owner()
    }

    fn audience(&self, state: &ErasedState) -> Audience {
        typed::<R>(state).audience()
    }

    fn deleted_at(&self, state: &ErasedState) -> Option<DateTime<Utc>> {
        deleted_at::<R>(state)
    }

    fn inner<'a>(&self, state: &'a ErasedState) -> &'a (dyn Any + Send + Sync) {
        typed::<R>(state)
    }

    fn due(&self, state: &ErasedState) -> Option<DateTime<Utc>> {
        let Snapshot { state, deleted_at, .. } = snapshot::<R>(state);
        if deleted_at.is_some() { None } else { state.due() }
    }

    fn fire(&self, state: &ErasedState, due: DateTime<Utc>, stamp: &Stamp) -> Result<Vec<FoldedChange>, FoldError> {
        fold_emitted::<R>(Some(state), typed::<R>(state).on_due(due), stamp)
    }

    fn views(&self) -> &[Box<dyn ErasedView>] {
        &self.views
    }

    fn add_view(&mut self, view: Box<dyn ErasedView>) {
        self.views.push(view);
    }

    fn visit_texts(
        &self,
        type_name: &str,
        payload: &[u8],
        visit: &mut dyn FnMut(&mut LocalizedText),
    ) -> Option<Vec<u8>> {
        if is_tombstone(type_name) {
            let mut tombstone = Tombstone::decode(payload).ok()?;
            tombstone.visit_texts(visit);
            return Some(tombstone.encode_to_vec());
        }
        let mut change = R::Change::decode(type_name, payload).ok()??;
        change.visit_texts(visit);
        Some(change.payload())
    }

    fn disclosed(&self, type_name: &str, payload: &[u8]) -> Disclosed<Vec<u8>> {
        if is_tombstone(type_name) {
            return R::tombstone_disclosed().map(|tombstone| tombstone.encode_to_vec());
        }
        match R::Change::decode(type_name, payload) {
            Ok(Some(change)) => R::disclosed(&change).map(|part| part.payload()),
            _ => Disclosed::Hidden,
        }
    }
}
