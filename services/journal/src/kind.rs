//! A kind of record without its types: what the journal's writer, timers and rebuild need of it.

use crate::{
    bulk::Writes,
    view::{AnyView, Before, Collector, View, ViewOf},
};
use chrono::{DateTime, Utc};
use hansa_kernel::{Audience, Disclosed, Happened, Misfit, Record, RecordName, Stamp, TenantId, time};
use hansa_proto::{
    ChangeSet, Texts,
    types::{ChangeEnvelope, LocalizedText, Tombstone},
};
use prost::{Message, Name};
use std::{any::Any, marker::PhantomData, sync::Arc};

/// A record's state without its type.
pub(crate) type AnyState = Arc<dyn Any + Send + Sync>;

/// Raised whenever the shape of a snapshot changes that is the same for all kinds.
const SNAPSHOT: i32 = 1 << 24;

/// The bits of a stored revision from here on count how often a rebuild has made the snapshot again. Whoever remembers it from
/// before must not write by it.
const MENDED_FROM: u32 = 28;
pub(crate) const MENDED: i32 = 7 << MENDED_FROM;

/// How often a snapshot has been made again, as its revision has it; the count begins anew after eight times.
pub(crate) fn mended(revision: i32) -> i32 {
    revision & MENDED
}

/// The revision of a state's shape, without that.
pub(crate) fn shape(revision: i32) -> i32 {
    revision & !MENDED
}

/// `mended`, once more.
pub(crate) fn mended_again(mended: i32) -> i32 {
    mended.wrapping_add(1 << MENDED_FROM) & MENDED
}

/// A record as a snapshot keeps it. A tombstone leaves the state as it was: it still says who may see the record.
#[derive(Clone)]
struct Kept<R> {
    state: Arc<R>,
    /// When it was deleted, in microseconds since 1970.
    deleted_at: Option<i64>,
}

fn kept<R: Record>(state: &AnyState) -> &Kept<R> {
    state.downcast_ref::<Kept<R>>().expect("a record's collection decides the type of its state")
}

fn standing<R: Record>(state: R) -> AnyState {
    Arc::new(Kept { state: Arc::new(state), deleted_at: None })
}

/// Whether a change says that its record is deleted (PL-8).
pub(crate) fn is_tombstone(type_name: &str) -> bool {
    type_name.strip_prefix(Tombstone::PACKAGE).and_then(|rest| rest.strip_prefix('.')) == Some(Tombstone::NAME)
}

/// A change that was decided, and the state after it.
pub(crate) struct Step {
    pub type_name: String,
    pub payload: Vec<u8>,
    pub party: Option<TenantId>,
    pub level: hansa_kernel::AssuranceLevel,
    pub after: AnyState,
}

pub(crate) trait AnyKind: Send + Sync {
    fn collection(&self) -> &'static str;
    fn decode(&self, revision: i32, state: &[u8]) -> Option<AnyState>;
    fn encode(&self, state: &AnyState) -> (i32, Vec<u8>);
    fn fold(&self, before: Option<&AnyState>, envelope: &ChangeEnvelope) -> Result<AnyState, Misfit>;
    fn owner(&self, state: &AnyState) -> TenantId;
    fn audience(&self, state: &AnyState) -> Audience;
    /// When it was deleted (PL-8); `None` while it stands.
    fn deleted_at(&self, state: &AnyState) -> Option<DateTime<Utc>>;
    /// The state with its own type, for views.
    fn inner<'a>(&self, state: &'a AnyState) -> &'a (dyn Any + Send + Sync);
    fn due(&self, state: &AnyState) -> Option<DateTime<Utc>>;
    fn fire(&self, state: &AnyState, due: DateTime<Utc>, stamp: &Stamp) -> Result<Vec<Step>, Misfit>;
    fn views(&self) -> &[Box<dyn AnyView>];
    /// The payload with its texts visited; `None` where the type is not of this kind.
    fn visit_texts(
        &self,
        type_name: &str,
        payload: &[u8],
        visit: &mut dyn FnMut(&mut LocalizedText),
    ) -> Option<Vec<u8>>;
    /// What of a change everyone may see; nothing of one that cannot be read.
    fn disclosed(&self, type_name: &str, payload: &[u8]) -> Disclosed<Vec<u8>>;
}

