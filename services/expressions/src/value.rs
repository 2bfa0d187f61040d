//! A model: the names that expressions may use, and what they stand for.

use cel::{
    common::{
        types::{CelBool, CelInt, CelList, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use std::fmt;

/// Most entries of a list of a model; further ones, in their order, are left out.
pub const LIST_ENTRIES: usize = 64;

/// The type of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// A text.
    Text,
    /// A list of texts, at most `LIST_ENTRIES`.
    Texts,
}

impl Kind {
    /// As CEL calls it.
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

/// A name of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it says.
    pub description: &'static str,
}

impl Variable {
    /// A whole number.
    #[must_use]
    pub const fn int(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Int, description }
    }

    /// Yes or no.
    #[must_use]
    pub const fn bool(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Bool, description }
    }

    /// A text.
    #[must_use]
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Text, description }
    }

    /// A list of texts.
    #[must_use]
    pub const fn texts(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: Kind::Texts, description }
    }
}

/// The place of a name in a sorted list.
pub(crate) fn place_of(names: &[Variable], name: &str) -> Option<usize> {
    names.binary_search_by(|variable| variable.name.cmp(name)).ok()
}

/// A value that expressions read in place.
#[derive(Debug)]
pub enum Value<'a> {
    /// A whole number.
    Int(CelInt),
    /// Yes or no.
    Bool(CelBool),
    /// A text.
    Text(CelString<'a>),
    /// A list of texts.
    Texts(CelList<'a>),
    /// Not known: what needs it has no answer.
    Unknown,
}

impl<'a> Value<'a> {
    /// How many there are.
    #[must_use]
    pub fn count(n: usize) -> Self {
        Self::int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// A whole number.
    #[must_use]
    pub fn int(n: i64) -> Self {
        Self::Int(n.into())
    }

    /// Yes or no.
    #[must_use]
    pub fn bool(yes: bool) -> Self {
        Self::Bool(yes.into())
    }

    /// A text.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    #[must_use]
    pub fn texts(values: impl IntoIterator<Item = &'a str>) -> Self {
        let values = values.into_iter().take(LIST_ENTRIES);
        let values: Vec<Box<dyn Val + 'a>> =
            values.map(|v| Box::new(CelString::from(v)) as Box<dyn Val + 'a>).collect();
        Self::Texts(values.into())
    }

    /// Its type, where it is known.
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

/// A value for each name of a model, in their order.
#[derive(Debug)]
pub struct Values<'a, const N: usize> {
    names: &'static [Variable; N],
    values: [Value<'a>; N],
}

impl<'a, const N: usize> Values<'a, N> {
    /// These values of these names.
    #[must_use]
    pub fn new(names: &'static [Variable; N], values: [Value<'a>; N]) -> Self {
        Self { names, values }
    }

    /// Each name with its value.
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
