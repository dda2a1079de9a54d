"""Broken and hostile input over real sockets: counted, told once, and harmless to whoever comes next."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgpack
import pytest
from structlog.testing import capture_logs

from companion import metrics
from tests.integration.conftest import Feeder, MakeSetup, Setup, Udp, eventually, notification, phone_event

LATENCY, INSERT, DISCONNECT = "E_UL_LATENCY_UPDATE", "E_UL_CONTACT_INSERT", "E_CORE_TCP_DISCONNECT"
TIMES = 40
Logs = list[Any]


class Bad(NamedTuple):
    """A payload, and where and why it is refused."""

    payload: bytes
    where: str
    reason: str


def bad(where: str, reason: str, payload: bytes | None = None, **params: Any) -> Bad:
    return Bad(notification(LATENCY, phone_event("bad", **params)) if payload is None else payload, where, reason)


# These say the same over UDP and TCP
EVERYWHERE = {
    "JSON that is none": bad("bridge", "json", b'{"jsonrpc":"2.0","method":}'),
    "no params": bad("bridge", "not_an_event", b'{"jsonrpc":"2.0","method":"E_UL_LATENCY_UPDATE"}'),
    "params a list": bad("bridge", "not_an_event", notification(LATENCY, ["alice"])),
    "no method": bad("bridge", "not_an_event", b'{"jsonrpc":"2.0","params":{}}'),
    "an unknown event": bad("bridge", "unknown_event", notification("E_PIKE_BLOCKED", {"ip": "192.0.2.1"})),
    "a number beyond 64 bits": bad("bridge", "unpackable", notification(LATENCY, {"aor": "a", "latency": 1 << 70})),
    "no AOR": bad("consumer", "missing", notification(LATENCY, {"uri": "sip:a@b", "latency": 1})),
    "an AOR that is a number": bad("consumer", "wrong_type", notification(LATENCY, phone_event("a") | {"aor": 7})),
    "a latency that is a text": bad("consumer", "wrong_type", latency="12"),
    "a negative latency": bad("consumer", "latency", latency=-1),
    "an absurd latency": bad("consumer", "latency", latency=1_800_000_001),
    "a port that is none": bad(
        "consumer", "out_of_range", notification("E_CORE_TCP_DISCONNECT", {"src_ip": "a", "src_port": 70_000})
    ),
    "a far too long URI": bad("consumer", "too_long", uri=f"sip:{'a' * 20_000}@b"),
}
NAN = notification(LATENCY, phone_event("nan", latency=float("nan")))
BY_UDP = {
    "a latency that is not a number": bad("bridge", "json", NAN),
    "an empty datagram": bad("bridge", "json", b""),
    "half a datagram": bad("bridge", "json", notification(LATENCY, phone_event("cut"))[:100]),
    "a JSON array": bad("bridge", "not_an_object", b"[1, 2]"),
    "the largest datagram, full of junk": bad("bridge", "json", b"{" * 65_507),
    "brackets without end": bad("bridge", "json", b"[" * 60_000),
}
BY_TCP = {
    "a latency that is not a number": bad("stream", "truncated", NAN),
    "a JSON array": bad("stream", "garbage", b"[1, 2]"),
    "an object cut short by the next": bad("stream", "truncated", notification(LATENCY, phone_event("cut"))[:100]),
}


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


def warnings(logs: Logs) -> Counter[str]:
    return Counter(line["event"] for line in logs if line["log_level"] not in ("info", "debug"))


def refused(where: str, reason: str) -> float:
    return metrics.total(metrics.INVALID, where=where, reason=reason)


@asynccontextmanager
async def tcp_peer(setup: Setup) -> AsyncIterator[asyncio.StreamWriter]:
    _, writer = await asyncio.open_connection("127.0.0.1", setup.stream)
    try:
        yield writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def good_phone_is_stored(setup: Setup, way: str) -> None:
    """A phone that registers and answers right after is stored to the letter, and nothing else is."""
    good = [
        notification(INSERT, phone_event("good")),
        *(notification(LATENCY, phone_event("good", latency=ms * 1000)) for ms in (20, 40)),
    ]
    if way == "udp":
        with Udp(setup.datagram) as udp:
            for one in good:
                udp.send(one)
    else:
        async with tcp_peer(setup) as writer:
            writer.write(b"".join(good))
            await writer.drain()
            await eventually(lambda: "good" in aors(setup) and setup.page("good")["latency"]["total"] == 2)
    await eventually(lambda: "good" in aors(setup) and setup.page("good")["latency"]["total"] == 2)
    page = setup.page("good")
    assert [ms for _, ms in page["samples"]] == [20, 40]
    assert (page["status"], page["latency"]["lost"]) == ("online", 0)


def aors(setup: Setup) -> set[str]:
    return {page["aor"] for page in setup.pages().values()}


@pytest.mark.parametrize("name", [*EVERYWHERE, *BY_UDP])
async def test_over_udp(make_setup: MakeSetup, logs: Logs, name: str) -> None:
    """Each bad datagram is counted, many of a kind make one line, and the next good phone is stored unharmed."""
    case = (EVERYWHERE | BY_UDP)[name]
    before = refused(case.where, case.reason)
    async with make_setup().running() as setup:
        with Udp(setup.datagram) as udp:
            for _ in range(TIMES):
                udp.send(case.payload)
        await eventually(lambda: refused(case.where, case.reason) - before == TIMES)
        await good_phone_is_stored(setup, "udp")
        assert aors(setup) == {"good"}
    assert list(warnings(logs).values()) == [1]


@pytest.mark.parametrize("name", [*EVERYWHERE, *BY_TCP])
async def test_over_tcp(make_setup: MakeSetup, logs: Logs, name: str) -> None:
    """Each bad object of a stream is counted, many of a kind make one line, and the same stream goes on."""
    case = (EVERYWHERE | BY_TCP)[name]
    before = refused(case.where, case.reason)
    between = notification("E_UL_AOR_INSERT", {"domain": "location", "aor": "between"})
    async with make_setup().running() as setup:
        async with tcp_peer(setup) as writer:
            for _ in range(TIMES):
                writer.write(case.payload + between)
                await writer.drain()
            await eventually(lambda: setup.events_done() >= TIMES)
            writer.write(notification(LATENCY, phone_event("same stream", latency=30_000)))
            await eventually(lambda: "same stream" in aors(setup))
        await good_phone_is_stored(setup, "tcp")
        assert aors(setup) == {"good", "same stream"}
    assert 1 <= refused(case.where, case.reason) - before <= TIMES
    assert refused(case.where, case.reason) - before == TIMES or case.where == "stream"
    assert list(warnings(logs).values()) == [1]


async def test_refused_events_name_their_aor(make_setup: MakeSetup, logs: Logs) -> None:
    """The log, the summary and its screen name the phone that may be missing."""
    async with make_setup().running() as setup:
        with Udp(setup.datagram) as udp:
            udp.send(notification(LATENCY, phone_event("bad", latency="12")))
            udp.send(notification(INSERT, phone_event("good")))
        await eventually(lambda: aors(setup) == {"good"})
        screen = (await asyncio.to_thread(setup.cli, "summary")).stdout
    assert "opensips: 1 event refused, the last one of AOR bad" in screen
    assert [line["aor"] for line in logs if line["event"] == "an event was refused: wrong_type"] == ["bad"]


async def test_a_name_that_is_not_printable(make_setup: MakeSetup) -> None:
    """A phone with a terminal's commands in its name is shown without them, and its pings count."""
    async with make_setup().running() as setup:
        with Udp(setup.datagram) as udp:
            udp.send(notification(LATENCY, phone_event("\x1b[2J", latency=30_000)))
        await eventually(lambda: aors(setup) == {"\ufffd[2J"})
        assert "\x1b" not in (await asyncio.to_thread(setup.cli, "devices")).stdout


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_odd_bytes(make_setup: MakeSetup, logs: Logs, way: str) -> None:
    """Bytes that are no UTF-8 become U+FFFD and are counted; so do control characters in a User-Agent, uncounted."""
    before = refused("bridge", "utf8")
    agent = notification(INSERT, phone_event("agent", user_agent="XYZ \x1b]0;x\x07"))
    async with make_setup().running() as setup:
        if way == "udp":
            with Udp(setup.datagram) as udp:
                udp.send(agent.replace(b"XYZ", b"X\xffZ"))
            await eventually(lambda: "agent" in aors(setup))
        else:
            async with tcp_peer(setup) as writer:
                writer.write(agent.replace(b"XYZ", b"X\xffZ"))
                await eventually(lambda: "agent" in aors(setup))
        assert setup.page("agent")["user_agent"] == "X\ufffdZ \ufffd]0;x\ufffd"
        await good_phone_is_stored(setup, way)
    assert refused("bridge", "utf8") - before == 1
    assert list(warnings(logs).values()) == [1]


