//! The checker of expressions. The CEL interpreter has neither a type checker nor a limit on its work, so this module
//! adds both. A checked expression uses only the variables of its model and runs in bounded time.

use crate::value::{Kind, Variable, place_of};
use cel::{
    Env, Program,
    common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators as op},
};
use std::collections::BTreeSet;

/// Longest source of an expression, in characters.
pub const SOURCE_CHARS: usize = 500;
/// Deepest nesting of comprehensions.
pub const NESTING: usize = 2;
/// Largest number of comprehensions per expression.
pub const COMPREHENSIONS: usize = 4;
/// Largest number of entries of a list literal.
pub const LIST_LITERAL: usize = 32;
/// Deepest nesting of expressions. The parts that CEL generates for a comprehension count as well.
pub const DEPTH: usize = 40;

/// The name of the accumulator that CEL generates for a comprehension. Source text cannot contain it.
const GATHERED: &str = "@result";

/// The type of an expression or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// An integer.
    Int,
    /// A boolean.
    Bool,
    /// A string.
    Text,
    /// A list of integers.
    Ints,
    /// A list of booleans.
    Bools,
    /// A list of strings.
    Texts,
    /// The empty list, which is compatible with every list type.
    Empty,
}

impl Type {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Int => Self::Int,
            Kind::Bool => Self::Bool,
            Kind::Text => Self::Text,
            Kind::Texts => Self::Texts,
        }
    }

    fn list(self) -> Option<Self> {
        match self {
            Self::Int => Some(Self::Ints),
            Self::Bool => Some(Self::Bools),
            Self::Text => Some(Self::Texts),
            _ => None,
        }
    }

    /// Returns the type of the entries. For the empty list any type is correct, because no entry is ever read.
    fn entry(self) -> Option<Self> {
        match self {
            Self::Ints => Some(Self::Int),
            Self::Bools => Some(Self::Bool),
            Self::Texts | Self::Empty => Some(Self::Text),
            _ => None,
        }
    }

    /// Returns the common type of both, if there is one.
    fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Empty, list) | (list, Self::Empty) if list.entry().is_some() => Some(list),
            _ => None,
        }
    }
}

