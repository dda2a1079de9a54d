"""Registrations that few phones make, on a real OpenSIPS: what the companion shows of them."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from companion.opensips.mi import Mi
from companion.query.devices import iterate_devices
from companion.simulator.phone import SimulatedPush
from companion.simulator.redis import find_free_port
from tests.acceptance.conftest import Build
from tests.acceptance.edge import Companion, Edge, edge_with, make_certificate, settled
from tests.sip_phone.phone import Phone
from tests.sip_phone.raw_phone import RawPhone, Transport

pytestmark = pytest.mark.timeout(180)
OBSERVE = {"mode": "observe"}
MATCHING_MODE = {'"use_domain", 1)': '"use_domain", 1)\nmodparam("usrloc", "matching_mode", 1)'}
SHORT_EXPIRY = {'"timer_interval", 10)': '"timer_interval", 1)\nmodparam("registrar", "min_expires", 1)'}
ONE_CONTACT = {"max-contacts=10,": "max-contacts=1,"}
PUSH = ";pn-provider=apns;pn-prid=T0KEN;pn-param=TEAM.app"


class Site(NamedTuple):
    """An OpenSIPS with listeners for UDP, TCP and TLS, and the companion beside it."""

    edge: Edge
    companion: Companion
    ports: dict[Transport, int]

    def phone(self, transport: Transport = "udp", user_agent: str = "Raw phone 1.0") -> RawPhone:
        """Make a phone with an AOR of its own."""
        return RawPhone(transport, self.ports[transport], f"{uuid.uuid4().hex[:12]}@127.0.0.1", user_agent)

    def devices(self, aor: str) -> list[str]:
        return sorted(device.id for device in iterate_devices(self.companion.store) if device.aor == aor)

    def page(self, aor: str) -> dict[str, Any]:
        """Return what is shown of the only device of an AOR."""
        (device,) = self.devices(aor)
        return self.companion.page(device)

    async def pinged(self, phone: RawPhone, count: int = 1) -> dict[str, Any]:
        """Wait until the only device of a phone shows so many answered pings."""
        await settled(lambda: self.devices(phone.aor) and self.page(phone.aor)["latency"]["answered"] >= count)
        return self.page(phone.aor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate."""
    folder = tmp_path_factory.mktemp("registrations")
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def site(build: Build, folder: Path) -> Iterator[Site]:
    yield from start_site(build, folder)


def start_site(build: Build, folder: Path, **changes: str) -> Iterator[Site]:
    ports: dict[Transport, int] = {"tcp": find_free_port(), "tls": find_free_port()}
    listeners = (
        'loadmodule "proto_ws.so"\nloadmodule "proto_tcp.so"\nloadmodule "proto_tls.so"\n'
        f"socket=tcp:127.0.0.1:{ports['tcp']}\nsocket=tls:127.0.0.1:{ports['tls']}"
    )
    changes = {"/etc/opensips/tls": str(folder), 'loadmodule "proto_ws.so"': listeners, **SHORT_EXPIRY, **changes}
    with (
        edge_with(build, folder, "wss", **changes) as edge,
        Companion(folder, edge.datagram, edge.server.mi_url, edge.server.probe_url, remediation=OBSERVE) as companion,
    ):
        yield Site(edge, companion, {**ports, "udp": edge.server.udp_port})


def moves(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in page["timeline"] if entry["event"] == "switched-over"]


# Several bindings of one phone


@pytest.fixture
def by_call_id(build: Build, folder: Path, tmp_path: Path) -> Iterator[Site]:
    """Start a site whose usrloc keeps a binding for each Call-ID of a contact."""
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    yield from start_site(build, tmp_path, **MATCHING_MODE)


