//! Checks the answer to a command, and records its effect.

use crate::{
    acts::{Order, STRANGER},
    ledger::Named,
    world::World,
};
use hansa_journal::Clock;
use hansa_kernel::{RecordName, Relation, TenantId};
use hansa_proto::register::{MergeCitiesRequest, SplitCityRequest};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

impl World {
    pub fn refused(&mut self, order: &Order, status: &Status) {
        self.ledger.refused += 1;
        let details = status.get_details_error_info();
        assert!(details.is_some_and(|info| info.metadata.contains_key("rule")), "{status:?} names no rule");
        assert!(!matches!(status.code(), Code::Internal | Code::Unavailable | Code::Unknown), "{status:?}");
        if order.foreign && ["agreements/", "strategies/"].iter().any(|kind| order.record.starts_with(kind)) {
            let name = RecordName::parse_any(&order.record, "record").unwrap();
            let standing = self.life().look(self.life().journal(order.service()).relation(&name, STRANGER)).unwrap();
            if standing.is_none_or(|relation| relation == Relation::Stranger) && !order.stale {
                assert_eq!(status.code(), Code::NotFound, "{status:?}: the answer to a stranger must be NOT_FOUND");
            }
        }
    }

    pub fn granted(&mut self, order: Order, answer: &[u8], changed: bool) -> Named {
        let named = if order.many { Named::default() } else { Named::read(order.call.path, answer) };
        let service = order.service();
        if order.tried {
            return named;
        }
        if !named.etag.is_empty() {
            assert_eq!(
                crate::ledger::head(self.life(), service, &named.name),
                named.etag,
                "the etag of the answer differs from the stored head"
            );
        }
        self.learn(&order, &named, answer);
        if changed && !order.many {
            // The answer to a deletion is empty.
            let record = if named.name.is_empty() { order.record.clone() } else { named.name.clone() };
            self.ledger.keep_texts(&order, &record);
        }
        self.ledger.keep(order, named.clone(), self.clock.now());
        named
    }

    fn learn(&mut self, order: &Order, named: &Named, answer: &[u8]) {
        let rpc = order.call.path.rsplit('/').next().unwrap_or_default();
        match rpc {
            "ProposeAgreement" | "ImportAgreement" if !self.known.agreements.contains(&named.name) => {
                self.known.agreements.push(named.name.clone());
            }
            "RetractCity" | "RetractAgreement" | "DiscardStrategy" => {
                self.known.deleted.insert(order.record.clone(), order.call.who.tenant);
                self.gone(std::slice::from_ref(&order.record));
            }
            "MergeCities" => {
                let asked = MergeCitiesRequest::decode(order.call.bytes.as_slice()).unwrap();
                self.gone(&asked.predecessors);
            }
            "SplitCity" => {
                let asked = SplitCityRequest::decode(order.call.bytes.as_slice()).unwrap();
                if !asked.continuing_city.is_empty() {
                    self.gone(&[asked.name]);
                }
            }
            "CreateStrategy" => self.known.strategies.push((named.name.clone(), order.call.who.tenant)),
            "CreateTenant" => {
                let tenant = hansa_proto::register::Tenant::decode(answer).unwrap();
                let city = self.known.cities.iter_mut().find(|city| city.name == tenant.city).unwrap();
                city.tenant = Some(TenantId::parse(&tenant.name, "name").unwrap());
            }
            _ => {}
        }
    }

    /// Marks cities that ended or will end.
    fn gone(&mut self, names: &[String]) {
        self.known.cities.iter_mut().filter(|city| names.contains(&city.name)).for_each(|city| city.gone = true);
    }
}
