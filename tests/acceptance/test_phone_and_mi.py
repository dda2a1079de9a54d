"""The phone and the MI client against a real OpenSIPS."""

import json
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from companion.errors import MiCallError, UnavailableError
from companion.opensips.events import LOST_PING_US
from companion.opensips.mi import Mi
from companion.simulator.phone import SimulatedPush
from tests.acceptance.conftest import PASSWORD, OpenSIPS, eventually
from tests.sip_phone.phone import Phone

INSERT, UPDATE, DELETE = "E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE", "E_UL_CONTACT_DELETE"
LATENCY, DISCONNECT = "E_UL_LATENCY_UPDATE", "E_CORE_TCP_DISCONNECT"


@pytest.fixture
async def mi(opensips: OpenSIPS) -> AsyncIterator[Mi]:
    async with Mi(opensips.mi_url) as mi:
        yield mi


def phone_of(opensips: OpenSIPS, user: str = "", **settings: object) -> Phone:
    """A phone with an AOR of its own, so that tests do not meet in usrloc."""
    return Phone(opensips.ws_url, f"{user or uuid.uuid4().hex[:12]}@127.0.0.1", **settings)  # type: ignore[arg-type]


def aor_of(opensips: OpenSIPS, phone: Phone) -> str:
    return opensips.aor(phone.aor.partition("@")[0])


async def test_a_registration(opensips: OpenSIPS, mi: Mi) -> None:
    """What the phone registered is an INSERT event, and MI shows it field by field."""
    phone = phone_of(opensips, push=SimulatedPush("fcm", "token", "proj-1"), expires=300, user_agent='Odd "UA" é\t<b>')
    async with phone:
        await eventually(lambda: opensips.ear.params_of(INSERT, uri=phone.uri))
        (contact,) = await mi.show_contact("location", aor_of(opensips, phone))

        assert (contact.domain, contact.aor, contact.uri) == ("location", aor_of(opensips, phone), phone.uri)
        assert (contact.instance, contact.attr) == (phone.instance, f"<{phone.instance}>")
        assert (contact.received, contact.path) == (f"sip:{phone.address};transport=ws", "")
        assert contact.socket == opensips.ws_url.replace("//", "")
        assert contact.user_agent == phone.user_agent
        assert contact.seconds_left is not None
        assert 290 <= contact.seconds_left <= phone.granted == 300
        assert (contact.state, contact.push) == ("active", True)
        assert {"NAT", "SIP_PING", "LATENCY"} <= set(contact.cflags)
        (params,) = opensips.ear.params_of(INSERT, uri=phone.uri)
        assert (params["aor"], params["callid"], params["cseq"]) == (contact.aor, contact.callid, contact.cseq)


@pytest.fixture(params=["locked-md5", "locked-sha"])
def locked_user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_digest(opensips: OpenSIPS, mi: Mi, locked_user: str) -> None:
    """The registrar takes our digest answer, by MD5 and by SHA-256, and refuses a wrong password."""
    async with phone_of(opensips, locked_user, password=PASSWORD) as phone:
        assert len(await mi.show_contact("location", opensips.aor(locked_user))) == 1
        await phone.unregister()
    wrong = phone_of(opensips, locked_user, password="no")
    with pytest.raises(UnavailableError, match="401"):
        await wrong.start()
    await wrong.close()
    assert await mi.show_contact("location", opensips.aor(locked_user)) == []


async def test_pings_answered_and_lost(opensips: OpenSIPS, mi: Mi) -> None:
    """Answered pings give latencies of at least our delay; a mute phone's are lost; unmuted, it is back."""
    async with phone_of(opensips, answer_delay=0.05) as phone:
        await eventually(lambda: opensips.ear.params_of(LATENCY, uri=phone.uri))
        (first, *_) = opensips.ear.params_of(LATENCY, uri=phone.uri)
        assert 50_000 <= first["latency"] < 1_000_000
        assert phone.answered
        (contact,) = await mi.show_contact("location", aor_of(opensips, phone))
        assert contact.latency_us is not None

        phone.mute()
        await eventually(lambda: len(opensips.ear.params_of(LATENCY, uri=phone.uri, latency=LOST_PING_US)) == 2)
        assert len(phone.ignored) >= 2
        (contact,) = await mi.show_contact("location", aor_of(opensips, phone))
        assert contact.latency_us == LOST_PING_US

        phone.unmute()
        count = len(phone.answered)
        await eventually(lambda: len(phone.answered) > count)
        await eventually(lambda: opensips.ear.params_of(LATENCY, uri=phone.uri)[-1]["latency"] < LOST_PING_US)


