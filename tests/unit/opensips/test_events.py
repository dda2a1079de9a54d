"""What OpenSIPS says: each event gets its types, and nothing that is not one gets through."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.errors import InvalidEventError
from companion.opensips import events
from companion.opensips.events import AorEvent, ContactEvent, DisconnectEvent, Registration, decode, parse

PARAMS: dict[str, Any] = {
    "domain": "location",
    "aor": "alice",
    "uri": "sip:alice@h.invalid;transport=ws",
    "received": "sip:192.0.2.1:4242;transport=ws",
    "path": None,
    "qval": -1,
    "user_agent": "Phone 1.0",
    "socket": "ws:192.0.2.9:80",
    "bflags": 14,
    "expires": 1795452709,
    "callid": "c1",
    "cseq": 7,
    "attr": "<urn:uuid:1>",
    "latency": 42323,
    "shtag": "",
}
KEYS = [*PARAMS, "src_ip", "src_port", "proto"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
"""Whatever a JSON parser can return, lone surrogates and NaN included."""
any_params = st.dictionaries(st.sampled_from(KEYS) | st.text(), json_values)
changed_params = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=3).map(lambda some: PARAMS | some)


def refusal(name: str, **changes: Any) -> str:
    with pytest.raises(InvalidEventError) as refused:
        parse(name, PARAMS | changes)
    return refused.value.reason


def test_contact_event() -> None:
    """A contact event carries all that usrloc keeps of a registration, `expires` in ms."""
    registration = Registration(
        received="sip:192.0.2.1:4242;transport=ws",
        path="",
        user_agent="Phone 1.0",
        socket="ws:192.0.2.9:80",
        bflags=14,
        expires_at=1795452709000,
        callid="c1",
        cseq=7,
        attr="<urn:uuid:1>",
    )
    uri = "sip:alice@h.invalid;transport=ws"
    expected = ContactEvent("E_UL_LATENCY_UPDATE", "location", "alice", uri, registration, 42323)
    assert expected == parse(events.LATENCY, PARAMS)


def test_capture_is_understood(capture: list[tuple[int, str, dict[str, Any]]]) -> None:
    """Every event that OpenSIPS 3.6.8 sent is taken."""
    parsed = [parse(name, params) for _, name, params in capture]
    assert len(parsed) == 247
    assert [name for _, name, _ in capture] == [event.name for event in parsed]


@pytest.mark.parametrize("unset", [None, "", "absent"])
@pytest.mark.parametrize("key", ["path", "received", "attr", "user_agent", "socket", "callid"])
def test_unset_text(key: str, unset: str | None) -> None:
    """null, an empty text and a key that is not there are the same."""
    params = PARAMS | {key: unset}
    if unset == "absent":
        del params[key]
    event = parse(events.UPDATE, params)
    assert isinstance(event, ContactEvent)
    assert {**event._asdict(), **event.registration._asdict()}[key] == ""


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize("key", ["bflags", "expires", "cseq", "latency"])
def test_unset_number(key: str, unset: str | None) -> None:
    """A number that is not set is 0: E_UL_CONTACT_REFRESH has no latency and no cseq."""
    event = parse(events.REFRESH, PARAMS | {key: unset})
    assert isinstance(event, ContactEvent)
    values = {**event.registration._asdict(), "expires": event.registration.expires_at, "latency": event.latency_us}
    assert values[key] == 0


@pytest.mark.parametrize("unset", [None, "", "absent"])
def test_ping_without_latency(unset: str | None) -> None:
    """A ping event that tells no latency is no answer within 0 ms."""
    params = PARAMS | {"latency": unset}
    if unset == "absent":
        del params["latency"]
    with pytest.raises(InvalidEventError) as refused:
        parse(events.LATENCY, params)
    assert refused.value.reason == "missing"


@pytest.mark.parametrize("name", sorted(events.CONTACT_EVENTS | events.AOR_EVENTS))
def test_aor_is_required(name: str) -> None:
    """No contact or AOR without an AOR."""
    assert refusal(name, aor="") == "missing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uri": None}, "missing"),
        ({"domain": None}, "missing"),
        ({"domain": ""}, "missing"),
        ({"domain": "", "aor": "", "uri": ""}, "missing"),
        ({"aor": 5}, "wrong_type"),
        ({"user_agent": ["x"]}, "wrong_type"),
        ({"cseq": "7"}, "wrong_type"),
        ({"cseq": True}, "wrong_type"),
        ({"expires": 1.5}, "wrong_type"),
        ({"expires": -(1 << 31) - 1}, "out_of_range"),
        ({"bflags": 1 << 53}, "out_of_range"),
        ({"cseq": 1 << 53}, "out_of_range"),
        ({"uri": "sip:" + "x" * 4096}, "too_long"),
    ],
)
def test_refusals(changes: dict[str, Any], reason: str) -> None:
    """What is refused, is refused for a reason that a metric can count."""
    assert refusal(events.INSERT, **changes) == reason


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"cseq": -2129975061}, "cseq", 2164992235),
        ({"cseq": -(1 << 31)}, "cseq", 1 << 31),
        ({"cseq": -1}, "cseq", 4294967295),
        ({"bflags": -2147483634}, "bflags", 2147483662),
        ({"expires": -1}, "expires_at", 4294967295000),
        ({"expires": 1 << 50}, "expires_at", 253402300799000),
        ({"aor": "ali\x1b[2Jce"}, "aor", "ali\ufffd[2Jce"),
        ({"aor": "ali\ud800ce"}, "aor", "ali\ufffdce"),
        ({"uri": "sip:alice\u202e@h"}, "uri", "sip:alice\ufffd@h"),
        ({"received": "sip:1.1.1.1\n"}, "received", "sip:1.1.1.1\ufffd"),
        ({"path": '<sip:a@h>,\t<sip:b@h;p="\x01">'}, "path", '<sip:a@h>,\t<sip:b@h;p="\ufffd">'),
        ({"attr": "a" * 60000}, "attr", "a" * 1024),
        ({"attr": "one\r\ntwo"}, "attr", "one\ufffd\ufffdtwo"),
        ({"user_agent": "a" * 60000}, "user_agent", "a" * 512),
        ({"user_agent": "n/a"}, "user_agent", ""),
        ({"user_agent": "Phone pn-prid=token"}, "user_agent", "Phone pn-prid=***"),
        ({"latency": -1}, "latency_us", 0),
        ({"latency": 1 << 40}, "latency_us", 0),
    ],
)
def test_what_a_registrar_accepts(changes: dict[str, Any], name: str, value: object) -> None:
    """Nothing odd that a phone may register hides its contact, on any event that tells of it."""
    for event_name in (events.INSERT, events.UPDATE, events.DELETE):
        event = parse(event_name, PARAMS | changes)
        assert isinstance(event, ContactEvent)
        assert {**event._asdict(), **event.registration._asdict()}[name] == value


@pytest.mark.parametrize(
    "changes",
    [{"uri": None}, {"cseq": "7"}, {"uri": "sip:" + "x" * 4096}, {"cseq": 1 << 53}, {"latency": -1}, {"latency": None}],
)
def test_refusal_names_the_aor(changes: dict[str, Any]) -> None:
    """Support can find out which phone is not shown."""
    with pytest.raises(InvalidEventError) as refused:
        decode(events.LATENCY, msgpack.packb(PARAMS | changes))
    assert refused.value.aor == "alice"


@pytest.mark.parametrize("latency", [-1, 600_000_001, 1_799_999_999, 1_800_000_001, 1 << 40])
def test_impossible_latency(latency: int) -> None:
    """Nobody answers after ten minutes, or before the question."""
    assert refusal(events.LATENCY, latency=latency) == "latency"


def test_lost_ping() -> None:
    """Thirty minutes, and only that, is OpenSIPS' word for a ping without an answer."""
    parsed = {latency: parse(events.LATENCY, PARAMS | {"latency": latency}) for latency in (1_800_000_000, 600_000_000)}
    assert {us: getattr(event, "lost", None) for us, event in parsed.items()} == {
        1_800_000_000: True,
        600_000_000: False,
    }


