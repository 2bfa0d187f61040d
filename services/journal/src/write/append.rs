//! Appends one change to a record: envelope, hash chain, signatures, and the feeds of those who may see it.

use crate::{
    core::Core,
    record::erased::FoldedChange,
    store::tables::{change, feed},
    write::{
        command::{Signer, check_audience_size, check_change_size},
        working_set::LoadedRecord,
        write_set::WriteSet,
    },
};
use chrono::{DateTime, Utc};
use hansa_kernel::{Audience, Refused, TenantId, envelope, time::timestamp};
use hansa_proto::types::{Actor, ChangeEnvelope, HashAlgorithm, SignedChange};
use prost::Message;
use sea_orm::Set;
use uuid::Uuid;

/// The feed of all tenants.
pub(crate) const PUBLIC_FEED: Uuid = Uuid::nil();

/// What the changes of one command have in common.
pub(crate) struct Evidence<'a> {
    pub now: DateTime<Utc>,
    pub actor: &'a Actor,
    pub command_hash: &'a [u8],
    pub signers: &'a [Signer],
    /// W3C trace context of the command.
    pub trace: Option<&'a str>,
}

/// Appends `change` to `loaded`, and its rows to `rows`.
///
/// # Errors
/// `LIMIT` if the change or its audience is too large.
pub(crate) fn append(
    core: &Core,
    loaded: &mut LoadedRecord,
    mut folded: FoldedChange,
    evidence: &Evidence<'_>,
    rows: &mut WriteSet,
) -> Refused<()> {
    let audience = loaded.record.audience(&folded.after);
    check_audience_size(&audience)?;
    let previous_audience = loaded.state.as_ref().map(|state| loaded.record.audience(state));
    let envelope = envelope_of(core, loaded, &mut folded, &audience, evidence);
    let signed = sign(core, &envelope, evidence.signers);
    check_change_size(&signed.envelope)?;
    let SignedChange { envelope: bytes, signatures } = signed;
    add_feed_entries(loaded.name.id.0, envelope::version(&envelope), previous_audience.as_ref(), &audience, rows);
    loaded.head = envelope::hash(&bytes).to_vec();
    loaded.version = envelope::version(&envelope);
    loaded.state = Some(folded.after);
    loaded.changed = true;
    rows.changes.push(change::ActiveModel {
        seq: sea_orm::NotSet,
        record: Set(loaded.name.id.0),
        version: Set(envelope.version.into()),
        payload_type: Set(envelope.payload_type),
        envelope: Set(bytes),
        signatures: Set(SignedChange { envelope: Vec::new(), signatures }.encode_to_vec()),
        received_at: Set(evidence.now.timestamp_micros()),
        trace: Set(evidence.trace.map(str::to_owned)),
        stream_sequence: Set(None),
    });
    Ok(())
}

fn envelope_of(
    core: &Core,
    loaded: &LoadedRecord,
    folded: &mut FoldedChange,
    audience: &Audience,
    evidence: &Evidence<'_>,
) -> ChangeEnvelope {
    ChangeEnvelope {
        format: envelope::FORMAT,
        hash_algorithm: HashAlgorithm::Sha256 as i32,
        payload_type: std::mem::take(&mut folded.type_name),
        schema_revision: 1,
        critical: true,
        record: loaded.name.as_str().to_owned(),
        version: envelope::wire_version(loaded.version + 1),
        epoch: 1,
        previous_hash: loaded.head.clone(),
        authority: core.node.name().to_owned(),
        audience: Some(audience.to_proto()),
        actor: Some(evidence.actor.clone()),
        on_behalf_of: folded.party.map(TenantId::name).unwrap_or_default(),
        assurance_level: folded.level as i32,
        command_hash: evidence.command_hash.to_vec(),
        claim_time: Some(timestamp(evidence.now)),
        payload: std::mem::take(&mut folded.payload),
    }
}

/// Encodes the envelope once, and signs these bytes by the node and by `signers`.
fn sign(core: &Core, envelope: &ChangeEnvelope, signers: &[Signer]) -> SignedChange {
    let mut signed = envelope::seal(envelope, core.node.name(), core.node.signing());
    let by =
        |signer: &Signer| envelope::sign(envelope::PAYLOAD_TYPE, &signed.envelope, &signer.tenant.name(), &signer.key);
    let signatures: Vec<_> = signers.iter().map(by).collect();
    signed.signatures.extend(signatures);
    signed
}

/// Adds the change to the feed of every recipient. A new recipient also gets the record's past.
fn add_feed_entries(record: Uuid, version: u64, before: Option<&Audience>, after: &Audience, rows: &mut WriteSet) {
    let recipients = |audience: &Audience| {
        if audience.public { vec![PUBLIC_FEED] } else { audience.tenants.iter().map(|t| t.0).collect() }
    };
    let old = before.map(recipients).unwrap_or_default();
    for tenant in recipients(after) {
        let first = if old.contains(&tenant) { version } else { 1 };
        for version in first..=version {
            rows.feed.push(feed::ActiveModel {
                seq: sea_orm::NotSet,
                position: sea_orm::NotSet,
                tenant: Set(tenant),
                record: Set(record),
                version: Set(version.cast_signed()),
            });
        }
    }
}
