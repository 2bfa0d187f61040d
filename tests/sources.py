"""Reads functions, tests, refusals and constants from the Rust sources, for the generated pages.

This is not a compiler. It relies on the conventions that `cargo fmt` and `tests/architecture.rs` enforce: calls are
written out, a refusal begins with `Refusal::`, and a rule is quoted by its id.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULE = re.compile(r"\b[A-Z]{2}-[1-9]\d*\b")
# The constructors of refusals: class, rule, reason and message. A number is the index of the argument that has the value.
CONSTRUCTORS = {
    "rule": ("RULE", 0, 1, 2),
    "out_of_order": ("OUT_OF_ORDER", 0, 1, 2),
    "field": ("INVALID_FIELD", "PL-4", "FIELD_INVALID", 1),
    "not_found": ("NOT_FOUND", "PL-1", "NOT_FOUND", None),
    "not_permitted": ("NOT_PERMITTED", "PL-2", 0, 1),
    "because": (0, 1, 2, 3),
}


@dataclass
class Function:
    """A function: its name, its start and end in the file, and whether it is a test."""

    name: str
    start: int
    end: int
    test: bool


@dataclass
class Source:
    """A Rust file: its text, and a copy of the same length with comments and the content of literals as spaces."""

    path: str
    text: str
    bare: str = ""
    functions: list = field(default_factory=list)

    def around(self, at):
        """Returns the innermost function around a position, or None outside of functions."""
        inside = [f for f in self.functions if f.start <= at < f.end]
        return min(inside, key=lambda f: f.end - f.start, default=None)


@dataclass(frozen=True)
class Refusal:
    """A refusal: its content, and its place in the sources."""

    kind: str
    reason: str
    rule: str
    message: str
    missing: tuple
    help: str
    path: str
    function: str


def blank(text):
    """Replaces comments and the content of strings and characters by spaces. All positions stay the same."""
    out, at = list(text), 0
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\\\'])\'', re.S)
    while found := pattern.search(text, at):
        token = found.group()
        keep = 0 if token.startswith("/") else 1
        for place in range(found.start() + keep, found.end() - keep):
            if out[place] != "\n":
                out[place] = " "
        at = found.end()
    return "".join(out)


def closing(bare, opening):
    """Returns the position after the bracket that closes the one at `opening`."""
    pairs, depth = {"(": ")", "{": "}", "[": "]"}, 0
    left = bare[opening]
    for place in range(opening, len(bare)):
        depth += (bare[place] == left) - (bare[place] == pairs[left])
        if depth == 0:
            return place + 1
    return len(bare)


def arguments(source, opening):
    """Returns (start, end) of each argument of the call with the bracket at `opening`."""
    end, depth, start, found = closing(source.bare, opening) - 1, 0, opening + 1, []
    for place in range(opening + 1, end):
        c = source.bare[place]
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            found.append((start, place))
            start = place + 1
    if source.bare[start:end].strip():
        found.append((start, end))
    return found


def functions(source):
    """Yields all functions of a file."""
    for found in re.finditer(r"\bfn\s+(\w+)", source.bare):
        brace = re.compile(r"[{;]").search(source.bare, found.end())
        if brace and brace.group() == "{":
            before = source.text[: found.start()].rstrip().removesuffix("async").rstrip()
            attributes = before[before.rfind("\n\n") + 1 :]
            test = bool(re.search(r"#\[(tokio::)?test[^\]]*\]\s*(#\[[^\]]*\]\s*)*$", attributes))
            yield Function(found.group(1), found.start(), closing(source.bare, brace.start()), test)


def read(folders=("services", "tests")):
    """Returns all Rust files below these folders, sorted by path."""
    sources = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.rs")):
            text = path.read_text(encoding="utf-8")
            source = Source(path.relative_to(ROOT).as_posix(), text, blank(text))
            source.functions = list(functions(source))
            sources.append(source)
    return sources


def is_test_file(path):
    """Returns whether a file contains only tests, by its path and name."""
    name = path.rsplit("/", 1)[-1]
    return path.startswith("tests/") or "/tests/" in path or name.startswith("test") or name == "properties.rs"


def product(source):
    """Returns the file without the tests at its end. Empty for a test file."""
    if is_test_file(source.path):
        return ""
    tests = source.bare.find("#[cfg(test)]\nmod tests {")
    return source.bare if tests < 0 else source.bare[:tests]


def literal(text):
    """Returns the text of a string literal or `format!`, with its placeholders, or None for any other expression."""
    found = re.match(r'\s*(?:(?:&?format!)\(\s*)?"((?:\\.|[^"\\])*)"', text, re.S)
    if not found:
        return None
    said = re.sub(r"\\\n\s*", "", found.group(1)).replace('\\"', '"')
    return re.sub(r"\{\{\w+\}\}|\{[^{}]*\}", lambda hole: shown(hole.group()), said)


def shown(hole):
    """Returns a placeholder of a format string in the form of the pages."""
    if hole == "{{uuid}}":
        return "{uuid}"
    name = hole[1:-1].split(":")[0].strip()
    return f"{{{name}}}" if name else "…"


def said(source, start, end, function):
    """Returns the text of an argument: a literal, or a variable bound to a literal in the same function."""
    text = source.text[start:end]
    found = literal(text)
    name = text.strip().lstrip("&")
    if found is None and re.fullmatch(r"\w+", name) and function:
        body = source.text[function.start : start]
        bound = list(re.finditer(rf"let (?:mut )?{name}(?:: [^=]+)? =\s*", body))
        found = literal(body[bound[-1].end() :]) if bound else None
    if found is None and (named := re.fullmatch(r"&?(?!self\b)([a-z]\w*)(\.\w+(\(\))?)*", text.strip())):
        return f"{{{named.group(1)}}}"
    return found if found is not None else "…"


def chain(source, at):
    """Yields (name, opening bracket) of each method call after the expression that ends at `at`."""
    call = re.compile(r"\s*(?:\)\s*)?\.(\w+)(\()")
    while found := call.match(source.bare, at):
        yield found.group(1), found.start(2)
        at = closing(source.bare, found.start(2))


def rules_given(sources, function, crate, depth=0):
    """Returns the rule ids that callers pass to a function as arguments."""
    rules = set()
    for source in (s for s in sources if s.path.startswith(crate)):
        body = product(source)
        for call in re.finditer(rf"\b{function}\s*(\()", body):
            if re.search(r"\bfn\s+$", body[: call.start()]):
                continue
            given = source.text[call.start(1) : closing(source.bare, call.start(1))]
            found = set(RULE.findall(given))
            caller = source.around(call.start())
            if not found and re.search(r"\brule\b", given) and caller and depth < 3:
                found = rules_given(sources, caller.name, crate, depth + 1)
            rules |= found
    return rules


def reasons_given(sources, function, crate):
    """Returns the reasons that callers pass to a function as arguments."""
    reasons = set()
    for source in (s for s in sources if s.path.startswith(crate)):
        for call in re.finditer(rf"\b{function}\s*(\()", product(source)):
            given = source.text[call.start(1) : closing(source.bare, call.start(1))]
            reasons |= set(re.findall(r'"([A-Z][A-Z_]+)"', given))
    return reasons


def refusals(sources):
    """Returns all refusals of the product, one per rule that the refusal may quote."""
    found = set()
    for source in sources:
        body = product(source)
        if source.path.endswith(("kernel/src/refusal.rs", "chassis/src/status.rs")):
            continue
        for call in re.finditer(r"\bRefusal::(\w+)(\()", body):
            if call.group(1) in CONSTRUCTORS:
                found.update(refusals_at(sources, source, call))
        for call in re.finditer(r"\.under(\()", body):
            found.update(wrapped_at(source, call))
    return sorted(found, key=lambda r: (order(r.rule), r.path, r.function, r.message, r.reason))


def refusals_at(sources, source, call):
    """Yields the refusals of one constructor call."""
    function = source.around(call.start())
    given = arguments(source, call.start(2))
    texts = [said(source, *place, function) for place in given]
    kind, given_rule, reason, message = (
        texts[value] if isinstance(value, int) else value for value in CONSTRUCTORS[call.group(1)]
    )
    if call.group(1) == "because":
        named = re.search(r"ReasonClass::(\w+)", source.text[slice(*given[0])])
        kind = upper(named.group(1)) if named else "RULE"
    message = message or "{name} was not found"
    if not re.fullmatch(r"[A-Z][A-Z_]+", reason) and function:
        reasons = reasons_given(sources, function.name, source.path.split("/src/")[0] + "/")
    else:
        reasons = {reason}
    if call.group(1) == "field":
        message = f"{texts[0]}: {texts[1]}"
    missing, help_text = [], ""
    for name, opening in chain(source, closing(source.bare, call.start(2))):
        said_here = [said(source, *place, function) for place in arguments(source, opening)]
        if name == "missing":
            missing.append(": ".join(said_here))
        elif name == "help":
            help_text = said_here[0]
        elif name == "under":
            given_rule = said_here[0]
    if not help_text and function:
        help_text = helped_later(source, call, function)
    if call.group(1) == "not_found" and not help_text:
        help_text = "Check the name, and whether the record is shared with your tenant."
    rules = {given_rule} if RULE.fullmatch(given_rule) else set()
    name = function.name if function else ""
    if not rules and function:
        crate = source.path.split("/src/")[0] + "/"
        rules = rules_given(sources, function.name, crate)
    for each in rules or {"?"}:
        for reason in reasons or {"?"}:
            yield Refusal(kind, reason, each, message, tuple(missing), help_text, source.path, name)


def helped_later(source, call, function):
    """Returns the help of a refusal that is first bound to a variable."""
    before = source.text[function.start : call.start()]
    bound = re.search(r"let (?:mut )?(\w+)(?:: [^=]+)? =\s*$", before)
    if not bound:
        return ""
    rest = source.bare[call.end() : function.end]
    found = re.search(rf"\b{bound.group(1)}\b(?:\s*\.\w+\([^;]*?\))*?\s*\.help(\()", rest)
    if not found:
        return ""
    opening = call.end() + found.start(1)
    return said(source, *arguments(source, opening)[0], function)


def wrapped_at(source, call):
    """Yields a refusal of another function that `.under` puts under a rule."""
    line = source.bare[source.bare.rfind(";", 0, call.start()) + 1 : call.start()]
    if "map_err" not in line or "Refusal::" in line[line.rfind("map_err") :]:
        return
    rule = said(source, *arguments(source, call.start(1))[0], None)
    function = source.around(call.start())
    if RULE.fullmatch(rule) and function:
        message = "a field is missing, malformed or too long"
        yield Refusal("INVALID_FIELD", "FIELD_INVALID", rule, message, (), "", source.path, function.name)


def upper(name):
    """Converts `InvalidField` to `INVALID_FIELD`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def order(rule):
    """Returns the sort key of a rule: first the group of the domain, then the number."""
    groups = ["CT", "AG", "PS", "PR", "PX", "NW", "CA", "EV", "ST", "PL"]
    group, _, number = rule.partition("-")
    return (groups.index(group) if group in groups else len(groups), group, int(number or 0))


@dataclass(frozen=True)
class Test:
    """A test, and the rules in its name and its text."""

    name: str
    path: str
    named: frozenset
    quoted: frozenset


def tests(sources):
    """Returns all tests, and the helper functions in test files, that name a rule."""
    found = []
    for source in sources:
        whole = is_test_file(source.path)
        for function in source.functions:
            if not (function.test or whole):
                continue
            # The comment directly above a test belongs to the test.
            above = source.text[: function.start].rfind("\n\n")
            body = source.text[max(above, 0) : function.end]
            named = {f"{a.upper()}-{n}" for a, n in re.findall(r"(?:^|_)([a-z]{2})_?(\d+)(?=_)", function.name)}
            quoted = set(RULE.findall(body))
            if named or quoted:
                found.append(Test(function.name, source.path, frozenset(named), frozenset(quoted)))
    return found
