//! The broker: one JetStream stream a service, subjects by collection and a hash of the record, so that a subscription gets
//! what it keeps and no more, and a record's changes stay in order under parallel consumers. It is transport; the journals
//! are the truth.

use crate::{
    keys::NodeKeys,
    limits::{BROKER_GREETING, BROKER_WAIT, KNOWN_ENVELOPES, STREAM_AGE},
};
use async_nats::{
    ConnectOptions, Event,
    jetstream::{self, stream},
};
use ed25519_dalek::VerifyingKey;
use hansa_kernel::{Reason, RecordName, Refusal, envelope};
use hansa_proto::types::{ChangeEnvelope, SignedChange};
use moka::sync::Cache;
use prost::Message;
use std::{fmt::Display, time::Duration};
use tokio::sync::watch;

/// Subjects of one collection.
const SHARDS: u64 = 64;
/// How long the broker itself remembers message ids. Beyond it the subscribers' own marks count.
const DUPLICATES: Duration = Duration::from_secs(120);

/// A connection to the broker, for one node.
#[derive(Clone, Debug)]
pub struct Bus {
    pub(crate) client: async_nats::Client,
    pub(crate) context: jetstream::Context,
    prefix: String,
    replicas: usize,
    /// The key of the node: all services of a node share it.
    key: VerifyingKey,
    /// Hashes of envelopes that are the node's: published here, or looked at before.
    known: Cache<[u8; 32], ()>,
    /// Whether there is a connection.
    connected: watch::Receiver<bool>,
}

/// The broker is away, or answers what cannot be used.
pub(crate) fn broker(error: &impl Display) -> Refusal {
    tracing::warn!(%error, "the broker failed");
    Refusal::because(Reason::Unavailable, "PL-4", "the broker is away").help("Nothing is lost. It goes on by itself.")
}

/// User and password, or a token, as they stand in the address: the client by itself heeds neither. They are taken literally.
fn with_credentials(url: &str) -> Result<ConnectOptions, async_nats::ConnectError> {
    let address: async_nats::ServerAddr = url.parse()?;
    let options = ConnectOptions::new();
    Ok(match (address.username(), address.password()) {
        (Some(user), Some(password)) => options.user_and_password(user.into(), password.into()),
        (Some(token), None) => options.token(token.into()),
        _ => options,
    })
}

