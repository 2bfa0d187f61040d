//! What a subscription gets of a stream: the collections that it keeps, whoever published them, and nothing else.
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
        // What was published before the relay has taken note of the stream would be published again, and consumers made anew.
        eventually("the stream is known", async || {
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

    /// Applies what comes until a city is called so.
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

/// The stream as it stands, and what a consumer has had of it.
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
        assert!(consumer.delivered.consumer_sequence <= 1, "nothing but the pulse: {consumer:?}");
        if stream.messages == 21 && consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the pulse is acknowledged as well: {consumer:?}");
        offices.step(&mut of_offices).await.unwrap();
    }
    published.end().await;
}

/// What the stream keeps no more was nothing for who follows a collection in which nothing happened: the pulse tells.
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
    // A week later somebody else begins to publish, and what was there before is gone.
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
        assert!(Instant::now() < deadline, "the second pulse comes");
    }
    let stream = context(&published.servers).await.get_stream(format!("{prefix}-register")).await.unwrap();
    stream.purge().sequence(last + 1).await.unwrap();
    let (opened, mut source) = (offices("offices"), published.source(&seen));
    let durable = source.durable().to_owned();
    let waiting = tokio::spawn(async move { opened.step(&mut source).await });
    eventually("it waits for messages, beside the source that it had before", async || {
        let (_, consumer) = state(&published.servers, &prefix, &durable).await;
        (consumer.num_waiting > 1).then_some(())
    })
    .await;
    waiting.abort();
    assert!(asked.next().now_or_never().is_none(), "nothing was missed");
    let late = offices("late");
    late.step(&mut published.source(&late)).await.unwrap();
    assert!(
        tokio::time::timeout(SOON, asked.next()).await.unwrap().is_some(),
        "who was never there asks for everything"
    );
    stop.cancel();
    other.await.unwrap();
    published.end().await;
}

/// Who is new asks the owner for what the stream keeps no more, until the owner hears it.
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
    late.step(&mut source).await.expect_err("nobody answers");
    let client = async_nats::connect(servers.nats()).await.unwrap();
    let mut asked = client.subscribe(format!("{prefix}.register.replay")).await.unwrap();
    client.flush().await.unwrap();
    let asking = tokio::spawn(async move { late.step(&mut source).await });
    assert!(tokio::time::timeout(SOON, asked.next()).await.unwrap().is_some());
    asking.abort();
}

/// Replicas of two versions: what the older one takes, and keeps nothing of, the newer one gets all the same.
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
        assert_eq!(consumer.config.inactive_threshold, STREAM_AGE, "it goes when nobody asks any more");
    }
    published.end().await;
}

/// A stream, a consumer and messages of a version that had no collections in its subjects.
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
    // The owner's first change comes on the old subject, from a replica of that version; the next on the new one.
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
    assert_eq!(consumers, [source.durable()], "that of the earlier version is gone");
    published.end().await;
}
