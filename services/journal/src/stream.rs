//! A subscription's changes from the broker: a durable pull consumer of the collections that it keeps, acknowledged after the
//! effects are committed.

use crate::{
    bus::{Bus, broker},
    limits::{ACK_PENDING, ACK_WAIT, HISTORY_WAIT, STREAM_AGE, SUBSCRIPTION_BATCH, SUBSCRIPTION_PERIOD},
    subscription::{Delivery, Source, Subscription},
};
use async_nats::jetstream::{
    Message as Delivered,
    consumer::{AckPolicy, pull},
    context::ConsumerInfoErrorKind,
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use hansa_kernel::{RecordName, Refusal, envelope};
use hansa_proto::types::{ChangeEnvelope, SignedChange, SignedChanges};
use prost::Message;
use std::time::Duration;

/// Reads a service's stream.
pub struct StreamSource {
    bus: Bus,
    service: &'static str,
    subscription: &'static str,
    durable: String,
    collections: Vec<&'static str>,
    messages: Option<pull::Stream>,
    taken: Vec<Delivered>,
}

impl std::fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSource").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl StreamSource {
    /// A reader of what a subscription keeps of `service`. Replicas that keep the same share a consumer. One of a version that
    /// keeps more has a consumer of its own, and begins with all that the stream has: nobody passes anything over for others.
    #[must_use]
    pub fn of(bus: &Bus, service: &'static str, subscription: &Subscription) -> Self {
        let (subscription, collections) = (subscription.name(), subscription.collections());
        let kept = envelope::hash(collections.join(" ").as_bytes());
        let durable = format!("{subscription}-{}", hex::encode(&kept[..4]));
        Self { bus: bus.clone(), service, subscription, durable, collections, messages: None, taken: Vec::new() }
    }

    /// The name of the consumer at the broker.
    #[must_use]
    pub fn durable(&self) -> &str {
        &self.durable
    }

    /// Asks the owner to publish everything again.
    async fn ask_again(&self) -> Result<(), Refusal> {
        let request = self.bus.client.request(self.bus.replay_subject(self.service), Vec::new().into());
        let heard = tokio::time::timeout(HISTORY_WAIT, request).await.map_err(|e| broker(&e))?;
        heard.map(drop).map_err(|e| broker(&e))
    }

    async fn open(&self) -> Result<pull::Stream, Refusal> {
        let stream = self.bus.stream(self.service).await?;
        let config = pull::Config {
            durable_name: Some(self.durable.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: ACK_PENDING,
            filter_subjects: self.bus.subjects_of(self.service, &self.collections),
            // That of a version that runs no more goes when it could not go on anyway.
            inactive_threshold: STREAM_AGE,
            ..Default::default()
        };
        // Of a new one the broker says that it has had whatever the stream keeps no more.
        let (mut seen, mut new) = match stream.consumer_info(&self.durable).await {
            Ok(info) => (info.delivered.stream_sequence, false),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => (0, true),
            Err(error) => return Err(broker(&error)),
        };
        let mut consumer = stream.create_consumer(config.clone()).await.map_err(|e| broker(&e))?;
        // Earlier versions had one consumer a subscription, whatever they kept: it goes with the last of their replicas.
        if stream.consumer_info(self.subscription).await.is_ok_and(|info| info.num_waiting == 0) {
            stream.delete_consumer(self.subscription).await.map_err(|e| broker(&e))?;
        }
        let state = stream.get_info().await.map_err(|e| broker(&e))?.state;
        if seen > state.last_sequence {
            // The stream lost its end and the consumer did not: it would pass over what takes those places.
            tracing::warn!(self.durable, "the stream ends before what was seen; reading all of it again");
            stream.delete_consumer(&self.durable).await.map_err(|e| broker(&e))?;
            consumer = stream.create_consumer(config.clone()).await.map_err(|e| broker(&e))?;
            (seen, new) = (0, true);
        }
        // The stream keeps messages for a while. What is older than that, the owner publishes again. It must have heard:
        // who asked in vain asks again.
        if state.first_sequence > seen + 1 {
            tracing::warn!(self.durable, "the stream begins after what was seen; asking for everything again");
            if let Err(refusal) = self.ask_again().await {
                if new {
                    stream.delete_consumer(&self.durable).await.map_err(|e| broker(&e))?;
                }
                return Err(refusal);
            }
        }
        consumer
            .stream()
            .max_messages_per_batch(usize::try_from(SUBSCRIPTION_BATCH).unwrap_or(usize::MAX))
            .expires(Duration::from_secs(30))
            // A consumer that is gone is noticed after two of these.
            .heartbeat(Duration::from_secs(2))
            .messages()
            .await
            .map_err(|e| broker(&e))
    }

    /// One message, and whatever else is there already.
    async fn take(&mut self) -> Result<(), Refusal> {
        if self.messages.is_none() {
            self.messages = Some(self.open().await?);
        }
        let Some(messages) = &mut self.messages else { return Ok(()) };
        let Ok(first) = tokio::time::timeout(SUBSCRIPTION_PERIOD, messages.next()).await else { return Ok(()) };
        let mut next = first;
        while let Some(message) = next {
            self.taken.push(message.map_err(|e| broker(&e))?);
            if self.taken.len() as u64 >= SUBSCRIPTION_BATCH {
                return Ok(());
            }
            match messages.next().now_or_never() {
                Some(message) => next = message,
                None => return Ok(()),
            }
        }
        // The stream of messages has ended: it is opened again.
        self.messages = None;
        Ok(())
    }
}

#[async_trait]
impl Source for StreamSource {
    async fn next(&mut self, _after: i64) -> Result<Vec<Delivery>, Refusal> {
        self.taken.clear();
        if let Err(refusal) = self.take().await {
            // Stream, consumer or connection are gone: everything is opened again, and what was taken comes again.
            self.messages = None;
            self.taken.clear();
            return Err(refusal);
        }
        let mut deliveries = Vec::with_capacity(self.taken.len());
        let pulse = self.bus.pulse(self.service);
        for message in self.taken.iter().filter(|message| message.subject.as_str() != pulse) {
            let change = SignedChange::decode(message.payload.clone()).map_err(|error| error.to_string());
            let envelope = change.and_then(|change| self.bus.read(&change));
            match envelope {
                Ok(envelope) => deliveries.push(Delivery {
                    position: 0,
                    envelope,
                    trace: message.headers.as_ref().and_then(|h| h.get("traceparent")).map(ToString::to_string),
                }),
                // Not ours: whoever put it there, it is no change of this node. It is acknowledged and told.
                Err(error) => tracing::error!(self.durable, %error, "a message is no change"),
            }
        }
        Ok(deliveries)
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, Refusal> {
        let mut out: Vec<ChangeEnvelope> = Vec::new();
        loop {
            let from = out.last().map_or(after, |last| last.version);
            let asked = format!("{record} {from}");
            let request = self.bus.client.request(self.bus.history_subject(self.service), asked.into());
            let reply = tokio::time::timeout(HISTORY_WAIT, request).await.map_err(|e| broker(&e))?;
            let page = SignedChanges::decode(reply.map_err(|e| broker(&e))?.payload).map_err(|e| broker(&e))?;
            if page.changes.is_empty() {
                return Ok(out);
            }
            for change in page.changes {
                out.push(self.bus.read(&change).map_err(|e| broker(&e))?);
            }
        }
    }

    fn by_position(&self) -> bool {
        false
    }

    async fn rewind(&mut self) -> Result<(), Refusal> {
        self.ask_again().await
    }

    async fn applied(&mut self) -> Result<(), Refusal> {
        for message in self.taken.drain(..) {
            message.ack().await.map_err(|e| broker(&e))?;
        }
        Ok(())
    }
}
