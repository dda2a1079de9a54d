"""No secret of a message is stored, and all that is no secret stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips import hep
from companion.trace.masking import mask_message
from companion.trace.message import parse
from tests.unit.trace.messages import capture, sip

SECRET = "s3cr3tV4lue"
FORMS = {
    "digest": f'Authorization: Digest username="dave", realm="r", nonce="n", uri="sip:h", response="{SECRET}"',
    "digest, folded": f'Authorization: Digest username="dave", nonce="n",\n response="{SECRET}"',
    "client nonce": f'Proxy-Authorization: Digest username="dave", cnonce="{SECRET}", response="x"',
    "bearer": f"Authorization: Bearer {SECRET}",
    "basic": f"PROXY-AUTHORIZATION : Basic {SECRET}",
    "rspauth": f'Authentication-Info: qop=auth, rspauth="{SECRET}"',
    "push token": f"Contact: <sip:dave@x;pn-provider=apns;pn-prid={SECRET}:voip&b>;expires=60",
    "push token, quoted": f'Contact: <sip:dave@x;PN-PRID="a>{SECRET}">;expires=60',
    "push token, open quote": f'Contact: <sip:dave@x;pn-prid="a>{SECRET}>;expires=60',
    "push token, encoded": f"m: <sip:dave@x;pn%2Dprid=%22a>{SECRET}%22>",
    "older push token": f"Contact: <sip:dave@x;app-id=1;pn-type=apple;pn-tok={SECRET}>",
    "push token behind the URI": f'Contact: <sip:dave@x>;+sip.instance="<urn:uuid:1>";pn-prid={SECRET}',
    "password": f"From: <sip:dave:{SECRET}@example.com>;tag=1",
    "headers of a URI": f"Refer-To: <sip:dave@x?Authorization=Basic%20{SECRET}>",
    "name of our own": f"X-Access-Token: token={SECRET}",
    "token alone": f"X-Auth-Token: {SECRET}",
    "cookie": f"Cookie: session={SECRET}; b={SECRET}",
    "password in the uri of a digest": f'Authorization: Digest username="a", uri="sip:alice:{SECRET}@h", response="x"',
    "password in a user name": f'Authorization: Digest username="alice:{SECRET}@h", response="x"',
    "push token in a user name": f'Authorization: Digest username="a;pn-prid={SECRET}", response="x"',
    "public name in a quoted value": f'Authorization: Digest username="a", cnonce="x uri={SECRET}", response="x"',
    "public name behind an open quote": f'Authorization: Digest username="a", cnonce="x, uri={SECRET}',
    "public name behind an escaped quote": rf'Authorization: Digest cnonce="\", uri={SECRET}", realm="r"',
    "client nonce of a server": f'Authentication-Info: cnonce="{SECRET}", nextnonce="n"',
    "push token of a Via": f"Via: SIP/2.0/WS x;branch=z;pn-prid={SECRET}",
    "fold of a plain header": f'Max-Forwards: 70\n Authorization: Digest username="a",\n response="{SECRET}"',
    "fold in a push token": f'Contact: <sip:dave@x;pn-prid="a\n {SECRET}">',
    "digest in a plain header": f'Subject: Digest username="a", response="{SECRET}"',
}
BODIES = {
    "SDES": f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SECRET}|2^20|1:32",
    "SDES, odd": f"a=CRYPTO: 1 AES INLINE: {SECRET}\x85{SECRET}",
    "ICE": f"a=ice-pwd:{SECRET}",
    "ICE in JSON": f'{{"candidate": "x", "ice-pwd": "{SECRET}"}}',
    "k line": f"k=clear:{SECRET}",
    "MIKEY": f"a=key-mgmt:mikey {SECRET}",
    "push token in a body": f"sip:dave@x;pn-prid={SECRET}",
    "digest": f'Authorization: Digest username="a", response="{SECRET}"',
    "digest, folded": f'Authorization: Digest username="a",\r\n response="{SECRET}",\r\n\tcnonce="{SECRET}"',
    "basic, folded": f"Proxy-Authorization: Basic\r\n {SECRET}",
    "push token, folded": f'Contact: <sip:dave@x;pn-prid="a\r\n {SECRET}">',
    "DTMF": f"Signal={SECRET}\r\nDuration=160",
    "DTMF with spaces": f"Signal = {SECRET}",
    "digits": f"d={SECRET}",
    "KPML": f'<kpml-response version="1.0" code="200" digits="{SECRET}"/>',
}


@pytest.mark.parametrize("line", FORMS.values(), ids=FORMS)
def test_secrets_of_headers(line: str) -> None:
    """Each secret that a header may hold is masked, and the message can still be read."""
    masked = mask_message(sip("REGISTER sip:example.com", more=line))
    assert SECRET.encode() not in masked
    assert parse(masked).call_id == "c1"


def test_secret_of_the_start_line() -> None:
    """A push token in the R-URI is masked, and the request stays one."""
    masked = mask_message(sip(f"INVITE sip:dave@x;pn-prid={SECRET}"))
    assert SECRET.encode() not in masked
    assert parse(masked).uri == "sip:dave@x;pn-prid=***"


@pytest.mark.parametrize("line", BODIES.values(), ids=BODIES)
def test_secrets_of_bodies(line: str) -> None:
    """Keys and passwords of SDP are masked, also where no empty line sets the body apart; Content-Length fits."""
    message = sip("INVITE sip:bob@x", body=f"v=0\r\n{line}\r\ns=-\r\n")
    masked = mask_message(message)
    head, _, body = masked.partition(b"\r\n\r\n")
    assert SECRET.encode() not in masked
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.endswith(b"s=-\r\n")
    assert SECRET.encode() not in mask_message(message.replace(b"\r\n\r\n", b"\r\n"))


@pytest.mark.parametrize("end", ["\r", "\n", "\r "])
@pytest.mark.parametrize("before", ["Max-Forwards: 70", "Call-ID: a", "X-Own: b"])
def test_ends_of_lines(before: str, end: str) -> None:
    """A header behind a bare CR or LF, which a reader may take for the end of a line, is masked too."""
    line = f'{before}{end}Authorization: Digest username="dave", response="{SECRET}"'
    message = sip("REGISTER sip:h").replace(b"CSeq:", f"{line}\r\nCSeq:".encode())
    assert SECRET.encode() not in mask_message(message)


@pytest.mark.parametrize("before", ["\r\n", "\r\n\r\n", "\n\n", "\r\r"])
def test_empty_lines_first(before: str) -> None:
    """Empty lines before the start line change nothing: keepalives stand before a message over TCP."""
    message = sip("REGISTER sip:h", call_id="a:b:c@h", more=FORMS["digest, folded"].replace("\n", "\r\n"))
    masked = mask_message(before.encode() + message)
    assert masked == before.encode() + mask_message(message)
    assert SECRET.encode() not in masked
    assert b"Call-ID: a:b:c@h\r\n" in masked


def test_digits_alone() -> None:
    """A body of digits alone is masked as a whole."""
    masked = mask_message(sip("INFO sip:bob@x", more="Content-Type: application/dtmf", body="7"))
    assert masked.endswith(b"Content-Length: 3\r\n\r\n***")


def test_what_stays() -> None:
    """User, realm and nonce stay, as do Call-IDs and instances that look like passwords: a trace is read by them."""
    more = "\n".join((FORMS["digest"], 'Contact: "A" <sip:k3@x.invalid>;+sip.instance="<urn:uuid:1>";expires=60'))
    masked = mask_message(sip("REGISTER sip:h", call_id="a:b:c@host", more=more)).decode()
    assert 'Authorization: Digest username="dave", realm="r", nonce="n", uri="sip:h", response=***\r\n' in masked
    assert 'Contact: "A" <sip:k3@x.invalid>;+sip.instance="<urn:uuid:1>";expires=60\r\n' in masked
    assert "Call-ID: a:b:c@host\r\n" in masked


def test_the_capture_stays_as_it_is() -> None:
    """Messages without secrets are stored byte by byte."""
    for data in capture():
        packet = hep.decode(data)
        assert packet.sip == mask_message(packet.sip)


@given(st.binary(max_size=300))
def test_survives_anything(raw: bytes) -> None:
    """Any bytes can be masked, and masking them again changes nothing."""
    masked = mask_message(raw)
    assert masked == mask_message(masked)
