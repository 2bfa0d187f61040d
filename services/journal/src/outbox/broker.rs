//! The broker, NATS JetStream: a connection, one stream per service, and the names of its subjects.
//!
//! A subject contains the collection and a hash of the record. A subscription thus receives only the collections that it mirrors,
//! and the changes of a record stay in order under parallel consumers. The broker is transport; the journals are the source of
//! truth.

use crate::{
    crypto::node_key::NodeKeys,
    limits::{BROKER_GREETING, BROKER_WAIT, KNOWN_ENVELOPES, STREAM_AGE},
    store::error::JournalError,
};
use async_nats::{
    ConnectOptions, Event,
    jetstream::{self, stream},
};
use ed25519_dalek::VerifyingKey;
use hansa_kernel::{RecordName, envelope};
use hansa_proto::types::{ChangeEnvelope, SignedChange};
use moka::sync::Cache;
use prost::Message;
use std::time::Duration;
use tokio::sync::watch;

/// Subjects per collection.
const SHARDS: u64 = 64;
/// How long the broker detects duplicate message ids. After that, only the versions of the mirrors detect a duplicate.
const DUPLICATES: Duration = Duration::from_secs(120);

/// A connection to the broker, for one node.
#[derive(Clone, Debug)]
pub struct Bus {
    pub(crate) client: async_nats::Client,
    pub(crate) context: jetstream::Context,
    prefix: String,
    replicas: usize,
    /// The public key that all services of the node sign with.
    key: VerifyingKey,
    /// Hashes of envelopes that are known to be the node's: published by this process, or verified before.
    known: Cache<[u8; 32], ()>,
    /// Whether the client is connected.
    connected: watch::Receiver<bool>,
}

/// Applies user and password, or a token, from the address, because the client ignores them. They are taken literally.
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
    /// Connects. If the broker is unavailable, now or later, the client reconnects in the background and committed changes are
    /// published then. `replicas` is the number of servers that store each stream.
    ///
    /// # Errors
    /// If the address is malformed or the broker refuses the connection.
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
                        tracing::warn!(%event, "the connection to the broker reported an event");
                    }
                }
                std::future::ready(())
            })
            .connect(url)
            .await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(BROKER_WAIT);
        // The node's id separates nodes that share a broker.
        let id = node.name().trim_start_matches("nodes/").split('-').next().unwrap_or_default().to_owned();
        let (prefix, key) = (format!("hansa-{id}"), node.verifying());
        let known = Cache::new(KNOWN_ENVELOPES);
        Ok(Self { client, context, prefix, replicas, key, known, connected })
    }

    /// Checks that the broker responds, including JetStream. Waits up to `BROKER_GREETING` for the first connection.
    ///
    /// # Errors
    /// A text that says why it does not respond.
    pub async fn answers(&self) -> Result<(), String> {
        let mut connected = self.connected.clone();
        if !matches!(tokio::time::timeout(BROKER_GREETING, connected.wait_for(|is| *is)).await, Ok(Ok(_))) {
            return Err("no server responds at the address".into());
        }
        self.context.query_account().await.map(drop).map_err(|error| error.to_string())
    }

    /// Decodes a change that the broker delivered, and verifies that the node signed it, because others may be able to publish to
    /// the broker.
    pub(crate) fn verify(&self, change: &SignedChange) -> Result<ChangeEnvelope, String> {
        let hash = envelope::hash(&change.envelope);
        if self.known.get(&hash).is_none() {
            let by_node = |signed| envelope::signed_by(envelope::PAYLOAD_TYPE, &change.envelope, signed, &self.key);
            if !change.signatures.iter().any(by_node) {
                return Err("the change is not signed by this node".into());
            }
            self.known.insert(hash, ());
        }
        ChangeEnvelope::decode(change.envelope.as_slice()).map_err(|error| error.to_string())
    }

    /// Marks an envelope as published by this process, so that its subscriptions need not verify the signature.
    pub(crate) fn add_known(&self, envelope: &[u8]) {
        self.known.insert(envelope::hash(envelope), ());
    }

    /// Returns the name of a service's stream.
    pub(crate) fn stream_name(&self, service: &str) -> String {
        format!("{}-{service}", self.prefix)
    }

    /// Returns the subject of a record's changes.
    pub(crate) fn subject(&self, service: &str, record: &RecordName) -> String {
        let shard = record.id.0.as_u128() as u64 % SHARDS;
        format!("{}.{service}.changes.{}.{shard}", self.prefix, record.collection())
    }

    /// Returns the subject of pulses. Without them, a consumer of a collection without changes could not tell expired messages of
    /// other collections from messages that it missed.
    pub(crate) fn pulse_subject(&self, service: &str) -> String {
        format!("{}.{service}.changes.pulse", self.prefix)
    }

    /// Returns the filter subjects of a consumer of these collections: their changes, the pulse, and the subjects of earlier
    /// versions, which did not contain the collection.
    pub(crate) fn subjects_of(&self, service: &str, collections: &[&str]) -> Vec<String> {
        let changes = format!("{}.{service}.changes", self.prefix);
        let of = |collection: &&str| format!("{changes}.{collection}.*");
        std::iter::once(format!("{changes}.*")).chain(collections.iter().map(of)).collect()
    }

    /// Returns the subject for requests of a record's history.
    pub(crate) fn history_subject(&self, service: &str) -> String {
        format!("{}.{service}.history", self.prefix)
    }

    /// Returns the subject for requests to publish everything again.
    pub(crate) fn replay_subject(&self, service: &str) -> String {
        format!("{}.{service}.replay", self.prefix)
    }

    /// Returns the stream of a service. Creates it if it is missing, and adds subjects that an older version did not have.
    pub(crate) async fn stream(&self, service: &str) -> Result<stream::Stream, JournalError> {
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
        let stream = self.context.get_or_create_stream(config.clone()).await?;
        let existing = &stream.cached_info().config;
        // Subjects are never removed: a newer version may have added more.
        if config.subjects.iter().any(|subject| !existing.subjects.contains(subject)) {
            let wider = stream::Config { subjects: config.subjects, ..existing.clone() };
            self.context.update_stream(wider).await?;
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_cache_of_known_envelopes_is_bounded() {
        // No server listens there, and the test needs none.
        let bus = Bus::connect("127.0.0.1:1", &NodeKeys::from_secret(&[1; 32]), 1).await.unwrap();
        for number in 0..2 * KNOWN_ENVELOPES {
            bus.add_known(&number.to_le_bytes());
        }
        bus.known.run_pending_tasks();
        let known = bus.known.entry_count();
        assert!((KNOWN_ENVELOPES / 2..=KNOWN_ENVELOPES).contains(&known), "{known}");
    }
}