async def test_ten_megabytes_of_brackets(make_setup: MakeSetup, logs: Logs) -> None:
    """A stream of 10 MB that opens and never closes is given up, counted and told once, and others are served."""
    before = refused("stream", "oversized") + refused("stream", "truncated")
    async with make_setup().running() as setup, tcp_peer(setup) as writer:
        for _ in range(160):
            writer.write(b"{" * 65_536)
            await writer.drain()
        await good_phone_is_stored(setup, "tcp")
    assert refused("stream", "oversized") + refused("stream", "truncated") > before
    assert max(warnings(logs).values()) == 1


async def test_seventy_kilobytes_in_a_datagram(make_setup: MakeSetup) -> None:
    """A datagram of 70 kB can not be sent at all: the kernel tells its sender so, and we never see it."""
    async with make_setup().running() as setup:
        with Udp(setup.datagram) as udp, pytest.raises(OSError, match="too long"):
            udp.send(b"x" * 70_000)
        await good_phone_is_stored(setup, "udp")


async def test_a_silent_peer(make_setup: MakeSetup) -> None:
    """Connections that say nothing keep nobody else from being heard, nor the companion from ending."""
    async with make_setup().running() as setup, tcp_peer(setup), tcp_peer(setup), tcp_peer(setup) as half:
        half.write(b'{"jsonrpc":"2.0","meth')
        await good_phone_is_stored(setup, "tcp")
        await good_phone_is_stored_again(setup)


