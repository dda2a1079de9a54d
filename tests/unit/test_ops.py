"""What ops/ asks Prometheus for is what the companion exposes, and what it exposes is documented and counted."""

import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from companion import metrics
from companion.http.monitoring import fleet_metrics

PROJECT = Path(__file__).parents[2]
OPS = PROJECT / "ops"
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((PROJECT / "companion").rglob("*.py"))
    if path.name != "metrics.py"
)
DASHBOARD = json.loads((OPS / "grafana/companion.json").read_text(encoding="utf-8"))
ALERTS = [
    rule
    for group in yaml.safe_load((OPS / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
OF_PROMETHEUS = {"up": {"job", "instance"}}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (apt-get install prometheus)")


class Exposed(NamedTuple):
    """One metric as it is documented: the name at the end of which samples may have more, and its labels."""

    name: str
    kind: str
    labels: frozenset[str]


def _families() -> Iterator[tuple[Metric, set[str]]]:
    """Each metric with its labels, which an empty one does not tell."""
    for collector in metrics.REGISTRY._collector_to_names:
        for family in collector.collect():
            yield family, {*getattr(collector, "_labelnames", ()), *getattr(family, "_labelnames", ())}
    for fleet_family in fleet_metrics.FAMILIES:
        yield fleet_family.of(None), set(fleet_family.labels.split())


def _exposed() -> Iterator[Exposed]:
    for family, labels in _families():
        if family.type == "info":
            yield Exposed(f"{family.name}_info", "gauge", frozenset(family.samples[0].labels))
        else:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Exposed(name, family.type, frozenset(labels))


EXPOSED = list(_exposed())


def _sampled() -> dict[str, set[str]]:
    """The labels of each series that Prometheus gets to see, its own included."""
    labels_by_series = dict(OF_PROMETHEUS)
    for name, kind, labels in EXPOSED:
        for suffix in SUFFIXES["histogram"] if kind == "histogram" else ("",):
            labels_by_series[name + suffix] = {*labels, "job", "instance", *(["le"] if suffix == "_bucket" else [])}
    return labels_by_series


SAMPLED = _sampled()


class Query:
    """What a PromQL expression asks for."""

    def __init__(self, text: str) -> None:
        self.names = set(re.findall(rf"\b(?:{metrics.PREFIX}|process_)\w+|\bup\b", text))
        self.matched = {
            (name, label)
            for name, inside in re.findall(r"(\w+)\{([^}]*)\}", text)
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside)
        }
        grouped = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([^)]*)\)", text)
        self.grouped = {label.strip() for labels in grouped for label in labels.split(",") if label.strip()}

    def problems(self) -> list[str]:
        all_labels = set().union(*(SAMPLED.get(name, set()) for name in self.names))
        return [
            *(f"no metric {name}" for name in self.names - SAMPLED.keys()),
            *(f"{name} has no label {label}" for name, label in self.matched if label not in SAMPLED.get(name, set())),
            *(f"nothing has a label {label}" for label in self.grouped - all_labels),
            *([] if self.names else ["it asks for nothing"]),
        ]


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """What promtool complains of; "" when all is well."""
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, timeout=60, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(
    "query", ["nothing_total", f"{metrics.PREFIX}nothing_total", f'{metrics.PREFIX}devices{{aor="a"}}']
)
def test_unknown_is_noticed(query: str) -> None:
    """A query for a metric or a label that there is not is seen as one."""
    assert Query(query).problems()


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title} {target['refId']}" for title, target in TARGETS])
def test_dashboard_asks_for_what_there_is(title: str, target: Mapping[str, Any]) -> None:
    """Each metric and label in the dashboard's queries exists, and its legends show labels that are left."""
    query = Query(target["expr"])
    assert not query.problems()
    legend = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
    assert legend <= (query.grouped or {"instance"})


def test_dashboard_variables() -> None:
    """Variables and annotations ask for what there is, and each variable in use is defined."""
    queries = [variable["query"]["query"] for variable in VARIABLES.values() if variable["type"] == "query"]
    queries += [note["expr"] for note in DASHBOARD["annotations"]["list"] if "expr" in note]
    assert not [problem for text in queries for problem in Query(text).problems()]
    used = set(re.findall(r"\$\{?([a-z_]\w*)", json.dumps(DASHBOARD))) - {"__rate_interval", "__all"}
    assert VARIABLES.keys() == used


