//! The filters of a subscription: it receives the collections that it mirrors, from every replica's relay, and
//! nothing else.
#![allow(clippy::unwrap_used)]

mod fixture;

use async_nats::jetstream::{self, consumer, stream};
use fixture::{Fixture, enter, name, prefix, rename};
use futures::{FutureExt, StreamExt, TryStreamExt};
use hansa_journal::{Bus, JetStreamSource, Mirrors, Relay, Subscription, limits::STREAM_AGE};
use hansa_register_domain::reference::{CityReference, OfficeReference};
use hansa_tests::{SOON, Servers, eventually};
use prost::Message;
use sea_orm::EntityTrait;
use std::time::Instant;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A journal, its broker, and the relay between them.
struct Published {
    f: Fixture,
    servers: Servers,
    bus: Bus,
    relay: JoinHandle<()>,
    stop: CancellationToken,
}

impl Published {
    async fn begin(f: Fixture, servers: Servers) -> Self {
        let bus = Bus::connect(&servers.nats(), &f.node, 1).await.unwrap();
        let stop = CancellationToken::new();
        let relay = tokio::spawn(Relay::new(&f.journal, &bus).run(stop.clone()));
        // Wait until the relay has recorded the stream. Otherwise it would republish the changes and recreate the
        // consumers.
        eventually("the relay has recorded the stream", async || {
            let cursor = hansa_journal::tables::cursor::Entity::find_by_id("relay-stream-created");
            cursor.one(f.journal.store().reader()).await.unwrap()
        })
        .await;
        Self { f, servers, bus, relay, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.relay.await.unwrap();
    }

    fn source(&self, subscription: &Subscription) -> JetStreamSource {
        JetStreamSource::new(&self.bus, "register", subscription)
    }

    /// Applies changes until a city has the expected name.
    async fn called(&self, subscription: &Subscription, source: &mut JetStreamSource, key: &str, expected: &str) {
        let (mirrors, deadline) = (Mirrors::<CityReference>::new(&self.f.journal), Instant::now() + SOON);
        while mirrors.get(name(key).id).await.unwrap().is_none_or(|city| city.name != expected) {
            assert!(Instant::now() < deadline, "{key} is not called {expected}");
            subscription.step(source).await.unwrap();
        }
    }
}

async fn context(servers: &Servers) -> jetstream::Context {
    jetstream::new(async_nats::connect(servers.nats()).await.unwrap())
}

/// Returns the state of the stream and of a consumer.
async fn state(servers: &Servers, prefix: &str, durable: &str) -> (stream::State, consumer::Info) {
    let stream = context(servers).await.get_stream(format!("{prefix}-register")).await.unwrap();
    let state = stream.cached_info().state.clone();
    (state, stream.consumer_info(durable).await.unwrap_or_else(|error| panic!("{durable}: {error}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_gets_what_it_keeps_and_the_pulse() {
    let published = Published::begin(Fixture::sqlite().await, Servers::start()).await;
    let prefix = prefix(&published.f.node);
    let (cities, offices) = (
        Subscription::new("cities", &published.f.journal).mirror::<CityReference>(),
        Subscription::new("offices", &published.f.journal).mirror::<OfficeReference>(),
    );
    let (mut of_cities, mut of_offices) = (published.source(&cities), published.source(&offices));
    for n in 0..20 {
        published.f.journal.submit(enter(&format!("c{n}"), "Lyon"), false).await.unwrap();
    }
    published.called(&cities, &mut of_cities, "c19", "Lyon").await;
    offices.step(&mut of_offices).await.unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let (stream, consumer) = state(&published.servers, &prefix, of_offices.durable()).await;
        assert!(consumer.delivered.consumer_sequence <= 1, "only the pulse is delivered: {consumer:?}");
        if stream.messages == 21 && consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the pulse is not acknowledged: {consumer:?}");
        offices.step(&mut of_offices).await.unwrap();
    }
    published.end().await;
}

/// A subscription to a quiet collection must not ask for a replay when the stream drops old changes of other
/// collections. The pulse shows that it is up to date.
#[tokio::test(flavor = "multi_thread")]
async fn who_got_nothing_for_long_has_missed_nothing() {
    let published = Published::begin(Fixture::sqlite().await, Servers::start()).await;
    let prefix = prefix(&published.f.node);
    let client = async_nats::connect(published.servers.nats()).await.unwrap();
    let mut asked = client.subscribe(format!("{prefix}.register.replay")).await.unwrap();
    let offices = |durable| Subscription::new(durable, &published.f.journal).mirror::<OfficeReference>();
    let (cities, seen) =
        (Subscription::new("cities", &published.f.journal).mirror::<CityReference>(), offices("offices"));
    published.f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    published.called(&cities, &mut published.source(&cities), "a", "Lyon").await;
    // A week later another replica begins to publish, and the stream has dropped the old changes.
    published.f.clock.set(fixture::start() + STREAM_AGE + STREAM_AGE);
    let last = state(&published.servers, &prefix, published.source(&cities).durable()).await.0.last_sequence;
    let stop = CancellationToken::new();
    let other = tokio::spawn(Relay::new(&published.f.again().await, &published.bus).run(stop.clone()));
    let mut source = published.source(&seen);
    let deadline = Instant::now() + SOON;
    loop {
        seen.step(&mut source).await.unwrap();
        let (stream, consumer) = state(&published.servers, &prefix, source.durable()).await;
        if consumer.delivered.stream_sequence > last && stream.last_sequence > last {
            break;
        }
        assert!(Instant::now() < deadline, "the second pulse does not arrive");
    }
    let stream = context(&published.servers).await.get_stream(format!("{prefix}-register")).await.unwrap();
    stream.purge().sequence(last + 1).await.unwrap();
    let (opened, mut source) = (offices("offices"), published.source(&seen));
    let durable = source.durable().to_owned();
    let waiting = tokio::spawn(async move { opened.step(&mut source).await });
    eventually("the new source waits for messages next to the old one", async || {
        let (_, consumer) = state(&published.servers, &prefix, &durable).await;
        (consumer.num_waiting > 1).then_some(())
    })
    .await;
    waiting.abort();
    assert!(asked.next().now_or_never().is_none(), "the subscription missed nothing and must not ask for a replay");
    let late = offices("late");
    late.step(&mut published.source(&late)).await.unwrap();
    assert!(tokio::time::timeout(SOON, asked.next()).await.unwrap().is_some(), "a new subscription asks for a replay");
    stop.cancel();
    other.await.unwrap();
    published.end().await;
}

/// A new subscription asks the owner to replay changes that the stream has dropped. It repeats the request until the
/// owner answers.
#[tokio::test(flavor = "multi_thread")]
async fn who_asked_in_vain_asks_again() {
    let published = Published::begin(Fixture::sqlite().await, Servers::start()).await;
    let prefix = prefix(&published.f.node);
    let cities = Subscription::new("cities", &published.f.journal).mirror::<CityReference>();
    published.f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    published.called(&cities, &mut published.source(&cities), "a", "Lyon").await;
    context(&published.servers).await.get_stream(format!("{prefix}-register")).await.unwrap().purge().await.unwrap();
    let Published { f, servers, bus, relay, stop } = published;
    stop.cancel();
    relay.await.unwrap();
    let late = Subscription::new("late", &f.journal).mirror::<OfficeReference>();
    let mut source = JetStreamSource::new(&bus, "register", &late);
    late.step(&mut source).await.expect_err("the owner does not run");
    let client = async_nats::connect(servers.nats()).await.unwrap();
    let mut asked = client.subscribe(format!("{prefix}.register.replay")).await.unwrap();
    client.flush().await.unwrap();
    let asking = tokio::spawn(async move { late.step(&mut source).await });
    assert!(tokio::time::timeout(SOON, asked.next()).await.unwrap().is_some());
    asking.abort();
}

/// Replicas of two versions share a subscription. The newer one mirrors a collection that the older one ignores. It
/// must receive that collection's changes although the older one reads the stream too.
#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_more_misses_nothing_beside_who_keeps_less() {
    let published = Published::begin(Fixture::sqlite().await, Servers::start()).await;
    let prefix = prefix(&published.f.node);
    let older = Subscription::new("both", &published.f.journal).mirror::<OfficeReference>();
    let newer = Subscription::new("both", &published.f.journal).mirror::<OfficeReference>().mirror::<CityReference>();
    let (mut less, mut more) = (published.source(&older), published.source(&newer));
    for (key, title) in [("a", "Lyon"), ("b", "Turin")] {
        published.f.journal.submit(enter(key, title), false).await.unwrap();
        older.step(&mut less).await.unwrap();
        published.called(&newer, &mut more, key, title).await;
    }
    for (source, kept) in [(&less, 1), (&more, 2)] {
        let (_, consumer) = state(&published.servers, &prefix, source.durable()).await;
        assert_eq!(consumer.config.filter_subjects.len(), 1 + kept, "{:?}", consumer.config.filter_subjects);
        assert_eq!(consumer.config.inactive_threshold, STREAM_AGE, "the broker removes an unused consumer");
    }
    published.end().await;
}

/// An earlier version, whose subjects did not contain the collection, left a stream, a consumer and messages.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_is_read_and_taken_over() {
    let (f, servers) = (Fixture::sqlite().await, Servers::start());
    let (prefix, context) = (prefix(&f.node), context(&servers).await);
    let config = stream::Config {
        name: format!("{prefix}-register"),
        subjects: vec![format!("{prefix}.register.changes.*")],
        ..Default::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    let durable = consumer::pull::Config { durable_name: Some("cities".into()), ..Default::default() };
    stream.create_consumer(durable).await.unwrap();
    // The first change arrives on the old subject, from a replica of the earlier version; the next on the new subject.
    f.journal.submit(enter("a", "Lyon"), false).await.unwrap();
    let first = f.journal.history(name("a").id, 0, 1).await.unwrap().remove(0).signed;
    let old = format!("{prefix}.register.changes.7");
    context.publish(old, first.encode_to_vec().into()).await.unwrap().await.unwrap();
    let published = Published::begin(f, servers).await;
    let cities = Subscription::new("cities", &published.f.journal).mirror::<CityReference>();
    let mut source = published.source(&cities);
    published.called(&cities, &mut source, "a", "Lyon").await;
    published.f.journal.submit(rename("a", "Lugdunum"), false).await.unwrap();
    published.called(&cities, &mut source, "a", "Lugdunum").await;
    let (_, consumer) = state(&published.servers, &prefix, source.durable()).await;
    assert_eq!(consumer.config.filter_subjects.len(), 2, "{:?}", consumer.config.filter_subjects);
    let consumers: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    assert_eq!(consumers, [source.durable()], "the consumer of the earlier version is removed");
    published.end().await;
}