pub(crate) struct KindOf<R> {
    views: Vec<Box<dyn AnyView>>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> KindOf<R> {
    pub(crate) fn new() -> Self {
        const { assert!(R::REVISION < 1 << 24, "its revision must leave room for that of all snapshots") }
        Self { views: Vec::new(), record: PhantomData }
    }

    pub(crate) fn with<V: View<State = R>>(mut self) -> Self {
        self.views.push(Box::new(ViewOf::<V>(PhantomData)));
        self
    }
}

/// The state with its type. The name of a record decides its kind, so a mismatch is a defect of this crate.
pub(crate) fn typed<R: Record>(state: &AnyState) -> &R {
    &kept::<R>(state).state
}

/// The same, shared.
pub(crate) fn shared<R: Record>(state: &AnyState) -> Arc<R> {
    kept::<R>(state).state.clone()
}

/// When the record was deleted.
pub(crate) fn deleted_at<R: Record>(state: &AnyState) -> Option<DateTime<Utc>> {
    kept::<R>(state).deleted_at.and_then(DateTime::from_timestamp_micros)
}

/// Folds what a rule decided, one change after the other.
pub(crate) fn steps<R: Record>(
    before: Option<&AnyState>,
    happened: Vec<Happened<R::Change>>,
    stamp: &Stamp,
) -> Result<Vec<Step>, Misfit> {
    let mut state: Option<R> = before.map(|s| typed::<R>(s).clone());
    let mut out = Vec::with_capacity(happened.len());
    for (index, one) in happened.into_iter().enumerate() {
        let stamp = Stamp {
            version: stamp.version + index as u64,
            party: one.party.or(stamp.party),
            level: one.level,
            ..stamp.clone()
        };
        let after = R::fold(state.take(), &one.change, &stamp)?;
        out.push(Step {
            type_name: one.change.type_name().to_owned(),
            payload: one.change.payload(),
            party: stamp.party,
            level: one.level,
            after: standing(after.clone()),
        });
        state = Some(after);
    }
    Ok(out)
}

/// The step that deletes a record (PL-8).
pub(crate) fn bury<R: Record>(before: &AnyState, tombstone: &Tombstone, stamp: &Stamp) -> Step {
    Step {
        type_name: Tombstone::full_name(),
        payload: tombstone.encode_to_vec(),
        party: stamp.party,
        level: stamp.level,
        after: buried::<R>(before, stamp),
    }
}

fn buried<R: Record>(before: &AnyState, stamp: &Stamp) -> AnyState {
    Arc::new(Kept { deleted_at: Some(stamp.at.timestamp_micros()), ..kept::<R>(before).clone() })
}

/// What a fold may know of a stored change.
pub(crate) fn stamp(envelope: &ChangeEnvelope) -> Stamp {
    Stamp {
        version: envelope.version,
        at: time::instant("claimed_time", envelope.claimed_time.as_ref()).unwrap_or_default(),
        actor: envelope.actor.clone().unwrap_or_default(),
        party: TenantId::parse(&envelope.on_behalf_of, "on_behalf_of").ok(),
        level: envelope.level(),
    }
}

impl<R: Record> AnyKind for KindOf<R> {
    fn collection(&self) -> &'static str {
        R::COLLECTION
    }

    fn decode(&self, revision: i32, state: &[u8]) -> Option<AnyState> {
        if shape(revision) != SNAPSHOT | R::REVISION.cast_signed() {
            return None;
        }
        let (deleted_at, state) = postcard::from_bytes::<(Option<i64>, R)>(state).ok()?;
        Some(Arc::new(Kept { state: Arc::new(state), deleted_at }))
    }

    fn encode(&self, state: &AnyState) -> (i32, Vec<u8>) {
        let Kept { state, deleted_at } = kept::<R>(state);
        let bytes = postcard::to_stdvec(&(deleted_at, state.as_ref())).expect("a state is plain data");
        (SNAPSHOT | R::REVISION.cast_signed(), bytes)
    }

    fn fold(&self, before: Option<&AnyState>, envelope: &ChangeEnvelope) -> Result<AnyState, Misfit> {
        if before.is_some_and(|state| kept::<R>(state).deleted_at.is_some()) {
            return Err(Misfit("nothing follows a tombstone".into()));
        }
        if is_tombstone(&envelope.r#type) {
            let before = before.ok_or_else(|| Misfit("a record does not begin with a tombstone".into()))?;
            return Ok(buried::<R>(before, &stamp(envelope)));
        }
        let change = R::Change::decode(&envelope.r#type, &envelope.payload)
            .map_err(|error| Misfit(format!("its payload cannot be read: {error}")))?
            .ok_or_else(|| Misfit(format!("its type {} is not known", envelope.r#type)))?;
        let before = before.map(|state| typed::<R>(state).clone());
        Ok(standing(R::fold(before, &change, &stamp(envelope))?))
    }

    fn owner(&self, state: &AnyState) -> TenantId {
        typed::<R>(state).owner()
    }

    fn audience(&self, state: &AnyState) -> Audience {
        typed::<R>(state).audience()
    }

    fn deleted_at(&self, state: &AnyState) -> Option<DateTime<Utc>> {
        deleted_at::<R>(state)
    }

    fn inner<'a>(&self, state: &'a AnyState) -> &'a (dyn Any + Send + Sync) {
        typed::<R>(state)
    }

    fn due(&self, state: &AnyState) -> Option<DateTime<Utc>> {
        let Kept { state, deleted_at } = kept::<R>(state);
        if deleted_at.is_some() { None } else { state.due() }
    }

    fn fire(&self, state: &AnyState, due: DateTime<Utc>, stamp: &Stamp) -> Result<Vec<Step>, Misfit> {
        steps::<R>(Some(state), typed::<R>(state).on_due(due), stamp)
    }

    fn views(&self) -> &[Box<dyn AnyView>] {
        &self.views
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

/// Collectors for the views of several kinds, made as records come.
#[derive(Default)]
pub(crate) struct Collectors {
    by_kind: Vec<(&'static str, Vec<Box<dyn Collector>>)>,
}

impl Collectors {
    pub(crate) fn add(&mut self, kind: &dyn AnyKind, name: &RecordName, before: Before<'_>, state: &AnyState) {
        let at =
            self.by_kind.iter().position(|(collection, _)| *collection == kind.collection()).unwrap_or_else(|| {
                self.by_kind.push((kind.collection(), kind.views().iter().map(|v| v.collector()).collect()));
                self.by_kind.len() - 1
            });
        for collector in &mut self.by_kind[at].1 {
            if kind.deleted_at(state).is_some() {
                collector.remove(name.id.0);
            } else {
                collector.add(name.id.0, before, kind.inner(state));
            }
        }
    }

    pub(crate) fn write(self, writes: &mut Writes) {
        for collector in self.by_kind.into_iter().flat_map(|(_, collectors)| collectors) {
            collector.write(writes);
        }
    }
}
