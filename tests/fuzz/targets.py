"""Everything that reads what the network says, with seeds. Each may answer, or raise its documented errors."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import jwt
import msgpack

from companion import config, credentials, sip, text, times
from companion.bridge.bridge import Bridge
from companion.bridge.framer import Framer
from companion.bus import envelope
from companion.config import BridgeSection
from companion.config.address import parse_address
from companion.consumer.ping_cache import PingCache
from companion.dashboard import user_agent
from companion.errors import ConfigError, InvalidInputError, UsageError
from companion.media import report, totals
from companion.media.packing import Items, pack, unpack
from companion.opensips import events, mi_contact, probe, subscriptions
from companion.opensips.mi import Mi
from companion.opensips.mi_dump import read_records
from companion.opensips.sockets import parse_socket
from companion.query import cursors
from companion.store.call_media import sort_out
from companion.store.corrections import decode_correction
from companion.tokens import access, call
from companion.usrloc.admission import AdmissionLimits
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.picture import Usrloc
from tests.fuzz.mutation import mutate_bytes, mutate_text, mutate_value, odd_value, to_json

CAPTURES: Final = Path(__file__).parents[1] / "captures/opensips-3.6.8"
NOW_MS: Final = 1_795_452_109_605
SECRET: Final = "s" * 32
DAY_MS: Final = 86_400_000
TEXTS: Final = (
    *(
        "sip:alice@192.0.2.1:5060;transport=ws;+sip.instance=%22<urn:uuid:1>%22",
        "sips:a:b@[2001:db8::1%25eth0]:5061?x=y",
    ),
    *(
        "sip:bob@x.invalid;pn-provider=fcm;pn-prid=abc:def;pn-param=p",
        "tel:+4930123",
        "<sip:p1;lr>,<sip:p2;lr>",
        "alice/urn:uuid:1",
    ),
    *(
        "udp:127.0.0.1:5060",
        "wss:[::1]:443",
        "tls:0.0.0.0:5061",
        "udp:[fe80::1%eth0]:5066",
        "127.0.0.1:5000",
        "203.0.113.9",
    ),
    *(
        "Cisco/SPA504G-7.4.9c",
        "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0",
        "Yealink SIP-T46U 108.86.0.90",
        "n/a",
        "5m",
        "24h",
    ),
    *(
        'Digest username="a",response="b"',
        "Authorization: Basic YTpi",
        "reader:read:" + "0" * 64,
        "::ffff:192.0.2.77",
        "a.local",
    ),
)


class Target(NamedTuple):
    """Hold one reader of input: what it reads is made by `make` of random numbers, and given to `read`.

    `errors` are the documented ones; `weight` is its share of the inputs.
    """

    name: str
    make: Callable[[Random], Any]
    read: Callable[[Any], object]
    errors: tuple[type[Exception], ...] = ()
    weight: int = 10


@cache
def notifications() -> tuple[dict[str, Any], ...]:
    """Return the notifications of a real OpenSIPS, one of each kind and shape."""
    lines = (CAPTURES / "event_datagram.jsonl").read_text().splitlines()
    every = [json.loads(json.loads(line)["payload"]) for line in lines]
    return tuple({(one["method"], *one["params"]): one for one in reversed(every)}.values())


@cache
def dump() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CAPTURES / "ul_dump.json").read_text())
    return document


def _pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass", strict_types=False, default=str))


def _pack_or_not(value: Any) -> bytes:
    try:
        return _pack(value)
    except (ValueError, OverflowError, TypeError):
        return b"\xc1"


def _event(random: Random) -> tuple[str, bytes]:
    """Return an event's name and parameters as they come over the bus."""
    seed = random.choice(notifications())
    packed = _pack_or_not(mutate_value(random, seed["params"]))
    return seed["method"], mutate_bytes(random, [packed]) if random.random() < 0.4 else packed


def _read_event(payload: tuple[str, bytes]) -> None:
    events.decode(*payload)


def _cached(payload: tuple[str, bytes]) -> None:
    """Let a cache find bytes that it knows, and bytes that it does not."""
    cache_of_pings, packed = PingCache(10), _pack(_ping()["params"])
    usrloc = Usrloc(3, 120_000)
    event = events.decode(events.LATENCY, packed)
    usrloc.apply(event, Stamp("n", "c", NOW_MS, 1))
    (contact,) = usrloc.devices.contacts.values()
    assert isinstance(event, events.ContactEvent)
    cache_of_pings.add(packed, event, contact)
    cache_of_pings.find(payload[1])


def _ping() -> dict[str, Any]:
    return next(one for one in notifications() if one["method"] == events.LATENCY)


class _Picture:
    """A picture of usrloc that lives through all events of a run, with small limits."""

    def __init__(self) -> None:
        limits = AdmissionLimits(5, 5, 1000, 500)
        self._usrloc = Usrloc(3, 120_000, limits)
        self._ts = NOW_MS
        self._count = 0

    def read(self, payload: tuple[str, bytes]) -> None:
        event = events.decode(*payload)
        self._ts += 1 + self._count % 977
        self._usrloc.apply(event, Stamp("nm"[self._count % 2], "c", self._ts, 1))
        if self._count % 1000 == 0:
            self._usrloc.changes.take()
            self._usrloc.changes.settle()
        self._count += 1
        assert len(self._usrloc.devices.by_id) <= 500


