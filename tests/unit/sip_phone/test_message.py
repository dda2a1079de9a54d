"""SIP messages and digest answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidInputError
from tests.sip_phone import message as sip_message
from tests.sip_phone.digest import Login, Target, authorization
from tests.sip_phone.message import SipMessage

PING = """\
OPTIONS sip:alice@bea4f221643d.invalid;transport=ws SIP/2.0\r
v: SIP/2.0/WS 127.0.0.1:8081;branch=z9hG4bK32b9.2400000000047fd3\r
From: <sip:ping@example.com>;tag=2dd428e7\r
t: <sip:alice@bea4f221643d.invalid;transport=ws>\r
Call-ID: 6da66a91-50430c82-7@127.0.0.1\r
CSeq: 1 OPTIONS\r
Max-Forwards: 70\r
Content-Length: 0\r
\r
"""

NAMES = st.sampled_from(["Via", "Contact", "To", "X-Any", "v", "m"])
VALUES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8")).map(lambda value: value.strip(" \t"))
STARTS = st.sampled_from(["OPTIONS sip:a@b SIP/2.0", "SIP/2.0 200 OK", "SIP/2.0 401 ", "REGISTER sips:x;y SIP/2.0"])
MESSAGES = st.builds(SipMessage, STARTS, st.lists(st.tuples(NAMES, VALUES)).map(tuple), st.text())


@given(MESSAGES)
def test_round_trip(message: SipMessage) -> None:
    """What is written can be read again."""
    assert sip_message.parse(str(message)) == message


@given(st.text() | MESSAGES.map(str).flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])))
def test_nothing_but_a_message_or_a_refusal(text: str) -> None:
    """Broken text is InvalidInputError and nothing else."""
    try:
        message = sip_message.parse(text)
    except InvalidInputError:
        return
    assert message.method or message.status


def test_a_ping_and_its_answer() -> None:
    """The answer to a ping echoes Via, From, To (with a tag), Call-ID and CSeq, and nothing else."""
    ping = sip_message.parse(PING)
    answer = sip_message.response(ping, "200 OK", to_tag="me")

    assert (ping.method, ping.status, answer.method, answer.status) == ("OPTIONS", 0, "", 200)
    assert [name for name, _ in answer.headers] == ["v", "From", "t", "Call-ID", "CSeq"]
    assert answer.first("via") == ping.first("via")
    assert answer.first("to") == "<sip:alice@bea4f221643d.invalid;transport=ws>;tag=me"
    assert str(answer).endswith("\r\nContent-Length: 0\r\n\r\n")


def test_folded_headers_are_one() -> None:
    """A header that goes on in the next line is read as one."""
    message = sip_message.parse("SIP/2.0 200 OK\r\nContact: <sip:a@b>,\r\n <sip:c@d>\r\n\r\n")
    assert message.first("contact") == "<sip:a@b>, <sip:c@d>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n\r\n",
        "OPTIONS sip:a@b SIP/2.0\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        PING.replace("CSeq:", "CSeq"),
        PING.replace("Length: 0", "Length: 1"),
    ],
)
def test_what_is_no_message(text: str) -> None:
    """A keep-alive, half a message, another protocol or a wrong length are refused."""
    with pytest.raises(InvalidInputError):
        sip_message.parse(text)


RFC_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC_7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616(algorithm: str, response: str) -> None:
    """Our answer is the one of RFC 7616 §3.9.1, for both algorithms."""
    login, target = Login("Mufasa", "Circle of Life"), Target("GET", "/dir/index.html")
    answer = authorization([RFC_7616.format(algorithm)], login, target, RFC_7616_CNONCE)

    assert f'response="{response}"' in answer
    assert f"algorithm={algorithm}, qop=auth, nc=00000001" in answer
    assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in answer


def test_the_example_of_rfc_2617_without_qop() -> None:
    """A challenge without qop is answered as RFC 2069 did."""
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    answer = authorization([challenge], Login("Mufasa", "Circle Of Life"), Target("GET", "/dir/index.html"), "x")
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in answer
    assert "qop" not in answer


def test_the_first_challenge_we_can_answer() -> None:
    """What we can not do is passed over; when there is nothing else it is said."""
    unknown = ['Digest realm="a", nonce="b", algorithm=SHA-512-256', 'Basic realm="a"']
    unknown.append('Digest realm="a", nonce="b", qop="auth-int"')
    login, target = Login("u", "p"), Target("REGISTER", "sip:h")

    assert 'nonce="c"' in authorization([*unknown, 'Digest realm="a", nonce="c"'], login, target, "x")
    with pytest.raises(InvalidInputError):
        authorization(unknown, login, target, "x")
