//! The source of a subscription at the broker: a durable pull consumer of the mirrored collections. Messages are acknowledged after
//! their effects are committed.

use crate::{
    inbox::{
        source::{Delivery, Source},
        subscription::Subscription,
    },
    limits::{ACK_PENDING, ACK_WAIT, HISTORY_WAIT, STREAM_AGE, SUBSCRIPTION_BATCH, SUBSCRIPTION_PERIOD},
    outbox::broker::Bus,
    store::error::JournalError,
};
use async_nats::jetstream::{
    Message as Delivered,
    consumer::{AckPolicy, pull},
    context::ConsumerInfoErrorKind,
};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use hansa_kernel::{RecordName, envelope};
use hansa_proto::types::{ChangeEnvelope, SignedChange, SignedChanges};
use prost::Message;
use std::time::Duration;

/// Reads the stream of a service.
pub struct JetStreamSource {
    bus: Bus,
    service: &'static str,
    subscription: &'static str,
    durable: String,
    collections: Vec<&'static str>,
    messages: Option<pull::Stream>,
    taken: Vec<Delivered>,
}

impl std::fmt::Debug for JetStreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSource").field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl JetStreamSource {
    /// Creates a reader of the collections that a subscription mirrors of `service`.
    ///
    /// Replicas that mirror the same collections share a consumer. A version that mirrors other collections has a consumer of its
    /// own, which starts with the whole stream. So no replica consumes messages that another version needs.
    #[must_use]
    pub fn new(bus: &Bus, service: &'static str, subscription: &Subscription) -> Self {
        let (subscription, collections) = (subscription.name(), subscription.collections());
        let hash = envelope::hash(collections.join(" ").as_bytes());
        let durable = format!("{subscription}-{}", hex::encode(&hash[..4]));
        Self { bus: bus.clone(), service, subscription, durable, collections, messages: None, taken: Vec::new() }
    }

    /// Returns the durable name of the consumer.
    #[must_use]
    pub fn durable(&self) -> &str {
        &self.durable
    }

    /// Requests that the owner publishes everything again.
    async fn request_replay(&self) -> Result<(), JournalError> {
        let request = self.bus.client.request(self.bus.replay_subject(self.service), Vec::new().into());
        let heard = tokio::time::timeout(HISTORY_WAIT, request).await?;
        heard.map(drop).map_err(JournalError::from)
    }

    async fn open(&self) -> Result<pull::Stream, JournalError> {
        let stream = self.bus.stream(self.service).await?;
        let config = pull::Config {
            durable_name: Some(self.durable.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: ACK_PENDING,
            filter_subjects: self.bus.subjects_of(self.service, &self.collections),
            // The consumer of a version that no longer runs expires when its messages would have expired anyway.
            inactive_threshold: STREAM_AGE,
            ..Default::default()
        };
        // The broker reports that a new consumer has seen all expired messages, so a new one is told apart first.
        let (mut seen, mut is_new) = match stream.consumer_info(&self.durable).await {
            Ok(info) => (info.delivered.stream_sequence, false),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => (0, true),
            Err(error) => return Err(error.into()),
        };
        let mut consumer = stream.create_consumer(config.clone()).await?;
        // Earlier versions had one consumer per subscription. It is deleted when none of their replicas waits for messages.
        if stream.consumer_info(self.subscription).await.is_ok_and(|info| info.num_waiting == 0) {
            stream.delete_consumer(self.subscription).await?;
        }
        let state = stream.get_info().await?.state;
        if seen > state.last_sequence {
            // The stream was truncated behind the consumer, which would skip the messages that get these sequences.
            tracing::warn!(
                self.durable,
                "the stream ends before the last message that was read; reading it again from the start"
            );
            stream.delete_consumer(&self.durable).await?;
            consumer = stream.create_consumer(config.clone()).await?;
            (seen, is_new) = (0, true);
        }
        // Messages between `seen` and the start of the stream have expired; the owner must publish them again. If the request
        // fails, the next attempt must repeat it, so a new consumer is deleted.
        if state.first_sequence > seen + 1 {
            tracing::warn!(self.durable, "messages have expired before they were read; requesting everything again");
            if let Err(error) = self.request_replay().await {
                if is_new {
                    stream.delete_consumer(&self.durable).await?;
                }
                return Err(error);
            }
        }
        consumer
            .stream()
            .max_messages_per_batch(usize::try_from(SUBSCRIPTION_BATCH).unwrap_or(usize::MAX))
            .expires(Duration::from_secs(30))
            // The client notices after two heartbeats that the consumer is gone.
            .heartbeat(Duration::from_secs(2))
            .messages()
            .await
            .map_err(JournalError::from)
    }

    /// Waits for one message, and takes all that have arrived with it.
    async fn take(&mut self) -> Result<(), JournalError> {
        if self.messages.is_none() {
            self.messages = Some(self.open().await?);
        }
        let Some(messages) = &mut self.messages else { return Ok(()) };
        let Ok(first) = tokio::time::timeout(SUBSCRIPTION_PERIOD, messages.next()).await else { return Ok(()) };
        let mut next = first;
        while let Some(message) = next {
            self.taken.push(message?);
            if self.taken.len() as u64 >= SUBSCRIPTION_BATCH {
                return Ok(());
            }
            match messages.next().now_or_never() {
                Some(message) => next = message,
                None => return Ok(()),
            }
        }
        // The stream of messages has ended; the next call opens it again.
        self.messages = None;
        Ok(())
    }
}

