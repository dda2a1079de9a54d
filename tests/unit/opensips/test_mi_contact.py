"""Contacts as MI describes them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidInputError
from companion.opensips import mi_contact
from companion.opensips.events import LOST_PING_US

CAPTURES = Path(__file__).parents[2] / "captures" / "opensips-3.6.8"
LEAST = {"Contact": "sip:a@h", "Expires": 5}


def captured(aor: str) -> Any:
    domain = json.loads((CAPTURES / "ul_dump.json").read_text())["result"]["Domains"][0]
    return next(record for record in domain["AORs"] if record["AOR"] == aor)["Contacts"][0]


def test_a_captured_contact() -> None:
    """What OpenSIPS 3.6 wrote of dave comes out with types, instance without <>, his odd User-Agent kept."""
    contact = mi_contact.parse("location", "dave", captured("dave"))

    assert contact == mi_contact.MiContact(
        domain="location",
        aor="dave",
        uri="sip:dave@383677bd891f.invalid;transport=ws",
        callid="65f4298618189af4f3d74f82bf268ea0",
        cseq=2,
        user_agent='Weird "UA" \\ é \t<b>x</b>',
        received="sip:127.0.0.1:47488;transport=ws",
        path="",
        socket="ws:127.0.0.1:20101",
        attr="<urn:uuid:9531985d-5d9d-c9f8-1818-e811892f902b>",
        instance="urn:uuid:9531985d-5d9d-c9f8-1818-e811892f902b",
        seconds_left=559,
        state="active",
        latency_us=282659,
        push=False,
        cflags=("SIPPING_CALC_LATENCY", "SIP_PING_RTN", "SIP_PING_FLAG"),
    )


@pytest.mark.parametrize(
    ("expires", "expected"),
    [(7, (7, "active")), ("permanent", (None, "active")), ("deleted", (0, "deleted")), ("expired", (0, "expired"))],
)
def test_expires(expires: object, expected: tuple[int | None, str]) -> None:
    """Expires is seconds, or one of three words."""
    contact = mi_contact.parse("location", "a", LEAST | {"Expires": expires})
    assert (contact.seconds_left, contact.state) == expected


def test_what_is_left_out() -> None:
    """A contact without the fields that OpenSIPS leaves out was never pinged and has empty texts."""
    contact = mi_contact.parse("location", "a", LEAST)
    assert (contact.latency_us, contact.instance, contact.received, contact.cflags) == (None, "", "", ())


def test_flags_and_the_lost_ping() -> None:
    """Flag 4 is push, whatever else is set; the latency of a lost ping is kept as it is."""
    contact = mi_contact.parse("location", "a", LEAST | {"Flags": 7, "Ping-Latency": LOST_PING_US})
    assert (contact.push, contact.latency_us) == (True, LOST_PING_US)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"Contact": 5}, "wrong_type"),
        ({"Contact": None}, "missing"),
        ({"Contact": ""}, "missing"),
        ({"Contact": "s" * 5000}, "too_long"),
        ({"Callid": 3}, "wrong_type"),
        ({"Cseq": "3"}, "wrong_type"),
        ({"Cseq": True}, "wrong_type"),
        ({"Cseq": -(1 << 31) - 1}, "out_of_range"),
        ({"Cseq": 1 << 53}, "out_of_range"),
        ({"Expires": None}, "missing"),
        ({"Expires": "soon"}, "wrong_type"),
        ({"Ping-Latency": "3"}, "wrong_type"),
        ({"User-agent": 3}, "wrong_type"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], reason: str) -> None:
    """Each kind of wrong field refuses the contact with its reason."""
    with pytest.raises(InvalidInputError) as refused:
        mi_contact.parse("location", "a", LEAST | wrong)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"Cseq": -2129975061}, "cseq", 2164992235),
        ({"Cseq": -1}, "cseq", 4294967295),
        ({"Contact": "sip:a\n@h"}, "uri", "sip:a\ufffd@h"),
        ({"Callid": "a\x7fb"}, "callid", "a\ufffdb"),
        ({"Path": None}, "path", ""),
        ({"Socket": "udp:\udcff"}, "socket", "udp:\ufffd"),
        ({"Attr": "a" * 70000}, "attr", "a" * 1024),
        ({"User-agent": "a" * 70000}, "user_agent", "a" * 512),
        ({"User-agent": "n/a"}, "user_agent", ""),
        ({"User-agent": "Phone pn-prid=token"}, "user_agent", "Phone pn-prid=***"),
        ({"Ping-Latency": 10**10}, "latency_us", None),
        ({"Ping-Latency": -7}, "latency_us", None),
        ({"Flags": -2147483644}, "push", True),
    ],
)
def test_what_a_registrar_accepts(fields: dict[str, Any], name: str, value: object) -> None:
    """Nothing odd that a phone may register hides its contact."""
    assert getattr(mi_contact.parse("location", "a", LEAST | fields), name) == value


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)


@given(JSON, JSON, st.dictionaries(st.sampled_from([*captured("dave"), "Path", "Flags"]), JSON) | JSON)
def test_nothing_gets_past(domain: Any, aor: Any, fields: Any) -> None:
    """Whatever MI says gives a contact fit to be shown, or InvalidInputError."""
    try:
        contact = mi_contact.parse(domain, aor, fields)
    except InvalidInputError:
        return
    assert all(field.replace("\t", "").isprintable() for field in contact if isinstance(field, str))
