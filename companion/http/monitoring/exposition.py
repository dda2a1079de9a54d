"""Tell the metrics of all processes that serve the API together, and of the one that runs the other services."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from companion import metrics
from companion.http.siblings import Siblings

METRICS: Final = b"metrics"
"""Asks a process for its own counters."""
LABEL: Final = "process"
UP: Final = metrics.PREFIX + "process_up"


def answer_metrics(siblings: Siblings) -> None:
    """Answer the other processes with the counters of this one."""

    async def answer(_: bytes) -> bytes:
        return generate_latest(metrics.REGISTRY)

    siblings.on(METRICS, answer)


class Processes(Collector):
    """Collect the counters of several processes, each with its name as a label: a sum would fall when one restarts."""

    def __init__(self, siblings: Siblings, answers: Mapping[str, bytes]) -> None:
        self._names = siblings.names
        self._texts = {siblings.name: generate_latest(metrics.REGISTRY), **answers}

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(UP, "1 when a process answered within half a second, else 0.", labels=[LABEL])
        for name in self._names:
            up.add_metric([name], float(name in self._texts))
        yield up
        yield from self._merge().values()

    def _merge(self) -> dict[str, Metric]:
        merged: dict[str, Metric] = {}
        for name, text in self._texts.items():
            for family in text_string_to_metric_families(text.decode()):
                own = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                own.samples += [sample._replace(labels={**sample.labels, LABEL: name}) for sample in family.samples]
        return merged


def collect_processes(siblings: Siblings, answers: Mapping[str, bytes]) -> Collector:
    """Return the counters of this process alone, or those of all that serve the API together."""
    return Processes(siblings, answers) if siblings else metrics.REGISTRY


def render_metrics(*collectors: Collector) -> bytes:
    """Return the metrics of these collectors as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)
