//! User-written expressions, such as the criteria of a rubric or a network: CEL over a documented model, type-checked
//! and bounded before they run (ST-8, NW-2).

mod checker;
mod value;

pub use checker::{COMPREHENSIONS, DEPTH, LIST_LITERAL, NESTING, SOURCE_CHARS, Type};
pub use value::{Kind, LIST_ENTRIES, Value, Values, Variable};

use cel::{Context, Env, Program, context::VariableResolver};
use std::{collections::BTreeSet, sync::Arc};

/// The environment that compiles and runs expressions over one model.
#[derive(Clone)]
pub struct Environment {
    env: Arc<Env>,
    names: &'static [Variable],
}

/// A checked and compiled expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    read: BTreeSet<usize>,
}

/// The values that expressions run over. A scope is cheap, because it shares the functions and borrows the values.
pub struct Scope<'m>(Context<'m, 'm>);

/// The result of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("names", &self.names.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scope")
    }
}

impl Environment {
    /// Creates the environment of a model. The variables must be sorted by name.
    #[must_use]
    pub fn new(names: &'static [Variable]) -> Self {
        debug_assert!(names.windows(2).all(|two| two[0].name < two[1].name), "variables must be sorted");
        Self { env: Arc::new(Env::stdlib()), names }
    }

    /// Checks and compiles an expression that returns one of the wanted types.
    ///
    /// # Errors
    /// A sentence for the author of the expression if it is not valid CEL, has another type, or exceeds a limit.
    pub fn compile(&self, source: &str, wanted: &[Type]) -> Result<Expression, String> {
        checker::compile(&self.env, self.names, source, wanted).map(|(program, read)| Expression { program, read })
    }

    /// Creates the scope in which expressions read these values.
    #[must_use]
    pub fn scope<'m>(&self, values: &'m dyn VariableResolver) -> Scope<'m> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(values);
        Scope(context)
    }
}

impl Expression {
    /// Runs the expression. Returns `None` if it needs an unknown value or fails, for example by an overflow.
    #[must_use]
    pub fn answer(&self, scope: &Scope<'_>) -> Option<Answer> {
        match self.program.execute(&scope.0) {
            Ok(cel::Value::Bool(yes)) => Some(Answer::Bool(yes)),
            Ok(cel::Value::Int(number)) => Some(Answer::Int(number)),
            _ => None,
        }
    }

    /// Returns the variables that the expression reads, with their values as text; `None` stands for an unknown value.
    #[must_use]
    pub fn inputs<const N: usize>(&self, values: &Values<'_, N>) -> Vec<(&'static str, Option<String>)> {
        let read = values.iter().enumerate().filter(|(place, _)| self.read.contains(place));
        let input = |(variable, value): (&Variable, &Value<'_>)| {
            (variable.name, (!matches!(value, Value::Unknown)).then(|| value.to_string()))
        };
        read.map(|(_, pair)| input(pair)).collect()
    }
}