def test_user_agent_is_made_harmless() -> None:
    """Of a User-Agent all stays but what a terminal could act on; a long one is cut."""
    agent = 'x\t"q" \\ <b> Grüße\x1b[2J\u202e' + "y" * 600
    event = parse(events.INSERT, PARAMS | {"user_agent": agent})
    assert isinstance(event, ContactEvent)
    assert event.registration.user_agent == ('x\t"q" \\ <b> Grüße\ufffd[2J\ufffd' + "y" * 600)[:512]


def test_aor_with_a_space() -> None:
    """An AOR may hold a space."""
    event = parse(events.AOR_DELETE, {"domain": "location", "aor": "ivan x"})
    assert AorEvent("E_UL_AOR_DELETE", "location", "ivan x") == event


@pytest.mark.parametrize(
    ("ip", "expected"),
    [("127.0.0.1", "127.0.0.1:4242"), ("2001:DB8::1", "[2001:db8::1]:4242"), ("[2001:db8::1]", "[2001:db8::1]:4242")],
)
def test_disconnect(ip: str, expected: str) -> None:
    """A dead connection is known by its far end, in one spelling."""
    params = {"src_ip": ip, "src_port": 4242, "dst_ip": "192.0.2.9", "dst_port": 80, "proto": "ws"}
    assert DisconnectEvent("E_CORE_TCP_DISCONNECT", expected, "ws", "ws:192.0.2.9:80") == parse(
        events.DISCONNECT, params
    )


