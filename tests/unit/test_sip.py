"""SIP URIs and what is read from them: there and back, hostile text in linear time, no credentials outside."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion import sip
from companion.errors import InvalidUriError
from companion.sip import SipUri, parse_uri, short_id

ALPHA = "abcXYZ019-_.!~*'()%"

words = st.text(ALPHA, min_size=1, max_size=12)
hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["192.0.2.1", "[2001:db8::1]", "[::1]"]
)
params = st.lists(st.tuples(words.map(str.lower), st.none() | words | st.just("")), max_size=4).map(tuple)
uris = st.builds(
    SipUri,
    scheme=st.sampled_from(["sip", "sips"]),
    user=st.just("") | st.text(ALPHA + "&=+$,;?/", min_size=1, max_size=12),
    password=st.just(""),
    host=hosts,
    port=st.none() | st.integers(0, 65535),
    params=params,
    headers=st.just("") | st.text(ALPHA + "&=", min_size=1, max_size=12),
)
texts = st.text() | st.text("sip:;@?[]<>\"'\\=.0a %").map("sip:".__add__)


@given(uris)
def test_round_trip(uri: SipUri) -> None:
    """A URI written and read again is the same URI."""
    assert uri == parse_uri(str(uri))


@given(uris.filter(lambda uri: bool(uri.user)), words)
def test_round_trip_with_password(uri: SipUri, password: str) -> None:
    """A password stays one."""
    secret = uri._replace(password=password)
    assert secret == parse_uri(str(secret))


@given(texts)
@example("sip:ſip@İ")
@example("sip:::@h")
@example("sip:@h")
@example("sip:h:٣")
@example("sip:@0;@h")
def test_any_text(text: str) -> None:
    """Any text is a URI or InvalidUriError; what was read once is read the same again."""
    try:
        uri = parse_uri(text)
    except InvalidUriError as refused:
        assert refused.reason == "uri"  # noqa: PT017 - not raising is fine too
        return
    assert uri == parse_uri(str(uri))


@given(texts, texts)
def test_readers_take_any_text(one: str, other: str) -> None:
    """What reads a contact's texts has an answer to any text, and each contact has a device."""
    sip.instance(one)
    sip.push_provider(one)
    sip.connection(one, "")
    sip.contact_instance(one, other)
    sip.network_address(one, other)
    assert sip.device_id("alice", one, "").startswith("alice/")


@pytest.mark.parametrize(
    "hostile",
    [
        "sip:" + "a" * 100_000,
        "sip:" + "a;" * 50_000,
        "sip:" + "a:" * 50_000 + " ",
        "sip:" + ":" * 100_000,
        "sip:h" + ";x" * 50_000 + "@",
        "sip:h:" + "1" * 100_000,
        "sip:[" + ":" * 100_000,
        "sip:" + "?;:@" * 25_000,
        "sip:a@" + "h" * 100_000 + " ",
        '"' + '\\"' * 50_000,
        "<" * 100_000,
        "urn:" + "a-" * 50_000,
        "pn-prid=" * 12_500,
        "sip:h;pn-prid=" + ";pn-param=" * 10_000,
    ],
    ids=lambda text: text[:14],
)
def test_hostile_text_is_read_in_linear_time(hostile: str) -> None:
    """A hundred thousand characters that were made to be read again and again take no second."""
    started = time.perf_counter()
    sip.device_id("alice", hostile, "")
    sip.instance(hostile)
    sip.push_provider(hostile)
    sip.connection(hostile, "")
    sip.contact_instance(hostile, hostile)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.com;transport=ws",
        "<sip:alice@example.com;transport=ws>",
        '"Alice" <sip:alice@example.com;transport=ws>',
        '"A <b> \\" c" <sip:alice@example.com;transport=ws>;expires=60',
        'Alice <sip:alice@example.com;transport=ws>;+sip.instance="<urn:uuid:1>"',
        "  SIP:alice@EXAMPLE.com;Transport=ws ",
    ],
)
def test_name_addr(text: str) -> None:
    """A URI is found bare and in a name-addr, whatever stands around it."""
    expected = SipUri("sip", "alice", "", "example.com", None, (("transport", "ws"),), "")
    assert expected == parse_uri(text)


@pytest.mark.parametrize(
    "text",
    ["", "alice", "tel:+4930123", "http://h", "sip:", "sip:a@", "sip:h:65536", "sip:h:x", "sip:a b@c d", "sip:[h"],
)
def test_no_uri(text: str) -> None:
    """What is no SIP URI is refused."""
    with pytest.raises(InvalidUriError):
        parse_uri(text)