async def good_phone_is_stored_again(setup: Setup) -> None:
    with Udp(setup.datagram) as udp:
        udp.send(notification(LATENCY, phone_event("by udp", latency=20_000)))
    await eventually(lambda: "by udp" in aors(setup))


async def test_a_peer_that_never_stops(make_setup: MakeSetup, logs: Logs) -> None:
    """A peer that sends junk without a pause is counted in one line, while others are served and the end is clean."""
    async with make_setup().running() as setup, tcp_peer(setup) as writer:

        async def flood() -> None:
            while True:
                writer.write(b'{"jsonrpc":"2.0","method":"E_NO","params":{}}' * 500)
                await writer.drain()

        flooding = asyncio.create_task(flood())
        try:
            await eventually(lambda: refused("bridge", "unknown_event") > 5000)
            await good_phone_is_stored(setup, "udp")
            await good_phone_is_stored(setup, "tcp") if not aors(setup) else None
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
    assert warnings(logs)["an event was refused: unknown_event"] == 1


def envelope(**changes: Any) -> bytes:
    """The body of a good message on the bus, but for the changes."""
    params = phone_event("bad", latency=20_000)
    whole = {"v": 1, "node": "opensips", "run": 1, "seq": 0, "ts": int(time.time() * 1000), "params": params}
    body: bytes = msgpack.packb(whole | changes)
    return body


