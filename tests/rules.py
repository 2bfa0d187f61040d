#!/usr/bin/env python3
"""Makes docs/rules.md, docs/refusals.md and docs/limits.md from the sources; checks which tests SECURITY.md names, and links.

    rules.py            write the pages
    rules.py --check    write nothing; fail where a page differs, a rule has no words or no test, a refusal does not say what
                        helps, or a named test is gone

The words for each rule stand in docs/rules.toml.
"""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import sources
from sources import ROOT, RULE, order

# Tests that a rule's row names; the others are counted.
SHOWN_TESTS = 3
# Refusals that need not say what would help: all of a reason, or one by its file and function, each with why.
HELPLESS = {
    "INVALID_FIELD": "the message says what the field must be",
    "REQUEST_ID_REUSED": "what is missing says it: a new id",
    "NOT_AUTHENTICATED": "whoever has no token is told no more",
    "UNAVAILABLE": "its RetryInfo says when to send it again",
    "FROZEN": "the operator alone can help; docs/runbook.md says how",
    "INTERNAL": "a fault of the program, which no caller can mend",
}
MADE = "<!-- Made by `make rules` from the sources and docs/rules.toml. Do not edit: `.ci/run` compares. -->\n"


def words():
    """The words of docs/rules.toml by rule, in their order."""
    text = (ROOT / "docs/rules.toml").read_text(encoding="utf-8")
    return {rule: ast.literal_eval(said) for rule, said in re.findall(r'^([A-Z]{2}-\d+) = (".*")$', text, re.M)}


def cell(text):
    """A text that stands in one cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def table(heads, rows):
    """A table of GitHub's Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows]) + "\n"


def short(path):
    """A path without what every path has."""
    return path.removeprefix("services/").replace("/domain/src/", "/domain/").replace("/src/", "/")


def linked(name, path):
    """A name that leads to its file."""
    return f"[{name}](../{path})"


def reasons():
    """The contract's reasons, each with its comment, in their order."""
    text = (ROOT / "proto/hansa/type/v1/reason.proto").read_text(encoding="utf-8")
    found = re.findall(r"((?:  //[^\n]*\n)+)  REASON_(\w+) = [1-9]", text)
    return {name: " ".join(re.sub(r"^  // ?", "", comment, flags=re.M).split()) for comment, name in found}


def codes():
    """The gRPC code of each reason, as the chassis gives it."""
    text = (ROOT / "services/chassis/src/status.rs").read_text(encoding="utf-8")
    arms = re.findall(r"((?:Reason::\w+[\s|]*)+)=> Code::(\w+),", text)
    return {sources.upper(name): sources.upper(code) for names, code in arms for name in re.findall(r"Reason::(\w+)", names)}


def quoting(all_sources):
    """The files of the product, and of the contract, that quote each rule."""
    found = defaultdict(set)
    for source in all_sources:
        if not sources.is_test_file(source.path):
            end = len(sources.product(source))
            for rule in RULE.findall(source.text[:end]):
                found[rule].add(source.path)
    for path in sorted((ROOT / "proto/hansa").rglob("*.proto")):
        for rule in RULE.findall(path.read_text(encoding="utf-8")):
            found[rule].add(path.relative_to(ROOT).as_posix())
    return found


def rules_page(said, refusals, tests, quoted):
    """docs/rules.md."""
    rows, coded = [], codes()
    for rule in said:
        mine = [r for r in refusals if r.rule == rule]
        places = defaultdict(set)
        for refusal in mine:
            places[refusal.path].add(refusal.function)
        if places:
            code = [f"{linked(short(p), p)}: {', '.join(f'`{f}`' for f in sorted(places[p]))}" for p in sorted(places)]
        else:
            code = [linked(short(path), path) for path in sorted(quoted[rule]) if path.endswith((".rs", ".toml", ".proto"))]
        named = [t for t in tests if rule in t.named]
        held = named + [t for t in tests if rule in t.quoted and t not in named]
        shown = [linked(f"`{t.name}`", t.path) for t in held[:SHOWN_TESTS]]
        more = len(held) - len(shown)
        shown += [f"{more} more"] if more else []
        answers = sorted({f"{r.reason} ({coded[r.reason]})" for r in mine}) or ["none"]
        rows.append((f"**{rule}**", said[rule], "; ".join(code), "; ".join(shown), ", ".join(answers)))
    return (
        "# Rules\n\n" + MADE + "\nWhat the program holds its users to, and itself: each rule in short, where it is decided, which "
        "test holds it, and how a\nrefusal that quotes it answers (the reason of its `ErrorInfo`, and the gRPC code). The messages "
        "stand in\n[refusals.md](refusals.md), the limits in [limits.md](limits.md). A rule without a refusal is kept by what "
        "the program\ndoes and shows.\n\nNumbers are missing where a rule belongs to a service that is not built yet.\n\n"
        + table(["rule", "in short", "decided in", "held by", "refusal"], rows)
    )


