"""OpenSIPS' own list of contacts against the store, with a running companion in between."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from companion.opensips.mi import Mi
from companion.query.device_ids import find_device_id
from companion.query.devices import iterate_devices
from companion.reconcile import comparison as reconciling
from companion.reconcile import job as reconciler
from companion.reconcile.comparison import reconcile
from companion.reconcile.job import Reconciler, load_last
from companion.reconcile.result import Reconciliation
from companion.simulator.mi_server import Fault
from companion.simulator.node import Node
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone
from companion.simulator.redis import find_free_port
from companion.simulator.wire import SimulatedContact
from tests.integration.conftest import Feeder, Kind, MakeSetup, Setup, cli, eventually, phone_event

QUIET = 3600.0
"""A ping interval that no test lives to see."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an event tells just before a dump is old, and a second comparison need not wait a minute."""
    monkeypatch.setattr(reconciling, "MARGIN_MS", 0)
    monkeypatch.setattr(reconciler, "PAUSE_MS", 1)
    monkeypatch.setattr(reconciler, "PAUSE_FACTOR", 0)


def phones(count: int) -> list[SimulatedPhone]:
    return [SimulatedPhone(f"phone{n}", f"{n:032x}", transport="udp") for n in range(count)]


class Pair:
    """A companion's setup and the simulated OpenSIPS beside it."""

    def __init__(self, setup: Setup, opensips: SimulatedOpenSIPS) -> None:
        self.setup = setup
        self.opensips = opensips

    async def reconcile(self, *, dry_run: bool = False) -> Reconciliation:
        async with Mi(self.opensips.mi_url, timeout=2) as mi:
            return await reconcile("opensips", mi, self.setup.store, self.setup.config, dry_run=dry_run)

    async def corrected(self) -> Reconciliation:
        """Reconcile, and wait until what it found is stored."""
        report = await self.reconcile()
        await eventually(lambda: not self.waiting())
        return report

    def waiting(self) -> int:
        store = self.setup.store
        return int(store.connection.call("XLEN", store.keys.corrections("opensips")))

    def statuses(self) -> dict[str, str]:
        return {page["aor"]: page["status"] for page in self.setup.pages().values()}

    def live(self) -> set[tuple[str, str]]:
        """(aor, contact URI) of every contact that is not ended in the store."""
        contacts = (contact for device in iterate_devices(self.setup.store) for contact in device.contacts)
        return {(c.binding.aor, c.binding.uri) for c in contacts if not c.ended_at}

    async def settled(self) -> None:
        """Wait until the store has what OpenSIPS has."""
        await eventually(lambda: self.live() == set(self.opensips.contacts))

    async def register_all(self) -> None:
        """Let every phone register, and wait until the store has what OpenSIPS has."""
        await eventually(lambda: len(self.opensips.contacts) == len(self.opensips.fleet))
        for phone in self.opensips.fleet:
            self.opensips.reregister(phone)
        await self.settled()

    def content(self) -> dict[str, Any]:
        """All of the store but what tells the time."""
        store = self.setup.store
        call = store.connection.call
        names = sorted(call("KEYS", f"{store.keys.prefix}*"))
        moving = ("consumers", "jobs", "lease:", "node:", "seqs:", "summary")
        return {
            name: call("DUMP", name)
            for name in names
            if not name.startswith(tuple(store.keys.prefix + m for m in moving))
        }


MakePair = Callable[..., Awaitable[Pair]]


@asynccontextmanager
async def pair(make_setup: MakeSetup, fleet: Sequence[SimulatedPhone], **settings: Any) -> AsyncIterator[Pair]:
    """An OpenSIPS whose events reach the setup's bridge when one runs, and MI at a port that is in the setup."""
    port = find_free_port()
    table = {"node": "opensips", "mi_url": f"http://127.0.0.1:{port}/mi", "mi_timeout": 2}
    setup = make_setup()
    setup.config = setup.config.model_validate(setup.tables | {"opensips": [table]})
    settings = {"ping_interval": QUIET} | settings
    async with SimulatedOpenSIPS(
        "opensips", fleet, events_to=setup.udp, mi_listen=f"127.0.0.1:{port}", **settings
    ) as opensips:
        yield Pair(setup, opensips)


