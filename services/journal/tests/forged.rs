//! Forged messages: a client of the broker can publish any message, but a subscription applies only changes that the
//! node has signed (PL-3).
#![allow(clippy::unwrap_used)]

mod fixture;

use async_nats::jetstream;
use fixture::{Fixture, enter, name, prefix, rename};
use hansa_journal::{Bus, JetStreamSource, Mirrors, NodeKeys, Relay, Subscription};
use hansa_kernel::envelope;
use hansa_proto::{
    ChangeSet,
    register::{CityRenamed, city_change::Change},
    types::{ChangeEnvelope, SignedChange},
};
use hansa_register_domain::reference::CityReference;
use hansa_tests::{SOON, Servers};
use prost::Message;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_has_not_signed_is_not_applied() {
    let servers = Servers::start();
    let f = Fixture::sqlite().await;
    let bus = Bus::connect(&servers.nats(), &f.node, 1).await.unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(&f.journal, &bus).run(stop.clone()));
    let subscription = Subscription::new("test", &f.journal).mirror::<CityReference>();
    let (mut source, mirrors) =
        (JetStreamSource::new(&bus, "register", &subscription), Mirrors::<CityReference>::new(&f.journal));
    let mut called = async |expected: &str| {
        let deadline = Instant::now() + SOON;
        loop {
            subscription.step(&mut source).await.unwrap();
            match mirrors.get(name("a").id).await.unwrap() {
                Some(city) if city.name == expected => return,
                city => assert!(Instant::now() < deadline && city.is_none_or(|city| city.name == "Lyon")),
            }
        }
    };
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    called("Lyon").await;

    // Forge the city's next change twice: signed with a foreign key, and with the signature of the first change.
    let first = f.journal.history(name("a").id, 0, 1).await.unwrap().remove(0);
    let change = Change::from(CityRenamed { display_name: "Forged".into(), ..Default::default() });
    let next = ChangeEnvelope {
        version: 2,
        payload_type: change.type_name().to_owned(),
        payload: change.payload(),
        ..first.envelope.clone()
    };
    let other = NodeKeys::from_secret(&[8; 32]);
    let forged = [
        envelope::seal(&next, f.node.name(), other.signing()),
        SignedChange { envelope: next.encode_to_vec(), signatures: first.signed.signatures },
    ];
    let context = jetstream::new(async_nats::connect(servers.nats()).await.unwrap());
    for forged in forged {
        let subject = format!("{}.register.changes.cities.0", prefix(&f.node));
        context.publish(subject, forged.encode_to_vec().into()).await.unwrap().await.unwrap();
    }
    f.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    called("Lugdunum").await;
    assert!(subscription.quarantined().await.unwrap().is_empty(), "a forged message must not quarantine the record");
    stop.cancel();
    relay.await.unwrap();
}
