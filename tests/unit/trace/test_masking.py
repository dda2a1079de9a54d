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
}
BODIES = {
    "SDES": f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SECRET}|2^20|1:32",
    "SDES, odd": f"a=CRYPTO: 1 AES INLINE: {SECRET}\x85{SECRET}",
    "ICE": f"a=ice-pwd:{SECRET}",
    "ICE in JSON": f'{{"candidate": "x", "ice-pwd": "{SECRET}"}}',
    "k line": f"k=clear:{SECRET}",
    "MIKEY": f"a=key-mgmt:mikey {SECRET}",
    "push token in a body": f"sip:dave@x;pn-prid={SECRET}",
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