def _binding(random: Random) -> Any:
    values = [mutate_text(random, TEXTS) for _ in range(4)]
    return Binding(*values)


@cache
def _bridge() -> Bridge:
    return Bridge(BridgeSection(publish="inproc://fuzz"))


def _frame(chunks: Sequence[bytes]) -> None:
    framer = Framer(10_000)
    for chunk in chunks:
        for frame in framer.feed(chunk):
            _bridge().receive(frame)
        assert framer.pending_bytes <= 10_000 + len(chunk)


def _chunks(random: Random) -> list[bytes]:
    stream = b"".join(to_json(one) for one in random.sample(notifications(), 2))
    mutant = mutate_bytes(random, [stream])
    cuts = sorted(random.randrange(len(mutant) + 1) for _ in range(3))
    return [mutant[start:end] for start, end in zip([0, *cuts], [*cuts, len(mutant)], strict=True)]


def _message(random: Random) -> tuple[bytes, bytes]:
    seed = random.choice(notifications())
    values = {
        "v": 1,
        "node": "n",
        "run": 7,
        "seq": 1,
        "ts": NOW_MS,
        "params": seed["params"],
        "more": [[NOW_MS, {"a": 1}]],
    }
    packed = _pack_or_not(mutate_value(random, values))
    return mutate_bytes(random, [seed["method"].encode()]), mutate_bytes(
        random, [packed]
    ) if random.random() < 0.6 else packed


def _heartbeat(random: Random) -> bytes:
    values = {
        "seqs": {events.LATENCY: 7},
        "received": 1,
        "invalid": 0,
        "kernel_drops": 0,
        "stream_breaks": 0,
        "stream_down": False,
    }
    return mutate_bytes(random, [_pack_or_not(mutate_value(random, values))])


def _mi_contact(random: Random) -> tuple[Any, Any, Any]:
    table = random.choice(dump()["result"]["Domains"])
    record = random.choice(table["AORs"])
    fields = mutate_value(random, random.choice(record["Contacts"] or [{}]))
    return mutate_value(random, table["name"]), mutate_value(random, record["AOR"]), fields


def _document(random: Random) -> list[bytes]:
    domain = dump()["result"]["Domains"][0]
    some = {**domain, "AORs": random.sample(domain["AORs"], 2)}
    document = to_json(mutate_value(random, {**dump(), "result": {"Domains": [some]}}))
    mutant = mutate_bytes(random, [document]) if random.random() < 0.7 else document
    at = random.randrange(len(mutant) + 1)
    return [mutant[:at], mutant[at:]]


@cache
def _mi() -> Mi:
    return Mi("http://127.0.0.1:1/mi")


def _read_document(chunks: Sequence[bytes]) -> None:
    async def answer() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def read() -> None:
        async for domain, record in read_records(answer(), {}):
            list(_mi()._contacts(domain, record, []))

    asyncio.run(read())


def _report(random: Random) -> bytes:
    sample = {
        "n": 0,
        "at": NOW_MS,
        "ms": 1000,
        "rtt_ms": 30,
        "in": {"packets": 50, "lost": 0},
        "out": {"rtt_ms": 3},
        "flags": ["muted"],
    }
    happening = {"n": 1, "at": NOW_MS, "what": "path", "fields": {"local_address": "192.0.2.7", "x": True, "y": 1.5}}
    call_of = {"direction": "in", "peer": "sip:b@x", "started_at": NOW_MS, "ended_at": None, "end": "", "why": ""}
    value = {
        "v": 1,
        "now": NOW_MS,
        "call": call_of,
        "dropped": 0,
        "samples": [sample],
        "happenings": [happening],
        "token": "t",
    }
    payload = to_json(mutate_value(random, value))
    return mutate_bytes(random, [payload]) if random.random() < 0.5 else payload


def _read_report(body: bytes) -> None:
    report.read_token(body)
    ours = report.shorten(report.shift(report.decode(body, DAY_MS), NOW_MS))
    items = totals.sort_items((*ours.samples, *ours.happenings))
    totals.add(totals.Totals(), items)
    unpack(pack(Items(*sort_out(items))))


def _token(random: Random) -> str:
    good = call.make(SECRET, call.Claims("alice/web", "call"), NOW_MS // 1000, 60)
    if random.random() < 0.5:
        return mutate_text(random, [good, "a.b.c", ""])
    payload = {
        "aud": "last-mile",
        "sub": "alice/web",
        "call": "x",
        "iat": NOW_MS // 1000,
        "exp": NOW_MS // 1000 + 60,
        "nbf": 1,
    }
    try:
        return jwt.encode(mutate_value(random, payload), SECRET, "HS256")
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError):
        return good