def test_parameters() -> None:
    """A parameter without a value is there; its name knows no case."""
    uri = parse_uri("sip:h;LR;Transport=WS")
    assert (uri.param("lr"), uri.param("transport"), uri.param("ob")) == ("", "WS", None)


@pytest.mark.parametrize(
    ("attr", "expected"),
    [
        ("<urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6>", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ('"<urn:gsma:imei:90420156-025763-0>"', "urn:gsma:imei:90420156-025763-0"),
        ("urn:uuid:1", "urn:uuid:1"),
        ("", ""),
        ("<null>", ""),
        ("<urn:uuid:1> and more", ""),
        ("urn:uuid:a/b", ""),
    ],
)
def test_instance(attr: str, expected: str) -> None:
    """The instance is what OpenSIPS put in attr, without brackets and in one spelling; anything else is none."""
    assert expected == sip.instance(attr)


@pytest.mark.parametrize(
    ("uri", "instance", "expected"),
    [
        ("sip:alice@h.invalid", "urn:uuid:1", "a@example.com/urn:uuid:1"),
        ("sip:line2@192.0.2.1:5060", "", "a@example.com/line2"),
        ("sip:a/b@192.0.2.1", "", "a@example.com/a%2Fb"),
        ("sip:192.0.2.1:5060", "", "a@example.com/192.0.2.1"),
        ("tel:+4930123;phone-context=example.com;pn-prid=T", "", "a@example.com/+4930123"),
        ("urn:service:sos", "", "a@example.com/service:sos"),
        ("sip:alice@[fe80::1%25eth0]:5060;pn-prid=T", "", "a@example.com/alice"),
        ("sip:[fe80::1%eth0]:5060", "", "a@example.com/[fe80::1%eth0]"),
        ("sip:alice:secret@[::1:5060", "", "a@example.com/alice"),
        ("sip:alice@example.com;gr", "", "a@example.com/alice"),
        ("http://h/a", "", "a@example.com/%2F%2Fh%2Fa"),
        ("garbage pn-prid=T", "", "a@example.com/garbage"),
        ("pn-prid=T", "", "a@example.com/pn-prid=***3b4b21dd3766"),
        ("sip:alice;pn-prid=T@192.0.2.1", "", "a@example.com/alice;pn-prid=***3b4b21dd3766"),
        ("sip:alice;pn-prid=U@192.0.2.1", "", "a@example.com/alice;pn-prid=***ddfcde2cdc07"),
        (";pn-prid=T", "", "a@example.com/contact"),
        ("tel:" + "1" * 500, "", "a@example.com/" + "1" * 64),
    ],
)
def test_device_id(uri: str, instance: str, expected: str) -> None:
    """A device is named by its instance, else by the URI's user, else by what there is."""
    assert expected == sip.device_id("a@example.com", uri, instance)


def test_device_id_holds_no_credential() -> None:
    """A name that is shown everywhere has no push credentials in it, not even of a URI we can not read."""
    for uri in ("tel:+49;pn-provider=fcm;pn-prid=SECRET", "sip:1.1.1.1;pn-prid=SECRET", "sip:a b@c d;pn-param=SECRET"):
        assert "SECRET" not in sip.device_id("alice", uri, "")


@given(st.text(st.characters(exclude_characters="/")), texts)
def test_aor_of_a_device(aor: str, uri: str) -> None:
    """What is before the last slash of a device id is its AOR."""
    assert aor == sip.device_id(aor, uri, "").rpartition("/")[0]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:c@h;pn-provider=fcm;pn-param=p;pn-prid=token", "fcm"),
        ("sip:c@h;pn-provider=fcm", ""),
        ("sip:c@h;pn-prid=token", ""),
        ("sip:c@h", ""),
        ("pn-", ""),
    ],
)
def test_push_provider(uri: str, expected: str) -> None:
    """A contact can be woken by push when it says by whom and where."""
    assert expected == sip.push_provider(uri)


@pytest.mark.parametrize(
    ("received", "path", "proto", "address"),
    [
        ("sip:127.0.0.1:38566;transport=ws", "", "ws", "127.0.0.1:38566"),
        ("sip:127.0.0.1:38566;transport=WSS", "", "wss", "127.0.0.1:38566"),
        ("sip:[2001:DB8::1]:38566;transport=ws", "", "ws", "[2001:db8::1]:38566"),
        ("sip:127.0.0.1:38566;transport=ws", "<sip:proxy;lr>", "", ""),
        ("sip:127.0.0.1:5060", "", "", ""),
        ("sip:127.0.0.1:5060;transport=tcp", "", "tcp", "127.0.0.1:5060"),
        ("sip:127.0.0.1:5060;transport=tls", "", "tls", "127.0.0.1:5060"),
        ("sips:127.0.0.1:5060", "", "tls", "127.0.0.1:5060"),
        ("sip:127.0.0.1:5060;transport=udp", "", "", ""),
        ("sip:127.0.0.1;transport=ws", "", "", ""),
        ("", "", "", ""),
        ("garbage", "", "", ""),
        ("sips:127.0.0.1:5061;transport=tcp", "", "tls", "127.0.0.1:5061"),
        ("sips:127.0.0.1:443;transport=ws", "", "wss", "127.0.0.1:443"),
    ],
)
def test_connection(received: str, path: str, proto: str, address: str) -> None:
    """Only a TCP, TLS or WebSocket connection that ends at OpenSIPS itself is one whose end is evidence."""
    assert (proto, address) == sip.connection(received, path)


