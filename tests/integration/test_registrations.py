"""Odd registrations from the field, from a datagram to what is shown."""

import asyncio
from typing import Any

from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup, Udp, eventually, notification, phone_event

INSERT, UPDATE, DELETE = "E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE", "E_UL_CONTACT_DELETE"
LATENCY, DISCONNECT = "E_UL_LATENCY_UPDATE", "E_CORE_TCP_DISCONNECT"
GAP_SECONDS = 0.05

Step = tuple[str, Json]


async def send(setup: Setup, steps: list[Step]) -> None:
    """Send events in the order of OpenSIPS, a moment apart."""
    with Udp(setup.datagram) as udp:
        for method, params in steps:
            udp.send(notification(method, params))
            await asyncio.sleep(GAP_SECONDS)


def ping(params: Json, ms: int, **changes: Any) -> Step:
    return LATENCY, params | changes | {"latency": ms * 1000}


async def test_large_cseq(make_setup: MakeSetup) -> None:
    """A CSeq of 2^31 or more, which OpenSIPS writes as a negative number, hides no phone."""
    params = phone_event("bigcseq", cseq=-2129975061)
    async with make_setup().running() as setup:
        await send(setup, [(INSERT, params), ping(params, 42)])
        await eventually(lambda: setup.page("bigcseq")["latency"]["total"] == 1)
        page = setup.page("bigcseq")
    assert (page["status"], page["latency"]["max_ms"]) == ("online", 42)


async def test_max_contacts_one(make_setup: MakeSetup) -> None:
    """A registrar that makes room for a new contact: a switch-over from the old address, with its outage."""
    old = phone_event(
        "max1",
        uri="sip:r1@aaa.invalid;transport=wss",
        received="sip:198.51.100.50:40100;transport=wss",
        socket="wss:192.0.2.1:443",
        attr="<urn:uuid:aaaaaaaa-0000-4000-8000-000000000001>",
    )
    new = old | {
        "uri": "sip:r2@bbb.invalid;transport=wss",
        "received": "sip:203.0.113.50:40200;transport=wss",
        "callid": "new",
    }
    ended = {"src_ip": "198.51.100.50", "src_port": 40100, "dst_ip": "192.0.2.1", "dst_port": 443, "proto": "wss"}
    async with make_setup().running() as setup:
        await send(setup, [(INSERT, old), ping(old, 40), (DISCONNECT, ended), (DELETE, old), (INSERT, new)])
        await send(setup, [ping(new, 60)])
        await eventually(lambda: setup.page("max1")["latency"]["total"] == 2)
        page = setup.page("max1")
    (move,) = [entry for entry in page["timeline"] if entry["event"] == "switched-over"]
    assert (move["from"], move["to"]) == ("198.51.100.50:40100", "203.0.113.50:40200")
    assert 0 < move["outage_ms"] < 5000
    assert page["status"] == "online"


async def test_one_uri_with_two_call_ids(make_setup: MakeSetup) -> None:
    """With matching_mode 1 the end of the older Call-ID leaves the phone online, and its pings go on counting."""
    first = phone_event("dup", callid="boot1", cseq=5)
    second = first | {"callid": "boot2", "cseq": 1}
    steps = [(INSERT, first), ping(first, 20), (INSERT, second), ping(second, 20), (DELETE, first), ping(second, 21)]
    async with make_setup().running() as setup:
        await send(setup, steps)
        await eventually(lambda: setup.page("dup")["latency"]["total"] == 3)
        assert setup.page("dup")["status"] == "online"


async def test_push_registration_with_another_uri(make_setup: MakeSetup) -> None:
    """After a restart of the consumer, too, the UPDATE with a new URI is the same phone."""
    push = ";transport=ws;pn-provider=apns;pn-param=TEAM.app;pn-prid=T1"
    old = phone_event("web", uri=f"sip:k3j2@a.invalid{push}", received="sip:192.0.2.1:1111;transport=ws")
    new = old | {"uri": f"sip:x9q7@b.invalid{push}", "received": "sip:192.0.2.2:2222;transport=ws", "callid": "new"}
    setup = make_setup()
    async with setup.running():
        await send(setup, [(INSERT, old), ping(old, 40)])
        await eventually(lambda: setup.page("web")["latency"]["total"] == 1)
        run = setup.feed().run
    async with setup.running():
        await eventually(lambda: setup.feed().run != run)
        await send(setup, [(UPDATE, new), ping(new, 50)])
        await eventually(lambda: setup.page("web")["latency"]["total"] == 2)
        assert list(setup.pages()) == ["web/k3j2"]
        page = setup.page("web")
    assert sorted(contact["status"] for contact in page["contacts"]) == ["offline", "online"]


async def test_expiry_in_the_past(make_setup: MakeSetup) -> None:
    """Another host's clock may have set the expiry: the phone is online as long as it answers."""
    params = phone_event("clock", expires=1_700_000_000)
    async with make_setup().running() as setup:
        await send(setup, [(INSERT, params), ping(params, 40), ping(params, 41)])
        await eventually(lambda: setup.page("clock")["latency"]["total"] == 2)
        assert setup.page("clock")["status"] == "online"