async def test_matching_mode_1(by_call_id: Site) -> None:
    """The binding of the older Call-ID ends; the phone stays online and its pings count."""
    async with by_call_id.phone() as phone, Mi(by_call_id.edge.server.mi_url) as mi:
        contact = f"<sip:desk@{phone.address}>"
        await phone.register(contact, expires=8)
        await by_call_id.pinged(phone)
        phone.call_id = uuid.uuid4().hex
        await phone.register(contact)
        callids = [contact.callid for contact in await mi.show_contact("location", phone.aor)]
        assert len(callids) == 2
        async with asyncio.timeout(60):
            while len(callids) == 2:
                await asyncio.sleep(0.2)
                callids = [contact.callid for contact in await mi.show_contact("location", phone.aor)]
        assert callids == [phone.call_id]
        answered = by_call_id.page(phone.aor)["latency"]["answered"]
        page = await by_call_id.pinged(phone, answered + 2)
    assert page["status"] == "online"
    assert page["latency"]["lost"] == 0
    assert [contact["ended_at"] for contact in page["contacts"]] == [None]


async def test_max_contacts_one(build: Build, tmp_path: Path) -> None:
    """A phone that comes from another address replaces its contact: a switch-over with its outage."""
    with edge_with(build, tmp_path, **ONE_CONTACT) as edge, Companion(tmp_path, edge.datagram, edge.server.mi_url) as c:
        phone = Phone(edge.server.ws_url, f"{uuid.uuid4().hex[:12]}@127.0.0.1")
        device = f"{phone.aor}/{phone.instance}"
        async with phone, Mi(edge.server.mi_url) as mi:
            await settled(lambda: c.statuses([device]) == ["online"] and c.counts(device)[0])
            old_address = phone.address
            await phone.reload()
            await settled(lambda: moves(c.page(device)))
            (move,) = moves(c.page(device))
            assert (move["from"], move["to"]) == (old_address, phone.address)
            outages = [move[name] for name in ("outage_ms", "outage_at_most_ms") if name in move]
            assert [0 < outage < 60_000 for outage in outages] == [True]
            assert len(await mi.show_contact("location", phone.aor)) == 1
            assert c.statuses([device]) == ["online"]


async def test_a_reload_with_push(site: Site) -> None:
    """The registrar knows a push contact by its token: a new URI is one device, and its old contact is replaced."""
    phone = Phone(
        site.edge.server.ws_url,
        f"{uuid.uuid4().hex[:12]}@127.0.0.1",
        push=SimulatedPush("fcm", "token", "proj-1"),
    )
    async with phone, Mi(site.edge.server.mi_url) as mi:
        await settled(lambda: site.devices(phone.aor) and site.page(phone.aor)["status"] == "online")
        await phone.reload()
        await settled(lambda: len(site.page(phone.aor)["contacts"]) == 2)
        assert [contact.uri for contact in await mi.show_contact("location", phone.aor)] == [phone.uri]
    contacts = site.page(phone.aor)["contacts"]
    assert [contact["ended_by"] for contact in contacts] == ["", "replaced"]
    assert site.page(phone.aor)["device"] == f"{phone.aor}/{phone.instance}"


async def test_two_contacts_in_one_register(site: Site) -> None:
    """Events name no instance for either contact. After reconciling each is in the device of its own."""
    instances = sorted(f"urn:uuid:{uuid.uuid4()}" for _ in range(2))
    async with site.phone() as phone:
        contacts = [
            f'<sip:line{n}@{phone.address}>;+sip.instance="<{instance}>"' for n, instance in enumerate(instances)
        ]
        answer = await phone.register(*contacts)
        assert answer.status == 200
        await settled(
            lambda: sum(len(site.companion.page(device)["contacts"]) for device in site.devices(phone.aor)) == 2
        )
        code, output = await site.companion.cli("reconcile")
        assert code == 0, output
        expected = [f"{phone.aor}/{instance}" for instance in instances]
        await settled(lambda: site.devices(phone.aor) == expected)
        for n, device in enumerate(expected):
            (contact,) = site.companion.page(device)["contacts"]
            assert contact["uri"] == f"sip:line{n}@{phone.address}"
        await settled(lambda: all(site.companion.counts(device)[0] for device in expected))
        assert site.devices(phone.aor) == expected


# Connections


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_cut_connection(site: Site, transport: Transport) -> None:
    """The disconnect of a TCP or TLS phone makes it stale at once, as a WebSocket phone's does."""
    async with site.phone(transport) as phone:
        answer = await phone.register(f"<sip:desk@{phone.address};transport={transport}>")
        assert answer.status == 200
        page = await site.pinged(phone)
        assert (page["status"], page["contacts"][0]["disconnected_at"]) == ("online", None)
        phone.die()
        await settled(lambda: site.page(phone.aor)["status"] == "stale")
    page = site.page(phone.aor)
    assert page["contacts"][0]["disconnected_at"]
    assert "disconnected" in [entry["event"] for entry in page["timeline"]]


