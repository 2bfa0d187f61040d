//! The relay: publishes committed changes from the outbox to the broker (transactional outbox).
//!
//! The outbox is the table `changes` itself: a change without a mark of publication is still to be published. There are two ways
//! to the broker:
//! - **Fast path**: the writer hands over what it has just committed, and the relay publishes it immediately and in order.
//! - **Sweep**: every `SWEEP_PERIOD` any replica claims changes that are older than `SWEEP_AFTER` and not marked. It publishes
//!   what a crash, a full channel or an unavailable broker left behind.
//!
//! Example: a process commits a change and crashes before the broker acknowledges it. A second later the sweep of another replica
//! claims the change and publishes it. If the broker had it already, the message id or the subscriber's version detects that.
//!
//! Guarantees: every committed change is published at least once; what the broker loses is published again ([`published`]); the
//! relay never delays a reply.
//!
//! [`published`]: crate::outbox::published

use crate::{
    journal::Journal,
    limits::{
        BACKLOG_PERIOD, HISTORY_REPLY_BYTES, PUBLISH_WINDOW, PUBLISHED_BACKLOG, PUBLISHED_PERIOD, PULSE_PERIOD,
        RELAY_BACKLOG, SWEEP_PERIOD,
    },
    metrics,
    outbox::{
        broker::Bus,
        published::{Published, mark_published, unpublished},
    },
    store::{error::JournalError, outbox_message::OutboxMessage, tables::change},
};
use async_nats::{HeaderMap, jetstream::publish::PublishAck};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use futures::{StreamExt, future::join, stream};
use hansa_kernel::{RecordName, Refusal, envelope};
use hansa_proto::types::{ChangeEnvelope, SignedChange, SignedChanges};
use prost::Message;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// The relay of one service.
pub struct Relay {
    journal: Journal,
    bus: Bus,
    /// What the writer hands over; taken when the relay runs.
    committed: Option<mpsc::Receiver<Vec<OutboxMessage>>>,
    /// The first sequence of the stream at the last check.
    first_sequence: AtomicU64,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("service", &self.journal.service()).finish_non_exhaustive()
    }
}

impl Relay {
    /// Creates the relay of a journal. From now on the writer hands over what it commits.
    #[must_use]
    pub fn new(journal: &Journal, bus: &Bus) -> Self {
        let (outbox, committed) = mpsc::channel(RELAY_BACKLOG);
        // A second relay of the same journal gets nothing from the writer; its sweep still works.
        let _ = journal.core.outbox.set(outbox);
        Self {
            journal: journal.clone(),
            bus: bus.clone(),
            committed: Some(committed),
            first_sequence: AtomicU64::new(0),
        }
    }

