//! Expressions that people write, such as the criteria of a rubric or of a network: CEL over a documented model, checked
//! before they are ever run (ST-8, NW-2).

mod checker;
mod value;

pub use checker::{COMPREHENSIONS, DEPTH, LIST_LITERAL, NESTING, SOURCE_CHARS, Type};
pub use value::{Kind, LIST_ENTRIES, Value, Values, Variable};

use cel::{Context, Env, Program, context::VariableResolver};
use std::{collections::BTreeSet, sync::Arc};

/// Where expressions over one model are compiled and run.
#[derive(Clone)]
pub struct Environment {
    env: Arc<Env>,
    names: &'static [Variable],
}

/// An expression that was checked.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    read: BTreeSet<usize>,
}

/// The values that expressions are run over. It costs next to nothing: functions are shared, values borrowed.
pub struct Scope<'m>(Context<'m, 'm>);

/// What an expression answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes or no.
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
    /// The environment of a model, whose names are sorted.
    #[must_use]
    pub fn new(names: &'static [Variable]) -> Self {
        debug_assert!(names.windows(2).all(|two| two[0].name < two[1].name), "names are found by halving");
        Self { env: Arc::new(Env::stdlib()), names }
    }

    /// Compiles an expression that answers one of the types.
    ///
    /// # Errors
    /// A sentence for its author.
    pub fn compile(&self, source: &str, wanted: &[Type]) -> Result<Expression, String> {
        checker::compile(&self.env, self.names, source, wanted).map(|(program, read)| Expression { program, read })
    }

    /// What expressions run in.
    #[must_use]
    pub fn scope<'m>(&self, values: &'m dyn VariableResolver) -> Scope<'m> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.set_variable_resolver(values);
        Scope(context)
    }
}

impl Expression {
    /// The answer; `None` where a value that it needs is not known, or it cannot be worked out: that tells nothing.
    #[must_use]
    pub fn answer(&self, scope: &Scope<'_>) -> Option<Answer> {
        match self.program.execute(&scope.0) {
            Ok(cel::Value::Bool(yes)) => Some(Answer::Bool(yes)),
            Ok(cel::Value::Int(number)) => Some(Answer::Int(number)),
            _ => None,
        }
    }

    /// What it looks at, as in `population = 522250`; `?` stands for what is not known.
    #[must_use]
    pub fn looked_at<const N: usize>(&self, values: &Values<'_, N>) -> Vec<String> {
        let read = values.iter().enumerate().filter(|(place, _)| self.read.contains(place));
        read.map(|(_, (variable, value))| format!("{} = {value}", variable.name)).collect()
    }
}
