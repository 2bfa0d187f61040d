#!/usr/bin/env python3
"""Checks dashboard, alerts and collector with promtool, against the runbook, and against the exported metrics in
deploy/observability/metrics.json (which tests/tracing.rs compares with a run).

    observability.py alerts     write the alerts in the format of the Prometheus operator
"""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import setup
from setup import DEPLOY, ROOT, promtool, read_yaml

HERE = DEPLOY / "observability"
ALERTS = HERE / "alerts" / "alerts.yaml"
RULE = DEPLOY / "kubernetes" / "components" / "prometheus" / "alerts.yaml"
RULE_HEAD = """\
# Made from deploy/observability/alerts/alerts.yaml: `make alerts`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hansa
  labels: {app.kubernetes.io/part-of: hansa}
spec:
"""
# Labels that Prometheus adds to every series.
EVERYWHERE = {"job", "instance"}
CODES = {
    "Ok", "Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
    "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
    "Unauthenticated",
}


def exported():
    """Returns the labels of each series that the collector exports to Prometheus."""
    series = {}
    for name, one in json.loads((HERE / "metrics.json").read_text(encoding="utf-8")).items():
        base = name.replace(".", "_") + {"s": "_seconds", "": ""}[one["unit"]]
        labels = set(one["labels"]) | EVERYWHERE
        if one["kind"] == "counter":
            series[f"{base}_total"] = labels
        elif one["kind"] == "gauge":
            series[base] = labels
        else:
            series |= {f"{base}_bucket": labels | {"le"}, f"{base}_sum": labels, f"{base}_count": labels}
    return series


def rules():
    """Returns the alerts by name."""
    (file,) = read_yaml(ALERTS)
    return {rule["alert"]: rule for group in file["groups"] for rule in group["rules"]}


def panels():
    """Returns the dashboard, and its panels without the rows."""
    board = json.loads((HERE / "dashboard" / "hansa.json").read_text(encoding="utf-8"))
    return board, [panel for panel in board["panels"] if panel["type"] != "row"]


def rule_text():
    """Returns the alerts in the format of the Prometheus operator."""
    lines = [line for line in ALERTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return RULE_HEAD + "".join(f"  {line}".rstrip() + "\n" for line in lines)


class ObservabilityCheck(unittest.TestCase):
    def promtool(self, *words, cwd=None):
        """Runs promtool, which must succeed."""
        said = subprocess.run(
            [str(promtool()), *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def check_expression(self, expression):
        """Checks that an expression uses only exported series and labels of these series."""
        series = exported()
        named = re.findall(r"\bhansa_[a-z_]+", expression)
        self.assertTrue(named, expression)
        for name in named:
            self.assertIn(name, series, expression)
        for name, selector in re.findall(r"\b(hansa_[a-z_]+)\{([^}]*)\}", expression):
            for label, values in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', selector):
                self.assertIn(label, series[name], expression)
                if label == "code":
                    self.assertLessEqual(set(values.split("|")), CODES, expression)
        labels = set().union(*(series[name] for name in named))
        for group in re.findall(r"\bby\s*\(([^)]*)\)", expression):
            self.assertLessEqual({label.strip() for label in group.split(",")}, labels, expression)

    def test_alerts_hold_and_fire_when_they_should(self):
        self.promtool("check", "rules", str(ALERTS))
        self.promtool("test", "rules", "tests.yaml", cwd=ALERTS.parent)

    def test_every_alert_is_tried_both_ways(self):
        (tests,) = read_yaml(ALERTS.parent / "tests.yaml")
        tried = [one for test in tests["tests"] for one in test["alert_rule_test"]]
        fires = {one["alertname"] for one in tried if one.get("exp_alerts")}
        quiet = {one["alertname"] for one in tried if not one.get("exp_alerts")}
        self.assertEqual((fires, quiet), (set(rules()), set(rules())))

    def test_alerts_name_what_is_exported(self):
        for rule in rules().values():
            self.check_expression(rule["expr"])
            labels = set().union(*(exported()[name] for name in re.findall(r"\bhansa_[a-z_]+", rule["expr"])))
            for used in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
                self.assertIn(used, labels, rule["alert"])

    def test_the_runbook_says_what_each_alert_means(self):
        headings = re.findall(r"^#+ (Hansa\w+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), flags=re.M)
        self.assertEqual(sorted(headings), sorted(rules()))

    def test_the_operators_rules_are_the_same(self):
        self.assertEqual(RULE.read_text(encoding="utf-8"), rule_text(), "run `make alerts`")

    def test_the_dashboard_shows_what_is_exported(self):
        board, shown = panels()
        expressions = [target["expr"] for panel in shown for target in panel["targets"]]
        for expression in expressions:
            self.check_expression(expression)
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                self.check_expression(variable["definition"])
        known = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
        self.assertLessEqual(set(re.findall(r"\$\{?(\w+)", json.dumps(shown))), known)
        plain = [expression.replace("$__rate_interval", "5m").replace("$job", "hansa.*") for expression in expressions]
        made = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rules.yaml"
            # JSON is YAML.
            file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": made}]}), encoding="utf-8")
            self.promtool("check", "rules", str(file))

    def test_every_metric_is_on_the_dashboard(self):
        _, shown = panels()
        text = json.dumps(shown)
        for name, one in json.loads((HERE / "metrics.json").read_text(encoding="utf-8")).items():
            self.assertIn(name.replace(".", "_") + {"s": "_seconds", "": ""}[one["unit"]], text)

    def test_panels_lie_beside_each_other(self):
        board, _ = panels()
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertTrue(taken.isdisjoint(cells) and at["x"] + at["w"] <= 24, panel["title"])
            taken |= cells

    def test_the_collector_passes_everything_on(self):
        (config,) = read_yaml(HERE / "collector" / "collector.yaml")
        pipelines = config["service"]["pipelines"]
        self.assertEqual(set(pipelines), {"metrics", "traces", "logs"})
        for pipeline in pipelines.values():
            self.assertEqual(pipeline["processors"][0], "memory_limiter", "the memory limiter must be first")
            for kind in ("receivers", "processors", "exporters"):
                self.assertTrue(set(pipeline[kind]) and set(pipeline[kind]) <= set(config[kind]), kind)
        self.assertEqual(pipelines["metrics"]["exporters"], ["prometheus"])


if __name__ == "__main__":
    if sys.argv[1:] != ["alerts"]:
        sys.exit(__doc__)
    setup.use_packages()
    RULE.write_text(rule_text(), encoding="utf-8")