def test_failed_dial() -> None:
    """OpenSIPS 4.0 tells of a dial that failed with destination port 0: no phone lost its connection."""
    params = {"src_ip": "192.0.2.1", "src_port": 4242, "dst_ip": "192.0.2.9", "dst_port": 0, "proto": "ws"}
    assert refusal(events.DISCONNECT, **params) == "out_of_range"


@pytest.mark.parametrize("port", [0, 65536, None, -1, "4242"])
def test_disconnect_port(port: Any) -> None:
    """A far end has a port."""
    assert refusal(events.DISCONNECT, src_ip="192.0.2.1", src_port=port) in {"out_of_range", "wrong_type"}


@pytest.mark.parametrize("name", ["E_PIKE_BLOCKED", "", "e_ul_contact_insert", "HEARTBEAT"])
def test_unknown_event(name: str) -> None:
    """What we do not know by name is refused, not guessed."""
    assert refusal(name) == "unknown_event"


@given(st.sampled_from(sorted(events.EVENT_NAMES)) | st.text(), any_params | changed_params)
@example(events.DISCONNECT, {"src_ip": "\ud800", "src_port": 1})
def test_parse_raises_nothing_else(name: str, params: dict[str, Any]) -> None:
    """Any JSON object is an event or InvalidEventError with a reason of one word."""
    try:
        event = parse(name, params)
    except InvalidEventError as refused:
        reasons = {"unknown_event", "missing", "wrong_type", "out_of_range", "too_long", "unprintable", "latency"}
        assert refused.reason in reasons  # noqa: PT017 - not raising is fine too
        return
    assert event.name == name


@given(changed_params)
def test_what_passes_is_printable(params: dict[str, Any]) -> None:
    """Nothing that could move a cursor passes."""
    try:
        event = parse(events.INSERT, params)
    except InvalidEventError:
        return
    assert isinstance(event, ContactEvent)
    texts = [text for text in (*event, *event.registration) if isinstance(text, str)]
    assert all(text.replace("\t", "").isprintable() for text in texts)


packable = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(events.EVENT_NAMES)), st.dictionaries(st.sampled_from(KEYS), packable, max_size=3))
def test_decode_is_parse(name: str, changes: dict[str, Any]) -> None:
    """From msgpack comes what comes from a dict, a refusal where a refusal."""

    def outcome(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InvalidEventError as refused:
            return refused.reason

    params = PARAMS | changes
    packed = msgpack.packb(params, unicode_errors="surrogatepass")
    assert outcome(lambda: parse(name, params)) == outcome(lambda: decode(name, packed))


@given(st.sampled_from(sorted(events.EVENT_NAMES)) | st.text(), st.binary(max_size=200))
def test_decode_raises_nothing_else(name: str, params: bytes) -> None:
    """Any bytes are an event or InvalidEventError."""
    with contextlib.suppress(InvalidEventError):
        assert decode(name, params).name == name


@pytest.mark.parametrize("name", sorted(events.EVENT_NAMES))
@pytest.mark.parametrize(
    "params", [b"\x81\xa3aor\xa1\xff", b"\x81\xa1\xff\x01", b"\x81\xa3aor" + b"\x91" * 5000, b"\xc1"]
)
def test_bytes_that_are_no_parameters(name: str, params: bytes) -> None:
    """Text that is not UTF-8, endless lists, and bytes without meaning are an invalid event, and nothing else."""
    with pytest.raises(InvalidEventError):
        decode(name, params)


@given(st.sampled_from(sorted(events.EVENT_NAMES)), st.binary())
def test_any_bytes(name: str, params: bytes) -> None:
    """Whatever comes over the bus is an event or an invalid one."""
    with contextlib.suppress(InvalidEventError):
        decode(name, params)
