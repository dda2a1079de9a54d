"""companion.cfg included in a configuration that knew nothing of the companion."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from companion.opensips.mi import Mi
from companion.opensips.probe import Prober, Question
from companion.simulator.redis import find_free_port
from tests.acceptance.conftest import Build, Ports, Server
from tests.acceptance.edge import CONFIGS, INTERVAL, Companion, device_of, for_build, running, settled
from tests.acceptance.registering import register
from tests.sip_phone.phone import Phone

pytestmark = pytest.mark.timeout(240)

FOREIGN = """
log_level=2
stderror_enabled=yes
syslog_enabled=no
udp_workers=1
tcp_workers=1
socket=udp:127.0.0.1:{udp}
socket=ws:127.0.0.1:{ws}
mpath="here"
loadmodule "proto_udp.so"
loadmodule "proto_ws.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
loadmodule "httpd.so"
modparam("usrloc", "working_mode_preset", "single-instance-no-db")
modparam("nathelper", "natping_interval", 3600)
modparam("nathelper", "sipping_bflag", "OURS")
modparam("httpd", "port", 1)

include_file "companion.cfg"

startup_route {{
    xlog("L_NOTICE", "we do this and that\\n");
    route(COMPANION_START);
}}

local_route {{
    route(COMPANION_QUESTION);
}}

route {{
    if (is_method("REGISTER")) {{
        fix_nated_register();
        route(COMPANION_CONTACT);
        save("location");
        exit;
    }}
    send_reply(405, "Method Not Allowed");
}}
"""


class Foreign(Server):
    """An OpenSIPS with FOREIGN, whose events go to `datagram`."""

    def __init__(self, build: Build, folder: Path) -> None:
        self.datagram, ports = find_free_port(), Ports.free()
        included = (CONFIGS / "companion.cfg").read_text()
        for old, new in {
            "udp:127.0.0.1:5066": f"udp:127.0.0.1:{self.datagram}",
            '"port", 8888': f'"port", {ports.mi}',
            "udp:127.0.0.1:8889": f"udp:127.0.0.1:{ports.probe}",
            '"natping_interval", 120': f'"natping_interval", {INTERVAL}',
        }.items():
            assert old in included
            included = included.replace(old, new)
        for module in ("nathelper", "httpd"):
            included = included.replace(f'loadmodule "{module}.so"', "")
        (folder / "companion.cfg").write_text(for_build(build, included))
        own = for_build(build, FOREIGN.format(udp=ports.udp, ws=ports.ws))
        super().__init__(build, folder, own, ports, domain=build.version >= (4,))


@pytest.fixture
def foreign(build: Build, tmp_path: Path) -> Iterator[Foreign]:
    server = Foreign(build, tmp_path)
    with running(server):
        yield server


async def test_the_included_piece(foreign: Foreign, tmp_path: Path) -> None:
    """Its phones are devices with latencies; one that goes mute is removed, one that lives is not."""
    with Companion(tmp_path, foreign.datagram, foreign.mi_url) as companion:
        async with (
            Phone(foreign.ws_url, "alice@127.0.0.1") as alice,
            Phone(foreign.ws_url, "bob@127.0.0.1") as bob,
            Mi(foreign.mi_url) as mi,
        ):
            ids = [device_of(foreign, phone) for phone in (alice, bob)]
            await settled(lambda: all(companion.counts(device_id)[0] for device_id in ids))
            bob.mute()
            await settled(lambda: companion.decisions(ids[1]))

            assert companion.decisions(ids[1]) == [("remove", "removed")]
            assert await mi.show_contact("location", foreign.aor("bob")) == []
            assert len(await mi.show_contact("location", foreign.aor("alice"))) == 1
            await settled(lambda: companion.statuses(ids) == ["online", "offline"])
            await bob.die()
            await alice.die()
            await settled(lambda: "disconnected" in companion.events(ids[0]))
        assert "we do this and that" in foreign.log


async def test_two_contacts_in_one_register(foreign: Foreign) -> None:
    """The SIP instance is handed over where a REGISTER has one contact, and never as that of another contact."""
    one, two = (f'<sip:{n}@192.0.2.{n}>;+sip.instance="<urn:uuid:{n}>"' for n in (1, 2))
    for user, contact in (("single", one), ("double", f"{one}, {two}")):
        assert await register(foreign.udp_port, f"{user}@127.0.0.1", [contact]) == [200]
    async with Mi(foreign.mi_url) as mi:
        single = await mi.show_contact("location", foreign.aor("single"))
        double = await mi.show_contact("location", foreign.aor("double"))
    assert [contact.attr for contact in single] == ["<urn:uuid:1>"]
    assert [contact.attr for contact in double] == ["", ""]


async def test_questions_to_phones(foreign: Foreign) -> None:
    """A phone that lives answers a question, one that is mute does not, and one whose connection is gone neither."""
    phones = [Phone(foreign.ws_url, f"{user}@127.0.0.1") for user in ("alice", "bob", "carol")]
    async with phones[0], phones[1], phones[2], Prober(foreign.probe_url) as prober:
        questions = [Question(phone.uri, f"sip:{phone.address};transport=ws", foreign.ws_socket) for phone in phones]
        phones[1].mute()
        await phones[2].die()
        replies = await asyncio.gather(*map(prober.ask, questions))
    assert [reply.result for reply in replies] == ["answered", "unanswered", "unanswered"]
    assert all(3500 < reply.duration_ms < 7000 for reply in replies[1:])
