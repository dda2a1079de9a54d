"""Store how each consumer is: readers in other processes learn what keeps events from the store."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

import msgspec

from companion.store.store import Store

REPORT_SECONDS: Final = 2.0
FRESH_MS: Final = 15_000
"""A report that is older says nothing about now."""
FORGET_MS: Final = 60_000
"""A consumer that has not reported for so long is gone."""


class ConsumerReport(msgspec.Struct, frozen=True):
    """Hold the state of one consumer. Times are epoch ms, 0 = never.

    `behind_at`: when an event last had waited for too long. `refused`: why the bus of an endpoint refuses us, by
    endpoint. `error`: why Redis does not take its events, "" when it does. `nodes`: those that it hears.
    """

    at: int
    behind_at: int = 0
    refused: Mapping[str, str] = {}
    error: str = ""
    nodes: tuple[str, ...] = ()


def save_consumer(store: Store, name: str, report: ConsumerReport) -> dict[str, ConsumerReport]:
    """Store the report of a consumer, forget those that are gone, and return the reports of all others, by name."""
    key = store.keys.consumers()
    _, reports = store.connection.pipeline(
        [("HSET", key, name, msgspec.json.encode(report).decode()), ("HGETALL", key)]
    )
    gone = [other for other, text in reports.items() if other != name and _is_gone(text, report.at)]
    if gone:
        store.connection.call("HDEL", key, *gone)
    return _decode_all({other: text for other, text in reports.items() if other not in (name, *gone)})


def forget_consumer(store: Store, name: str) -> None:
    """Delete the report of a consumer that stops."""
    store.connection.call("HDEL", store.keys.consumers(), name)


def load_consumers(store: Store) -> dict[str, ConsumerReport]:
    """Return the reports of all consumers, by name; one that can not be read is left out."""
    return _decode_all(store.connection.call("HGETALL", store.keys.consumers()))


def find_listeners(reports: Mapping[str, ConsumerReport], now: int) -> dict[str, list[str]]:
    """Return the consumers that hear each node, as `host/process`, by reports that are fresh at `now` (epoch ms)."""
    listeners: defaultdict[str, list[str]] = defaultdict(list)
    for name, report in sorted(reports.items()):
        for node in report.nodes if abs(now - report.at) <= FRESH_MS else ():
            listeners[node].append("/".join(name.split("/")[:2]))
    return listeners


def find_unrecorded(listeners: Mapping[str, Sequence[str]], holders: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """Return the nodes that nobody records, with the consumers that hear them.

    That is so where the consumer that holds the lease of a node's cluster does not hear the node. A holder that tells
    of no node is one of an older version.

    Args:
        listeners: By node, as of `find_listeners`.
        holders: By node, as of `load_holders`.

    """
    everyone = {None, *chain.from_iterable(listeners.values())}
    return {node: names for node, names in listeners.items() if holders.get(node) in everyone.difference(names)}


def _decode_all(texts: Mapping[str, str]) -> dict[str, ConsumerReport]:
    return {name: report for name, text in texts.items() if (report := _decode(text))}


def _decode(text: str) -> ConsumerReport | None:
    try:
        return msgspec.json.decode(text, type=ConsumerReport)
    except msgspec.MsgspecError:
        return None


def _is_gone(text: str, now: int) -> bool:
    report = _decode(text)
    return report is None or now - report.at > FORGET_MS