    /// Publishes until `stop` is cancelled, and answers the requests of subscribers.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut background = JoinSet::new();
        background.spawn(serve_subscribers(self.journal.clone(), self.bus.clone(), stop.clone()));
        background.spawn(number_feed(self.journal.clone(), stop.clone()));
        let (acks, mut acked) = mpsc::channel(PUBLISHED_BACKLOG);
        if let Some(committed) = self.committed.take() {
            tokio::select! {
                () = stop.cancelled() => {}
                // Neither task ends by itself. If one does, the process must notice that the relay ended.
                Some(_) = background.join_next() => return,
                // The fast path and the maintenance run concurrently, so that neither waits for the other.
                _ = join(self.publish(committed, acks), self.maintain(&mut acked)) => {}
            }
        }
        if let Err(error) = self.record_published(&mut acked).await {
            let error = Refusal::from(error);
            tracing::warn!(service = self.journal.service(), %error, "the last changes will be published again");
        }
        while background.join_next().await.is_some() {}
    }

    /// Marks published changes, sweeps, publishes pulses and records the backlog.
    async fn maintain(&self, acked: &mut mpsc::Receiver<Published>) {
        // Before the first mark: marks of an unknown stream would count as marks of a lost one.
        if let Err(error) = self.journal.check_stream(&self.bus).await {
            self.warn(error);
        }
        let mut sweep = interval(SWEEP_PERIOD);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut backlog = interval(BACKLOG_PERIOD);
        let mut record = interval(PUBLISHED_PERIOD);
        record.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(PULSE_PERIOD);
        loop {
            let result = tokio::select! {
                _ = backlog.tick() => self.record_backlog().await,
                _ = pulse.tick() => self.publish_pulse().await,
                // Marking may lag: a change that is published but not marked is at worst published again.
                _ = record.tick(), if !acked.is_empty() => self.record_published(acked).await,
                _ = sweep.tick() => match self.record_published(acked).await {
                    Ok(()) => self.sweep().await.map(drop),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result {
                self.warn(error);
            }
        }
    }

    fn warn(&self, error: JournalError) {
        let error = Refusal::from(error);
        tracing::warn!(service = self.journal.service(), %error, "the relay is delayed; the sweep will catch up");
    }

    /// Publishes a pulse, so that consumers without other messages still advance.
    async fn publish_pulse(&self) -> Result<(), JournalError> {
        self.bus.stream(self.journal.service()).await?;
        let subject = self.bus.pulse_subject(self.journal.service());
        self.send(&subject, HeaderMap::new(), &Bytes::new()).await.map(drop)
    }

    /// Records how many changes the broker lacks.
    async fn record_backlog(&self) -> Result<(), JournalError> {
        let unpublished = change::Entity::find().filter(change::Column::StreamSequence.is_null());
        let count = unpublished.count(self.journal.store().reader()).await?;
        metrics::backlog(self.journal.service(), count);
        Ok(())
    }

    /// The fast path: publishes committed changes in order, up to `PUBLISH_WINDOW` in flight, and passes the acknowledged ones on.
    async fn publish(&self, committed: mpsc::Receiver<Vec<OutboxMessage>>, acks: mpsc::Sender<Published>) {
        let batches =
            stream::unfold(committed, async |mut committed| Some((stream::iter(committed.recv().await?), committed)));
        let sending = batches.flatten().map(|message| self.publish_one(message)).buffered(PUBLISH_WINDOW);
        let mut sent = pin!(sending.ready_chunks(PUBLISH_WINDOW));
        // Publishing before the stream exists would fail, and the changes would wait for the sweep.
        if let Err(error) = self.bus.stream(self.journal.service()).await {
            self.warn(error);
        }
        while let Some(results) = sent.next().await {
            let mut failed = None;
            for result in results {
                match result {
                    // If the channel is full, the sweep publishes the change again and marks it.
                    Ok(published) => drop(acks.try_send(published)),
                    Err(error) => failed = Some(error),
                }
            }
            failed.into_iter().for_each(|error| self.warn(error));
        }
    }

    /// Marks acknowledged changes as published. If this fails, the sweep publishes them again.
    async fn record_published(&self, acked: &mut mpsc::Receiver<Published>) -> Result<(), JournalError> {
        let published: Vec<Published> = std::iter::from_fn(|| acked.try_recv().ok()).collect();
        if published.is_empty() {
            return Ok(());
        }
        let tx = self.journal.store().begin().await?;
        let truncated = mark_published(&tx, &published).await?;
        tx.commit().await?;
        self.recover(truncated).await
    }

    /// Makes subscriptions read the stream again if it was truncated.
    async fn recover(&self, truncated: bool) -> Result<(), JournalError> {
        if truncated {
            let service = self.journal.service();
            tracing::warn!(service, "the stream was truncated; the relay publishes the lost changes again");
            self.journal.reset_consumers(&self.bus).await?;
        }
        Ok(())
    }

    async fn publish_one(&self, message: OutboxMessage) -> Result<Published, JournalError> {
        let envelope = ChangeEnvelope::decode(message.envelope.as_slice()).map_err(JournalError::broker)?;
        self.bus.add_known(&message.envelope);
        let name = RecordName::parse_any(&envelope.record, "record")?;
        let headers = headers(&envelope, &name, message.trace.as_deref());
        let signatures = SignedChange::decode(message.signatures.as_slice()).map_err(JournalError::broker)?.signatures;
        let body = Bytes::from(SignedChange { envelope: message.envelope, signatures }.encode_to_vec());
        let subject = self.bus.subject(self.journal.service(), &name);
        let mut ack = self.send(&subject, headers.clone(), &body).await?;
        let first = self.first_sequence.load(Ordering::Relaxed);
        if ack.duplicate && ack.sequence < first {
            // The broker still knows the id of a message that was removed from the stream. Publish it under another id.
            let mut headers = headers;
            headers.insert("Nats-Msg-Id", format!("{}@{first}", name.change(envelope::version(&envelope))).as_str());
            ack = self.send(&subject, headers, &body).await?;
        }
        Ok(Published { record: message.record, version: message.version, sequence: ack.sequence.cast_signed() })
    }

    async fn send(&self, subject: &str, headers: HeaderMap, body: &Bytes) -> Result<PublishAck, JournalError> {
        Ok(self.bus.context.publish_with_headers(subject.to_owned(), headers, body.clone()).await?.await?)
    }

    /// Checks what the broker has lost, then publishes all changes that are due. Returns how many it published.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the broker or the database is unavailable.
    pub async fn sweep(&self) -> Result<usize, JournalError> {
        let first = self.journal.check_stream(&self.bus).await?;
        self.first_sequence.store(first, Ordering::Relaxed);
        let now = self.journal.clock().now().timestamp_micros();
        let mut swept = 0;
        loop {
            let tx = self.journal.store().begin().await?;
            let rows = unpublished(&tx, self.journal.store().backend(), now).await?;
            if rows.is_empty() {
                return Ok(swept);
            }
            swept += rows.len();
            let messages: Vec<OutboxMessage> = rows.into_iter().map(OutboxMessage::from).collect();
            let sending = messages.into_iter().map(|message| self.publish_one(message));
            let mut sent = stream::iter(sending).buffered(PUBLISH_WINDOW);
            let mut published = Vec::new();
            while let Some(result) = sent.next().await {
                published.push(result?);
            }
            let truncated = mark_published(&tx, &published).await?;
            tx.commit().await?;
            self.recover(truncated).await?;
        }
    }
}

/// Assigns feed positions every `SWEEP_PERIOD`, whether or not the broker is available.
async fn number_feed(journal: Journal, stop: CancellationToken) {
    let mut tick = interval(SWEEP_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = journal.number_feed().await {
            let error = Refusal::from(JournalError::from(error));
            tracing::warn!(service = journal.service(), %error, "the feed has no new positions yet");
        }
    }
}

/// Builds the headers: CloudEvents attributes, the message id, and the trace context. `ce-id` contains the record, so there is no
/// `ce-subject`, which would only lengthen the message.
fn headers(envelope: &ChangeEnvelope, name: &RecordName, trace: Option<&str>) -> HeaderMap {
    let id = name.change(envelope::version(envelope));
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", id.as_str());
    headers.insert("ce-source", envelope.authority.as_str());
    headers.insert("ce-type", envelope.payload_type.as_str());
    if let Some(at) = envelope
        .claim_time
        .as_ref()
        .and_then(|t| DateTime::from_timestamp(t.seconds, u32::try_from(t.nanos).unwrap_or_default()))
    {
        headers.insert("ce-time", at.to_rfc3339_opts(SecondsFormat::Micros, true).as_str());
    }
    headers.insert("content-type", "application/x-protobuf");
    if let Some(trace) = trace {
        headers.insert("traceparent", trace);
    }
    headers
}

/// Answers the requests of subscribers for a record's history, and for publishing everything again. Subscribes again after an
/// error.
async fn serve_subscribers(journal: Journal, bus: Bus, stop: CancellationToken) {
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = serve_until_disconnected(&journal, &bus) => ended,
        };
        if let Err(error) = ended {
            let error = Refusal::from(error);
            tracing::warn!(service = journal.service(), %error, "requests of subscribers are not answered");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
        }
    }
}

