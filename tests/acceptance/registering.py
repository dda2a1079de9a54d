"""REGISTERs as bare UDP datagrams, for what no phone of ours sends, and all final replies to them."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Final

from companion.errors import InvalidInputError
from tests.sip_phone import message as sip_message
from tests.sip_phone.message import SipMessage

SECONDS: Final = 10


class _Replies(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[SipMessage] = asyncio.Queue()

    def datagram_received(self, data: bytes, _: object) -> None:
        try:
            self.queue.put_nowait(sip_message.parse(data.decode("utf-8", "replace")))
        except InvalidInputError:
            return


def make_request(method: str, aor: str, *headers: tuple[str, str]) -> SipMessage:
    """Make a request of a user to its registrar."""
    tag = uuid.uuid4().hex
    domain = aor.partition("@")[2]
    own = (
        ("Via", f"SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bK{tag}"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:{aor}>;tag={tag[:8]}"),
        ("To", f"<sip:{aor if method == 'REGISTER' else domain}>"),
        ("Call-ID", tag),
        ("CSeq", f"1 {method}"),
    )
    return SipMessage(f"{method} sip:{domain} SIP/2.0", (*own, *headers, ("Content-Length", "0")))


async def register(port: int, aor: str, contacts: Sequence[str]) -> list[int]:
    """Register contacts over UDP, a header each; return the status of each final reply.

    OpenSIPS needs one UDP worker: it has sent all replies to a REGISTER when it answers the OPTIONS behind it.
    """
    loop = asyncio.get_running_loop()
    transport, replies = await loop.create_datagram_endpoint(_Replies, remote_addr=("127.0.0.1", port))
    headers = [("Contact", contact) for contact in contacts]
    statuses: list[int] = []
    try:
        transport.sendto(str(make_request("REGISTER", aor, *headers, ("Expires", "600"))).encode())
        transport.sendto(str(make_request("OPTIONS", aor)).encode())
        async with asyncio.timeout(SECONDS):
            while "OPTIONS" not in (reply := await replies.queue.get()).first("cseq"):
                statuses.append(reply.status)
    finally:
        transport.close()
    return [status for status in statuses if status >= 200]