@pytest.mark.parametrize("kind", ["module", "cluster"])
async def test_opensips_restarted_unheard(make_setup: MakeSetup, kind: Kind) -> None:
    """Contacts that a restart lost while no bridge listened become offline; those that registered anew appear."""
    async with pair(partial(make_setup, kind), phones(6)) as both, both.setup.running("consumer"):
        async with both.setup.running("bridge"):
            await both.register_all()
        for number in range(6):
            both.opensips.die(f"phone{number}")
        both.opensips.restart()
        both.opensips.switch_on("phone5")
        await eventually(lambda: len(both.opensips.contacts) == 1)
        both.opensips.find_phone("phone5").uri = "sip:elsewhere@192.0.2.1"
        both.opensips.reregister("phone5")
        report = await both.corrected()
        await both.settled()

        assert (report.stored, report.in_dump, report.gone, report.refused) == (6, 2, 5, "")
        assert both.statuses() == {f"phone{n}": "offline" for n in range(5)} | {"phone5": "online"}
        page = both.setup.page("phone0")
        assert page["contacts"][0]["ended_by"] == "gone"
        assert [entry["event"] for entry in page["timeline"]] == ["registered", "gone"]


async def test_registered_unheard(make_setup: MakeSetup) -> None:
    """Contacts that registered while no bridge listened appear with what MI tells of them."""
    async with pair(make_setup, phones(3), ping_interval=0.3, ping_threshold=0.2) as both:
        await eventually(lambda: len(both.opensips.pings) == 3)
        await eventually(lambda: all(pings.answered for pings in both.opensips.pings.values()))
        both.opensips.pause_events()
        async with both.setup.running():
            report = await both.corrected()
            page = both.setup.page("phone1")
            assert (report.stored, report.in_dump, report.added) == (0, 3, 3)
            assert set(both.statuses().values()) == {"unknown"}
            assert page["device"] == f"phone1/urn:uuid:{1:032x}"
            assert page["registration"]["registered"]
            assert page["registration"]["user_agent"] == "SIPERB 0.1"
            assert page["last_latency_ms"] > 0
            assert [entry["event"] for entry in page["timeline"]] == ["discovered"]

            both.opensips.resume_events()
            await eventually(lambda: set(both.statuses().values()) == {"online"})
            assert len(both.setup.pages()) == 3