def test_dashboard_can_be_imported_anywhere() -> None:
    """It is in the schema of Grafana 11, and names no data source but the one that is chosen in it."""
    assert DASHBOARD["schemaVersion"] == 39
    assert DASHBOARD["id"] is None
    sources = re.findall(r'"datasource": \{"type": "\w+", "uid": "([^"]*)"\}', json.dumps(DASHBOARD))
    assert len(sources) == json.dumps(DASHBOARD).count('"datasource": ')
    assert {"${datasource}", "-- Grafana --"} == set(sources)
    assert all(panel["datasource"] == target["datasource"] for panel in PANELS for target in panel["targets"])


def test_dashboard_panels() -> None:
    """Panels have ids of their own, stand beside each other, say what they show, and in which unit."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    occupied: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        occupied |= cells
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["type"] in ("heatmap", "state-timeline") or panel["fieldConfig"]["defaults"]["unit"], panel[
            "title"
        ]


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_alert(rule: Mapping[str, Any]) -> None:
    """An alert asks for what there is, says how bad it is and what it is, and leads to what to do."""
    assert not Query(rule["expr"]).problems()
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert f"docs/alerts.md#{rule['alert'].lower()}" == rule["annotations"]["runbook_url"]


def test_alerts_are_documented() -> None:
    """docs/alerts.md has a section and a line in its table for each alert, with its severity, and for no other."""
    text = (PROJECT / "docs/alerts.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in ALERTS] == sorted(re.findall(r"^## (\w+)$", text, re.MULTILINE), key=_place)
    rows = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", text, re.MULTILINE))
    assert {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS} == rows


def _place(alert: str) -> int:
    names = [rule["alert"] for rule in ALERTS]
    return names.index(alert) if alert in names else -1


def test_alerts_are_tested() -> None:
    """Each alert has a test in which it fires, and one in which it does not."""
    tests = yaml.safe_load((OPS / "prometheus/alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert {rule["alert"] for rule in ALERTS} == fires == silent


def test_metrics_are_documented() -> None:
    """docs/metrics.md has each metric with its type and labels, and no other."""
    text = (PROJECT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\| \S", text, re.MULTILINE)
    documented = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert {(name.removeprefix(metrics.PREFIX), kind, labels) for name, kind, labels in EXPOSED} == documented


def test_links() -> None:
    """Each link of ops/README.md leads to a file."""
    links = re.findall(r"\]\(([^)#:]+)\)", (OPS / "README.md").read_text(encoding="utf-8"))
    assert all((OPS / link).exists() for link in links), links


COUNTERS = [name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase | metrics.RoundTrips)]
FUNCTIONS: list[tuple[str, Callable[..., object]]] = inspect.getmembers(metrics, inspect.isfunction)


@pytest.mark.parametrize("name", COUNTERS)
def test_counted_somewhere(name: str) -> None:
    """A metric that nothing updates, by itself or by a function of metrics.py, is no metric."""
    ways = [name, *(way for way, function in FUNCTIONS if name in inspect.getsource(function))]
    assert any(re.search(rf"\bmetrics\.{way}\b", CODE) for way in ways)


@needs_promtool
def test_exposition_is_as_prometheus_wants_it() -> None:
    """Names, units, types and help texts follow Prometheus' rules, those of the store too."""
    registry = CollectorRegistry()
    registry.register(metrics.REGISTRY)
    registry.register(_SampleCollector())
    assert not promtool("check", "metrics", stdin=generate_latest(registry))


def _one(labels: Sequence[str]) -> dict[tuple[str, ...], float] | float:
    return {tuple(labels): 1.0} if labels else 1.0


class _SampleCollector(Collector):
    """What the store tells, with a value each."""

    def collect(self) -> Iterator[Metric]:
        return (family.of(_one(family.labels.split())) for family in fleet_metrics.FAMILIES)


@needs_promtool
def test_prometheus_takes_the_files() -> None:
    """Prometheus' own tool finds nothing wrong with the alerts and the example configuration."""
    assert not promtool("check", "rules", str(OPS / "prometheus/alerts.yml"))
    assert not promtool("check", "config", "--syntax-only", str(OPS / "prometheus/prometheus.yml"))


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    """The alerts' own tests pass."""
    assert not promtool("test", "rules", str(OPS / "prometheus/alerts.test.yml"))


@needs_promtool
def test_dashboard_queries_are_promql(tmp_path: Path) -> None:
    """Each query of the dashboard is one that Prometheus can read."""
    rules = [
        {"record": f"q{n}", "expr": target["expr"].replace("$__rate_interval", "5m").replace("$", "")}
        for n, (_, target) in enumerate(TARGETS)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert not promtool("check", "rules", str(file))
