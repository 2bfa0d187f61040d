//! Models: the variables that expressions may use, and their values.

use cel::{
    common::{
        types::{CelBool, CelInt, CelList, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use std::fmt;

/// Largest number of entries of a list value. Later entries are cut off.
pub const LIST_ENTRIES: usize = 64;

/// The type of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int,
    /// A boolean.
    Bool,
    /// A string.
    Text,
    /// A list of at most `LIST_ENTRIES` strings.
    Texts,
}

impl Kind {
    /// Returns the name of the type in CEL.
    #[must_use]
    pub fn as_cel(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Text => "string",
            Self::Texts => "list(string)",
        }
    }
}

/// A variable of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The description, shown to authors of expressions.
    pub description: &'static str,
}

impl Variable {
    /// Creates an integer variable.
    #[must_use]
    pub const fn int(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Int, description }
    }

    /// Creates a boolean variable.
    #[must_use]
    pub const fn bool(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Bool, description }
    }

    /// Creates a string variable.
    #[must_use]
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Text, description }
    }

    /// Creates a variable for a list of strings.
    #[must_use]
    pub const fn texts(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Texts, description }
    }
}

/// Returns the index of a variable in a list sorted by name.
pub(crate) fn place_of(names: &[Variable], name: &str) -> Option<usize> {
    names.binary_search_by(|variable| variable.name.cmp(name)).ok()
}

/// A value that expressions read without copying.
#[derive(Debug)]
pub enum Value<'a> {
    /// An integer.
    Int(CelInt),
    /// A boolean.
    Bool(CelBool),
    /// A string.
    Text(CelString<'a>),
    /// A list of strings.
    Texts(CelList<'a>),
    /// An unknown value. An expression that needs it has no result.
    Unknown,
}

impl<'a> Value<'a> {
    /// Creates an integer from a count.
    #[must_use]
    pub fn count(n: usize) -> Self {
        Self::int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Creates an integer.
    #[must_use]
    pub fn int(n: i64) -> Self {
        Self::Int(n.into())
    }

    /// Creates a boolean.
    #[must_use]
    pub fn bool(yes: bool) -> Self {
        Self::Bool(yes.into())
    }

    /// Creates a string.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(text.into())
    }

    /// Creates a list from the first `LIST_ENTRIES` strings.
    #[must_use]
    pub fn texts(values: impl IntoIterator<Item = &'a str>) -> Self {
        let values = values.into_iter().take(LIST_ENTRIES);
        let values: Vec<Box<dyn Val + 'a>> =
            values.map(|v| Box::new(CelString::from(v)) as Box<dyn Val + 'a>).collect();
        Self::Texts(values.into())
    }

    /// Returns the type; `None` if the value is unknown.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Int(_) => Kind::Int,
            Self::Bool(_) => Kind::Bool,
            Self::Text(_) => Kind::Text,
            Self::Texts(_) => Kind::Texts,
            Self::Unknown => return None,
        })
    }

    fn val(&self) -> Option<&(dyn Val + 'a)> {
        Some(match self {
            Self::Int(v) => v,
            Self::Bool(v) => v,
            Self::Text(v) => v,
            Self::Texts(v) => v,
            Self::Unknown => return None,
        })
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => v.inner().fmt(f),
            Self::Bool(v) => v.inner().fmt(f),
            Self::Text(v) => v.inner().fmt(f),
            Self::Texts(v) => {
                let texts = v.inner().iter().filter_map(|one| one.downcast_ref::<CelString<'_>>());
                f.write_str(&texts.map(CelString::inner).collect::<Vec<_>>().join(", "))
            }
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A value for each variable of a model, in the order of the variables.
#[derive(Debug)]
pub struct Values<'a, const N: usize> {
    names: &'static [Variable; N],
    values: [Value<'a>; N],
}

impl<'a, const N: usize> Values<'a, N> {
    /// Pairs variables with their values.
    #[must_use]
    pub fn new(names: &'static [Variable; N], values: [Value<'a>; N]) -> Self {
        Self { names, values }
    }

    /// Iterates over the variables with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Variable, &Value<'a>)> {
        self.names.iter().zip(&self.values)
    }
}

impl<const N: usize> VariableResolver for Values<'_, N> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        place_of(self.names, variable).and_then(|place| self.values[place].val()).map(CowVal::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_capped() {
        let many: Vec<String> = (0..LIST_ENTRIES + 5).map(|n| format!("C{n:03}")).collect();
        let Value::Texts(list) = Value::texts(many.iter().map(String::as_str)) else { panic!("a list") };
        assert_eq!(list.inner().len(), LIST_ENTRIES);
    }
}