TOPIC = LATENCY.encode()
ON_THE_BUS = {
    "a body that is no msgpack": [TOPIC, b"\xc1garbage"],
    "an empty body": [TOPIC, b""],
    "a body that ends early": [TOPIC, envelope()[:-5]],
    "a body that is a list": [TOPIC, msgpack.packb([1, 2, 3])],
    "a version of the future": [TOPIC, envelope(v=2)],
    "no node": [TOPIC, envelope(node=None)],
    "a node that no key can hold": [TOPIC, envelope(node="a b\n")],
    "a negative seq": [TOPIC, envelope(seq=-1)],
    "a time that is a text": [TOPIC, envelope(ts="now")],
    "one frame": [TOPIC],
    "three frames": [TOPIC, envelope(), b"more"],
    "five frames": [TOPIC, envelope(), b"", b"", b""],
    "a topic that is no text": [b"\xff\xfe", envelope()],
}


async def test_on_the_bus(make_setup: MakeSetup) -> None:
    """Each message on the bus that is none of ours is counted, many make one line, and the next good one is stored."""
    setup = make_setup()
    async with setup.running("consumer"), Feeder.silent(setup) as feeder:
        assert await feeder.publisher.subscribed(10)
        for name, frames in ON_THE_BUS.items():
            before = metrics.total(metrics.INVALID, where="bus")
            with capture_logs() as logs:
                for _ in range(TIMES):
                    feeder.publisher._socket.send_multipart(frames)
                feeder.ping()
                await eventually(lambda: setup.events_done() == feeder.published)
            assert metrics.total(metrics.INVALID, where="bus") - before == TIMES, name
            assert max(warnings(logs).values(), default=1) == 1, name
        assert aors(setup) == {f"phone{n}" for n in range(len(ON_THE_BUS))}
        assert setup.feed().missed == 0


async def test_a_message_from_the_future(make_setup: MakeSetup, logs: Logs) -> None:
    """An event dated more than a minute ahead is refused: its sample would lock out all that follow."""
    setup = make_setup()
    before = metrics.total(metrics.REFUSED, reason="ahead")
    async with setup.running("consumer"), Feeder.silent(setup) as feeder:
        assert await feeder.publisher.subscribed(10)
        feeder.publisher.publish(LATENCY, phone_event("future", latency=1), int(time.time() * 1000) + 3_600_000)
        feeder.published += 1
        feeder.ping()
        await eventually(lambda: setup.events_done() == 2)
        assert aors(setup) == {"phone1"}
    assert metrics.total(metrics.REFUSED, reason="ahead") - before == 1
    assert list(warnings(logs).values()) == [1]


async def test_many_at_once(make_setup: MakeSetup) -> None:
    """All kinds of bad input, over both ways at once, do not keep a thousand good pings from being stored."""
    async with make_setup().running() as setup, tcp_peer(setup) as writer:
        with Udp(setup.datagram) as udp:
            for n in range(500):
                one = list((EVERYWHERE | BY_UDP).values())[n % len(EVERYWHERE | BY_UDP)]
                udp.send(one.payload[:2000])
                udp.send(notification(LATENCY, phone_event("by udp", latency=n * 1000)))
                other = list(EVERYWHERE.values())[n % len(EVERYWHERE)]
                writer.write(other.payload + notification(LATENCY, phone_event("by tcp", latency=n * 1000)))
                await writer.drain()
                await asyncio.sleep(0)
        await eventually(lambda: {"by udp", "by tcp"} <= aors(setup))
        for aor in ("by udp", "by tcp"):
            await eventually(lambda aor=aor: setup.page(aor)["latency"]["answered"] == 500)  # type: ignore[misc]
            assert [ms for _, ms in setup.page(aor)["samples"]] == list(range(500))