def _read_texts(payload: tuple[str, str, str]) -> None:
    """Give texts to all that reads a URI, an address, a device id or a secret, and never fails."""
    one, other, third = payload
    sip.device_id(one, other, third)
    sip.instance(one)
    sip.contact_instance(one, other)
    for read in (sip.push_token, sip.push_identity, sip.push_provider, sip.has_push_params, sip.network_prefix):
        read(one)
    sip.connection(one, third)
    sip.needs_connection(other)
    sip.network_address(one, other)
    sip.short_id(one, 20)
    masked = credentials.mask(one)
    assert credentials.mask(masked) == masked
    credentials.mask_all({"a": [one, {other: third}]})
    text.printable(one)
    parse_socket(one)
    access.find([access.Token("a", "read", "0" * 64)], one)


def _three(random: Random) -> tuple[str, str, str]:
    return mutate_text(random, TEXTS), mutate_text(random, TEXTS), mutate_text(random, TEXTS)


def _cursor(random: Random) -> str:
    position = cursors.DevicePosition(is_missing=False, value=5, device="alice/web")
    return mutate_text(random, [cursors.encode_device_cursor("latency", position), "", "e30", "bnVsbA"])


def _read_cursor(cursor: str) -> None:
    for read in (partial(cursors.decode_device_cursor, sort="latency"), cursors.decode_call_cursor):
        try:
            read(cursor)
        except UsageError:
            continue


def _correction(random: Random) -> tuple[str, str]:
    row = [["c", "location", "alice", "sip:a@b"], NOW_MS, ["", "", "", "", 0, 0, "", 1, ""], "urn:uuid:1", 40]
    kind = random.choice(("gone", "found", "identified", "other"))
    return kind, to_json(mutate_value(random, row)).decode("utf-8", "replace")


@cache
def _toml() -> tuple[Path, bytes]:
    folder = Path(tempfile.mkdtemp())
    return folder / "config.toml", (Path(__file__).parents[2] / "config.toml").read_bytes()


def _read_toml(payload: bytes) -> None:
    path, _ = _toml()
    path.write_bytes(payload)
    config.load(path, {})


def _reply(random: Random) -> Any:
    reply = {
        "jsonrpc": "2.0",
        "id": "1",
        "result": {"Status": "200 OK", "Message": "SIP/2.0 200 OK"},
        "error": {"code": 1, "message": ""},
    }
    return mutate_value(random, reply)


def _read_reply(reply: Any) -> None:
    probe.read_reply(probe._decode(to_json(reply)))
    subscriptions.parse(reply)
    subscriptions.parse_events(reply)


def _subscriptions(random: Random) -> Any:
    listing = {
        "Events": [{"name": "E_UL", "id": 1, "Subscribers": [{"socket": "udp:127.0.0.1:5066", "expire": 60, "ttl": 3}]}]
    }
    return mutate_value(random, listing)


INVALID: Final = (InvalidInputError,)
TARGETS: Final = (
    Target("events", _event, _read_event, INVALID, 25),
    Target("picture of usrloc", _event, _Picture().read, INVALID, 25),
    Target("ping cache", _event, _cached, (), 3),
    Target(
        "bridge",
        lambda random: to_json(mutate_value(random, random.choice(notifications()))),
        lambda b: _bridge().receive(b),
    ),
    Target("framer", _chunks, _frame, (), 8),
    Target("bus messages", _message, lambda payload: envelope.decode(*payload), INVALID),
    Target("heartbeats", _heartbeat, envelope.decode_heartbeat, INVALID, 5),
    Target("contacts of MI", _mi_contact, lambda payload: mi_contact.parse(*payload), INVALID),
    Target("dumps of MI", _document, _read_document, (ValueError,), 2),
    Target("replies of MI", _reply, _read_reply, (), 5),
    Target("subscriptions of MI", _subscriptions, _read_reply, (), 3),
    Target("reports", _report, _read_report, INVALID),
    Target("call tokens", _token, lambda token: call.check(SECRET, token, NOW_MS // 1000), INVALID, 5),
    Target("access tokens", lambda random: mutate_text(random, TEXTS), access.Token.parse, (ValueError,), 3),
    Target("URIs", lambda random: mutate_text(random, TEXTS), sip.parse_uri, INVALID),
    Target("texts", _three, _read_texts, (), 8),
    Target("addresses", lambda random: mutate_text(random, TEXTS), parse_address, (ConfigError,), 5),
    Target("durations", lambda random: mutate_text(random, TEXTS), times.parse_duration, (UsageError, ValueError), 2),
    Target("user agents", lambda random: mutate_text(random, TEXTS), user_agent.parse, (), 5),
    Target("cursors", _cursor, _read_cursor, (), 3),
    Target("corrections", _correction, lambda payload: decode_correction(*payload), INVALID, 3),
    Target("config.toml", lambda random: mutate_bytes(random, [_toml()[1]]), _read_toml, (ConfigError,), 1),
    Target("odd values", odd_value, lambda value: _read_reply({"result": value}), (), 1),
)