impl Bus {
    /// Connects. A broker that is away, now or later, is waited for: what was committed is published when it is there.
    /// `replicas` is how many servers keep each stream.
    ///
    /// # Errors
    /// Where the address is malformed or the broker refuses.
    pub async fn connect(url: &str, node: &NodeKeys, replicas: usize) -> Result<Self, async_nats::ConnectError> {
        let (connection, connected) = watch::channel(false);
        let client = with_credentials(url)?
            .name("hansa")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| Duration::from_millis(100 * (attempts as u64).min(20)))
            .event_callback(move |event| {
                match event {
                    Event::Connected => {
                        connection.send_replace(true);
                        tracing::info!("connected to the broker");
                    }
                    event => {
                        if event == Event::Disconnected {
                            connection.send_replace(false);
                        }
                        tracing::warn!(%event, "the broker");
                    }
                }
                std::future::ready(())
            })
            .connect(url)
            .await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(BROKER_WAIT);
        // Nodes that share a broker do not see each other's subjects.
        let id = node.name().trim_start_matches("nodes/").split('-').next().unwrap_or_default().to_owned();
        let (prefix, key) = (format!("hansa-{id}"), node.verifying());
        let known = Cache::new(KNOWN_ENVELOPES);
        Ok(Self { client, context, prefix, replicas, key, known, connected })
    }

    /// Whether the broker answers, JetStream included. Gives a connection that has only begun a moment.
    ///
    /// # Errors
    /// In words, where it does not.
    pub async fn answers(&self) -> Result<(), String> {
        let mut connected = self.connected.clone();
        if !matches!(tokio::time::timeout(BROKER_GREETING, connected.wait_for(|is| *is)).await, Ok(Ok(_))) {
            return Err("nobody answers at its address".into());
        }
        self.context.query_account().await.map(drop).map_err(|error| error.to_string())
    }

    /// The envelope of a change that the broker brought, signed by the node itself. Whoever may write to the broker could
    /// have put it there.
    pub(crate) fn read(&self, change: &SignedChange) -> Result<ChangeEnvelope, String> {
        let hash = envelope::hash(&change.envelope);
        if self.known.get(&hash).is_none() {
            let by_node = |signed| envelope::signed_by(envelope::PAYLOAD_TYPE, &change.envelope, signed, &self.key);
            if !change.signatures.iter().any(by_node) {
                return Err("it is not signed by this node".into());
            }
            self.known.insert(hash, ());
        }
        ChangeEnvelope::decode(change.envelope.as_slice()).map_err(|error| error.to_string())
    }

    /// Remembers an envelope of this process's own journals: a signature is looked at once in a process, and not for each
    /// service that follows it.
    pub(crate) fn own(&self, envelope: &[u8]) {
        self.known.insert(envelope::hash(envelope), ());
    }

    /// The name of a service's stream.
    pub(crate) fn stream_name(&self, service: &str) -> String {
        format!("{}-{service}", self.prefix)
    }

    /// The subject of a record's changes.
    pub(crate) fn subject(&self, service: &str, record: &RecordName) -> String {
        let shard = record.id.0.as_u128() as u64 % SHARDS;
        format!("{}.{service}.changes.{}.{shard}", self.prefix, record.collection())
    }

    /// The subject of what only tells that time goes on: who follows a collection in which nothing happens would otherwise
    /// take what the stream no longer keeps for something missed.
    pub(crate) fn pulse(&self, service: &str) -> String {
        format!("{}.{service}.changes.pulse", self.prefix)
    }

    /// Everything that concerns who follows these collections: their changes, the pulse, and what earlier versions
    /// published, which had no collection in the subject.
    pub(crate) fn subjects_of(&self, service: &str, collections: &[&str]) -> Vec<String> {
        let changes = format!("{}.{service}.changes", self.prefix);
        let of = |collection: &&str| format!("{changes}.{collection}.*");
        std::iter::once(format!("{changes}.*")).chain(collections.iter().map(of)).collect()
    }

    /// The subject on which a service answers for a record's past.
    pub(crate) fn history_subject(&self, service: &str) -> String {
        format!("{}.{service}.history", self.prefix)
    }

    /// The subject on which a service is asked to publish everything again.
    pub(crate) fn replay_subject(&self, service: &str) -> String {
        format!("{}.{service}.replay", self.prefix)
    }

    /// The stream of a service, made where it is missing, and widened where an older version made it.
    pub(crate) async fn stream(&self, service: &str) -> Result<stream::Stream, Refusal> {
        let changes = format!("{}.{service}.changes", self.prefix);
        let config = stream::Config {
            name: self.stream_name(service),
            subjects: vec![format!("{changes}.*"), format!("{changes}.*.*")],
            max_age: STREAM_AGE,
            duplicate_window: DUPLICATES,
            num_replicas: self.replicas,
            storage: stream::StorageType::File,
            ..Default::default()
        };
        let stream = self.context.get_or_create_stream(config.clone()).await.map_err(|e| broker(&e))?;
        let stands = &stream.cached_info().config;
        // Never the other way round: a newer version may have widened it further.
        if config.subjects.iter().any(|subject| !stands.subjects.contains(subject)) {
            let wider = stream::Config { subjects: config.subjects, ..stands.clone() };
            self.context.update_stream(wider).await.map_err(|e| broker(&e))?;
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn of_the_envelopes_that_are_known_so_many_are_remembered() {
        // Nobody answers there, and nobody is asked.
        let bus = Bus::connect("127.0.0.1:1", &NodeKeys::from_secret(&[1; 32]), 1).await.unwrap();
        for number in 0..2 * KNOWN_ENVELOPES {
            bus.own(&number.to_le_bytes());
        }
        bus.known.run_pending_tasks();
        let known = bus.known.entry_count();
        assert!((KNOWN_ENVELOPES / 2..=KNOWN_ENVELOPES).contains(&known), "{known}");
    }
}