async def test_registering_again_by_itself(opensips: OpenSIPS) -> None:
    """A phone refreshes its registration before it expires."""
    started_at = time.time()
    async with phone_of(opensips, expires=4) as phone:
        await eventually(lambda: len(opensips.ear.params_of(UPDATE, uri=phone.uri)) >= 2)
        assert time.time() - started_at >= 3
        assert not opensips.ear.params_of(DELETE, uri=phone.uri)


async def test_unregistering(opensips: OpenSIPS, mi: Mi) -> None:
    """A phone that unregisters is a DELETE event, and gone from MI."""
    async with phone_of(opensips) as phone:
        await phone.unregister()
        await eventually(lambda: opensips.ear.params_of(DELETE, uri=phone.uri))
        assert await mi.show_contact("location", aor_of(opensips, phone)) == []


async def test_a_cut_connection(opensips: OpenSIPS, mi: Mi) -> None:
    """A connection that dies is E_CORE_TCP_DISCONNECT with the address in `received`; the contact stays."""
    phone = phone_of(opensips)
    await phone.start()
    host, port = phone.address.split(":")
    (contact,) = await mi.show_contact("location", aor_of(opensips, phone))
    await phone.die()

    await eventually(lambda: opensips.ear.params_of(DISCONNECT, src_ip=host, src_port=int(port)))
    assert contact.received == f"sip:{host}:{port};transport=ws"
    assert len(await mi.show_contact("location", aor_of(opensips, phone))) == 1


async def test_a_reloaded_page(opensips: OpenSIPS, mi: Mi) -> None:
    """A reload leaves a ghost: two contacts with one instance."""
    async with phone_of(opensips) as phone:
        old = phone.uri
        await phone.reload()

        contacts = await mi.show_contact("location", aor_of(opensips, phone))
        assert {contact.uri for contact in contacts} == {old, phone.uri}
        assert {contact.instance for contact in contacts} == {phone.instance}


async def test_another_network(opensips: OpenSIPS, mi: Mi) -> None:
    """A phone that moves keeps its contact URI and is received from the new address."""
    async with phone_of(opensips) as phone:
        await phone.move("127.0.0.77")

        (contact,) = await mi.show_contact("location", aor_of(opensips, phone))
        assert contact.uri == phone.uri
        assert contact.received == f"sip:{phone.address};transport=ws"
        assert phone.address.startswith("127.0.0.77:")


async def test_removing_a_contact(opensips: OpenSIPS, mi: Mi) -> None:
    """A removal is a DELETE event; the second one finds the contact gone."""
    async with phone_of(opensips) as phone:
        aor = aor_of(opensips, phone)
        assert await mi.remove_contact("location", aor, phone.uri) == "removed"
        await eventually(lambda: opensips.ear.params_of(DELETE, uri=phone.uri))
        assert await mi.remove_contact("location", aor, phone.uri) == "already-gone"


async def test_raising_an_event(opensips: OpenSIPS, mi: Mi) -> None:
    """Named parameters reach an event_route, 4 kB of them too; unknown events are 404, which is no contact gone."""
    uri = f"sip:a@b;pn-prid={'x' * 4000}"
    await mi.raise_event("E_COMPANION_PUSH", {"aor": "alice", "uri": uri})
    await eventually(lambda: f"woken: alice at {uri}\n" in opensips.log)

    with pytest.raises(MiCallError) as refused:
        await mi.raise_event("E_NOT_THERE", {"aor": "alice"})
    assert (refused.value.code, refused.value.gone) == (404, False)


async def test_the_rest_of_mi(opensips: OpenSIPS, mi: Mi) -> None:
    """Version, up time and dump are read; an own subscription is listed; what OpenSIPS does not know is an error."""
    async with phone_of(opensips) as phone:
        dumped = [contact async for contact in mi.dump() if contact.uri == phone.uri]
        contacts = await mi.show_contact("location", aor_of(opensips, phone))
    assert [contact._replace(seconds_left=0) for contact in dumped] == [contacts[0]._replace(seconds_left=0)]
    assert await mi.version() == ".".join(map(str, opensips.version))
    assert 0 <= await mi.uptime_seconds() < 600

    mine = f"udp:127.0.0.1:{opensips.ear.port}"
    assert await mi.call("event_subscribe", event="E_UL_AOR_INSERT", socket=mine, expire=60) == "OK"
    assert mine.removeprefix("udp:") in json.dumps(await mi.call("subscribers_list", event="E_UL_AOR_INSERT"))
    assert "E_COMPANION_PUSH" in json.dumps(await mi.call("events_list"))
    assert await mi.call("ps")
    assert await mi.call("which")
    assert await mi.call("get_statistics", statistics=["usrloc:"])
    with pytest.raises(MiCallError):
        await mi.call("ul_show_contact", table_name="location")