# Odd values


@pytest.mark.parametrize("cseq", [2_164_992_235, 4_294_967_295])
async def test_a_large_cseq(site: Site, cseq: int) -> None:
    """A CSeq of 2^31 or more, which events tell as a negative number, hides no phone; the next one renews it."""
    async with site.phone() as phone:
        phone.cseq = cseq - 2
        for _ in range(2):
            answer = await phone.register(f"<sip:desk@{phone.address}>")
            assert answer.status == 200
        page = await site.pinged(phone)
    assert (page["status"], len(page["contacts"])) == ("online", 1)


INSTANCE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


class OddContact(NamedTuple):
    """A Contact, with ADDRESS for the phone's own; the name that its device gets, and whether it has push."""

    contact: str
    name: str
    push: bool = False


ODD = {
    "without user": OddContact("<sip:ADDRESS>", "127.0.0.1"),
    "gruu": OddContact(f"<sip:desk@ADDRESS;gr={INSTANCE}>", INSTANCE),
    "zone": OddContact("<sip:desk@[fe80::1%25eth0]:5060>", "desk"),
    "bare zone": OddContact("<sip:desk@[fe80::1%eth0]:5060>", "desk"),
    "upper case": OddContact(
        "<SIP:Desk@ADDRESS;TRANSPORT=UDP;PN-PROVIDER=apns;PN-PRID=T0KEN;PN-PARAM=T>", "Desk", True
    ),
    "tel": OddContact("<tel:+15550100;phone-context=example.com>", "+15550100"),
    "quoted": OddContact(f'"A \\"B\\" <sip:x@y>" <sip:desk@ADDRESS{PUSH}>;q=0.7', "desk", True),
    "no brackets": OddContact("sip:desk@ADDRESS;expires=120", "desk"),
    "ob": OddContact("<sip:desk@ADDRESS;ob;x-ast-orig-host=10.0.0.1:5060>;reg-id=1", "desk"),
    "password": OddContact("<sip:desk:secret@ADDRESS?X-Any=1%40b>", "desk"),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_contact(site: Site, case: str) -> None:
    """Each Contact that OpenSIPS takes is a device with its name and push flag."""
    odd = ODD[case]
    async with site.phone() as phone:
        answer = await phone.register(odd.contact.replace("ADDRESS", phone.address))
        assert answer.status == 200, answer.start_line
        await settled(lambda: site.devices(phone.aor))
        page = site.page(phone.aor)
    assert page["device"] == f"{phone.aor}/{odd.name}"
    assert (page["status"], page["push"], page["registration"]["registered"]) == ("online", odd.push, True)


async def test_no_user_agent(site: Site) -> None:
    """A phone that names no User-Agent is shown without one."""
    async with site.phone(user_agent="") as phone:
        await phone.register(f"<sip:desk@{phone.address}>")
        page = await site.pinged(phone)
    assert page["status"] == "online"
    assert page["user_agent"] == ""


MALFORMED = {
    "comma at the end": "<sip:desk@ADDRESS>,",
    "folded at a comma": "<sip:desk@ADDRESS>;q=0.5,\r\n <sip:desk2@ADDRESS>;q=0.6",
    "open quote": '"<sip:desk@ADDRESS>',
    "open parameter": '<sip:desk@ADDRESS>;+sip.instance="<urn:',
    "two brackets": "<<sip:desk@ADDRESS>>",
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_contact(site: Site, case: str) -> None:
    """No Contact header ends OpenSIPS, however often it comes: the next phone registers."""
    async with site.phone() as attacker, site.phone() as phone:
        for _ in range(6):
            await attacker.register(MALFORMED[case].replace("ADDRESS", attacker.address))
        answer = await phone.register(f'<sip:desk@{phone.address}>;+sip.instance="<{INSTANCE}>"')
        assert answer.status == 200
        await settled(lambda: site.devices(phone.aor) == [f"{phone.aor}/{INSTANCE}"])