#[async_trait]
impl Source for JetStreamSource {
    async fn next(&mut self, _after: i64) -> Result<Vec<Delivery>, JournalError> {
        self.taken.clear();
        if let Err(error) = self.take().await {
            // Stream, consumer or connection may be gone. The next call opens them again, and the broker redelivers the messages.
            self.messages = None;
            self.taken.clear();
            return Err(error);
        }
        let mut deliveries = Vec::with_capacity(self.taken.len());
        let pulse = self.bus.pulse_subject(self.service);
        for message in self.taken.iter().filter(|message| message.subject.as_str() != pulse) {
            let change = SignedChange::decode(message.payload.clone()).map_err(|error| error.to_string());
            let envelope = change.and_then(|change| self.bus.verify(&change));
            match envelope {
                Ok(envelope) => deliveries.push(Delivery {
                    position: 0,
                    envelope,
                    trace: message.headers.as_ref().and_then(|h| h.get("traceparent")).map(ToString::to_string),
                }),
                // Another publisher put it into the stream. It is logged and acknowledged, so that it is not delivered again.
                Err(error) => {
                    tracing::error!(self.durable, %error, "a message is not a signed change of this node; it is skipped")
                }
            }
        }
        Ok(deliveries)
    }

    async fn history(&self, record: &RecordName, after: u64) -> Result<Vec<ChangeEnvelope>, JournalError> {
        let mut changes: Vec<ChangeEnvelope> = Vec::new();
        loop {
            let from = changes.last().map_or(after, envelope::version);
            let body = format!("{record} {from}");
            let request = self.bus.client.request(self.bus.history_subject(self.service), body.into());
            let reply = tokio::time::timeout(HISTORY_WAIT, request).await?;
            let page = SignedChanges::decode(reply?.payload).map_err(JournalError::broker)?;
            if page.changes.is_empty() {
                return Ok(changes);
            }
            for change in page.changes {
                changes.push(self.bus.verify(&change).map_err(JournalError::broker)?);
            }
        }
    }

    fn by_position(&self) -> bool {
        false
    }

    async fn rewind(&mut self) -> Result<(), JournalError> {
        self.request_replay().await
    }

    async fn acknowledge(&mut self) -> Result<(), JournalError> {
        for message in self.taken.drain(..) {
            message.ack().await.map_err(JournalError::broker)?;
        }
        Ok(())
    }
}
