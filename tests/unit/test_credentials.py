"""Credentials are masked in any text, in linear time, and nothing else is."""

import io
import json
import logging
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion import log, sip
from companion.credentials import fingerprint, mask, mask_all
from companion.errors import InvalidEventError, MiCallError, NoSuchDeviceError
from tests.planted import SECRET, contact_uris, is_leaked, parameters, registrations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:c@h;pn-prid=AAA:remote&BBB:voip;ob", "sip:c@h;pn-prid=***;ob"),
        ("sip:c@h;PN-PRID=a;pn-param=b;Pn-Provider=fcm", "sip:c@h;PN-PRID=***;pn-param=***;Pn-Provider=fcm"),
        ("sip:c@h;pn-timeout=0;pn-silent=1;transport=tls", "sip:c@h;pn-timeout=0;pn-silent=1;transport=tls"),
        ("sip:c@h;app-id=x.prod;pn-type=apple;pn-tok=T", "sip:c@h;app-id=***;pn-type=***;pn-tok=***"),
        ('sip:c@h;pn-prid="a;b";ob', "sip:c@h;pn-prid=***;ob"),
        ("sip:c@h;%70N%2dprid%3Da%3Bb;ob", "sip:c@h;%70N%2dprid%3D***;ob"),
        ("sip:c@h;pn-prid=a;x=1;pn-prid=b", "sip:c@h;pn-prid=***;x=1;pn-prid=***"),
        ("sip:c@h;pn-provider=a&pn-prid=b", "sip:c@h;pn-provider=a&pn-prid=***"),
        ("sip:c@h;pn-prid", "sip:c@h;pn-prid"),
        ("sip:c@h;pn-prid=", "sip:c@h;pn-prid="),
        ("sip:c;pn-prid=a@h:5060;ob", "sip:c;pn-prid=***;ob"),
        ("sip:c;pn-prid=a@192.0.2.1:5060;ob", "sip:c;pn-prid=***@192.0.2.1:5060;ob"),
        ("sip:c;pn-prid=a@[2001:db8::1];ob", "sip:c;pn-prid=***@[2001:db8::1];ob"),
        ("sip:c:pass@h;ob", "sip:c:***@h;ob"),
        ("sip:c:pa@ss@h", "sip:c:***@h"),
        ("sip:c@h;ob?Route=x&Authorization=y", "sip:c@h;ob?***"),
        ("no such URI sip:c@h;ob?Route=x", "no such URI sip:c@h;ob?***"),
        ("sip:al?ice@h", "sip:al?ice@h"),
        ("<sip:p:pass@h:5060;lr>,<sip:192.0.2.1:5060;lr>", "<sip:p:***@h:5060;lr>,<sip:192.0.2.1:5060;lr>"),
        ("xmpp:c:pass@h", "xmpp:c:***@h"),
        ("can not reach redis://user:pass@h:6379/0", "can not reach redis://user:***@h:6379/0"),
        ("can not reach http://h:8888/mi?x=1", "can not reach http://h:8888/mi?x=1"),
        ('REGISTER\nAuthorization: Digest response="x"\nTo: a', "REGISTER\nAuthorization: ***\nTo: a"),
        ("sip:192.0.2.1:5060;transport=ws", "sip:192.0.2.1:5060;transport=ws"),
        ("alice@example.com/urn:uuid:1", "alice@example.com/urn:uuid:1"),
        ("LinphoneiOS/5.2.3 (iPhone 15) LinphoneSDK/5.3.47", "LinphoneiOS/5.2.3 (iPhone 15) LinphoneSDK/5.3.47"),
    ],
)
def test_mask(text: str, expected: str) -> None:
    """Push parameters, passwords, headers and Authorization are masked whole, and all else stays."""
    assert expected == mask(text)


@given(contact_uris())
def test_no_secret_is_left(uri: str) -> None:
    """However a contact URI is written, nothing of its credentials is left. Masking again changes nothing."""
    masked = mask(uri)
    assert not is_leaked(masked)
    assert masked == mask(masked)


