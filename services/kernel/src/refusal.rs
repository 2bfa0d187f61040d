//! Refusals: which rule, what is missing, what would help.

use chrono::{DateTime, Utc};
use hansa_proto::types::Reason;
use std::fmt;

/// A result of a rule.
pub type Refused<T> = Result<T, Refusal>;

/// Why something was not done. The state is as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub reason: Reason,
    /// The rule of the domain, such as `AG-11`; `PL-4` and the like for the platform's own.
    pub rule: &'static str,
    /// What is wrong, in a sentence for people. It quotes no personal data.
    pub message: String,
    /// What is missing or wrong, each with its subject: a field, a party, a step.
    pub missing: Vec<Missing>,
    /// What the caller can do about it.
    pub help: String,
    /// Whether it passes by itself, so that the same may be granted in a moment.
    pub passing: bool,
}

/// One thing that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A field path, a resource name, or a step.
    pub subject: String,
    /// What is the matter with it.
    pub description: String,
}

impl Refusal {
    /// A refusal by a rule of the domain.
    #[must_use]
    pub fn rule(rule: &'static str, message: impl Into<String>) -> Self {
        let (message, help) = (message.into(), String::new());
        Self { reason: Reason::Rule, rule, message, missing: Vec::new(), help, passing: false }
    }

    /// A step that is out of order.
    #[must_use]
    pub fn out_of_order(rule: &'static str, message: impl Into<String>) -> Self {
        Self { reason: Reason::OutOfOrder, ..Self::rule(rule, message) }
    }

    /// A field that is missing, malformed or too long.
    #[must_use]
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let refusal = Self::because(Reason::InvalidField, "PL-4", format!("{field}: {description}"));
        refusal.missing(field, description)
    }

    /// There is no such record, or the caller may not see it.
    #[must_use]
    pub fn not_found(name: impl fmt::Display) -> Self {
        Self { reason: Reason::NotFound, rule: "PL-1", ..Self::rule("PL-1", format!("{name} was not found")) }
            .help("Check the name, and whether the record is shared with your tenant.")
    }

    /// The record was deleted. For callers who could see it; to anyone else it is not found.
    #[must_use]
    pub fn deleted(name: impl fmt::Display, at: DateTime<Utc>) -> Self {
        let message = format!("{name} was deleted on {}", at.date_naive());
        Self { reason: Reason::Deleted, ..Self::rule("PL-8", message) }.help(
            "Its history says who deleted it and why. What is deleted stays so: enter it anew under a name of its own.",
        )
    }

    /// The caller's role or relation does not permit it.
    #[must_use]
    pub fn not_permitted(message: impl Into<String>) -> Self {
        Self { reason: Reason::NotPermitted, ..Self::rule("PL-2", message) }
    }

    /// Any other reason, under the platform rule that it serves.
    #[must_use]
    pub fn because(reason: Reason, rule: &'static str, message: impl Into<String>) -> Self {
        Self { reason, passing: reason == Reason::Unavailable, ..Self::rule(rule, message) }
    }

    /// Says that it passes by itself.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// The same, under another rule.
    #[must_use]
    pub fn under(mut self, rule: &'static str) -> Self {
        self.rule = rule;
        self
    }

    /// Adds something that is missing.
    #[must_use]
    pub fn missing(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.missing.push(Missing { subject: subject.into(), description: description.into() });
        self
    }

    /// Says what would help.
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