/// Checks and compiles an expression that returns one of the wanted types. Also returns the indexes of the variables
/// that the expression reads.
///
/// # Errors
/// A sentence for the author of the expression.
pub(crate) fn compile(
    env: &Env,
    names: &[Variable],
    source: &str,
    wanted: &[Type],
) -> Result<(Program, BTreeSet<usize>), String> {
    if source.chars().count() > SOURCE_CHARS {
        return Err(format!("the expression is longer than {SOURCE_CHARS} characters"));
    }
    let program = env.compile(source).map_err(|e| format!("the text is not CEL: {}", first_line(&e.to_string())))?;
    let mut checker = Checker::over(names);
    let found = checker.check(program.expression(), 0)?;
    if !wanted.contains(&found) {
        return Err(format!("the result has the type {found:?}, not one of {wanted:?}"));
    }
    let read = checker.read;
    Ok((program, read))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

struct Checker<'e> {
    names: &'e [Variable],
    read: BTreeSet<usize>,
    bound: Vec<(&'e str, Type)>,
    nesting: usize,
    comprehensions: usize,
}

type Checked = Result<Type, String>;

impl<'e> Checker<'e> {
    fn over(names: &'e [Variable]) -> Self {
        Self { names, read: BTreeSet::new(), bound: Vec::new(), nesting: 0, comprehensions: 0 }
    }

    fn check(&mut self, expression: &'e IdedExpr, depth: usize) -> Checked {
        if depth > DEPTH {
            return Err(format!("the expression is nested deeper than {DEPTH}"));
        }
        match &expression.expr {
            Expr::Literal(literal) => literal_type(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::List(list) if !list.optional_indices.is_empty() => Err("optional entries are not allowed".into()),
            Expr::List(list) => self.entries(&list.elements, depth + 1),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            Expr::Map(_) => Err("map literals are not allowed".into()),
            Expr::Struct(_) => Err("struct literals are not allowed".into()),
            Expr::Select(select) => Err(format!("the model has no fields, so `.{}` is not allowed", select.field)),
            Expr::Unspecified => Err("the expression is empty".into()),
        }
    }

    fn name(&mut self, name: &str) -> Checked {
        if let Some((_, of)) = self.bound.iter().rev().find(|(bound, _)| *bound == name) {
            return Ok(*of);
        }
        let place = place_of(self.names, name).ok_or_else(|| format!("`{name}` is not a variable of the model"))?;
        self.read.insert(place);
        Ok(Type::of(self.names[place].kind))
    }

    fn entries(&mut self, entries: &'e [IdedExpr], depth: usize) -> Checked {
        if entries.len() > LIST_LITERAL {
            return Err(format!("a list has more than {LIST_LITERAL} entries"));
        }
        entries.iter().try_fold(Type::Empty, |list, entry| {
            let entry = self.check(entry, depth)?.list().ok_or("a list cannot hold lists")?;
            list.with(entry).ok_or_else(|| "all entries of a list must have one type".into())
        })
    }

    fn call(&mut self, call: &'e CallExpr, depth: usize) -> Checked {
        let name = call.func_name.as_str();
        let gathers = matches!(call.args.first().map(|a| &a.expr), Some(Expr::Ident(first)) if first == GATHERED);
        let mut types = Vec::with_capacity(call.args.len() + 1);
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            types.push(self.check(part, depth)?);
        }
        let answer = if call.target.is_some() { method(name, &types) } else { function(name, &types, gathers) };
        answer.ok_or_else(|| format!("`{}` is not known for {types:?}", name.trim_matches('_')))
    }

    fn comprehension(&mut self, of: &'e ComprehensionExpr, depth: usize) -> Checked {
        let over = self.check(&of.iter_range, depth)?.entry().ok_or("a comprehension can only iterate over a list")?;
        self.comprehensions += 1;
        self.nesting += 1;
        if self.nesting > NESTING {
            return Err(format!("comprehensions are nested deeper than {NESTING}"));
        }
        if self.comprehensions > COMPREHENSIONS {
            return Err(format!("the expression has more than {COMPREHENSIONS} comprehensions"));
        }
        if of.iter_var2.is_some() || place_of(self.names, &of.iter_var).is_some() {
            return Err(format!("`{}` cannot be bound", of.iter_var));
        }
        let gathered = self.check(&of.accu_init, depth)?;
        let answer = self.within(of, over, gathered, depth);
        self.nesting -= 1;
        answer
    }

    fn within(&mut self, of: &'e ComprehensionExpr, over: Type, gathered: Type, depth: usize) -> Checked {
        let before = self.bound.len();
        self.bound.push((&of.iter_var, over));
        self.bound.push((&of.accu_var, gathered));
        let step = self.check(&of.loop_step, depth)?;
        let gathered = gathered.with(step).ok_or("the type of a comprehension changes while it iterates")?;
        self.bound.truncate(before);
        self.bound.push((&of.accu_var, gathered));
        if self.check(&of.loop_cond, depth)? != Type::Bool {
            return Err("the condition of a comprehension is not a boolean".into());
        }
        let answer = self.check(&of.result, depth)?;
        self.bound.truncate(before);
        Ok(answer)
    }
}

fn literal_type(literal: &LiteralValue) -> Checked {
    match literal {
        LiteralValue::Boolean(_) => Ok(Type::Bool),
        LiteralValue::Int(_) => Ok(Type::Int),
        LiteralValue::String(_) => Ok(Type::Text),
        LiteralValue::Double(_) => Err("floats are not allowed: results are integers".into()),
        LiteralValue::UInt(_) => Err("unsigned literals are not allowed".into()),
        LiteralValue::Bytes(_) => Err("bytes are not allowed".into()),
        LiteralValue::Null => Err("null is not allowed".into()),
    }
}

fn method(name: &str, types: &[Type]) -> Option<Type> {
    match (name, types) {
        ("startsWith" | "endsWith" | "contains", [Type::Text, Type::Text]) => Some(Type::Bool),
        ("size", [of]) if *of == Type::Text || of.entry().is_some() => Some(Type::Int),
        _ => None,
    }
}

/// Returns the result type of a function. `+` joins lists only inside a comprehension that collects its entries, so no
/// result is longer than the lists that the expression iterates over.
fn function(name: &str, types: &[Type], gathers: bool) -> Option<Type> {
    let bools = !types.is_empty() && types.iter().all(|t| *t == Type::Bool);
    match (name, types) {
        (op::LOGICAL_AND | op::LOGICAL_OR, _) if bools => Some(Type::Bool),
        (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [Type::Bool]) => Some(Type::Bool),
        (op::CONDITIONAL, [Type::Bool, yes, no]) => yes.with(*no),
        (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [Type::Int, Type::Int]) => Some(Type::Int),
        (op::ADD, [list, more]) if gathers && list.entry().is_some() && more.entry().is_some() => list.with(*more),
        (op::NEGATE, [Type::Int]) => Some(Type::Int),
        (op::EQUALS | op::NOT_EQUALS, [a, b]) if a == b && a.list().is_some() => Some(Type::Bool),
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b])
            if a == b && matches!(a, Type::Int | Type::Text) =>
        {
            Some(Type::Bool)
        }
        (op::IN, [one, list]) if list.entry() == Some(*one) || (*list == Type::Empty && one.list().is_some()) => {
            Some(Type::Bool)
        }
        ("size", _) => method(name, types),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: [Variable; 8] = [
        Variable::texts("goal_dimensions", ""),
        Variable::texts("partner_countries", ""),
        Variable::text("strategy_state", ""),
        Variable::texts("tie_kinds", ""),
        Variable::int("ties", ""),
        Variable::int("ties_alive", ""),
        Variable::int("ties_dormant", ""),
        Variable::bool("twinned", ""),
    ];

    fn check(source: &str) -> Result<(), String> {
        compile(&Env::stdlib(), &NAMES, source, &[Type::Int, Type::Bool]).map(drop)
    }

    // ST-8.
    #[test]
    fn st_8_formulas_over_the_model_are_accepted() {
        for good in [
            "true",
            "ties > 0 && !(ties_dormant == ties)",
            "10000 * ties_alive / ties",
            "strategy_state in ['ADOPTED', 'LAPSED']",
            "partner_countries.exists(c, c.startsWith('F')) || size(partner_countries) > 2",
            "partner_countries.filter(c, c != 'FR').size() * 1000 - -5 % 3",
            "partner_countries.all(c, goal_dimensions.exists_one(d, d == c))",
            "goal_dimensions.map(d, d.size()).exists(n, n > 3) ? 1 : 2",
            "[].size()",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn st_8_what_is_not_bounded_or_known_is_refused_with_a_reason() {
        let deep = "goal_dimensions.all(a, goal_dimensions.all(b, goal_dimensions.all(c, a == b)))";
        let five = ["tie_kinds.exists(k, k == 'X')"; 5].join(" || ");
        let list = format!("1 in [{}]", ["1"; LIST_LITERAL + 1].join(","));
        for (bad, reason) in [
            ("population > 5", "not a variable of the model"),
            ("ties.count > 5", "no fields"),
            ("ties > 1.5", "floats are not allowed"),
            ("1e3 > 1.0", "floats are not allowed"),
            ("double(ties) > ties", "not known"),
            ("{'a': 1}.size() > 0", "map literals"),
            ("Thing{a: 1} == ties", "struct literals"),
            ("ties == 'a'", "not known for"),
            ("ties > 1u", "unsigned"),
            ("null == null", "null"),
            ("b'a' == b'a'", "bytes"),
            ("partner_countries[0] == 'FR'", "not known"),
            ("size(partner_countries + partner_countries) > 0", "not known"),
            ("partner_countries == partner_countries", "not known"),
            ("ties ? 1 : 2", "not known"),
            ("ties > 0 ? 1 : true", "not known"),
            ("'a' + 'b' == 'ab'", "not known"),
            ("partner_countries", "type Texts"),
            ("partner_countries.map(c, c)", "type Texts"),
            ("[[1]].size()", "cannot hold lists"),
            ("[1, 'a'].size()", "one type"),
            ("partner_countries.all(ties, ties == 'a')", "cannot be bound"),
            ("ties.all(t, true)", "iterate over a list"),
            ("has(ties.x)", "no fields"),
            ("timestamp('2024-01-01T00:00:00Z') == timestamp('2024-01-01T00:00:00Z')", "not known"),
            ("ties >", "not CEL"),
            ("", "not CEL"),
            (deep, "nested deeper than 2"),
            (&five, "more than 4 comprehensions"),
            (&list, "more than 32 entries"),
            (&"ties+".repeat(20_000), "longer than 500"),
            (&format!("{}1{} > 0", "(".repeat(240), ")".repeat(240)), ""),
            (&format!("{}ties > 0", "1+".repeat(DEPTH + 5)), "nested deeper than 40"),
        ] {
            let refused = check(bad).expect_err(bad);
            assert!(refused.contains(reason), "{bad}: {refused}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let padded = |n: usize| format!("ties > 0{}", " ".repeat(n - 8));
        assert_eq!(check(&padded(SOURCE_CHARS)), Ok(()));
        assert!(check(&padded(SOURCE_CHARS + 1)).is_err());
        let list = |n: usize| format!("1 in [{}]", vec!["1"; n].join(","));
        assert_eq!(check(&list(LIST_LITERAL)), Ok(()));
        assert!(check(&list(LIST_LITERAL + 1)).is_err());
        let many = |n: usize| vec!["tie_kinds.exists(k, k == 'X')"; n].join(" || ");
        assert_eq!(check(&many(COMPREHENSIONS)), Ok(()));
        assert!(check(&many(COMPREHENSIONS + 1)).is_err());
    }
}
