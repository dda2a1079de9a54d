"""Store how each consumer is: readers in other processes learn what keeps events from the store."""

from collections.abc import Mapping
from typing import Final

import msgspec

from companion.store.store import Store

REPORT_SECONDS: Final = 2.0
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