HOW = """
A refusal is a `google.rpc.Status` with one `google.rpc.ErrorInfo`: `domain` is `hansa`, `reason` one of those below, and
`metadata` name the rule (`rule`) and what would help (`help`). What is missing or wrong is listed beside it, each with its
subject: as `google.rpc.BadRequest` for INVALID_FIELD and REQUEST_ID_REUSED, as `google.rpc.PreconditionFailure` for RULE,
OUT_OF_ORDER, STALE and FROZEN. UNAVAILABLE, and LIMIT where it passes by itself, carry a `google.rpc.RetryInfo`. A refusal changes nothing, and one
request of a batch that is refused does not touch the others.

A program decides by `reason` and `rule`; the message is for people and may change. In the messages below `{name}` stands for
what the program fills in, and `…` for a part that depends on the case.
"""


def filled(text, path, values):
    """A message with its limits as numbers, where the name of one says which it is."""

    def number(hole):
        known = [values.get((place, hole.group(1)), set()) for place in (path, path.split("/src/")[0], "services/kernel", "")]
        return next((min(one) for one in known if len(one) == 1), hole.group())

    return re.sub(r"\{([A-Z][A-Z0-9_]+)\}", number, text)


def constants(all_sources):
    """What a constant is, by its name: in its file, in its crate, anywhere."""
    values = defaultdict(set)
    for source in all_sources:
        for _, name, kind, written in CONSTANT.findall(source.text):
            for place in (source.path, source.path.split("/src/")[0], ""):
                values[place, name].add(value(kind, written.strip()))
    return values


def refusals_page(refusals, values):
    """docs/refusals.md."""
    text, coded = "# Refusals\n\n" + MADE + HOW, codes()
    for reason, comment in reasons().items():
        text += f"\n## {reason}\n\nAnswered as {coded[reason]}. {comment.rsplit('. ', 1)[0].rstrip('.')}.\n\n"
        mine = [r for r in refusals if r.reason == reason]
        rows, seen = [], set()
        for refusal in mine:
            texts = (refusal.message, "; ".join(refusal.missing), refusal.help)
            row = (refusal.rule, *(filled(each, refusal.path, values) for each in texts))
            if row not in seen:
                seen.add(row)
                rows.append(row)
        if rows:
            heads = ["rule", "message", "what is missing or wrong", "what helps"]
            keep = [i for i in range(len(heads)) if i < 2 or any(row[i] for row in rows)]
            text += table([heads[i] for i in keep], [[row[i] for i in keep] for row in rows])
        else:
            text += "No rule answers so by itself.\n"
    unknown = {r.reason for r in refusals} - set(reasons())
    if unknown:
        raise SystemExit(f"reasons that the contract does not have: {unknown}")
    return text


CONSTANT = re.compile(r"((?:^ *///[^\n]*\n)+)^ *(?:pub(?:\(\w+\))? )?const ([A-Z][A-Z0-9_]*): ([^=]+?) =\s*([^;]+);", re.M)


def value(kind, written):
    """What a constant is, for people."""
    seconds = re.fullmatch(r"Duration::from_(secs|millis)\((.*)\)", written)
    if seconds:
        number = arithmetic(seconds.group(2))
        return f"{number:,} ms" if seconds.group(1) == "millis" else lasting(number)
    if "..=" in written:
        low, high = (arithmetic(part) for part in written.split("..="))
        return f"{low:,} to {high:,}"
    number = arithmetic(written)
    return written if number is None else f"{number:,}"


def arithmetic(written):
    """The value of a product of numbers; None for anything else."""
    bare = re.sub(r"_(?=\d)", "", written)
    if not re.fullmatch(r"[\d\s*]+", bare):
        return None
    product = 1
    for part in bare.split("*"):
        product *= int(part)
    return product


def lasting(seconds):
    """A number of seconds, in the largest unit that fits."""
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds % unit == 0 and seconds >= unit:
            return f"{seconds // unit} {name if seconds > unit else name.rstrip('s')}"
    return f"{seconds} s"


