//! Networks: plain records that their secretariats maintain (NW-1, NW-2).

use crate::criteria;
use hansa_kernel::{
    Decision, Refusal, Refused, TenantId,
    plain::{self, Plain, PlainType},
    text,
};
use hansa_proto::networks::{
    self as proto, NetworkCreated, NetworkKind, NetworkScope, NetworkUpdated, UpdateNetworkRequest,
    network_change::Change,
};
use prost_types::FieldMask;

/// Longest notice period that a network may require of a leaving member, in months.
pub const NOTICE_MONTHS: i32 = 36;

/// A network.
pub type Network = Plain<Networks>;

/// The record type of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks;

impl PlainType for Networks {
    type Resource = proto::Network;
    const COLLECTION: &'static str = "networks";
    const WRITABLE: &'static [&'static str] =
        &["display_name", "kind", "scope", "purpose", "criteria", "notice_months"];
    const FIXED: &'static [&'static str] = &[];
    const PUBLIC: bool = true;
    type Change = Change;

    fn created(network: proto::Network) -> Change {
        NetworkCreated { network: Some(network) }.into()
    }

    fn updated(network: proto::Network, update_mask: FieldMask) -> Change {
        NetworkUpdated { network: Some(network), update_mask: Some(update_mask) }.into()
    }

    fn written(change: &Change) -> Option<(&proto::Network, Option<&FieldMask>)> {
        match change {
            Change::Created(created) => Some((created.network.as_ref()?, None)),
            Change::Updated(updated) => Some((updated.network.as_ref()?, Some(updated.update_mask.as_ref()?))),
        }
    }

    fn basic(network: proto::Network) -> proto::Network {
        proto::Network { purpose: Vec::new(), criteria: Vec::new(), ..network }
    }

    fn owned_by(network: proto::Network, owner: TenantId) -> proto::Network {
        proto::Network { secretariat: owner.name(), ..network }
    }

    fn validate(network: &proto::Network) -> Refused<()> {
        text::name("network.display_name", &network.display_name)?;
        text::optional("network.purpose", &network.purpose)?;
        if network.kind() == NetworkKind::Unspecified {
            let refusal = Refusal::field("network.kind", "is required").under("NW-1");
            return Err(refusal.help("State whether the network is thematic or multipurpose."));
        }
        if network.scope() == NetworkScope::Unspecified {
            let refusal = Refusal::field("network.scope", "is required").under("NW-1");
            return Err(refusal.help("State whether the network is national, regional or global."));
        }
        if !(0..=NOTICE_MONTHS).contains(&network.notice_months) {
            return Err(Refusal::field("network.notice_months", format!("must be 0 to {NOTICE_MONTHS}")).under("NW-3"));
        }
        criteria::compile(&network.criteria).map(drop)
    }
}

/// Creates a network (NW-1).
///
/// # Errors
/// `INVALID_FIELD` under NW-1, NW-2, NW-3 or PL-4 if a field is missing or invalid.
pub fn found(asked: &proto::CreateNetworkRequest) -> Decision<Change> {
    let all = FieldMask { paths: vec!["*".into()] };
    plain::put::<Networks>(None, &asked.network.clone().unwrap_or_default(), Some(&all))
}

/// Updates the masked fields of a network.
///
/// # Errors
/// `INVALID_FIELD` under NW-1, NW-2, NW-3 or PL-4 if the mask or a field is invalid.
pub fn update(network: &Network, asked: &UpdateNetworkRequest) -> Decision<Change> {
    plain::put(Some(network), &asked.network.clone().unwrap_or_default(), asked.update_mask.as_ref())
}

#[cfg(test)]
mod tests;
