//! Refusals: the rule, the stable reason, what is missing, and what would help.

use chrono::{DateTime, Utc};
use hansa_proto::types::ReasonClass;
use std::fmt;

/// The result of a rule.
pub type Refused<T> = Result<T, Refusal>;

/// The most further violations of one refusal. Others are dropped.
pub const FURTHER: usize = 20;

/// Why a command was refused. A refused command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The class of the reason. It decides the gRPC code.
    pub class: ReasonClass,
    /// The stable, machine-readable reason, such as `GUIDELINES_REQUIRED`. Each cause has its own.
    pub reason: &'static str,
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
    /// The next violation of the same command that the rules found; at most [`FURTHER`] in all.
    pub next: Option<Box<Refusal>>,
}

/// One thing that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A field path, a resource name, or a step.
    pub subject: String,
    /// What is missing or wrong with the subject.
    pub description: String,
    /// The tenant that can provide it, `tenants/{tenant}`; empty if it is the caller or not known.
    pub provider: String,
}

impl Refusal {
    /// Creates a refusal under a domain rule.
    #[must_use]
    pub fn rule(rule: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::because(ReasonClass::Rule, rule, reason, message)
    }

    /// Creates a refusal for a step that is out of order.
    #[must_use]
    pub fn out_of_order(rule: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::because(ReasonClass::OutOfOrder, rule, reason, message)
    }

    /// Creates a refusal for a field that is missing, malformed or too long. All of these share the reason `FIELD_INVALID`;
    /// the violation names the field.
    #[must_use]
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let message = format!("{field}: {description}");
        Self::because(ReasonClass::InvalidField, "PL-4", "FIELD_INVALID", message).missing(field, description)
    }

    /// Creates a refusal for a record that does not exist or that the caller may not see.
    #[must_use]
    pub fn not_found(name: impl fmt::Display) -> Self {
        Self::because(ReasonClass::NotFound, "PL-1", "NOT_FOUND", format!("{name} was not found"))
            .help("Check the name, and whether the record is shared with your tenant.")
    }

    /// Creates a refusal for a deleted record that the caller could see. Other callers get [`Self::not_found`].
    #[must_use]
    pub fn deleted(name: impl fmt::Display, at: DateTime<Utc>) -> Self {
        let message = format!("{name} was deleted on {}", at.date_naive());
        Self::because(ReasonClass::Deleted, "PL-8", "DELETED", message)
            .help("The record's history says who deleted it and why. Deletion is final. Create a new record instead.")
    }

    /// Creates a refusal for a caller whose role or relation does not permit the call.
    #[must_use]
    pub fn not_permitted(reason: &'static str, message: impl Into<String>) -> Self {
        Self::because(ReasonClass::NotPermitted, "PL-2", reason, message)
    }

    /// Creates a refusal of any class.
    #[must_use]
    pub fn because(class: ReasonClass, rule: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        let (message, help) = (message.into(), String::new());
        let retryable = class == ReasonClass::Unavailable;
        Self { class, reason, rule, message, missing: Vec::new(), help, retryable, next: None }
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
    pub fn missing(self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.missing_from(String::new(), subject, description)
    }

    /// Adds a missing or wrong thing that only another tenant, `tenants/{tenant}`, can provide.
    #[must_use]
    pub fn missing_from(
        mut self,
        provider: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let (subject, description, provider) = (subject.into(), description.into(), provider.into());
        self.missing.push(Missing { subject, description, provider });
        self
    }

    /// Sets the help text.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Adds another violation of the same command.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let mut last = &mut self;
        for _ in 0..FURTHER {
            if last.next.is_none() {
                last.next = Some(Box::new(other));
                return self;
            }
            last = last.next.as_mut().expect("it was checked");
        }
        self
    }

    /// Returns every violation: this one, then the further ones.
    pub fn violations(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |violation| violation.next.as_deref()).take(1 + FURTHER)
    }
}

/// Checks several independent conditions and refuses with every violation found: the first one with the others as further
/// violations.
///
/// # Errors
/// The violations, if there is one.
pub fn all(checks: impl IntoIterator<Item = Refused<()>>) -> Refused<()> {
    checks.into_iter().filter_map(Result::err).reduce(Refusal::and).map_or(Ok(()), Err)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.rule)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, " {}", self.help) }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_every_violation_up_to_a_limit() {
        let one = |reason: &'static str| -> Refused<()> { Err(Refusal::rule("AG-1", reason, "no")) };
        assert_eq!(all([Ok(()), Ok(())]), Ok(()));
        let refusal = all([Ok(()), one("A"), one("B"), Ok(()), one("C")]).unwrap_err();
        let reasons: Vec<_> = refusal.violations().map(|violation| violation.reason).collect();
        assert_eq!(reasons, ["A", "B", "C"]);
        let nested = Refusal::rule("AG-3", "FIRST", "no").and(refusal);
        assert_eq!(nested.violations().count(), 4);
        let many = all((0..100).map(|_| one("X"))).unwrap_err();
        assert_eq!(many.violations().count(), 1 + FURTHER);
    }
}