def limits_page(all_sources, refusals):
    """docs/limits.md: the constants of the files that are called so, and those that a refusal's message names."""
    # The same short name can stand in several crates: a message means the one of its own.
    named = {(r.path.split("/src/")[0], word) for r in refusals for word in re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", r.message)}
    text = (
        "# Limits\n\n" + MADE + "\nEverything that grows has a bound, and each bound is a constant with a name. Beyond it the answer "
        "is a refusal that says so\n([LIMIT or INVALID_FIELD](refusals.md)), or, where nobody asks, the program does the rest later. "
        "They are fixed at\nbuild time.\n"
    )
    for source in all_sources:
        body = source.text[: len(sources.product(source))]
        crate = source.path.split("/src/")[0]
        whole = source.path.endswith("/limits.rs") and "/tests/" not in source.path
        rows = []
        for comment, name, kind, written in CONSTANT.findall(body):
            if whole or (crate, name) in named:
                about = " ".join(re.sub(r"^ *///", "", comment, flags=re.M).split())
                rows.append((f"`{name}`", value(kind, written.strip()), about))
        if rows:
            text += f"\n## {linked(short(source.path), source.path)}\n\n" + table(["limit", "value", ""], rows)
    return text


def named_tests_are_there(all_sources):
    """What SECURITY.md names: files that are there, and tests or functions in them."""
    known = {function.name for source in all_sources for function in source.functions}
    paths = {path.relative_to(ROOT).as_posix() for folder in ("services", "tests", "deploy") for path in (ROOT / folder).rglob("*.*")}
    for path in (ROOT / path for path in paths if path.endswith(".py")):
        known.update(re.findall(r"^ *def (\w+)", path.read_text(encoding="utf-8"), re.M))
    findings = []
    for number, line in enumerate((ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split(" | ")
        for name in re.findall(r"`([^`]+)`", cells[-1]) if line.startswith("|") and len(cells) == 3 else []:
            if re.fullmatch(r"[\w/.]+\.(rs|txt|py)", name):
                if not any(path == name or path.endswith("/" + name) for path in paths):
                    findings.append(f"SECURITY.md:{number}: there is no file {name}")
            elif re.fullmatch(r"\w+", name) and name not in known:
                findings.append(f"SECURITY.md:{number}: there is no test {name}")
    return findings


def links_lead_somewhere():
    """The links of the pages to files of the repository."""
    findings = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                findings.append(f"{page.relative_to(ROOT)}: its link to {target} leads nowhere")
    return findings


def findings(said, refusals, tests, quoted):
    """What is against the promise: a rule without words or without a test, words without a rule, a refusal without a rule."""
    needed = {r.rule for r in refusals}
    for rule in sorted(needed - set(said), key=order):
        yield f"docs/rules.toml: {rule} has no words, and a refusal quotes it"
    for rule in said:
        if rule not in quoted:
            yield f"docs/rules.toml: nothing quotes {rule}"
        elif not any(rule in t.named or rule in t.quoted for t in tests):
            yield f"{rule}: no test names it"
    for refusal in refusals:
        if refusal.rule == "?":
            yield f"{refusal.path}: {refusal.function}: which rule it quotes cannot be seen; write it out"
    silent = [r for r in refusals if not r.help]
    for refusal in silent:
        if refusal.reason not in HELPLESS and (refusal.path, refusal.function) not in HELPLESS:
            yield f"{refusal.path}: {refusal.function}: a refusal ({refusal.rule}) does not say what would help"
    for gone in set(HELPLESS) - {r.reason for r in silent} - {(r.path, r.function) for r in silent}:
        yield f"tests/rules.py: {gone} needs no exception any more"
    if list(said) != sorted(said, key=order):
        yield "docs/rules.toml: the rules are out of order"


def main():
    """Writes or checks."""
    everything, said = sources.read(), words()
    refusals, tests, quoted = sources.refusals(everything), sources.tests(everything), quoting(everything)
    wrong = [*findings(said, refusals, tests, quoted), *named_tests_are_there(everything)]
    pages = {
        "docs/rules.md": rules_page(said, refusals, tests, quoted),
        "docs/refusals.md": refusals_page(refusals, constants(everything)),
        "docs/limits.md": limits_page(everything, refusals),
    }
    for name, text in pages.items():
        path = Path(ROOT / name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(f"{name} is not what the sources make: run `make rules` and commit it")
    wrong += links_lead_somewhere()
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"rules: {len(said)} rules, {len(refusals)} refusals, {len(tests)} tests that name one")


if __name__ == "__main__":
    main()
