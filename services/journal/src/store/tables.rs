//! The journal's tables. Instants are whole microseconds since 1970 in UTC, so that both engines store them alike.

/// Changes with their canonical bytes.
pub mod change {
    use sea_orm::entity::prelude::*;
    /// One change.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "changes")]
    pub struct Model {
        /// Order of insertion. On SQLite it is also the order of commit.
        #[sea_orm(primary_key)]
        pub seq: i64,
        /// The record.
        pub record: Uuid,
        /// Position in the record's history, from 1.
        pub version: i64,
        /// Full protobuf name of the payload.
        pub payload_type: String,
        /// Canonical bytes of the envelope.
        pub envelope: Vec<u8>,
        /// Encoded `SignedChange` without its envelope.
        pub signatures: Vec<u8>,
        /// When it was stored.
        pub received_at: i64,
        /// W3C trace context of the command.
        pub trace: Option<String>,
        /// Its sequence in the broker's stream; NULL if the broker does not have it.
        pub stream_sequence: Option<i64>,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}

    /// Builds the condition that a change is one of some pairs of record and version. It is one list of pairs, because a chain of
    /// ORs is as deep as it is long, and SQLite limits the depth to 1,000.
    pub(crate) fn these(places: impl IntoIterator<Item = (Uuid, i64)>) -> sea_orm::sea_query::Expr {
        use sea_orm::sea_query::{Expr, ExprTrait};
        Expr::tuple([Expr::col(Column::Record), Expr::col(Column::Version)]).in_tuples(places)
    }
}

/// Snapshots: the present state of every record.
pub mod record {
    use sea_orm::entity::prelude::*;
    /// One record after its newest change.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "records")]
    pub struct Model {
        /// The record.
        #[sea_orm(primary_key, auto_increment = false)]
        pub record: Uuid,
        /// Its full resource name.
        pub name: String,
        /// Version of the newest change.
        pub version: i64,
        /// Hash of the newest change.
        pub head: Vec<u8>,
        /// Revision of the state's shape, and rebuild generation (`record::erased`).
        pub revision: i32,
        /// The state.
        pub state: Vec<u8>,
        /// When its timer is due.
        pub due_at: Option<i64>,
        /// Why it is frozen and takes no commands.
        pub frozen: Option<String>,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Idempotency keys, and what the requests led to.
pub mod request {
    use sea_orm::entity::prelude::*;
    /// One accepted request.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "requests")]
    pub struct Model {
        /// The caller's tenant.
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant: Uuid,
        /// The caller's request id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub request: Uuid,
        /// Keyed hash of its content.
        pub fingerprint: Vec<u8>,
        /// The record of the receipt.
        pub record: Uuid,
        /// The version of the receipt.
        pub version: i64,
        /// When the request was accepted.
        pub created_at: i64,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The feed: which tenant may follow which change, in order.
pub mod feed {
    use sea_orm::entity::prelude::*;
    /// One change in the feed of one tenant; the nil tenant stands for all tenants.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "feed")]
    pub struct Model {
        /// Order of insertion.
        #[sea_orm(primary_key)]
        pub seq: i64,
        /// Position in the feed, assigned after commit on PostgreSQL.
        pub position: Option<i64>,
        /// The tenant.
        pub tenant: Uuid,
        /// The record.
        pub record: Uuid,
        /// The version.
        pub version: i64,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// The erasable store of sealed values (PL-7).
pub mod seal {
    use sea_orm::entity::prelude::*;
    /// One value.
    #[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "seals")]
    pub struct Model {
        /// The seal, which the change contains instead of the value.
        #[sea_orm(primary_key, auto_increment = false)]
        pub seal: Vec<u8>,
        /// The record whose change contains the seal.
        pub record: Uuid,
        /// The tenant that entered the value.
        pub tenant: Uuid,
        /// The salt; empty after an erasure.
        pub salt: Vec<u8>,
        /// The value; empty after an erasure.
        pub value: Vec<u8>,
        /// When it was erased.
        pub erased_at: Option<i64>,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}

    // A value is personal data. It must not reach a log through a debug format.
    impl std::fmt::Debug for Model {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("seal::Model").field("record", &self.record).finish_non_exhaustive()
        }
    }
}

/// Mirrors: what a subscription keeps of foreign records. The version says which changes have been applied.
pub mod mirror {
    use sea_orm::entity::prelude::*;
    /// One foreign record.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mirrors")]
    pub struct Model {
        /// The collection of the record.
        #[sea_orm(primary_key, auto_increment = false)]
        pub collection: String,
        /// The record.
        #[sea_orm(primary_key, auto_increment = false)]
        pub record: Uuid,
        /// The version that was applied last.
        pub version: i64,
        /// Revision of the state's shape.
        pub revision: i32,
        /// The state.
        pub state: Vec<u8>,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Cursors: positions of subscriptions at their sources, fencing tokens, and the state of the relay's stream.
pub mod cursor {
    use sea_orm::entity::prelude::*;
    /// One cursor.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cursors")]
    pub struct Model {
        /// The subscription.
        #[sea_orm(primary_key, auto_increment = false)]
        pub subscription: String,
        /// The value, such as the last `seq` that was applied.
        pub position: i64,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Quarantine: records with a change that a subscription could not apply. Other records proceed.
pub mod quarantine {
    use sea_orm::entity::prelude::*;
    /// One record of one subscription.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "quarantine")]
    pub struct Model {
        /// The subscription.
        #[sea_orm(primary_key, auto_increment = false)]
        pub subscription: String,
        /// The record.
        #[sea_orm(primary_key, auto_increment = false)]
        pub record: Uuid,
        /// Its name.
        pub name: String,
        /// The version that could not be applied.
        pub version: i64,
        /// Why it could not be applied.
        pub reason: String,
        /// When it was quarantined.
        pub since: i64,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Keys in work queues, such as cities to evaluate after a mirror changed.
pub mod dirty {
    use sea_orm::entity::prelude::*;
    /// One key of one queue.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "dirty")]
    pub struct Model {
        /// The queue.
        #[sea_orm(primary_key, auto_increment = false)]
        pub queue: String,
        /// The key.
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: Uuid,
        /// Rises with each mark, so that a mark during the work is not lost.
        pub marks: i64,
        /// W3C trace context of the last mark.
        pub trace: Option<String>,
    }
    /// The entity has no relations.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