async def test_a_registration_that_was_missed(make_setup: MakeSetup) -> None:
    """The newer registration that OpenSIPS holds is taken over, with its address."""
    async with pair(make_setup, phones(1)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.roam("phone0")
        await eventually(lambda: both.opensips.find_phone("phone0").state == "on")
        report = await both.corrected()
        page = both.setup.page("phone0")
        assert (report.refreshed, report.added, report.gone) == (1, 0, 0)
        assert page["registration"]["received"] == both.opensips.find_phone("phone0").received
        assert (await both.corrected()).refreshed == 0


async def test_phones_without_attr(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where events name no instance the dump does: devices are known by it, and stay so with each further event."""
    with_attr = Node._make_contact

    def without_attr(self: Node, phone: SimulatedPhone, expires: float) -> SimulatedContact:
        return replace(with_attr(self, phone, expires), attr="")

    monkeypatch.setattr(Node, "_make_contact", without_attr)
    fleet = phones(3)
    async with pair(make_setup, fleet, ping_interval=0.3, ping_threshold=0.2) as both:
        by_instance = {f"{phone.aor}/urn:uuid:{phone.instance}" for phone in fleet}
        async with both.setup.running():
            await both.register_all()
            assert by_instance.isdisjoint(both.setup.pages())
            assert (await both.corrected()).enriched == 3
            assert set(both.setup.pages()) == by_instance
            assert find_device_id(both.setup.store, "phone0") in by_instance

            answered = sum(pings.answered for pings in both.opensips.pings.values())
            both.opensips.reregister("phone0")
            await eventually(lambda: sum(pings.answered for pings in both.opensips.pings.values()) > answered + 6)
            both.opensips.unregister("phone0")
            await eventually(lambda: both.statuses()["phone0"] == "offline")
            both.opensips.switch_on("phone0")
            await eventually(lambda: both.statuses()["phone0"] == "online")
            assert set(both.setup.pages()) == by_instance
        async with both.setup.running():  # a new consumer knows what is stored, and no more
            stored = both.setup.samples()
            await eventually(lambda: both.setup.samples() > stored + 6)
            assert set(both.setup.pages()) == by_instance
            assert (await both.corrected()).enriched == 0


async def test_registered_while_the_dump_came(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact that OpenSIPS did not have when it wrote the dump, and that registered before its correction, stays."""
    async with pair(make_setup, phones(2)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        both.opensips.unregister("phone1")
        report = await both.reconcile(dry_run=True)
        assert report.gone == 2

        hand_over = reconciling._Comparison.hand_over

        def raced(comparison: Any) -> int:
            """The dump is compared; before its corrections are sent the REGISTER and its event come."""
            loop.call_soon_threadsafe(both.opensips.resume_events)
            loop.call_soon_threadsafe(both.opensips.reregister, "phone0")
            deadline = time.monotonic() + 10
            while not any(c.changed_at > started for d in iterate_devices(both.setup.store) for c in d.contacts):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return hand_over(comparison)

        loop, started = asyncio.get_running_loop(), int(time.time() * 1000)
        monkeypatch.setattr(reconciling._Comparison, "hand_over", raced)
        report = await both.corrected()
        assert report.gone == 2
        assert both.statuses() == {"phone0": "online", "phone1": "offline"}


async def test_dumps_that_fail(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump that does not come, is garbage or ends early corrects nothing, and says why."""
    monkeypatch.setattr(reconciling, "DUMP_SECONDS", 1.0)
    async with pair(make_setup, phones(3)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        before = both.content()
        up = Mi.uptime_seconds

        async def first_the_uptime(mi: Mi) -> int:
            seconds = await up(mi)
            both.opensips.mi_server.fail(fault)
            return seconds

        monkeypatch.setattr(Mi, "uptime_seconds", first_the_uptime)
        for fault in Fault:
            if fault is Fault.SLOW:
                continue
            report = await both.reconcile()
            both.opensips.mi_server.heal()
            assert (report.refused != "", report.gone, report.added) == (True, 0, 0), fault
        monkeypatch.setattr(Mi, "uptime_seconds", up)

        answer = both.opensips.mi_server._answer_body
        for part in (0.3, 0.6, 0.9, 0.99):

            def cut(body: bytes, part: float = part) -> bytes | None:
                reply = answer(body)
                return reply[: int(len(reply) * part)] if reply and b"ul_dump" in body else reply

            both.opensips.mi_server._answer_body = cut
            report = await both.reconcile()
            assert (report.refused != "", report.gone) == (True, 0), part
        both.opensips.mi_server._answer_body = answer
        assert (both.waiting(), both.content()) == (0, before)
        assert (await both.corrected()).gone == 1


@pytest.mark.parametrize("settled", [3600, 0])
async def test_half_the_fleet_vanishes(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch, settled: int) -> None:
    """An empty dump is believed when OpenSIPS was started since the contacts were last heard of, else it is not."""
    monkeypatch.setattr(reconciling, "SETTLED_SECONDS", settled)
    async with pair(make_setup, phones(60)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        for number in range(60):
            both.opensips.die(f"phone{number}")
        heard_at = time.time()
        await eventually(lambda: time.time() > heard_at + 1.1)  # up times are whole seconds
        both.opensips.restart()
        await eventually(lambda: not both.opensips.contacts)
        report = await both.corrected()
        assert (report.stored, report.in_dump) == (60, 0)
        if not settled:
            assert (report.gone, report.refused) == (60, "")
            assert both.live() == set()
        else:
            assert report.refused == "60 of 60 contacts would be gone at once"
            assert len(both.live()) == 60


async def test_an_aor_that_can_not_be_read(make_setup: MakeSetup) -> None:
    """A contact that is in the dump but not fit to be read is not gone."""
    async with pair(make_setup, phones(3)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        answer = both.opensips.mi_server._answer_body

        def spoilt(body: bytes) -> bytes | None:
            reply = json.loads(answer(body) or b"")
            if b"ul_dump" in body:
                (record,) = (aor for aor in reply["result"]["Domains"][0]["AORs"] if aor["AOR"] == "phone1")
                record["Contacts"][0]["Callid"] = 5
            return json.dumps(reply).encode()

        both.opensips.mi_server._answer_body = spoilt
        report = await both.corrected()
        assert (report.gone, report.unparsable, report.refused) == (1, 1, "")
        assert {aor for aor, _ in both.live()} == {"phone1", "phone2"}


async def test_dry_run(make_setup: MakeSetup) -> None:
    """A dry run tells what is wrong and writes nothing at all."""
    async with pair(make_setup, phones(3)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        both.opensips.switch_on("phone1")
        both.opensips.find_phone("phone2").uri = "sip:new@192.0.2.1"
        both.opensips.reregister("phone2")
        before = both.content()
        report = await both.reconcile(dry_run=True)
        assert (report.gone, report.added, report.refreshed) == (1, 1, 1)
        assert both.content() == before


async def test_the_second_time(make_setup: MakeSetup) -> None:
    """Once corrected there is nothing to correct, and nothing is written."""
    async with pair(make_setup, phones(4)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        both.opensips.find_phone("phone2").uri = "sip:new@192.0.2.1"
        both.opensips.reregister("phone2")
        assert (await both.corrected()).gone == 1
        await both.settled()
        before = both.content()
        report = await both.corrected()
        assert (report.stored, report.in_dump) == (4, 4)
        assert (report.gone, report.added, report.refreshed, report.enriched) == (0, 0, 0, 0)
        assert both.content() == before


async def test_permanent_contacts(make_setup: MakeSetup) -> None:
    """A contact without an expiry that OpenSIPS no longer has is found out too."""
    async with pair(make_setup, []) as both, both.setup.running("consumer"), Feeder.silent(both.setup) as feeder:
        await eventually(lambda: feeder.beat() or both.setup.feed().heartbeat_at)
        feeder.say("E_UL_CONTACT_INSERT", phone_event("static", expires=0))
        feeder.say("E_UL_CONTACT_INSERT", phone_event("mobile"))
        await eventually(lambda: feeder.beat() or len(both.live()) == 2)
        report = await both.reconcile()
        assert report.gone == 2
        await eventually(lambda: feeder.beat() or not both.live())


async def test_a_contact_of_another_cluster(make_setup: MakeSetup) -> None:
    """What other clusters hold is not this one's to miss."""
    async with (
        pair(make_setup, phones(2)) as both,
        both.setup.running("consumer"),
        Feeder.silent(both.setup, "elsewhere") as feeder,
    ):
        await eventually(lambda: feeder.beat() or both.setup.feed("elsewhere").heartbeat_at)
        feeder.say("E_UL_CONTACT_INSERT", phone_event("theirs"))
        await eventually(lambda: feeder.beat() or len(both.live()) == 1)
        report = await both.reconcile(dry_run=True)
        assert (report.stored, report.gone, report.added) == (0, 0, 2)


async def test_a_contact_of_another_node(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that a node misses is no end of the contact as long as the node that holds it is heard."""
    tables = [{"node": node, "cluster": "c"} for node in ("opensips", "elsewhere")]
    async with pair(make_setup, phones(2)) as both, AsyncExitStack() as stack:
        both.setup.config = both.setup.config.model_validate(both.setup.tables | {"opensips": tables})
        await stack.enter_async_context(both.setup.running("consumer"))
        feeder = await stack.enter_async_context(Feeder.silent(both.setup, "elsewhere"))
        await eventually(lambda: feeder.beat() or both.setup.feed("elsewhere").heartbeat_at)
        feeder.say("E_UL_CONTACT_INSERT", phone_event("theirs"))
        await eventually(lambda: feeder.beat() or len(both.live()) == 1)
        assert (await both.reconcile(dry_run=True)).gone == 0
        monkeypatch.setattr("companion.store.nodes.DEAD_AFTER_MS", -1)
        assert (await both.reconcile(dry_run=True)).gone == 1


async def test_corrections_wait_for_the_recorder(make_setup: MakeSetup) -> None:
    """Corrections that nobody could take yet are taken by the next consumer, and what is none is left out."""
    async with pair(make_setup, phones(2)) as both:
        async with both.setup.running():
            await both.register_all()
        both.opensips.unregister("phone0")
        call, key = both.setup.store.connection.call, both.setup.store.keys.corrections("opensips")
        call("XADD", key, "*", "gone", "[]")
        call("XADD", key, "*", "unheard-of", "x")
        assert (await both.reconcile()).gone == 1
        assert (both.waiting(), call("PTTL", key) > 0) == (3, True)
        async with both.setup.running():
            await eventually(lambda: not both.waiting())
            assert {aor for aor, _ in both.live()} == {"phone1"}


async def test_no_room_for_corrections(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a recorder is bounded; what has no room is told."""
    monkeypatch.setattr("companion.store.corrections.MAX_WAITING", 2)
    async with pair(make_setup, phones(5)) as both:
        await eventually(lambda: len(both.opensips.contacts) == 5)
        report = await both.reconcile()
        assert (report.added, report.dropped, report.is_complete, both.waiting()) == (5, 3, False, 2)


# When


def dumps(both: Pair) -> int:
    return sum(call.method == "ul_dump" for call in both.opensips.mi_calls)


async def test_when_it_is_due(make_setup: MakeSetup) -> None:
    """At start, after a gap, a new bridge and a restart of OpenSIPS: once each, and never without a reason."""
    async with pair(make_setup, phones(2)) as both:
        both.opensips.mi.started_at -= 3600
        job = Reconciler(both.setup.config, both.setup.store)
        await job.run()
        assert dumps(both) == 0  # nobody records
        async with both.setup.running("consumer"):
            async with Feeder.silent(both.setup) as feeder:
                await eventually(lambda: feeder.beat() or both.setup.feed().heartbeat_at)
                await job.run()
                await job.run()
                assert dumps(both) == 1
                await eventually(lambda: feeder.beat() or len(both.live()) == 2)
                assert load_last(both.setup.store, "opensips").result == "0 gone, 2 found, 0 dropped"

                feeder.publisher.last_seqs["E_UL_LATENCY_UPDATE"] = 7
                feeder.ping()
                await eventually(lambda: feeder.beat() or both.setup.feed().missed)
                await job.run()
                await job.run()
                assert dumps(both) == 2

                both.opensips.mi.started_at += 60
                await job.run()
                await job.run()
                assert dumps(both) == 3

                await Reconciler(both.setup.config, both.setup.store).run()
                assert dumps(both) == 4
            run = both.setup.feed().run
            async with Feeder.silent(both.setup) as feeder:
                await eventually(lambda: feeder.beat() or both.setup.feed().run != run)
                await job.run()
                await job.run()
                assert dumps(both) == 5


async def test_one_companion_does_it(make_setup: MakeSetup) -> None:
    """Of several companions that see the same reason one asks OpenSIPS for a dump."""
    async with pair(make_setup, phones(2)) as both, both.setup.running():
        await both.register_all()
        jobs = [Reconciler(both.setup.config, both.setup.store) for _ in range(4)]
        await asyncio.gather(*(job.run() for job in jobs))
        assert dumps(both) == 1


async def test_an_mi_that_fails_is_asked_less_and_less(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each dump that was not believed makes the next one wait twice as long."""
    monkeypatch.setattr(reconciler, "PAUSE_MS", 60_000)
    async with pair(make_setup, phones(2)) as both, both.setup.running():
        await both.register_all()
        job = Reconciler(both.setup.config, both.setup.store)
        both.opensips.mi_server._answer_body, answer = (
            lambda body: b"{" if b"ul_dump" in body else answer(body),
            both.opensips.mi_server._answer_body,
        )
        await job.run()
        last = load_last(both.setup.store, "opensips")
        assert last.failures == 1
        assert last.pause_ms(6 * 3_600_000) == 120_000
        assert replace(last, failures=5).pause_ms(6 * 3_600_000) == 32 * 60_000
        assert replace(last, failures=99).pause_ms(6 * 3_600_000) == 6 * 3_600_000


async def test_the_scheduler_does_it(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole companion finds by itself what was there before it."""
    monkeypatch.setattr("companion.services.scheduler.EVERY_SECONDS", 0.2)
    async with pair(make_setup, phones(3)) as both:
        await eventually(lambda: len(both.opensips.contacts) == 3)
        async with both.setup.running("bridge", "consumer", "scheduler"):
            await both.settled()


# The command


async def test_the_command(make_setup: MakeSetup) -> None:
    """`companion reconcile` tells what it found and corrects it; a dump that is not believed is exit code 1."""
    async with pair(make_setup, phones(3)) as both, both.setup.running():
        await both.register_all()
        both.opensips.pause_events()
        both.opensips.unregister("phone0")
        path = both.setup.file()
        path.write_text(path.read_text() + f'[[opensips]]\nmi_url = "{both.opensips.mi_url}"\n')
        async with asyncio.timeout(15):  # the registration is too young for the first ones
            while (reports := json.loads((await command(path, "--dry-run", "--json")).stdout))[0]["gone"] != 1:
                assert [(report["node"], report["gone"], report["refused"]) for report in reports] == [
                    ("opensips", 0, "")
                ]
        done = await command(path, "opensips")
        assert done.returncode == 0
        assert "opensips: 3 contacts known, 2 in OpenSIPS; 1 gone, 0 found" in done.stdout
        await eventually(lambda: not both.waiting())
        assert both.statuses()["phone0"] == "offline"

        both.opensips.mi_server.fail(Fault.GARBAGE)
        done = await command(path)
        assert (done.returncode, "nothing was corrected" in done.stdout) == (1, True)
        done = await command(path, "nobody")
        assert (done.returncode, "no [[opensips]] table names a node 'nobody'" in done.stderr) == (2, True)


async def command(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(cli, "reconcile", *arguments, "-c", str(config))