async fn serve_until_disconnected(journal: &Journal, bus: &Bus) -> Result<(), JournalError> {
    let group = || "answers".to_owned();
    let mut histories = bus
        .client
        .queue_subscribe(bus.history_subject(journal.service()), group())
        .await
        .map_err(JournalError::broker)?;
    let mut replays = bus
        .client
        .queue_subscribe(bus.replay_subject(journal.service()), group())
        .await
        .map_err(JournalError::broker)?;
    loop {
        tokio::select! {
            request = histories.next() => {
                let Some(request) = request else { return Ok(()) };
                if let Some(reply) = request.reply.clone() {
                    let body = history_page(journal, &request.payload).await?;
                    bus.client.publish(reply, body.into()).await?;
                }
            }
            request = replays.next() => {
                let Some(request) = request else { return Ok(()) };
                journal.unpublish_all().await?;
                if let Some(reply) = request.reply.clone() {
                    bus.client.publish(reply, Bytes::new()).await?;
                }
            }
        }
    }
}

/// Reads as much of a record's history as fits into one message. The request is `{record} {version}`.
async fn history_page(journal: &Journal, request: &[u8]) -> Result<Vec<u8>, JournalError> {
    let text = String::from_utf8_lossy(request);
    let Some((record, after)) = text.rsplit_once(' ') else { return Ok(Vec::new()) };
    let (Ok(name), Ok(after)) = (RecordName::parse_any(record, "record"), after.parse()) else { return Ok(Vec::new()) };
    let mut page = SignedChanges::default();
    let mut bytes = 0;
    for change in journal.history(name.id, after, u64::MAX).await? {
        bytes += change.signed.encoded_len();
        if bytes > HISTORY_REPLY_BYTES && !page.changes.is_empty() {
            break;
        }
        page.changes.push(change.signed);
    }
    Ok(page.encode_to_vec())
}
