"""What a real OpenSIPS holds against what its events told."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from companion.opensips.mi import Mi
from companion.reconcile import comparison as reconciling
from companion.reconcile.comparison import reconcile
from companion.reconcile.result import Reconciliation
from companion.simulator.redis import EmbeddedRedis
from companion.text import Json
from tests.acceptance import conftest
from tests.acceptance.conftest import OpenSIPS, eventually
from tests.integration.conftest import Setup
from tests.sip_phone.phone import Phone

EVENTS = ("E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE", "E_UL_CONTACT_DELETE", "E_UL_LATENCY_UPDATE")


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """A companion whose bridge OpenSIPS does not know of yet."""
    monkeypatch.setattr(reconciling, "MARGIN_MS", 0)
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as redis:
        setup = Setup(redis, tmp_path, pings={"interval": 4})
        yield setup
        setup.store.close()


@pytest.fixture
async def mi(opensips: OpenSIPS) -> AsyncIterator[Mi]:
    async with Mi(opensips.mi_url) as mi:
        yield mi


class Compared:
    """A phone of its own, and what a comparison makes of it; other tests' phones may be in OpenSIPS too."""

    def __init__(self, opensips: OpenSIPS, mi: Mi, setup: Setup) -> None:
        self.phone = Phone(opensips.ws_url, f"{uuid.uuid4().hex[:12]}@127.0.0.1")
        self.aor = opensips.aor(self.phone.aor.partition("@")[0])
        self.device = f"{self.aor}/{self.phone.instance}"
        self._mi = mi
        self._setup = setup

    async def reconcile(self) -> Reconciliation:
        """Compare, and wait until what was found is stored."""
        connection, keys = self._setup.store.connection, self._setup.store.keys
        report = await reconcile("opensips", self._mi, self._setup.store, self._setup.config)
        await eventually(lambda: not connection.call("XLEN", keys.corrections("opensips")))
        return report

    async def subscribe(self) -> None:
        """Let OpenSIPS tell our bridge from now on."""
        for event in EVENTS:
            await self._mi.call("event_subscribe", event=event, socket=self._setup.udp, expire=600)

    def page(self) -> Json:
        return self._setup.page(self.device)

    def lines(self) -> list[str]:
        return [entry["event"] for entry in self.page()["timeline"]]


@pytest.fixture
def compared(opensips: OpenSIPS, mi: Mi, setup: Setup) -> Compared:
    return Compared(opensips, mi, setup)


async def test_registered_unheard(compared: Compared, setup: Setup) -> None:
    """A phone that registered before anybody listened is there; its events then tell of the very same contact."""
    phone = compared.phone
    async with setup.running(), phone:
        report = await compared.reconcile()
        assert report.refused == ""
        assert report.added == report.in_dump >= 1
        page = compared.page()
        assert (page["status"], page["registration"]["received"]) == ("unknown", f"sip:{phone.address};transport=ws")
        assert page["user_agent"] == phone.user_agent

        await compared.subscribe()
        await eventually(lambda: compared.page()["status"] == "online")
        assert compared.lines() == ["discovered"]
        assert len(compared.page()["contacts"]) == 1
        again = await compared.reconcile()
        assert (again.gone, again.added, again.refreshed, again.enriched) == (0, 0, 0, 0)
        assert again.stored == again.in_dump


async def test_gone_unheard(compared: Compared, setup: Setup) -> None:
    """A phone that unregistered while no bridge ran is offline; one that stayed is as it was."""
    phone = compared.phone
    async with setup.running("consumer"), phone:
        async with setup.running("bridge"):
            await compared.subscribe()
            await phone.register()
            await eventually(lambda: compared.device in setup.pages() and compared.page()["status"] == "online")
        await phone.unregister()
        assert compared.page()["status"] == "online"
        report = await compared.reconcile()
        assert (report.gone, report.refused) == (1, "")
        assert compared.page()["status"] == "offline"
        assert compared.page()["contacts"][0]["ended_by"] == "gone"

        await phone.register()
        assert (await compared.reconcile()).added == 1
        assert compared.page()["status"] == "unknown"
        assert compared.lines()[-2:] == ["gone", "discovered"]


@pytest.fixture
def without_attr(opensips: OpenSIPS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSIPS]:
    """An OpenSIPS whose configuration puts no SIP instance into `attr`."""
    del opensips  # there is one, or this is skipped
    line = "    $avp(attr) = $(ct.fields(params){{param.value,+sip.instance}});\n"
    assert line in conftest.CONFIG
    monkeypatch.setattr(conftest, "CONFIG", conftest.CONFIG.replace(line, ""))
    build = conftest.find_build()
    assert build
    running = conftest.OpenSIPS(build, tmp_path)
    try:
        running.wait()
        yield running
    finally:
        running.stop()


async def test_an_instance_that_no_event_names(without_attr: OpenSIPS, setup: Setup) -> None:
    """The device is known by the SIP instance that MI tells, and stays so with further pings and registrations."""
    async with Mi(without_attr.mi_url) as mi, setup.running():
        compared = Compared(without_attr, mi, setup)
        await compared.subscribe()
        async with compared.phone as phone:
            await eventually(lambda: [page["status"] for page in setup.pages().values()] == ["online"])
            assert compared.device not in setup.pages()
            assert (await compared.reconcile()).enriched == 1
            assert set(setup.pages()) == {compared.device}
            samples = setup.samples()
            await phone.register()
            await eventually(lambda: setup.samples() > samples)
            assert set(setup.pages()) == {compared.device}
            assert compared.page()["device"] == compared.device
            assert (await compared.reconcile()).enriched == 0
