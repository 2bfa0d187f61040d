//! Refusals: the rule, what is missing, and what would help.

use chrono::{DateTime, Utc};
use hansa_proto::types::Reason;
use std::fmt;

/// The result of a rule.
pub type Refused<T> = Result<T, Refusal>;

/// The reason why a command was refused. A refused command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The machine-readable reason.
    pub reason: Reason,
    /// The domain rule, such as `AG-11`, or a platform rule, such as `PL-4`.
    pub rule: &'static str,
    /// A sentence for people that says what is wrong. It quotes no personal data.
    pub message: String,
    /// The things that are missing or wrong, each with its subject: a field, a party, a step.
    pub missing: Vec<Missing>,
    /// What the caller can do about it.
    pub help: String,
    /// Whether the cause is temporary, so that a retry of the same request may succeed.
    pub retryable: bool,
}

/// One thing that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A field path, a resource name, or a step.
    pub subject: String,
    /// What is missing or wrong with the subject.
    pub description: String,
}

impl Refusal {
    /// Creates a refusal under a domain rule.
    #[must_use]
    pub fn rule(rule: &'static str, message: impl Into<String>) -> Self {
        let (message, help) = (message.into(), String::new());
        Self { reason: Reason::Rule, rule, message, missing: Vec::new(), help, retryable: false }
    }

    /// Creates a refusal for a step that is out of order.
    #[must_use]
    pub fn out_of_order(rule: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Reason::OutOfOrder, ..Self::rule(rule, message) }
    }

    /// Creates a refusal for a field that is missing, malformed or too long.
    #[must_use]
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let refusal = Self::because(Reason::InvalidField, "PL-4", format!("{field}: {description}"));
        refusal.missing(field, description)
    }

    /// Creates a refusal for a record that does not exist or that the caller may not see.
    #[must_use]
    pub fn not_found(name: impl fmt::Display) -> Self {
        Self { reason: Reason::NotFound, rule: "PL-1", ..Self::rule("PL-1", format!("{name} was not found")) }
            .help("Check the name, and whether the record is shared with your tenant.")
    }

    /// Creates a refusal for a deleted record that the caller could see. Other callers get [`Self::not_found`].
    #[must_use]
    pub fn deleted(name: impl fmt::Display, at: DateTime<Utc>) -> Self {
        let message = format!("{name} was deleted on {}", at.date_naive());
        Self { reason: Reason::Deleted, ..Self::rule("PL-8", message) }
            .help("The record's history says who deleted it and why. Deletion is final. Create a new record instead.")
    }

    /// Creates a refusal for a caller whose role or relation does not permit the call.
    #[must_use]
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self { reason: Reason::NotPermitted, ..Self::rule("PL-2", message) }
    }

    /// Creates a refusal for any other reason, under a platform rule.
    #[must_use]
    pub fn because(reason: Reason, rule: &'static str, message: impl Into<String>) -> Self {
        Self { reason, retryable: reason == Reason::Unavailable, ..Self::rule(rule, message) }
    }

    /// Marks the refusal as retryable.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Replaces the rule.
    #[must_use]
    pub fn under(mut self, rule: &'static str) -> Self {
        self.rule = rule;
        self
    }

    /// Adds a missing or wrong thing.
    #[must_use]
    pub fn missing(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.missing.push(Missing { subject: subject.into(), description: description.into() });
        self
    }

    /// Sets the help text.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.rule)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " {}", self.help) }
    }
}

impl std::error::Error for Refusal {}