@given(contact_uris(), st.sampled_from(["bad URI ", 'MI answered 500: "', "<", "to: sip:192.0.2.1;x "]))
def test_no_secret_is_left_behind_other_words(uri: str, words: str) -> None:
    """A URI within a message is masked as one that stands alone."""
    assert not is_leaked(mask(f"{words}{uri}"))


@given(registrations())
def test_names_hold_no_secret(registration: dict[str, str]) -> None:
    """A device's id and address, which are shown everywhere, hold no credential."""
    uri, attr = registration["uri"], registration["attr"]
    instance = sip.contact_instance(attr, uri)
    assert not is_leaked(sip.device_id("alice", uri, instance))
    assert not is_leaked(instance)
    assert not is_leaked(sip.network_address("", uri))
    assert not is_leaked(sip.network_address(registration["received"], uri))


def test_masking_merges_no_devices() -> None:
    """Two phones that differ in a credential stay two devices, and one phone stays the same device."""
    first, second = (sip.device_id("a", f"sip:a;pn-prid={token}@192.0.2.1", "") for token in ("ONE", "TWO"))
    assert first != second
    assert first == sip.device_id("a", "sip:a;pn-prid=ONE@192.0.2.99:1234;ob", "")
    assert sip.device_id("a", "sip:line1@192.0.2.1;pn-prid=ONE", "") == "a/line1"


def test_an_address_survives_a_credential_in_the_user_part() -> None:
    """An IP address is no credential, a host name behind one may be."""
    assert sip.network_address("", "sip:a;pn-prid=x@192.0.2.1:5070") == "192.0.2.1:5070"
    assert sip.network_address("", "sip:192.0.2.1;pn-prid=a@b") == ""


@given(st.text())
@example("sip:\ud800:x@")
def test_any_text(text: str) -> None:
    """Any text can be masked, even one that is no UTF-8."""
    mask(text)
    fingerprint(f"pn-prid={text}")


HOSTILE = [
    *("sip:", "sip:@", "sip:a:", "sip:a:b@", "pn-", "pn-prid=", "%25", "%252", '"', '\\"', "@", "://", "authorization"),
    *("pn- ", "token", "@[1", "@1.1.1.1", "sip:a:>", "?", "app-id%3D", "pn-\t", "authorization "),
]


@pytest.mark.parametrize("head", ["", "pn-prid=", 'pn-prid="', "sip:"])
@pytest.mark.parametrize("tail", ["", "@", ";", "="])
@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_text_is_masked_in_linear_time(head: str, part: str, tail: str) -> None:
    """A hundred thousand characters that were made to be read again and again take no second."""
    text = head + part * (100_000 // len(part)) + tail
    started = time.perf_counter()
    mask(text)
    assert time.perf_counter() - started < 1


def test_values_of_json() -> None:
    """Texts are masked at any depth, and what is no JSON as its repr."""
    value = {"a": [1, None, True, f"sip:h;pn-tok={SECRET}"], "b": {"c": (f"pn-prid={SECRET}",)}, "d": {f"x:{SECRET}"}}
    masked = mask_all(value | {"e": MiCallError(1, f"sip:h;pn-prid={SECRET}")})
    assert masked["a"][:3] == [1, None, True]
    assert json.dumps({name: masked[name] for name in "abe"}).count(SECRET) == 0


@given(parameters())
def test_errors_hold_no_secret(planted: str) -> None:
    """An error that repeats what it was given masks it."""
    text = f"sip:a@h;{planted}"
    for error in (InvalidEventError("uri", text), MiCallError(500, text), NoSuchDeviceError(text)):
        assert not is_leaked(str(error))


@given(planted=parameters())
def test_log_lines_hold_no_secret(planted: str) -> None:
    """Whatever a line is made of: its text, its fields, a traceback, or a line of a library."""
    uri = f"sip:a:{SECRET}@h;{planted}"
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        log.configure("json", "debug", stream)
        log.get("test").warning(f"it fails for {uri}", uri=uri, params={"uri": [uri]}, error=ValueError(uri))
        logging.getLogger("library").error("it fails for %s", uri)
        log.get("test").error("it fails", exc_info=ValueError(uri))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 3
    assert not any(is_leaked(str(value)) for line in lines for value in line.values())