plain_uris = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["sip:", "sips:", "SIP:", "sip:a@"]),
        st.ip_addresses(v=4).map(str) | st.sampled_from(["999.1.1.1", "1.2", "...", "phone.invalid", "[2001:db8::1]"]),
        st.sampled_from(["", ":5060", ":0", ":59999", ":64999", ":65535", ":65536", ":08080"]),
        st.sampled_from(["", ";transport=ws", ";transport=udp", ";transport=TLS", ";transport=", ";ob", "?a=b"]),
    ),
)


@given(plain_uris)
def test_usual_address(received: str) -> None:
    """The usual `received` is read without a parse, which would give the same."""
    whole = f"<{received}>"
    assert sip.connection(whole, "") == sip.connection(received, "")
    assert sip.network_address(whole, "") == sip.network_address(received, "")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:a@192.0.2.1:5062;transport=TCP", True),
        ("sips:a@192.0.2.1", True),
        ("sip:a@x.invalid;transport=ws", True),
        ("sip:a@192.0.2.1:5062", False),
        ("sip:a@192.0.2.1;transport=udp", False),
        ("tel:+4930123", False),
    ],
)
def test_needs_connection(uri: str, expected: bool) -> None:  # noqa: FBT001
    """A question opens no connection, so over TCP, TLS and WebSocket silence needs an open one."""
    assert expected == sip.needs_connection(uri)


@pytest.mark.parametrize(
    ("uri", "token"),
    [
        ("sip:a@h;pn-provider=fcm;pn-prid=T", "T"),
        ("sip:a@h;PN-PRID=T:remote&T2:voip", "T:remote&T2:voip"),
        ("sip:a@h", ""),
        ("garbage pn-prid=T", ""),
    ],
)
def test_push_token(uri: str, token: str) -> None:
    """A push token tells phones apart that share an instance."""
    assert token == sip.push_token(uri)


@pytest.mark.parametrize(
    ("received", "uri", "expected"),
    [
        ("sip:192.0.2.1:1024;transport=ws", "sip:a@h.invalid", "192.0.2.1:1024"),
        ("", "sip:a@192.0.2.7", "192.0.2.7:5060"),
        ("", "tel:+49", ""),
    ],
)
def test_network_address(received: str, uri: str, expected: str) -> None:
    """A contact is where it was received from, else where its URI says."""
    assert expected == sip.network_address(received, uri)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("198.51.100.0/24", "198.51.100.0/24"),
        ("198.51.0.0/16", "198.51.0.0/16"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("[2001:db8:1:2::3]", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("[::ffff:c000:24d]", "192.0.2.0/24"),
    ],
)
def test_network_prefix(address: str, prefix: str) -> None:
    """An address stands for its network: /24 of IPv4, also when IPv6 holds it, and /48 of IPv6."""
    assert prefix == sip.network_prefix(address)


@pytest.mark.parametrize("address", ["", "x", "4f2c.local", "999.1.1.1", "1.2.3", "sip:1.2.3.4", "\x00", "10.0.0.0/33"])
def test_text_without_network(address: str) -> None:
    """A text that is no address is in no network."""
    assert sip.network_prefix(address) == ""


@pytest.mark.parametrize(
    ("device", "short"),
    [
        ("dave/laptop", "dave/laptop"),
        ("a-longer-name@example.com/laptop", "a-longer-name@ex…/laptop"),
        ("dave/urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0", "dave/…b9d179e0"),
        (
            "a-very-long-name-at-home@example.com/urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0",
            "a-very-long-n…/…b9d179e0",
        ),
    ],
)
def test_short_id(device: str, short: str) -> None:
    """A short id keeps the AOR's beginning and the instance's end, within its room."""
    assert short == short_id(device, 24)


def test_short_id_without_room() -> None:
    """However little room there is, the end of the instance tells devices apart."""
    assert short_id("dave/urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0", 4) == "d…/…b9d179e0"
