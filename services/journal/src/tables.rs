//! The journal's tables. Instants are whole microseconds since 1970, UTC, so that every store keeps them alike.

/// Changes, as first written.
pub mod change {
    use sea_orm::entity::prelude::*;
    /// One change.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "changes")]
    pub struct Model {
        /// Order of insertion. Order of commit on SQLite alone.
        #[sea_orm(primary_key)]
        pub seq: i64,
        /// The record.
        pub record: Uuid,
        /// Place in the record's history.
        pub version: i64,
        /// Full protobuf name of the payload.
        pub kind: String,
        /// Canonical bytes.
        pub envelope: Vec<u8>,
        /// Encoded `SignedChange` without its envelope.
        pub signatures: Vec<u8>,
        /// When it was stored.
        pub received_at: i64,
        /// W3C trace context of the command.
        pub trace: Option<String>,
        /// Its sequence in the broker's stream; nothing where the broker does not have it.
        pub published: Option<i64>,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}

    /// That a change is one of these, by record and version. One list of pairs: a chain of ORs is as deep as it is long,
    /// and SQLite takes no more than a thousand.
    pub(crate) fn these(places: impl IntoIterator<Item = (Uuid, i64)>) -> sea_orm::sea_query::Expr {
        use sea_orm::sea_query::{Expr, ExprTrait};
        Expr::tuple([Expr::col(Column::Record), Expr::col(Column::Version)]).in_tuples(places)
    }
}

/// The present state of every record.
pub mod record {
    use sea_orm::entity::prelude::*;
    /// One record: a snapshot after its newest change.
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
        /// Revision of the state's shape, and how often a rebuild has made the state again.
        pub revision: i32,
        /// The state.
        pub state: Vec<u8>,
        /// When it next has something to do by itself.
        pub due_at: Option<i64>,
        /// Why it takes no more commands.
        pub frozen: Option<String>,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Request ids, and what they led to.
pub mod request {
    use sea_orm::entity::prelude::*;
    /// One request that had effect.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "requests")]
    pub struct Model {
        /// The caller's tenant.
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant: Uuid,
        /// The caller's id for it.
        #[sea_orm(primary_key, auto_increment = false)]
        pub request: Uuid,
        /// Keyed hash of its content.
        pub fingerprint: Vec<u8>,
        /// The record that it answered with.
        pub record: Uuid,
        /// The version that it answered with.
        pub version: i64,
        /// When.
        pub created_at: i64,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Who may follow which change, in the order of the service's feed.
pub mod feed {
    use sea_orm::entity::prelude::*;
    /// One change in one tenant's feed; the nil tenant is everyone.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "feed")]
    pub struct Model {
        /// Order of insertion.
        #[sea_orm(primary_key)]
        pub seq: i64,
        /// Order of the feed, given after commit.
        pub position: Option<i64>,
        /// The tenant.
        pub tenant: Uuid,
        /// The record.
        pub record: Uuid,
        /// The version.
        pub version: i64,
    }
    /// None.
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
        /// What stands for it in the change.
        #[sea_orm(primary_key, auto_increment = false)]
        pub seal: Vec<u8>,
        /// The record in whose change it stands.
        pub record: Uuid,
        /// The tenant whose value it is.
        pub tenant: Uuid,
        /// Its salt; empty once erased.
        pub salt: Vec<u8>,
        /// The value; empty once erased.
        pub value: Vec<u8>,
        /// When it was erased.
        pub erased_at: Option<i64>,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}

    // A value is personal data: it must not reach a log by way of a debug format.
    impl std::fmt::Debug for Model {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("seal::Model").field("record", &self.record).finish_non_exhaustive()
        }
    }
}

/// What a subscription keeps of foreign records; its version is the mark of what was applied.
pub mod mirror {
    use sea_orm::entity::prelude::*;
    /// One foreign record.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mirrors")]
    pub struct Model {
        /// The subscription.
        #[sea_orm(primary_key, auto_increment = false)]
        pub subscription: String,
        /// The record.
        #[sea_orm(primary_key, auto_increment = false)]
        pub record: Uuid,
        /// The version applied last.
        pub version: i64,
        /// Revision of the state's shape.
        pub revision: i32,
        /// The state.
        pub state: Vec<u8>,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// How far a reader of another journal has come.
pub mod cursor {
    use sea_orm::entity::prelude::*;
    /// One reader.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "cursors")]
    pub struct Model {
        /// The subscription.
        #[sea_orm(primary_key, auto_increment = false)]
        pub subscription: String,
        /// The `seq` seen last.
        pub position: i64,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Changes that a subscription could not apply; the record waits, the others go on.
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
        /// Why.
        pub reason: String,
        /// Since when.
        pub since: i64,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// Keys of what must be worked on again after a mirror moved, such as cities to evaluate.
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
        /// Raised with each mark, so that a mark made meanwhile is not lost.
        pub marks: i64,
        /// W3C trace context of what marked it last.
        pub trace: Option<String>,
    }
    /// None.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
