"""Metrics of several processes in one answer."""

from prometheus_client.parser import text_string_to_metric_families

from companion import metrics
from companion.http.monitoring.exposition import collect_processes, render_metrics
from companion.http.siblings import Siblings, make_inboxes

OTHER = b"""# HELP opensips_companion_api_errors_total Requests that failed by a mistake of ours.
# TYPE opensips_companion_api_errors_total counter
opensips_companion_api_errors_total 7.0
# HELP opensips_companion_new A metric of a later version.
# TYPE opensips_companion_new gauge
opensips_companion_new{why="\\"x\\""} 1.0
"""


def test_each_process_has_its_name() -> None:
    """Counters of all processes stand side by side: a family comes once, and who did not answer is told."""
    inboxes, outboxes = make_inboxes(["api-1", "api-2", "main"])
    siblings = Siblings("api-1", inboxes["api-1"], {name: outboxes[name] for name in ("api-2", "main")})
    text = render_metrics(collect_processes(siblings, {"api-2": OTHER})).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == text.count("# TYPE ")
    up = families[f"{metrics.PREFIX}process_up"].samples
    assert {sample.labels["process"]: sample.value for sample in up} == {"api-1": 1, "api-2": 1, "main": 0}
    errors = families[f"{metrics.PREFIX}api_errors"]
    assert errors.type == "counter"
    assert {sample.labels["process"]: sample.value for sample in errors.samples} == {
        "api-1": metrics.total(metrics.API_ERRORS),
        "api-2": 7,
    }
    assert families[f"{metrics.PREFIX}new"].samples[0].labels == {"process": "api-2", "why": '"x"'}
    for end in (*inboxes.values(), *outboxes.values()):
        end.close()


def test_a_process_that_serves_alone_has_no_label() -> None:
    """With one process nothing changes: no label, and no metric about processes."""
    text = render_metrics(collect_processes(Siblings(), {})).decode()
    assert "process=" not in text
    assert "process_up" not in text
