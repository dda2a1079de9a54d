"""Round trips that are counted in bulk."""

from prometheus_client import CollectorRegistry, Histogram

from companion import metrics


def values(node: str) -> dict[str, float]:
    """What is told of a node's pings: by the end of the series' name, and of buckets by their bound."""
    families = [
        family for family in metrics.REGISTRY.collect() if family.name.endswith(("ping_rtt_seconds", "pings_lost"))
    ]
    return {
        sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("node") == node
    }


def test_in_bulk_as_one_by_one() -> None:
    """Buckets, number and sum are those that Prometheus' own histogram counts, on each side of each bound."""
    latencies_ms = [0, 60_000, *(bound + step for bound in metrics.RTT_BOUNDS_MS for step in (-1, 0, 1))]
    bounds = [bound / 1000 for bound in metrics.RTT_BOUNDS_MS]
    registry = CollectorRegistry()
    histogram = Histogram("rtt", "", buckets=bounds, registry=registry)
    for latency_ms in latencies_ms:
        histogram.observe(latency_ms / 1000)
    metrics.count_pings("bulk", latencies_ms[:20], 1)
    metrics.count_pings("bulk", latencies_ms[20:], 2)
    expected = {
        sample.labels.get("le", sample.name.rpartition("_")[2]): round(sample.value, 6)
        for family in registry.collect()
        for sample in family.samples
    }
    assert expected | {"total": 3} == {name: round(value, 6) for name, value in values("bulk").items()}


def test_both_are_there_from_the_first_ping_on() -> None:
    """A node that has lost none has lost 0, one that has answered none answered 0: a rate sees both begin."""
    metrics.count_pings("answering", [20], 0)
    metrics.count_pings("mute", [], 1)
    assert values("answering")["total"] == 0
    assert values("mute")["count"] == 0


def test_nodes_are_counted_apart() -> None:
    """What one node's pings took is not the other's."""
    metrics.count_pings("near", [10, 10], 0)
    metrics.count_pings("far", [300], 0)
    near, far = values("near"), values("far")
    assert (near["count"], near["0.01"]) == (2, 2)
    assert (far["count"], far["0.01"]) == (1, 0)
